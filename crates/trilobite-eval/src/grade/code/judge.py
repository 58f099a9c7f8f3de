"""Takes the code out of answers and compares results, as evalplus 0.3.1 does.

Runs in a sandbox of its own and never runs what it reads. Standard input and output are lines of
JSON. The first line out is "ready". The lines in are

- {"output", "chat", "prompt", "entry_point"}: the answer is the solution, a string;
- {"entry_point", "atol", "arguments"}, then two results from `harness.py`, the expected one and the
  one in question: the answer is whether the latter is right, and the tolerance from then on.
"""

import ast
import json
import math
import re
import sys
from fractions import Fraction

RTOL = 1e-7
FLOAT_ATOL = 1e-6


def parses(text):
    try:
        ast.parse(text)
        return True
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def extract(text):
    """Of the runs of two or more lines that are valid Python, the first with the most lines that are
    not blank; the first line if there is none."""
    lines = text.split("\n")
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    most, best = 0, (0, 1)
    for start in range(len(lines)):
        # From the longest down: the first that parses has the most lines of those from `start`.
        for end in range(len(lines), start + 1, -1):
            if filled[end] - filled[start] <= most:
                break
            if parses("\n".join(lines[start:end])):
                most = filled[end] - filled[start]
                best = start, next(
                    shorter
                    for shorter in range(start + 2, end + 1)
                    if filled[shorter] == filled[end] and parses("\n".join(lines[start:shorter]))
                )
                break
    return "\n".join(lines[best[0] : best[1]])


def name_of(node):
    """The name under which evalplus knows a statement: the first identifier right below it in its
    syntax tree, where one in parentheses is not right below."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name
    left = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if isinstance(left, ast.Name) and left.col_offset == node.col_offset:
        return left.id
    # `a = b = c` holds another assignment on its right.
    right = node.value if len(getattr(node, "targets", [left])) == 1 else None
    if isinstance(right, ast.Name) and right.end_col_offset == node.end_col_offset:
        return right.id
    return None


def is_definition(node):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        returns = any(isinstance(inner, ast.Return) for inner in ast.walk(node))
        return returns and not node.decorator_list
    if isinstance(node, ast.ClassDef):
        return not node.decorator_list
    return isinstance(node, (ast.Assign, ast.AnnAssign))


def identifiers(node):
    """All identifiers in a node: of variables, attributes, parameters, imports."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant):
            continue
        for _, value in ast.iter_fields(inner):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    yield from text.split(".")


def sanitise(text, entry_point):
    """Imports, and the first definitions of the names that the entry point reaches."""
    code = extract(text)
    if not parses(code):
        # A line in which its parser still makes out a function.
        function = re.search(r"\b(async\s+)?def\s.*", code)
        if not function or not parses(function[0]):
            return code
        code = function[0]
    imports, definitions = [], {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            imports.append(node)
        elif isinstance(node, ast.ImportFrom):
            # In the tree of evalplus `from __future__` is a statement of its own kind.
            if node.module != "__future__":
                imports.append(node)
        elif is_definition(node):
            definitions.setdefault(name_of(node), node)
    reached, waiting = set(), [entry_point]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += identifiers(definitions[name]) if name in definitions else []
    kept = imports + [node for name, node in definitions.items() if name in reached]
    return "\n".join(ast.get_source_segment(code, node) for node in kept) or code


def solution(request):
    """The code of an answer. That of a base model, or one that does not define the function itself,
    continues the prompt."""
    text, chat = request["output"].replace("\t", "    "), request["chat"]
    if chat is None:
        chat = re.search(rf"\bdef\s+{re.escape(request['entry_point'])}\b", text)
    if not chat:
        text = request["prompt"].strip() + "\n" + text
    return sanitise(text, request["entry_point"])


# What is like a builtin value without being one is equal to it, but of another type.
LIKE = {
    kind: type("Like", (kind,), {})
    for kind in (int, float, complex, str, list, tuple, set, frozenset, dict, bytes, Fraction)
}
BUILD = {
    "int": lambda value: int(value, 16),
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
    "bytes": bytes.fromhex,
    "complex": lambda value: complex(*value),
    "ratio": lambda value: Fraction(*value),
    "like": lambda value: value if isinstance(value, bool) else LIKE[type(value)](value),
}


def build(fields):
    [(kind, value)] = fields.items()
    return BUILD[kind](value)


def decode(text):
    """The value that `harness.py` encoded. Every NaN is an object of its own: equal to nothing."""
    return json.loads(text, object_hook=build, parse_constant=float)


def is_floats(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def near(found, expected, atol):
    """`numpy.allclose`, of numbers and lists of one shape."""
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(expected)
            and all(near(a, b, atol) for a, b in zip(found, expected))
        )
    if not isinstance(found, (int, float)) or not isinstance(expected, (int, float)):
        return False
    if found == expected:
        return True
    return math.isfinite(expected) and abs(found - expected) <= atol + RTOL * abs(expected)


def right(entry_point, atol, arguments, expected, found):
    """Whether a result is right, and the tolerance from then on."""
    if entry_point == "find_zero":
        [coefficients] = arguments
        value = sum(factor * math.pow(found, power) for power, factor in enumerate(coefficients))
        return abs(value) <= atol, atol
    if atol == 0 and is_floats(expected):
        atol = FLOAT_ATOL
    if found == expected:
        return True, atol
    return bool(atol) and type(found) is type(expected) and near(found, expected, atol), atol


def main():
    lines = sys.stdin.buffer

    def answer(value):
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    answer("ready")
    for line in lines:
        request = json.loads(line)
        if "output" in request:
            answer(solution(request))
            continue
        expected, found = lines.readline(), lines.readline()
        try:
            answer(right(**request, expected=decode(expected), found=decode(found)))
        except Exception:
            # Nothing that the harness writes, or nothing that can be compared.
            answer((False, request["atol"]))


main()
