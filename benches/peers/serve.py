#!/usr/bin/env python3
"""What the clients of a server wait for: tokens a second, time to first token, time between tokens.

    serve.py --server ours="trilobite serve MODEL --port {port}" \\
             --server llama.cpp="llama-server -m FILE -c 4096 -np 8 --port {port}" [--wrap COMMAND] [TEST...]

Every server is started with each test and asked in turns, round after round (A B, B A, ...). Tests:

    load    --clients N (8) at once, each with a prompt of --prompt (256) tokens and an answer of --generate (64)
    one     the same with one client
    behind  a prompt of 16 tokens, sent while the server reads one of 2,000
    prefix  a prompt of 1,000 tokens, then another that differs in the last token

The answers are streamed. Prompts are token ids that no other request had. `decode` counts tokens while all
clients are between their first and their last token; `whole` is all generated tokens by the time of the round.
--wrap names a command that keeps the machine quiet while it runs what follows it. Needs aiohttp.
"""

import argparse
import asyncio
import json
import os
import random
import shlex
import socket
import statistics
import subprocess
import sys
import time

import aiohttp

LEAST_ID, MOST_ID = 1000, 100_000  # No special token of Llama 3's vocabulary.


class EndedEarly(Exception):
    pass


class Answer:
    """The times of an answer's pieces, and its token counts."""

    def __init__(self):
        self.begun, self.times, self.usage = time.perf_counter(), [], None

    @property
    def first(self):
        return self.times[0] - self.begun

    def between(self):
        """The times between two tokens. A piece of several tokens, such as parts of a character, counts as so many."""
        each = (self.usage["completion_tokens"] - 1) / max(len(self.times) - 1, 1)
        return [(b - a) / each for a, b in zip(self.times, self.times[1:])]

    def speed(self):
        return (self.usage["completion_tokens"] - 1) / (self.times[-1] - self.times[0])


class Server:
    def __init__(self, name, command):
        self.name, self.command, self.process = name, command, None

    async def __aenter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = shlex.split(self.command.replace("{port}", str(port)))
        log = open(f"/tmp/serve-{self.name}.log", "w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.client = aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(total=600))
        while True:
            assert self.process.poll() is None, f"{self.name} has ended: {log.name}"
            try:
                async with self.client.get("/health") as health:
                    if health.status == 200:
                        break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        await self.ask(prompt(16), 4)
        return self

    async def __aexit__(self, *_):
        await self.client.close()
        self.process.terminate()
        self.process.wait(60)

    async def ask(self, ids, count):
        body = {"prompt": ids, "max_tokens": count, "stream": True, "temperature": 0, "stream_options": {"include_usage": True}}
        answer = Answer()
        async with self.client.post("/v1/completions", json=body) as reply:
            assert reply.status == 200, await reply.text()
            async for line in reply.content:
                if not line.startswith(b"data: {"):
                    continue
                now, chunk = time.perf_counter(), json.loads(line[6:])
                assert "error" not in chunk, chunk
                answer.usage = chunk.get("usage") or answer.usage
                if any(choice["text"] for choice in chunk["choices"]):
                    answer.times.append(now)
        if answer.usage["completion_tokens"] != count:
            raise EndedEarly(f"{self.name}: {answer.usage['completion_tokens']} of {count} tokens")
        return answer


def prompt(length):
    return [random.randrange(LEAST_ID, MOST_ID) for _ in range(length)]


async def load(server, args, clients):
    asks = [server.ask(prompt(args.prompt), args.generate) for _ in range(clients)]
    answers = await asyncio.gather(*asks, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    first = max(answer.times[0] for answer in answers)
    last = min(answer.times[-1] for answer in answers)
    within = sum((answer.usage["completion_tokens"] - 1) / max(len(answer.times) - 1, 1)
                 * sum(first < time <= last for time in answer.times) for answer in answers)
    whole = max(answer.times[-1] for answer in answers) - min(answer.begun for answer in answers)
    between = sorted(gap for answer in answers for gap in answer.between())
    return {
        "decode, tokens/s": within / (last - first) if last > first else None,
        "whole, tokens/s": clients * args.generate / whole,
        "between tokens, p50, ms": 1000 * between[len(between) // 2],
        "between tokens, p99, ms": 1000 * between[len(between) * 99 // 100],
        "between tokens, longest, ms": 1000 * between[-1],
        "first token, mean, s": statistics.mean(answer.first for answer in answers),
        "first token, last, s": max(answer.first for answer in answers),
    }


async def behind(server, args):
    long = asyncio.create_task(server.ask(prompt(2000), 1))
    await asyncio.sleep(random.uniform(0.8, 1.3))
    short = await server.ask(prompt(16), 2)
    assert not long.done(), "the long prompt was read too early"
    return {"first token, s": short.first, "first token of the long one, s": (await long).first}


async def prefix(server, args):
    ids = prompt(1000)
    new = await server.ask(ids, 1)
    again = [await server.ask([*ids[:-1], *prompt(1)], 17) for _ in range(5)]
    first = statistics.median(answer.first for answer in again)
    step = statistics.median(gap for answer in again for gap in answer.between())
    return {"new, s": new.first, "again, ms": 1000 * first, "a decode step, ms": 1000 * step, "again, steps": first / step}


TESTS = {
    "load": lambda server, args: load(server, args, args.clients),
    "one": lambda server, args: load(server, args, 1),
    "behind": behind,
    "prefix": prefix,
}


async def measure(test, server, args):
    """The figures of a test, begun again with other prompts if the model ends an answer early."""
    for _ in range(5):
        try:
            return await TESTS[test](server, args)
        except EndedEarly as ended:
            print(f"{test} again: {ended}", file=sys.stderr)
    raise SystemExit(f"{test}: {server.name} ends every answer early")


async def run(args):
    names = [server.split("=", 1) for server in args.server]
    found = {}
    servers = [await Server(*name).__aenter__() for name in names]
    try:
        for number in range(args.rounds):
            for server in servers if number % 2 == 0 else servers[::-1]:
                for test in args.tests:
                    figures = await measure(test, server, args)
                    for what, value in figures.items():
                        found.setdefault((test, what, server.name), []).append(value)
    finally:
        for server in servers:
            await server.__aexit__()
    return [[*key, values] for key, values in found.items()]


def table(found):
    for (test, what, name), values in found.items():
        values = [value for value in values if value is not None]
        if values:
            low, middle, high = min(values), statistics.median(values), max(values)
            print(f"| {test} | {what} | {name} | {middle:.4g} ({low:.4g} to {high:.4g}) | {len(values)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", default=list(TESTS), metavar="TEST")
    parser.add_argument("--server", action="append", required=True, metavar="NAME=COMMAND")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of one turn")
    parser.add_argument("--turns", type=int, default=1, help="starts of the servers")
    parser.add_argument("--wrap", help="the command of each turn begins with this one")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.json:
        json.dump(asyncio.run(run(args)), sys.stdout)
        return
    found = {}
    for turn in range(args.turns):
        command = [*shlex.split(args.wrap or ""), sys.executable, *sys.argv, "--json"]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ).stdout
        for test, what, name, values in json.loads(output):
            found.setdefault((test, what, name), []).extend(values)
    table(found)


if __name__ == "__main__":
    main()
