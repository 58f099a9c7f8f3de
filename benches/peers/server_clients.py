"""Runs other people's clients against `trilobite serve` and compares what they get.

    python server_clients.py TRILOBITE MODEL                       openai, litellm, langchain-openai
    python server_clients.py TRILOBITE MODEL --schemathesis        requests made from /openapi.json
    python server_clients.py TRILOBITE MODEL --lm-eval DATA        ARC-Easy as `trilobite eval` scores it
    python server_clients.py TRILOBITE MODEL --soak 2000           so many requests, good and bad ones
    python server_clients.py TRILOBITE MODEL --speed               tokens a second, and what clients wait for

MODEL is one that has a chat template. The server listens on a free port of this machine. Each part needs
only the packages that it names (`pip install openai litellm langchain-openai`, `schemathesis`,
`lm-eval[api]`; the last two none), and no network.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

QUESTION = [{"role": "user", "content": "Hello, who are you?"}]
SAMPLING = {"seed": 7, "temperature": 0.8, "max_tokens": 32}


def openai_client(url, name):
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == [name]
    chat = client.chat.completions.create
    whole = chat(model=name, messages=QUESTION, logprobs=True, top_logprobs=3, **SAMPLING)
    text = whole.choices[0].message.content
    assert whole.usage.completion_tokens == len(whole.choices[0].logprobs.content)
    assert all(len(token.top_logprobs) == 3 for token in whole.choices[0].logprobs.content)
    usage = {"include_usage": True}
    chunks = list(chat(model=name, messages=QUESTION, stream=True, stream_options=usage, **SAMPLING))
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(parts) == text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    with ThreadPoolExecutor(8) as pool:
        ask = lambda _: chat(model=name, messages=QUESTION, **SAMPLING).choices[0].message.content
        assert set(pool.map(ask, range(16))) == {text}
    complete = client.completions.create
    plain = complete(model=name, prompt="One day", logprobs=2, echo=True, **SAMPLING)
    assert plain.choices[0].text.startswith("One day")
    assert plain.choices[0].logprobs.token_logprobs[0] is None
    stream = complete(model=name, prompt="One day", stream=True, **SAMPLING)
    answer = "".join(chunk.choices[0].text for chunk in stream)
    assert "One day" + answer == plain.choices[0].text
    for error, request in [
        (openai.NotFoundError, {"model": "other"}),
        (openai.BadRequestError, {"temperature": 9}),
        (openai.BadRequestError, {"extra_body": {"temprature": 1}}),
    ]:
        try:
            chat(**({"model": name, "messages": QUESTION} | request))
        except error as found:
            assert found.body["message"], found.body
        else:
            raise AssertionError(request)
    return text


def litellm_client(url, name, text):
    import litellm

    ask = {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "none"}
    whole = litellm.completion(messages=QUESTION, **ask, **SAMPLING)
    assert whole.choices[0].message.content == text
    chunks = litellm.completion(messages=QUESTION, stream=True, **ask, **SAMPLING)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def langchain_client(url, name, text):
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model=name, **SAMPLING)
    assert chat.invoke([("user", QUESTION[0]["content"])]).content == text
    chunks = chat.stream([("user", QUESTION[0]["content"])])
    assert "".join(chunk.content for chunk in chunks) == text


def clients(url, name):
    text = openai_client(url, name)
    print("openai: chat, stream, log-probabilities, 16 concurrent requests, completions, errors")
    litellm_client(url, name, text)
    print("litellm: chat, stream")
    langchain_client(url, name, text)
    print("langchain-openai: chat, stream")


def schemathesis(url, count):
    tool = Path(sys.executable).with_name("schemathesis")
    # A good prompt can be longer than the context, which no schema tells.
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", count, "--seed", "1"]
    subprocess.run([tool, "run", f"{url}/openapi.json", *options], check=True)


def lm_eval(binary, model, url, name, data, count):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from lm_eval_tasks import definition, lines

    harness = LocalCompletionsAPI(
        model=name,
        base_url=f"{url}/v1/completions",
        tokenizer_backend="remote",
        num_concurrent=4,
        max_length=512,
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "eval", model, "--tasks", "arc_easy", "--data", data, "--limit", str(count)]
        subprocess.run([*command, "--no-bos", "-o", folder, "-q"], check=True, stdout=subprocess.DEVNULL)
        ours = lines(Path(folder) / "arc_easy.jsonl")
    task = definition("arc_easy", Path(data))
    task.build_all_requests(limit=len(ours), rank=0, world_size=1)
    theirs = harness.loglikelihood(task.instances)
    scored = [choice["logprob"] for line in ours for choice in line["choices"]]
    assert len(theirs) == len(scored), (len(theirs), len(scored))
    largest = max(abs(found - own) for (found, _), own in zip(theirs, scored))
    print(f"lm-eval: {len(ours)} items, {len(scored)} choices, largest difference {largest}")
    assert largest == 0


class Soak:
    """Random requests of 16 clients at once: every answer is that of the same request alone."""

    def __init__(self, url, process):
        self.address = (urlsplit(url).hostname, urlsplit(url).port)
        self.process = process
        self.kinds = {}

    def send(self, body, path="/v1/completions"):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client = socket.create_connection(self.address)
        client.sendall(head.encode() + body)
        return client

    def answer(self, client):
        text = b""
        while part := client.recv(65536):
            text += part
        head, _, body = text.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def request(self, seed):
        dice = random.Random(seed)
        prompt = [dice.choice([65, 66]) for _ in range(dice.randrange(1, 60))]
        prompt += [dice.randrange(250) for _ in range(dice.randrange(4))]
        return {
            "prompt": prompt,
            "max_tokens": dice.randrange(60),
            "seed": seed,
            "temperature": dice.choice([0, 0.7, 1]),
            "n": dice.choice([1, 1, 1, 3]),
            "logprobs": dice.choice([None, None, 2]),
            "echo": dice.choice([True, False]),
        }

    def choices(self, seed):
        status, body = self.answer(self.send(json.dumps(self.request(seed)).encode()))
        assert status == 200, body
        return json.loads(body)["choices"]

    def resident(self):
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def one(self, seed):
        """A request of some kind; the answers of good ones."""
        kind = random.Random(seed).choice(["good"] * 6 + ["leave", "late", "slow", "json", "large"])
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        body = json.dumps(self.request(seed)).encode()
        if kind == "good":
            return self.choices(seed)
        if kind == "leave":
            self.send(json.dumps(self.request(seed) | {"stream": True}).encode()).recv(100)
        elif kind == "late":
            # Leaves before anything is answered.
            self.send(body).close()
        elif kind == "slow":
            client = self.send(json.dumps(self.request(seed) | {"stream": True}).encode())
            for _ in range(20):
                client.recv(64)
        elif kind == "json":
            assert self.answer(self.send(body[: len(body) // 2]))[0] == 400
        else:
            client = socket.create_connection(self.address)
            head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            head += "Content-Type: application/json\r\nContent-Length: 999999999\r\n\r\n"
            client.sendall(head.encode() + b"x" * 1000)
            assert self.answer(client)[0] == 413, "413"

    def run(self, count):
        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(self.one, range(count // 2)))
            warm = self.resident()
            together += pool.map(self.one, range(count // 2, count))
        grown = self.resident() / warm - 1
        good = [seed for seed, choices in enumerate(together) if choices is not None]
        wrong = [seed for seed in good if self.choices(seed) != together[seed]]
        print(f"soak: {count} requests, {self.kinds}, memory {grown:+.1%}, {len(wrong)} wrong answers")
        assert not wrong and grown < 0.05


class Speed:
    """What clients of a model with a context of 4,096 tokens see."""

    def __init__(self, url):
        self.url = url

    def ask(self, prompt, count, **more):
        """The times at which the text of an answer comes, counted from the request."""
        body = {"prompt": prompt, "max_tokens": count, "stream": True, "temperature": 0} | more
        body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        begun, times = time.perf_counter(), []
        with urlopen(Request(f"{self.url}/v1/completions", body, headers)) as answer:
            for line in answer:
                if line.startswith(b'data: {"id"'):
                    times.append(time.perf_counter() - begun)
        return times

    def prompt(self, seed, length):
        return [random.Random(seed).randrange(1000, 100000) for _ in range(length)]

    def together(self, clients, count, **more):
        """Tokens a second of all clients, and the times between two pieces of text, sorted."""
        with ThreadPoolExecutor(clients) as pool:
            ask = lambda seed: self.ask(self.prompt(seed, 4), count, seed=seed, **more)
            answers = list(pool.map(ask, range(clients)))
        first, last = min(times[0] for times in answers), max(times[-1] for times in answers)
        between = [b - a for times in answers for a, b in zip(times, times[1:])]
        return clients * (count - 1) / (last - first), sorted(between)

    def run(self):
        self.together(1, 16)
        for clients in [1, 2, 4, 8]:
            for name, more in [("greedy", {}), ("top-k 40", {"temperature": 0.7, "top_k": 40})]:
                speed, between = self.together(clients, 65, **more)
                late = between[len(between) * 99 // 100] * 1000
                print(f"{clients} clients, {name}: {speed:.1f} tokens/s, 99 % within {late:.0f} ms")
        step = 1 / self.together(1, 65)[0]
        with ThreadPoolExecutor(2) as pool:
            long = pool.submit(self.ask, self.prompt("long", 2000), 1)
            time.sleep(1)
            short = self.ask(self.prompt("short", 16), 2)
            print(f"short beside a prompt of 2,000 tokens: {short[0]:.2f} s, the prompt {long.result()[0]:.2f} s")
        prompt = self.prompt("again", 1000)
        first = self.ask(prompt, 1)[0]
        again = sorted(self.ask(prompt, 1)[0] for _ in range(5))[2]
        print(f"1,000 tokens: {first:.2f} s, again {again * 1000:.0f} ms, {again / step:.2f} decode steps")


def main():
    binary, model, *rest = sys.argv[1:]
    key = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"NO_COLOR": "1"}}
    server = subprocess.Popen([binary, "serve", model, "--port", "0", *os.environ.get("SERVE", "").split()], **key)
    try:
        url = server.stdout.readline().strip()
        name = json.loads(fetch(f"{url}/v1/models"))["data"][0]["id"]
        match rest:
            case []:
                clients(url, name)
            case ["--schemathesis", *count]:
                schemathesis(url, *(count or ["100"]))
            case ["--speed"]:
                Speed(url).run()
            case ["--soak", count]:
                Soak(url, server.pid).run(int(count))
            case ["--lm-eval", data, *count]:
                lm_eval(binary, model, url, name, data, *map(int, count or [20]))
    finally:
        server.terminate()
        assert server.wait() == 0


def fetch(url):
    with urlopen(url) as answer:
        return answer.read()


main()
