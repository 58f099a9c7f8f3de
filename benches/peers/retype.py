#!/usr/bin/env python3
"""Writes a GGUF file of Trilobite's again, as llama.cpp reads it: the same model, with other types of one and two bits.

    retype.py IN.gguf OUT.gguf [q2_0 | q1_0 | ptq1_0]

Matrices in PQ2_0 become Q2_0 (type 42, blocks of 64), Q1_0 (whose zeros become +1: for speed alone) or PTQ1_0; others stay
as they are. Other engines' vocabulary is added where IN has a tokenizer.json only (`cargo xtask synth maple`). Needs numpy.
"""

import json
import struct
import sys

import numpy as np

from models import ALIGN, ARRAY, BOOL, I32, STRING, U32, field, text

Q1_0, Q2_0, PQ2_0, PTQ1_0 = 41, 42, 142, 143
FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
PIECE = 1 << 16


class Reader:
    """Metadata as bytes, tokenizer.json, and the tensors."""

    def __init__(self, path):
        self.data, self.at = np.memmap(path, "u1", "r"), 8
        tensors, fields = self.unpack("<QQ")
        start, self.fields = self.at, fields
        self.tokenizer, self.keys = None, set()
        for _ in range(fields):
            key = self.string()
            self.keys.add(key)
            value = self.value(self.unpack("<I")[0])
            if key == "tokenizer.huggingface.json":
                self.tokenizer = json.loads(value)
            if key == "general.architecture":
                self.arch = value
        self.metadata = self.data[start:self.at].tobytes()
        self.tensors = []
        for _ in range(tensors):
            name, (count,) = self.string(), self.unpack("<I")
            self.tensors.append((name, self.unpack(f"<{count}Q"), *self.unpack("<IQ")))
        self.base = -(-self.at // ALIGN) * ALIGN

    def unpack(self, form):
        size = struct.calcsize(form)
        self.at += size
        return struct.unpack(form, self.data[self.at - size:self.at].tobytes())

    def string(self):
        size = self.unpack("<Q")[0]
        self.at += size
        return self.data[self.at - size:self.at].tobytes().decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            self.at += FIXED[kind]
            return None
        item, count = self.unpack("<IQ")
        if item == STRING:
            for _ in range(count):
                self.string()
        else:
            self.at += FIXED[item] * count
        return None

    def bytes(self, offset, size):
        return self.data[self.base + offset:self.base + offset + size]


def vocabulary(tokenizer):
    """The fields of a byte-level BPE."""
    tokens = {at: (token, 1) for token, at in tokenizer["model"]["vocab"].items()}
    tokens |= {added["id"]: (added["content"], 3) for added in tokenizer["added_tokens"]}
    tokens = [tokens[at] for at in range(len(tokens))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return [
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [token for token, _ in tokens])),
        ("tokenizer.ggml.token_type", ARRAY, (I32, [kind for _, kind in tokens])),
        ("tokenizer.ggml.merges", ARRAY, (STRING, merges)),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
    ]


def q2_0(scales, codes):
    out = np.empty((len(scales), 2, 18), "u1")
    out[:, :, :2] = scales[:, None]
    out[:, :, 2:] = codes.reshape(-1, 2, 16)
    return out


def unpacked(codes):
    return (codes[:, :, None] >> np.array([0, 2, 4, 6], "u1") & 3).reshape(len(codes), 128)


def q1_0(scales, codes):
    return np.hstack([scales, np.packbits(unpacked(codes) != 0, axis=1, bitorder="little")])


def ptq1_0(scales, codes):
    trits = unpacked(codes).astype("u2")

    def run(trits, bytes_):
        digits = trits.reshape(len(trits), -1, bytes_)
        number = sum(digits[:, n] * np.uint16(3 ** (4 - n)) for n in range(digits.shape[1]))
        return ((number.astype("u4") * 256 + 242) // 243).astype("u1")

    return np.hstack([run(trits[:, :80], 16), run(trits[:, 80:120], 8), run(trits[:, 120:], 2), scales])


TYPES = {"q2_0": (Q2_0, 36, q2_0), "q1_0": (Q1_0, 18, q1_0), "ptq1_0": (PTQ1_0, 28, ptq1_0)}


def main():
    source, target = Reader(sys.argv[1]), sys.argv[2]
    to, block, pack = TYPES[sys.argv[3]] if len(sys.argv) > 3 else (None, None, None)
    ends = [entry[3] for entry in source.tensors[1:]] + [len(source.data) - source.base]
    index, offset, jobs = b"", 0, []
    for (name, dims, kind, start), end in zip(source.tensors, ends):
        blocks, packs = int(np.prod(dims)) // 128, kind == PQ2_0 and to is not None
        size = blocks * block if packs else end - start
        index += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, to if packs else kind, offset)
        jobs.append((start, size, blocks if packs else None))
        offset += -(-size // ALIGN) * ALIGN
    added = [] if "tokenizer.ggml.tokens" in source.keys else vocabulary(source.tokenizer)
    if f"{source.arch}.vocab_size" not in source.keys and added:
        added.append((f"{source.arch}.vocab_size", U32, len(added[2][2][1])))
    metadata = source.metadata + b"".join(field(*entry) for entry in added)
    start = b"GGUF" + struct.pack("<IQQ", 3, len(jobs), source.fields + len(added)) + metadata + index
    with open(target, "wb") as file:
        file.write(start + bytes(-len(start) % ALIGN))
        for start, size, blocks in jobs:
            if blocks is None:
                file.write(source.bytes(start, size))
            else:
                rows = source.bytes(start, blocks * 34).reshape(-1, 34)
                for at in range(0, blocks, PIECE):
                    piece = rows[at:at + PIECE]
                    file.write(pack(piece[:, :2], piece[:, 2:]).tobytes())
            file.write(bytes(-size % ALIGN))
    print(target, to or "unchanged", offset)


if __name__ == "__main__":
    main()
