"""Runs a solution of a HumanEval+ problem against its tests, inside the sandbox.

Reads a JSON object from standard input: the problem's fields, "output" (what the model wrote) and
"token". Prints one line, "TOKEN VERDICT REASON", where VERDICT is two letters, p or f, for the base
tests and for all tests. Whatever ends this process earlier leaves no line: a failure.
"""

import ast
import copy
import json
import math
import os
import signal
import sys
import time

LEAST_SECONDS = 4.0
RTOL = 1e-7
FLOAT_ATOL = 1e-6


def longest_valid(text):
    """The longest run of lines that is valid Python."""
    lines = text.split("\n")
    best, most = "", 0
    for start in range(len(lines)):
        for end in range(len(lines), start + most, -1):
            part = "\n".join(lines[start:end])
            try:
                ast.parse(part)
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                continue
            if sum(1 for line in lines[start:end] if line.strip()) > most:
                best, most = part, sum(1 for line in lines[start:end] if line.strip())
            break
    return best


def sanitise(text, entry_point):
    """Imports, and the definitions that the entry point reaches."""
    code = longest_valid(text)
    imports, definitions = [], {}
    for node in ast.parse(code).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append(node)
        elif isinstance(node, ast.ClassDef):
            definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if any(isinstance(inner, ast.Return) for inner in ast.walk(node)):
                definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            definitions.setdefault(node.targets[0].id, []).append(node)
    reached, waiting = set(), [entry_point]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in definitions:
            continue
        reached.add(name)
        for node in definitions[name]:
            waiting += [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    kept = [node for name in definitions if name in reached for node in definitions[name]]
    kept.sort(key=lambda node: node.lineno)
    return "\n".join(ast.unparse(node) for node in imports + kept)


class TooSlow(BaseException):
    pass


def too_slow(*_):
    raise TooSlow


def limited(function, arguments, seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def is_floats(value):
    if isinstance(value, float):
        return True
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(x, float) for x in value)


def near(a, b, atol):
    if isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(near(x, y, atol) for x, y in zip(a, b))
    if math.isnan(b):
        return math.isnan(a)
    return a == b or abs(a - b) <= atol + RTOL * abs(b)


def polynomial(coefficients, x):
    return sum(c * x**i for i, c in enumerate(coefficients))


def right(problem, arguments, found, expected):
    atol = problem["atol"]
    if problem["entry_point"] == "find_zero":
        return abs(polynomial(arguments[0], found)) <= atol
    if found == expected:
        return True
    if atol == 0 and is_floats(expected):
        atol = FLOAT_ATOL
    return bool(atol) and type(found) is type(expected) and near(found, expected, atol)


def main():
    problem = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)

    def verdict(base, plus, reason):
        out.write(f"{problem['token']} {'p' if base else 'f'}{'p' if plus else 'f'} {reason}\n")
        out.flush()
        os._exit(0)

    entry_point = problem["entry_point"]
    reference = {}
    exec(problem["prompt"] + problem["canonical_solution"], reference)
    tests = []
    for kind in ("base_input", "plus_input"):
        for arguments in problem[kind] or []:
            start = time.time()
            expected = reference[entry_point](*copy.deepcopy(arguments))
            seconds = max(LEAST_SECONDS, 4 * (time.time() - start))
            tests.append((kind, arguments, expected, seconds))

    signal.signal(signal.SIGALRM, too_slow)
    text = problem["output"]
    if f"def {entry_point}" not in text:
        text = problem["prompt"] + text
    base = True
    solution = {"__name__": "solution"}
    try:
        code = sanitise(text, entry_point)
        limited(exec, (code, solution), LEAST_SECONDS)
        function = solution[entry_point]
    except BaseException as error:
        verdict(False, False, f"does not load: {type(error).__name__}")
    for number, (kind, arguments, expected, seconds) in enumerate(tests):
        try:
            found = limited(function, copy.deepcopy(arguments), seconds)
            passed = right(problem, arguments, found, expected)
            reason = f"test {number}: wrong result"
        except BaseException as error:
            passed, reason = False, f"test {number}: {type(error).__name__}"
        if not passed:
            verdict(base and kind != "base_input", False, reason)
    verdict(True, True, "passed")


main()
