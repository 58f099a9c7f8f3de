"""Runs other people's clients against `trilobite serve` and compares what they get.

    python server_clients.py TRILOBITE MODEL                       openai, litellm, langchain-openai
    python server_clients.py TRILOBITE MODEL --schemathesis        requests made from /openapi.json
    python server_clients.py TRILOBITE MODEL --lm-eval DATA        ARC-Easy as `trilobite eval` scores it

MODEL is one that has a chat template. The server listens on a free port of this machine. Each part needs
only the packages that it names (`pip install openai litellm langchain-openai`, `schemathesis`,
`lm-eval[api]`), and no network.
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

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
    # Requests of the right form can be refused: a prompt longer than the context, tools of the same name.
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
            case ["--lm-eval", data, *count]:
                lm_eval(binary, model, url, name, data, *map(int, count or [20]))
    finally:
        server.terminate()
        assert server.wait() == 0


def fetch(url):
    with urlopen(url) as answer:
        return answer.read()


main()
