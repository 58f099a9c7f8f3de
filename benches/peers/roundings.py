#!/usr/bin/env python3
"""Measures what roundings move: logits, in % of their standard deviation, and perplexity.

    roundings.py TRILOBITE kv MODEL TEXT           --kv f16 and q8 beside f32
    roundings.py TRILOBITE blocks MODEL.gguf TEXT  activations of weights in blocks beside f32 ones

The logits are those of the first 500 tokens of TEXT, or of as many as the context holds. `blocks` widens every matrix of the file to F32, whose products have f32 activations, and compares the two files. Needs
numpy, and `blocks` the package gguf.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

LOGIT_TOKENS = 500
PROGRAM = sys.argv[1]


def run(*args):
    return subprocess.run([PROGRAM, *map(str, args)], check=True, capture_output=True, text=True).stdout


def tokens(model, text, most):
    """The ids of a text."""
    ids = []
    for line in run("tokenize", "-q", "--no-special", "--file", text, model).splitlines():
        ids += filter(None, line.split(","))
        if len(ids) >= most:
            break
    return ids[:most]


def logits(model, text, *args):
    shown = json.loads(run("inspect", "--json", model))
    context = shown["metadata"][shown["architecture"] + ".context_length"]
    ids = tokens(model, text, min(LOGIT_TOKENS, context))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits.npy"
        run("logits", "-q", "--tokens", ",".join(ids), "-o", out, model, *args)
        return np.load(out).astype(np.float64)


def perplexity(model, text, *args):
    return json.loads(run("perplexity", "-q", "--json", "--file", text, model, *args))


def moved(a, b):
    """The root mean square of the differences, in % of the standard deviation of the logits of a position."""
    return 100 * np.sqrt(((a - b) ** 2).mean()) / a.std(axis=1).mean()


def widened(source, target):
    """Writes a GGUF file with all tensors in F32."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, GGUFValueType
    from gguf.quants import dequantize

    reader = GGUFReader(source)
    field = reader.get_field("general.architecture")
    writer = GGUFWriter(target, field.contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = tensor.data
        if tensor.tensor_type != GGMLQuantizationType.F32:
            values = dequantize(values, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    mode, model, text = sys.argv[2:5]
    with tempfile.TemporaryDirectory() as folder:
        if mode == "kv":
            rows = [(kv, model, ["--kv", kv]) for kv in ("f32", "f16", "q8")]
        else:
            wide = Path(folder) / "wide.gguf"
            widened(model, wide)
            rows = [("f32", wide, []), ("as stored", model, [])]
        first = None
        for name, file, args in rows:
            found = logits(file, text, *args)
            first = found if first is None else first
            measured = perplexity(file, text, *args)
            value, count = measured["perplexity"], measured["tokens"]
            print(f"{Path(model).name} {name}: logits of {len(found)} tokens moved by {moved(first, found):.3f} %,", end=" ")
            print(f"perplexity {value:.7f} of {count} tokens")


main()
