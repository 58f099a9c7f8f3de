"""Writes ggml.txt: random blocks dequantised, and random rows quantised, by the Python package gguf
(0.19.0, of the llama.cpp project). `python ggml.py > ggml.txt`

A line is `unpack` or `pack`, the type, the bytes of a row, and its weights as the bits of f32, all in
hexadecimal.
"""

import gguf
import numpy as np

random = np.random.default_rng(7)
TYPES = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K TQ1_0 TQ2_0".split()
# The offsets of the f16 in a block, which random bits could make infinite.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64]}


def line(kind, name, packed, weights):
    print(kind, name, packed.tobytes().hex(), weights.astype(">f4").tobytes().hex())


for name in TYPES:
    ty = gguf.GGMLQuantizationType[name]
    if name in HALVES:
        weights, size = gguf.GGML_QUANT_SIZES[ty]
        blocks = random.integers(0, 256, (3 if weights == 32 else 2, size), dtype=np.uint8)
        # Blocks whose scales are large, subnormal, and around 1.
        for block, factor in zip(blocks, [300, 1e-6, -1]):
            for at in HALVES[name]:
                block[at:at + 2] = np.float16([random.normal() * factor]).view(np.uint8)
        row = blocks.reshape(-1)
        if name == "TQ1_0":
            # Bytes that encode five trits, or four and a zero.
            digits = random.integers(0, 243, (2, 52)).astype(np.uint16)
            digits[:, 48:] = digits[:, 48:] // 3 * 3
            blocks[:, :52] = (digits * 256 + 242) // 243
    else:
        row = random.normal(size=40).astype(np.float16 if name == "F16" else np.float32)
        row = row.view(np.uint8) if name == "F16" else gguf.quants.quantize(row[None], ty)[0]
    line("unpack", name, row, gguf.quants.dequantize(row, ty))

for name in ["F16", "BF16", "Q8_0", "Q4_0"]:
    row = random.normal(size=(8, 32)).astype(np.float32)
    row[1] *= 1e-7
    row[2] *= 1e4
    row[3] = 0
    row[4] = row[4].round()  # ties between codes
    row[5] = np.abs(row[5])
    row[6, 5], row[6, 9] = -4, 4  # two largest magnitudes
    row[7] = np.float16(row[7]) * (1 + 2.0**-11)  # ties between f16
    packed = gguf.quants.quantize(row.reshape(1, -1), gguf.GGMLQuantizationType[name])
    line("pack", name, packed, row)
