#!/usr/bin/env python3
"""Writes a GGUF file again with random weights of another type: for speed alone.

    random_types.py IN.gguf OUT.gguf f16 | q4_k | q5_k | q6_k

Every matrix gets random codes of the type, with scales near 1e-4, so that a model's products stay finite. A head or
embedding becomes Q6_K beside Q4_K and Q5_K, as in the mixtures of llama.cpp. Needs numpy.
"""

import struct
import sys

import numpy as np

from models import ALIGN, text
from retype import Reader

# For each type its number, and how many weights and bytes a block has, and where its float scales are.
TYPES = {"f16": (1, 1, 2, ()), "q4_k": (12, 256, 144, (0, 2)), "q5_k": (13, 256, 176, (0, 2)), "q6_k": (14, 256, 210, (208,))}
SCALE = np.array([1e-4], "<f2").view("u1")
PIECE = 1 << 14


def blocks(random, count, kind):
    _, _, size, scales = TYPES[kind]
    if kind == "f16":
        return random.normal(0, 0.02, count).astype("<f2").tobytes()
    out = random.integers(0, 256, (count, size), "u1")
    for at in scales:
        out[:, at:at + 2] = SCALE
    return out.tobytes()


def main():
    source, target, to = Reader(sys.argv[1]), sys.argv[2], sys.argv[3]
    random = np.random.default_rng(1)
    ends = [entry[3] for entry in source.tensors[1:]] + [len(source.data) - source.base]
    index, offset, jobs = b"", 0, []
    for (name, dims, kind, start), end in zip(source.tensors, ends):
        outer = name.startswith(("token_embd", "output.")) and to != "f16"
        new = ("q6_k" if outer else to) if len(dims) == 2 else None
        count, size = 0, end - start
        if new:
            kind, columns, bytes_, _ = TYPES[new]
            count = int(np.prod(dims)) // columns
            size = count * bytes_
        index += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        jobs.append((start, size, new, count))
        offset += -(-size // ALIGN) * ALIGN
    start = b"GGUF" + struct.pack("<IQQ", 3, len(jobs), source.fields) + source.metadata + index
    with open(target, "wb") as file:
        file.write(start + bytes(-len(start) % ALIGN))
        for start, size, new, count in jobs:
            if new is None:
                file.write(source.bytes(start, size))
            for at in range(0, count, PIECE):
                file.write(blocks(random, min(PIECE, count - at), new))
            file.write(bytes(-size % ALIGN))
    print(target, to, offset)


if __name__ == "__main__":
    main()
