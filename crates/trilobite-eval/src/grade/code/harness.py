"""Runs one solution on inputs, inside the sandbox.

Standard input and output are lines of JSON. The first line out is "ready". The first line in is
{"code", "entry_point"}, and its answer is `true` or {"raised": NAME}. Each further line is a list of
arguments, and its answer is the result as `encode` writes it, or {"raised": NAME}.

The code shares this process, so nothing that it could misuse is here: no expected result, no verdict.
What comes out is read as data by `judge.py`.
"""

import builtins
import json
import os
import resource
import sys
from collections.abc import Set
from decimal import Decimal
from fractions import Fraction

# What evalplus takes away before it runs a solution.
GONE = {
    "builtins": "exit quit open help",
    "os": "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames "
    "truncate replace unlink fchmod fchown chmod chown chroot lchown getcwd chdir",
    "shutil": "rmtree move chown",
    "subprocess": "Popen",
}
GONE_MODULES = "ipdb joblib resource psutil tkinter"
# Integers of more bits are written in hexadecimal: decimal digits take quadratic time.
PLAIN_INTEGER = 1 << 63


def encode(value):
    """A value as JSON: builtin types as they are, what equals one as {"like": it}."""
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if -PLAIN_INTEGER < value < PLAIN_INTEGER else {"int": hex(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind in (Decimal, Fraction):
        return {"like": {"ratio": [encode(part) for part in value.as_integer_ratio()]}}
    for base in (int, float, complex, str, list, tuple, set, frozenset, dict, bytes):
        if isinstance(value, base):
            return {"like": encode("".join(value) if base is str else base(value))}
    if isinstance(value, bytearray):
        return {"like": encode(bytes(value))}
    if isinstance(value, Set):
        return {"like": encode(frozenset(value))}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return {"like": encode(value.item())}
    return {"other": kind.__name__}


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    sys.path += sys.argv[1:]
    lines = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)

    def answer(value):
        answers.write(json.dumps(value).encode() + b"\n")
        answers.flush()

    answer("ready")
    request = json.loads(lines.readline())
    if "numpy" in request["code"]:
        # evalplus has it loaded before it takes away what it needs to load.
        try:
            import numpy
        except ImportError:
            pass
    for module, names in GONE.items():
        for name in names.split():
            setattr(__import__(module), name, None)
    sys.modules.update(dict.fromkeys(GONE_MODULES.split()))
    solution = {}
    try:
        exec(request["code"], solution)
        function = solution[request["entry_point"]]
    except BaseException as error:
        return answer({"raised": type(error).__name__})
    answer(True)
    for line in lines:
        try:
            answer(encode(function(*json.loads(line))))
        except BaseException as error:
            answer({"raised": type(error).__name__})


main()
