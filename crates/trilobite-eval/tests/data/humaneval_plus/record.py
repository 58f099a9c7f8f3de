"""Records what evalplus makes of answers of many shapes: verdicts.jsonl.

    pip install evalplus==0.3.1
    python record.py

Each line has the id of a problem of HumanEvalPlus.jsonl, the output, whether it was given in a chat,
the solution that evalplus's sanitiser finds in it, and whether that passes the base and all tests.
`find_zero` is left out: that release counts none of its results as right.
"""

import json
import multiprocessing
from pathlib import Path

from evalplus.eval import PASS, untrusted_check
from evalplus.gen.util import trusted_exec
from evalplus.sanitize import sanitize

FOLDER = Path(__file__).parent

# Answers in a chat to HumanEval/900, `double`: every program in every wrapper.
PROGRAMS = [
    "def double(x):\n    return 2 * x",
    "def double(x): return 2 * x",
    "double = lambda x: 2 * x",
    "import math\n\ndef double(x: int) -> int:\n    return int(math.ldexp(x, 1))",
    "def helper(x):\n    return x\n\ndef double(x):\n    return helper(x) + helper(x)",
    "def double(x):\n    return helper(x) + helper(x)\n\ndef helper(x):\n    return x",
    "def double(x):\n    def double_inner(y):\n        return y + y\n    return double_inner(x)",
    "FACTOR: int = 2\n\ndef double(x):\n    return FACTOR * x",
    "FACTOR = 2\n\ndef double(x):\n    return FACTOR * x",
    "from functools import lru_cache\n\n@lru_cache(None)\ndef double(x):\n    return 2 * x",
    "from functools import lru_cache\n\n@lru_cache(None)\ndef helper(x):\n    return x\n\ndef double(x):\n    return 2 * helper(x)",
    "def double(x):\n    return 2 * x\n\nprint(double(2))",
    "def double(x):\n    return x\n\ndef double(x):\n    return 2 * x",
    "def double(x):\n    return 2 * x\n\ndef double(x):\n    return x",
    "class Solution:\n    def double(self, x):\n        return 2 * x\n\ndef double(x):\n    return Solution().double(x)",
    "class Solution:\n    def double(self, x):\n        return 2 * x",
]
WRAPPERS = [
    "{}",
    "{}\n",
    "```python\n{}\n```",
    "```python\n{}\n\n```\n",
    "```\n{}\n```\nThis doubles x.",
    "Here is the solution:\n\n```python\n{}\n```\n\nExample:\n\n```python\nprint(double(3))\n```",
    "Sure: {}",
    "First attempt:\n\n{}\n\nIt returns twice its argument, as the tests ask for.",
]
# Further answers in a chat.
CHATS = {
    900: [
        "",
        "\n",
        "I cannot do that.",
        "```python def double(x): return 2 * x```",
        "`def double(x): return 2 * x`",
        "    return 2 * x",
        "    return 2 * x\n",
        "return 2 * x",
        "\n    return x + x\n",
        "def double(x):\n\treturn 2 * x\n",
        "def double(x):\n    if x:\n\t    return 2 * x\n    return 0\n",
        "def double(x):\r\n    return 2 * x\r\n",
        "def double(x):\n    return 2 * x\n\ndef main():\n    print(double(1))\n\nmain()",
        "def double(x):\n    return 2 * x\n\nif __name__ == '__main__':\n    print(double(1))",
        "def double(x):\n    return 2 * x\n\nassert double(2) == 4",
        "def double(x):\n    return 2 * x\n\nassert double(2) == 5",
        "def double(x):\n    print(x)\n    return 2 * x\n",
        "async def double(x):\n    return 2 * x\n",
        "def double(x):\n    yield 2 * x\n",
        "def helper(x):\n    yield 2 * x\n\ndef double(x):\n    return next(helper(x))\n",
        "def double(x):\n    pass\n\ndef double(x):\n    return 2 * x\n",
        "def double(x):\n    \"\"\"Twice.\"\"\"\n\ndef double(x):\n    return 2 * x\n",
        "def twice(x):\n    return 2 * x\n\ndouble = twice\n",
        "def twice(x):\n    return 2 * x\n\ndouble: object = twice\n",
        "def twice(x):\n    return 2 * x\n\ndouble, other = twice, 1\n",
        "def twice(x):\n    return 2 * x\n\ntable = {}\ntable['double'] = twice\ndouble = table['double']\n",
        "double = other = lambda x: 2 * x\n",
        "other = double = lambda x: 2 * x\n",
        "if True:\n    def double(x):\n        return 2 * x\n",
        "try:\n    import numpyy\nexcept ImportError:\n    pass\n\ndef double(x):\n    return 2 * x\n",
        "try:\n    from math import pi\nexcept ImportError:\n    pi = 3\n\ndef double(x):\n    return 2 * x + 0 * int(pi)\n",
        "import missing_module\n\ndef double(x):\n    return 2 * x\n",
        "from math import *\n\ndef double(x):\n    return int(ldexp(x, 1))\n",
        "from __future__ import annotations\n\ndef double(x: Missing) -> Missing:\n    return 2 * x\n",
        "from __future__ import annotations\n\ndef double(x: int) -> int:\n    return 2 * x\n",
        "def double(x: Missing):\n    return 2 * x\n",
        "from typing import List\nfrom dataclasses import dataclass\n\n@dataclass\nclass Box:\n    x: int\n\ndef double(x):\n    return Box(x).x * 2\n",
        "from collections import namedtuple\n\nBox = namedtuple('Box', 'x')\n\ndef double(x):\n    return Box(x).x * 2\n",
        "cache = {}\n\ndef double(x):\n    if x not in cache:\n        cache[x] = 2 * x\n    return cache[x]\n",
        "cache = {}\ncache[1] = 2\n\ndef double(x):\n    return cache.get(x, 2 * x)\n",
        "seen = []\nseen.append(0)\n\ndef double(x):\n    return seen[0] + 2 * x\n",
        "count = 1\ncount += 1\n\ndef double(x):\n    return count * x\n",
        "count = 0\n\ndef double(x):\n    global count\n    count += 1\n    return 2 * x\n",
        "a, b = 1, 1\n\ndef double(x):\n    return (a + b) * x\n",
        "(a) = 2\n\ndef double(x):\n    return a * x\n",
        "a = b = 1\n\ndef double(x):\n    return (a + b) * x\n",
        "class A:\n    k = 2\n\nA.k = 3\n\ndef double(x):\n    return A.k * x\n",
        "k: int\nk = 2\n\ndef double(x):\n    return k * x\n",
        "k = 3\nk = 2\n\ndef double(x):\n    return k * x\n",
        "k = 2; j = 0\n\ndef double(x):\n    return k * x + j\n",
        "import math; k = 2\n\ndef double(x):\n    return k * x\n",
        "def f(x): return x; y = 2\n\ndef double(x):\n    return 2 * f(x)\n",
        "with open('/dev/null') as f:\n    k = 2\n\ndef double(x):\n    return k * x\n",
        "for k in range(3):\n    pass\n\ndef double(x):\n    return k * x\n",
        "def double(x):\n    return 2 * x\n# the end",
        "# the start\ndef double(x):\n    # twice\n    return 2 * x\n",
        "'''doc'''\n\ndef double(x):\n    return 2 * x\n",
        "def double(x):\n    return (\n        x\n        + x\n    )\n",
        "def double(x):\n    return 2 * \\\n        x\n",
        "def double(x):\n    text = '''\n```\n'''\n    return 2 * x\n",
        "def double(x, k=2):\n    return k * x\n",
        "def double(x, *, k=2):\n    return k * x\n",
        "def double(*xs):\n    return 2 * xs[0]\n",
        "def double(x, y):\n    return 2 * x\n",
        "def double():\n    return 2\n",
        "def Double(x):\n    return 2 * x\n",
        "def doubled(x):\n    return 2 * x\n",
        "def double(x):\n    return y if (y := 2 * x) else 0\n",
        "def double(x):\n    return int(f'{2 * x}')\n",
        "def helper(x):\n    return 2 * x\n\ndef double(x):\n    return int(f'{helper(x)}')\n",
        "def helper(x):\n    return 2 * x\n\ndef double(x):\n    return eval('helper(x)')\n",
        "def helper(x):\n    return 2 * x\n\ndef double(x):\n    return globals()['helper'](x)\n",
        "class helper:\n    def __call__(self, x):\n        return 2 * x\n\ndef double(x):\n    return helper()(x)\n",
        "class Base:\n    def f(self, x):\n        return 2 * x\n\nclass Derived(Base):\n    pass\n\ndef double(x):\n    return Derived().f(x)\n",
        "def a(x):\n    return b(x)\n\ndef b(x):\n    return c(x)\n\ndef c(x):\n    return 2 * x\n\ndef double(x):\n    return a(x)\n",
        "def outer():\n    def inner(x):\n        return 2 * x\n    return inner\n\ndouble = outer()\n",
        "def helper(x):\n    print('side effect')\n\ndef double(x):\n    helper(x)\n    return 2 * x\n",
        "def double(x):\n    return True if x == 1 else 2 * x\n",
        "def double(x):\n    return 2.0 * x\n",
        "def double(x):\n    return str(2 * x)\n",
        "def double(x):\n    return [2 * x]\n",
        "def double(x):\n    return None\n",
        "def double(x):\n    raise ValueError\n",
        "def double(x):\n    assert x > 0\n    return 2 * x\n",
        "def double(x):\n    return complex(2 * x)\n",
        "from fractions import Fraction\n\ndef double(x):\n    return Fraction(2 * x)\n",
        "from decimal import Decimal\n\ndef double(x):\n    return Decimal(2 * x)\n",
        "class N(int):\n    pass\n\ndef double(x):\n    return N(2 * x)\n",
        "import sys\n\ndef double(x):\n    sys.exit()\n",
        "def double(x):\n    exit()\n",
        "import os\n\ndef double(x):\n    return 2 * x if os.getcwd() else 0\n",
        "def double(x):\n    return 2 * x if input() else 0\n",
        "def double(x):\n    while True:\n        pass\n",
        "import time\n\ndef double(x):\n    time.sleep(3)\n    return 2 * x\n",
        "import time\n\ndef double(x):\n    time.sleep(0.2)\n    return 2 * x\n",
        "def double(x):\n    return 0 if x == 0 else 2 + double(x - 1) if x > 0 else -2 + double(x + 1)\n",
        "def double(x):\n    return double(x)\n",
        "def double(x):\n    return 2 * abs(x)\n",
        "def double(x):\n    return bytearray(8 << 30)\n",
        "The idea:\ndouble(1) = 2\n\ndef double(x):\n    return 2 * x\n\nThat is all, folks!",
        "1. Define it\n2. Return it\n\n    def double(x):\n        return 2 * x\n",
        "x = 1\ny = 2\nz = 3\nw = 4\n\nor this\n\ndef double(x):\n    return 2 * x\n",
        "```python\ndef double(x):\n    return 2 * x\n```\nor\n```python\ndef double(x):\n    y = x\n    return y\n```",
        "```python\ndef double(x):\n    y = x\n    return y\n```\nor\n```python\ndef double(x):\n    return 2 * x\n```",
        "```python\ndef double(x):\n    return x + x\n```\nor\n```python\ndef double(x):\n    return x\n```",
        "def double(x):\n    return 2 * x\n\ndef broken(:\n    pass\n",
        "def broken(:\n    pass\n\ndef double(x):\n    return 2 * x\n",
        "def double(x):\n    return 2 * x\n\ndef unfinished(x):\n    y = (",
        "def double(x):\n    \"\"\" Twice x. \"\"\"\n    return 2 * x\n```\n\nThis function",
        "~~~python\ndef double(x):\n    return 2 * x\n~~~",
        "> def double(x):\n>     return 2 * x\n",
        ">>> def double(x):\n...     return 2 * x\n",
        "<code>\ndef double(x):\n    return 2 * x\n</code>",
        "dоuble = 1\n\ndef double(x):\n    return 2 * x\n",
        "größe = 2\n\ndef double(x):\n    return größe * x\n",
        "def double(x):\n    \"\"\"Gibt das Doppelte zurück: 2·x → ∞.\"\"\"\n    return 2 * x\n",
        "print 'hello'\n\ndef double(x):\n    return 2 * x\n",
    ],
    903: [
        "def pairs(xs):\n    return list(zip(xs, xs[1:]))\n",
        "def pairs(xs):\n    return [list(p) for p in zip(xs, xs[1:])]\n",
        "def pairs(xs):\n    return zip(xs, xs[1:])\n",
        "def pairs(xs):\n    return tuple(zip(xs, xs[1:]))\n",
        "def pairs(xs):\n    return [(float(a), b) for a, b in zip(xs, xs[1:])]\n",
        "def pairs(xs):\n    xs.append(0)\n    return list(zip(xs[:-1], xs[1:-1]))\n",
        "from collections import namedtuple\nP = namedtuple('P', 'a b')\n\ndef pairs(xs):\n    return [P(a, b) for a, b in zip(xs, xs[1:])]\n",
        "class L(list):\n    pass\n\ndef pairs(xs):\n    return L(zip(xs, xs[1:]))\n",
    ],
    904: [
        "def count(text):\n    return {c: text.count(c) for c in text}\n",
        "from collections import Counter\n\ndef count(text):\n    return Counter(text)\n",
        "from collections import defaultdict\n\ndef count(text):\n    d = defaultdict(int)\n    for c in text:\n        d[c] += 1\n    return d\n",
        "def count(text):\n    return {c: float(text.count(c)) for c in sorted(text, reverse=True)}\n",
        "def count(text):\n    return [(c, text.count(c)) for c in text]\n",
        "def count(text):\n    return {c: 1 for c in text}\n",
    ],
    905: [
        "def power(n):\n    return 10 ** n + 7\n",
        "def power(n):\n    return 1" + "0 * 10 ** (n - 1) + 7\n",
        "def power(n):\n    return float(10 ** min(n, 300) + 7)\n",
        "def power(n):\n    return 10 ** n\n",
        "def power(n):\n    return int('1' + '0' * n) + 7\n",
    ],
    906: [
        "def spread(xs):\n    return min(xs), max(xs)\n",
        "def spread(xs):\n    return min(xs) + 1e-9, max(xs)\n",
        "def spread(xs):\n    return [min(xs), max(xs)]\n",
        "def spread(xs):\n    return [min(xs) + 1e-9, max(xs)]\n",
        "def spread(xs):\n    return min(xs) + 1e-3, max(xs)\n",
        "def spread(xs):\n    return min(xs), max(xs) * (1 + 5e-8)\n",
        "def spread(xs):\n    return min(xs), max(xs), 0.0\n",
        "def spread(xs):\n    return min(xs), float('nan')\n",
        "def spread(xs):\n    return float('inf'), max(xs)\n",
        "def spread(xs):\n    return None, max(xs)\n",
    ],
    907: [
        "def distinct(xs):\n    return set(xs)\n",
        "def distinct(xs):\n    return frozenset(xs)\n",
        "def distinct(xs):\n    return dict.fromkeys(xs).keys()\n",
        "def distinct(xs):\n    return sorted(set(xs))\n",
        "def distinct(xs):\n    return {float(x) for x in xs}\n",
    ],
    908: [
        "def is_even(x):\n    return x % 2 == 0\n",
        "def is_even(x):\n    return 1 - x % 2\n",
        "def is_even(x):\n    return not x & 1\n",
        "def is_even(x):\n    return float(x % 2 == 0)\n",
        "def is_even(x):\n    return x % 2\n",
        "def is_even(x):\n    return 'True' if x % 2 == 0 else ''\n",
    ],
    910: [
        "def words(text):\n    return text.split()\n",
        "def words(text):\n    return tuple(text.split())\n",
        "def words(text):\n    return text.split()[0]\n",
    ],
    909: [
        "def mean(xs):\n    return sum(xs) / len(xs)\n",
        "def mean(xs):\n    return sum(xs) / len(xs) + 5e-7\n",
        "def mean(xs):\n    return sum(xs) / len(xs) + 5e-6\n",
        "import statistics\n\ndef mean(xs):\n    return statistics.mean(xs)\n",
        "import statistics\n\ndef mean(xs):\n    return statistics.fmean(xs)\n",
        "def mean(xs):\n    return round(sum(xs) / len(xs), 3)\n",
        "def mean(xs):\n    return sum(xs) // len(xs)\n",
    ],
}
# What base models add to the prompt.
COMPLETIONS = {
    900: [
        "    return 2 * x\n",
        "    return 2 * x",
        "\n    return 2 * x\n",
        "\treturn 2 * x\n",
        "  return 2 * x\n",
        "return 2 * x\n",
        "    def double_helper(y):\n        return y + y\n    return double_helper(x)\n",
        "    def double(y):\n        return y + y\n    return double(x)\n",
        "    return helper(x)\n\ndef helper(x):\n    return 2 * x\n",
        "    return 2 * x\n\n\ndef double(x):\n    return x\n",
        "    pass\n\n\ndef double(x):\n    return 2 * x\n",
        "def double(x):\n    return 2 * x\n",
        "    return 2 * x\n\n# Test\nprint(double(",
        "    return 2 * x\n```\n\nThis is it.",
        "    return x\n",
        "    y = (x\n",
        "",
        "    # 2 * x\n",
        "    import math\n    return int(math.ldexp(x, 1))\n",
        "    if x > 0:\n        return 2 * x\n    else:\n        return -2 * -x\n",
    ],
    904: [
        "    d = {}\n    for c in text:\n        d[c] = d.get(c, 0) + 1\n    return d\n",
        "    return Counter(text)\n",
        "    from collections import Counter\n    return Counter(text)\n",
    ],
    909: [
        "    return sum(xs) / len(xs)\n",
        "    total = 0\n    for x in xs:\n        total += x\n    return total / len(xs)\n",
        "    mean_value = sum(xs) / len(xs)\n    def mean_of(ys):\n        return mean_value\n    return mean_of(xs)\n",
    ],
}


def passes(problem, solution, kind):
    inputs = problem[kind]
    reference = problem["prompt"] + problem["canonical_solution"]
    expected, times = trusted_exec(reference, inputs, problem["entry_point"], record_time=True)
    limits = dict(atol=problem["atol"], ref_time=times, fast_check=True)
    name = problem["entry_point"]
    return untrusted_check("humaneval", solution, inputs, name, expected, **limits)[0] == PASS


def record(problem, chat, output):
    # As its decoders clean what a model says, and join it to the prompt.
    text = output.replace("\t", "    ")
    text = text if chat else problem["prompt"].strip() + "\n" + text
    solution = sanitize(text, problem["entry_point"])
    base = passes(problem, solution, "base_input")
    plus = base and passes(problem, solution, "plus_input")
    line = {"id": problem["task_id"], "chat": chat, "output": output}
    return line | {"solution": solution, "base": base, "plus": plus}


def main():
    lines = (FOLDER / "HumanEvalPlus.jsonl").read_text().splitlines()
    problems = {problem["task_id"]: problem for problem in map(json.loads, lines)}
    wrapped = [wrapper.format(program) for program in PROGRAMS for wrapper in WRAPPERS]
    answers = [(900, True, output) for output in wrapped]
    answers += [(id, True, output) for id, outputs in CHATS.items() for output in outputs]
    answers += [(id, False, output) for id, outputs in COMPLETIONS.items() for output in outputs]
    with open(FOLDER / "verdicts.jsonl", "w") as file:
        for id, chat, output in answers:
            line = record(problems[f"HumanEval/{id}"], chat, output)
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
