#!/usr/bin/env python3
"""Keeps `trilobite serve` with the built-in model under pressure, and checks every answer.

    python3 crates/trilobite-server/tests/soak.py target/release/trilobite [--minutes 10] [--requests 2000]

24 clients at once send completions and chats, whole and streamed, a quarter of them with a form (JSON schema or regular
expression). Others send broken JSON, bodies that are too large and halves of heads, read slowly, or leave at some time.
It ends after both the minutes and the requests, and checks that
- no request gets a status of 500 or more, and nothing in the log tells of a panic,
- answers fit their forms, and each has the text, the log-probabilities and the end that the same request gets alone,
- memory in the last quarter of the time is within 5 % of what it was in the second (the median of each),
- nothing runs or waits at the end, and SIGTERM ends the server without an error.
Needs no package and no network.
"""

import argparse
import asyncio
import collections
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIENTS, ROW = 24, 8
WARM, GROWTH = 0.25, 0.05
OPTIONS = ["--port", "0", "--chat-template", "chatml", "--parallel", "4", "--queue", "12", "--cache-memory", "4"]
WORDS = "once upon a time there was little girl boy dog named Lily Tom who liked to play in the big park and mom said".split()
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 20}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
REGEX = "(yes|no), [a-z]{3,9}( [a-z]{2,5}){0,3}[.!]"
KINDS = ["good"] * 9 + ["leave", "late", "slow", "json", "large", "chunked", "head"]


def request(seed):
    """A path and a request; the same for the same seed."""
    dice = random.Random(seed)
    # A few beginnings, so that prompts share pages.
    start = random.Random(dice.randrange(20)).choices(WORDS, k=dice.choice([1, 5, 60]))
    text = " ".join(start + dice.choices(WORDS, k=dice.randrange(12)))
    body = {"max_tokens": dice.randrange(1, 60), "seed": seed, "temperature": dice.choice([0, 0.7, 1.0]), "n": dice.choice([1, 1, 1, 3])}
    form = dice.random() < 0.25
    if form:
        body["max_tokens"] = 300
    if dice.random() < 0.5:
        path, body["prompt"] = "/v1/completions", text
        if not form:
            body |= {"echo": dice.random() < 0.3, "logprobs": dice.choice([None, None, 2])}
    else:
        path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": text}]
        if not form and dice.random() < 0.3:
            body |= {"logprobs": True, "top_logprobs": 2}
    if form and dice.random() < 0.5:
        body["regex"] = REGEX
    elif form:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "dog", "schema": SCHEMA}}
    return path, body


def check_form(body, answers):
    for answer in answers:
        if answer["finish_reason"] != "stop":
            continue
        if "regex" in body:
            assert re.fullmatch(REGEX, answer["text"]), answer
        if "response_format" in body:
            dog = json.loads(answer["text"])
            assert set(dog) == {"name", "age"} and len(dog["name"]) <= 12 and 0 <= dog["age"] <= 20, answer


def whole(choices):
    """What is compared of whole answers."""
    text = lambda choice: choice["text"] if "text" in choice else choice["message"]["content"]
    return [{"text": text(c) or "", "finish_reason": c["finish_reason"], "logprobs": c["logprobs"]} for c in choices]


def streamed(events, count):
    answers = [{"text": "", "finish_reason": None} for _ in range(count)]
    for event in events:
        for choice in event["choices"]:
            answer = answers[choice["index"]]
            answer["text"] += (choice["text"] if "text" in choice else choice["delta"].get("content")) or ""
            answer["finish_reason"] = choice["finish_reason"] or answer["finish_reason"]
    return answers


class Soak:
    def __init__(self, address, server):
        self.host, self.port = address.rsplit(":", 1)
        self.server, self.kinds, self.statuses = server, collections.Counter(), collections.Counter()
        self.accepted, self.sent = {}, 0

    async def open(self, path, body, length=None, more=""):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        head += more or f"Content-Length: {len(body) if length is None else length}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        return reader, writer

    async def answer(self, reader, writer, slowly=False):
        """Status and body of an answer, which may be read in small steps."""
        data = b""
        while part := await reader.read(256 if slowly else 1 << 16):
            data += part
            if slowly:
                await asyncio.sleep(random.uniform(0, 0.05))
        writer.close()
        head, _, body = data.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        self.statuses[status] += 1
        if b"transfer-encoding: chunked" in head:
            joined = b""
            while body:
                size, _, body = body.partition(b"\r\n")
                joined, body = joined + body[: int(size, 16)], body[int(size, 16) + 2 :]
            body = joined
        return status, head, body

    async def ask(self, seed, stream=False, slowly=False):
        """The answers to a request, or None if the queue is full."""
        path, body = request(seed)
        data = json.dumps(body | {"stream": True} if stream else body).encode()
        status, head, reply = await self.answer(*await self.open(path, data), slowly)
        if status == 429:
            assert b"retry-after:" in head, head
            return None
        assert status == 200, (seed, status, reply)
        if stream:
            *events, done = reply.decode().removesuffix("\n\n").split("\n\n")
            assert done == "data: [DONE]", reply
            events = [json.loads(e.removeprefix("data: ")) for e in events if e.startswith("data: ")]
            answers = streamed(events, body["n"])
        else:
            answers = whole(json.loads(reply)["choices"])
        check_form(body, answers)
        return answers

    async def one(self, seed):
        dice = random.Random(-seed - 1)
        kind = dice.choice(KINDS)
        self.kinds[kind] += 1
        path, body = request(seed)
        data = json.dumps(body | {"stream": dice.random() < 0.7}).encode()
        try:
            if kind in ("good", "slow"):
                answers = await self.ask(seed, stream=dice.random() < 0.5, slowly=kind == "slow")
                if answers is not None:
                    self.accepted[seed] = answers
            elif kind == "leave":
                reader, writer = await self.open(path, data)
                await reader.read(dice.randrange(1, 600))
                writer.close()
            elif kind == "late":
                reader, writer = await self.open(path, data)
                await asyncio.sleep(dice.uniform(0, 0.2))
                writer.transport.abort()
            elif kind == "json":
                assert (await self.answer(*await self.open(path, data[: len(data) // 2])))[0] == 400
            elif kind == "large":
                assert (await self.answer(*await self.open(path, data, 1 << 30)))[0] == 413
            elif kind == "chunked":
                chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
                assert (await self.answer(*await self.open(path, 10 * chunk, more="Transfer-Encoding: chunked\r\n")))[0] == 413
            else:
                reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(f"POST {path} HTTP/1.1\r\nHo".encode())
                await asyncio.sleep(dice.uniform(0, 1))
                writer.close()
        except ConnectionError:
            # The server need not read a body that it refuses.
            assert kind in ("large", "chunked"), kind

    async def client(self, ends, least, pause):
        while self.sent < least or time.monotonic() < ends:
            seed, self.sent = self.sent, self.sent + 1
            await self.one(seed)
            # Clients send several requests in a row.
            if random.random() < 1 / ROW:
                await asyncio.sleep(random.uniform(0, 2 * ROW * pause))

    def resident(self):
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    async def watch(self, seconds, samples):
        begun = time.monotonic()
        while True:
            await asyncio.sleep(1)
            if time.monotonic() - begun > WARM * seconds:
                samples.append(self.resident())

    async def metrics(self):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = (await self.answer(reader, writer))[2].decode()
        return {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if line.startswith("trilobite_")}

    async def run(self, minutes, requests):
        seconds, samples = 60 * minutes, []
        watch = asyncio.create_task(self.watch(seconds, samples))
        ends = time.monotonic() + seconds
        # Spreads the requests over the time.
        pause = seconds * CLIENTS / max(requests, 1)
        await asyncio.gather(*(self.client(ends, requests, pause) for _ in range(CLIENTS)))
        watch.cancel()
        print(f"{self.sent} requests, {dict(self.kinds)}, statuses {dict(self.statuses)}", flush=True)
        assert max(self.statuses) < 500, self.statuses
        for _ in range(100):
            metrics = await self.metrics()
            if metrics["trilobite_running_sequences"] == metrics["trilobite_queued_prompts"] == 0:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(metrics)
        # Bodies of refused requests make peaks.
        second, last = (statistics.median(part) for part in (samples[: len(samples) // 3], samples[-(len(samples) // 3) :]))
        growth = last / second - 1
        print(f"memory {second / 1024:.1f} MiB in the second quarter, {last / 1024:.1f} MiB ({growth:+.1%}) in the last, at most {max(samples) / 1024:.1f} MiB")
        wrong = [seed for seed, answers in self.accepted.items() if not same(answers, await self.ask(seed))]
        forms = sum("regex" in body or "response_format" in body for _, body in map(request, self.accepted))
        print(f"{len(self.accepted)} answers, {forms} of them with a form, {len(wrong)} differ from those alone")
        print("preempted", metrics["trilobite_preemptions_total"], "cancelled", metrics["trilobite_cancelled_total"])
        assert not wrong, wrong
        assert growth <= GROWTH, samples


def same(answers, alone):
    """Streams are compared without log-probabilities."""
    return all(answer == {key: value for key, value in other.items() if key in answer} for answer, other in zip(answers, alone, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--requests", type=int, default=2000)
    args = parser.parse_args()
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([args.binary, "serve", *OPTIONS], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            address = server.stdout.readline().strip().removeprefix("http://")
            asyncio.run(Soak(address, server).run(args.minutes, args.requests))
        finally:
            server.terminate()
            code = server.wait(60)
            log.seek(0)
            text = log.read()
        assert code == 0, code
        assert "panic" not in text, text
    print("passed")


if __name__ == "__main__":
    main()
