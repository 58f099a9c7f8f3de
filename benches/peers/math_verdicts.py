"""Records the expected values of a test of `trilobite-eval` from math-evaluation-harness: the results
that it extracts from answers, and whether it finds them equal.

    python math_verdicts.py HARNESS ../../crates/trilobite-eval/tests/data/math500/verdicts.jsonl

HARNESS is a checkout of ZubinGou/math-evaluation-harness @db77bc6. The answers and solutions of the
file are kept; the recorded values are replaced. The harness's last resort, latex2sympy, is left out.
Needs regex, word2number, sympy 1.12 and antlr4-python3-runtime 4.11.
"""

import json
import signal
import sys
import types

TIMEOUT = 3


def left_out(text):
    raise ValueError(text)


def late(*_):
    raise TimeoutError


harness, path = sys.argv[1:]
sys.path.insert(0, harness)
sys.modules["latex2sympy2"] = types.SimpleNamespace(latex2sympy=left_out)
# Needed only for grading programs.
sys.modules["utils"] = types.ModuleType("utils")
from grader import math_equal
from parser import parse_ground_truth, run_execute

signal.signal(signal.SIGALRM, late)
lines = [json.loads(line) for line in open(path)]
for line in lines:
    line["pred"], _ = run_execute(None, line["response"], "cot", "math")
    _, line["gt"] = parse_ground_truth({"solution": line["solution"]}, "math")
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
    try:
        line["equal"] = bool(math_equal(line["pred"], line["gt"]))
    except (TimeoutError, RecursionError):
        line["equal"] = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
with open(path, "w") as file:
    file.writelines(json.dumps(line) + "\n" for line in lines)
