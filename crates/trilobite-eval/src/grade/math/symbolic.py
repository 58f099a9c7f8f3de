"""Says of pairs of answers whether they are equal as mathematics.

Prints the version of SymPy; then reads a JSON array of two texts a line and prints true or false.
"""

import os
import sys

# Nothing of the folder that this happens to be run in.
sys.path = [path for path in sys.path if path]

import json
import math
import re
import resource

import sympy
from sympy.parsing.latex import parse_latex
from sympy.parsing.sympy_parser import parse_expr

MEMORY = 4 << 30
TOLERANCE = 1e-4
# parse_expr evaluates Python, so only what cannot be anything but arithmetic gets there.
FUNCTIONS = "sqrt|cbrt|pi|oo|exp|log|ln|sin|cos|tan|cot|sec|csc|asin|acos|atan|sinh|cosh|tanh|abs"
NUMBER = r"\d[\d_]*\.?\d*|\.\d+"
ARITHMETIC = re.compile(rf"(?:\s|{NUMBER}|[-+*/^(),={{}}\[\]]|\b(?:[A-Za-z]|{FUNCTIONS})\b)+")


def parse(text):
    """An expression, or the text itself if it is none."""
    readings = [text.replace("\\\\", "\\"), text]
    for read in (parse_latex, arithmetic):
        for reading in readings:
            try:
                return read(reading)
            except Exception:
                pass
    return text


def arithmetic(text):
    if not ARITHMETIC.fullmatch(text):
        raise ValueError(text)
    return parse_expr(text)


def close(a, b):
    return math.isclose(a, b, rel_tol=TOLERANCE)


def rounded(matrix):
    return matrix.applyfunc(lambda entry: round(entry, 3))


def equal(a, b):
    a, b = parse(a), parse(b)
    # SymPy evaluates what is still a text wherever it expects an expression.
    if isinstance(a, str) or isinstance(b, str):
        return str(a) == str(b)
    for check in (
        lambda: str(a) == str(b) or a == b,
        lambda: a.equals(b) or sympy.simplify(a - b) == 0,
        lambda: abs(a.lhs - a.rhs).equals(abs(b.lhs - b.rhs)),
        lambda: close(float(sympy.N(a)), float(sympy.N(b))),
        lambda: a.shape == b.shape and rounded(a).equals(rounded(b)),
    ):
        try:
            if check():
                return True
        except Exception:
            pass
    return False


# Fails without the ANTLR runtime of the version that SymPy wants.
parse_latex("x")
print(json.dumps(sympy.__version__), flush=True)
resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
# Parsers complain there.
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
for line in sys.stdin:
    print(json.dumps(equal(*json.loads(line))), flush=True)
