#!/usr/bin/env python3
"""Measures engines beside each other on one model shape, interleaved, and writes a table.

    compare.py ROWS.json -o benches/results/2026-11-22-machine [--rounds 5] [--wrap "CMD"] [--only TEXT]

ROWS.json lists what to run (see README.md). A round runs every row once for one test, then the next round does, so that
a slow moment of the machine falls on all. Each run is a process of its own that warms up first. `--wrap` is a command
that keeps the machine quiet for at most a minute: it gets a share of a round to run, 40 s and the run then under way.
A run during which other processes took more than a few percent of the processors does not count and is repeated.
Writes OUT.json (every single value) and OUT.md, after every round, so that a broken run loses little.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path


def speed_of_trilobite(out):
    """tokens/s and what else the engine says of the run."""
    result = json.loads(out)[0]
    decode = result["decode"] or {}
    part = decode or result["prefill"][0]
    keys = ("bytes_per_token", "bandwidth_bytes_per_s", "head_rows_per_token", "live_fraction")
    facts = {key: decode[key] for key in keys if key in decode}
    return part["tokens_per_s"]["median"], {"isa": result["isa"], "layout": result["layout"], **facts}


def speed_of_llama_bench(out):
    result = json.loads(out[out.index("["):])
    return result[-1]["avg_ts"], {"build": result[-1].get("build_commit", "")}


def path(text):
    """The path with the environment's variables in it; one that is not set is an error."""
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise SystemExit(f"{text}: set the variable to the folder that holds it")
    return expanded


def trilobite(row, test, threads):
    sizes = ["-p", test[2:], "-n", "0"] if test.startswith("pp") else ["-p", "0", "-n", test[2:]]
    return [path(row["binary"]), "bench", path(row["model"]), *sizes, "-t", str(threads), "-r", "1", "--json", "-q"]


def llama_bench(row, test, threads):
    sizes = ["-p", test[2:], "-n", "0"] if test.startswith("pp") else ["-p", "0", "-n", test[2:]]
    return [path(row["binary"]), "-m", path(row["model"]), *sizes, "-t", str(threads), "-r", "1", "-o", "json"]


# Share of the machine that other processes may take during a run; one that they disturbed more is repeated.
OTHERS = 0.06
# Seconds after which no further run is begun in a share of a round.
SHARE_S = 40

ENGINES = {"trilobite": (trilobite, speed_of_trilobite), "llama-bench": (llama_bench, speed_of_llama_bench)}


def measure(row, test, threads):
    build, read = ENGINES[row["engine"]]
    command = build(row, test, threads) + row.get("args", [])
    busy, own, began = busy_s(), own_s(), time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **row.get("env", {})})
    if run.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    others = busy_s() - busy - (own_s() - own)
    speed, facts = read(run.stdout)
    taken = others / (time.monotonic() - began) / os.cpu_count()
    return {"name": row["name"], "speed": speed, "facts": facts, "command": command, "others": taken}


def busy_s():
    """Seconds that all processors together have worked since the machine started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_s():
    """Seconds that ended child processes have worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def share(rows, test, threads, skip):
    """Runs the rows from `skip` on until SHARE_S seconds are over or others worked; prints what came out."""
    began, results = time.monotonic(), []
    for row in rows[skip:]:
        result = measure(row, test, threads)
        if result["others"] > OTHERS:
            print(f"others took {result['others']:.0%}, repeating {row['name']}", file=sys.stderr, flush=True)
            break
        results.append(result)
        if time.monotonic() - began > SHARE_S:
            break
    print(json.dumps(results))


def one_round(rows, key, args):
    """The results of every row, measured in shares that the wrapping command is put before."""
    results = []
    while len(results) < len(rows):
        command = [sys.executable, __file__, str(args.rows), "--share", key, "--skip", str(len(results))]
        run = subprocess.run(shlex.split(args.wrap) + command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            raise SystemExit(f"a share of {key} ended with {run.returncode}")
        results += json.loads(run.stdout)
    return results


def machine():
    cpu, flags = platform.machine(), []
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
        if key.strip() == "flags":
            flags = [flag for flag in value.split() if flag.startswith(("avx", "amx"))]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {"cpu": cpu, "cores": os.cpu_count(), "isa": flags, "memory_bytes": memory, "kernel": platform.release()}


def name_of(test, threads):
    kind = f"prefill of {test[2:]}" if test.startswith("pp") else f"decode of {test[2:]}"
    return f"{kind}, {threads} thread{'s' if threads > 1 else ''}"


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(report, wanted):
    """Each goal's ratio of medians: the best of `ours` to the best of `theirs`, within one test."""
    for goal in wanted:
        for key, rows in report["tests"].items():
            if not key.startswith(goal["test"] + "-"):
                continue
            best = [max(((rows[name]["median"], name) for name in goal[side] if name in rows), default=None)
                    for side in ("ours", "theirs")]
            if all(best):
                (ours, our_name), (theirs, their_name) = best
                yield {"goal": goal["name"], "test": key, "ours": our_name, "theirs": their_name,
                       "ratio": ours / theirs, "at_least": goal["at_least"]}


def markdown(report):
    facts = report["machine"]
    yield f"# {report['title']}"
    yield ""
    yield (f"{report['date']}, {facts['cpu']}, {facts['cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB, "
           f"Linux {facts['kernel']}, {' '.join(facts['isa'])}.")
    bandwidth = report.get("bandwidth")
    if bandwidth:
        values = ", ".join(f"{n} threads {b['median'] / 1e9:.1f} GB/s ({b['min'] / 1e9:.1f} to {b['max'] / 1e9:.1f})"
                           for n, b in bandwidth.items())
        yield f"Memory bandwidth as `trilobite bench` measures it in the same runs: {values}."
    yield ""
    counts = sorted({len(row["values"]) for rows in report["tests"].values() for row in rows.values()})
    rounds = " to ".join(map(str, counts[:1] + counts[1:][-1:]))
    yield (f"Tokens a second, medians of {rounds} interleaved rounds (minimum to maximum); decode is greedy, "
           "from an empty context.")
    for line in report.get("notes", []):
        yield f"- {line}"
    tests = list(report["tests"])
    yield ""
    yield "| row | head | " + " | ".join(name_of(*key.split("-")[:1], int(key.split("-")[1])) for key in tests) + " |"
    yield "|---|---|" + "---|" * len(tests)
    for row in report["rows"]:
        cells = []
        for key in tests:
            entry = report["tests"][key].get(row["name"])
            cells.append(f"**{entry['median']:.1f}** ({entry['min']:.1f} to {entry['max']:.1f})" if entry else "")
        yield f"| {row['name']} | {row.get('head', '')} | " + " | ".join(cells) + " |"
    if report.get("ratios"):
        yield ""
        yield "| goal | test | ours | theirs | ratio | wanted |"
        yield "|---|---|---|---|---|---|"
        for ratio in report["ratios"]:
            test, threads = ratio["test"].split("-")
            yield (f"| {ratio['goal']} | {name_of(test, int(threads))} | {ratio['ours']} | {ratio['theirs']} | "
                   f"**{ratio['ratio']:.2f}** | {ratio['at_least']} |")
    yield ""
    yield "One command of each row:"
    yield "```"
    for row in report["rows"]:
        if "command" in row:
            env = "".join(f"{key}={value} " for key, value in row.get("env", {}).items())
            yield env + shlex.join(row["command"])
    yield "```"


def write(report, config, out):
    report["ratios"] = list(ratios(report, config.get("goals", [])))
    Path(f"{out}.json").write_text(json.dumps(report, indent=1) + "\n")
    Path(f"{out}.md").write_text("\n".join(markdown(report)) + "\n")


def chosen(config, key):
    """The rows of a test in the order of the list, the test's kind and its thread count."""
    names = config["tests"][key]
    rows = [row for row in config["rows"] if row["name"] in names]
    missing = set(names) - {row["name"] for row in rows}
    if missing:
        raise SystemExit(f"{key} names rows that are not listed: {', '.join(sorted(missing))}")
    test, threads = key.split("-")
    return rows, test, int(threads)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("rows", type=Path)
    args.add_argument("-o", "--out", help="path without ending")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--wrap", default="", help="command put before each share of a round")
    args.add_argument("--only", default="", help="tests whose name holds this, such as tg64-2")
    args.add_argument("--share", metavar="TEST", help=argparse.SUPPRESS)
    args.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    args = args.parse_args()
    config = json.loads(args.rows.read_text())
    if args.share:
        return share(*chosen(config, args.share), args.skip)
    if not args.out:
        raise SystemExit("-o is missing: where the table goes")
    report = {
        "title": config["title"], "date": datetime.date.today().isoformat(), "machine": machine(),
        "notes": config.get("notes", []), "rows": config["rows"], "tests": {},
    }
    by_name = {row["name"]: row for row in config["rows"]}
    streams = {}
    for key in (key for key in config["tests"] if args.only in key):
        rows, _, threads = chosen(config, key)
        values = {row["name"]: [] for row in rows}
        for round in range(args.rounds):
            for result in one_round(rows, key, args):
                name, facts = result["name"], result["facts"]
                values[name].append(result["speed"])
                by_name[name].setdefault("facts", {}).update(facts)
                by_name[name]["command"] = result["command"]
                if "bandwidth_bytes_per_s" in facts:
                    streams.setdefault(threads, []).append(facts["bandwidth_bytes_per_s"])
                print(f"{key} round {round + 1}: {result['speed']:8.2f}  {name}", file=sys.stderr, flush=True)
            report["tests"][key] = {name: {**summary(speeds), "values": speeds} for name, speeds in values.items()}
            report["bandwidth"] = {count: summary(speeds) for count, speeds in streams.items()}
            write(report, config, args.out)


if __name__ == "__main__":
    main()
