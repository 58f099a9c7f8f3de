#!/usr/bin/env python3
"""Writes a full-size BitNet b1.58 2B4T checkpoint in the file formats of other engines.

    models.py CHECKPOINT OUT

CHECKPOINT is a folder written by `cargo xtask synth` (packed 2-bit weights, tied bf16 embedding, tokenizer.json). For each
head type f16, bf16 and q6_k, the script writes to OUT:

    bitnet.cpp-HEAD.gguf   I2_S, architecture bitnet-b1.58
    ik-HEAD.gguf           IQ2_BN, architecture bitnet-b1.58
    llama-HEAD.gguf        TQ2_0, architecture bitnet: llama.cpp has only this graph (SiLU instead of squared ReLU); the
                           shape, the types and the number of bytes are the same

All hold the same ternary weights and scales; q6_k rounds the embedding. Needs numpy.
"""

import argparse
import json
import mmap
import struct
from pathlib import Path

import numpy as np

F32, F16, Q6_K, BF16, TQ2_0, I2_S, IQ2_BN = 0, 1, 14, 30, 35, 36, 135
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGN = 32
MATRICES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
NORMS = {
    "input_layernorm": "attn_norm", "self_attn.attn_sub_norm": "attn_sub_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.ffn_sub_norm": "ffn_sub_norm",
}


class Checkpoint:
    """The tensors of a safetensors file, mapped."""

    def __init__(self, path):
        file = open(path, "rb")
        self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = struct.unpack("<Q", self.map[:8])[0]
        self.index, self.base = json.loads(self.map[8:8 + size]), 8 + size

    def raw(self, name, dtype):
        entry = self.index[name]
        start, end = entry["data_offsets"]
        data = np.frombuffer(self.map, dtype, (end - start) // np.dtype(dtype).itemsize, self.base + start)
        return data.reshape(entry["shape"])

    def floats(self, name):
        return (self.raw(name, "<u2").astype("<u4") << 16).view("<f4")

    def ternary(self, name):
        """Codes 0, 1, 2 (weight + 1) as [rows, cols], and the scale."""
        packed = self.raw(name + ".weight", "u1")
        codes = np.concatenate([(packed >> shift) & 3 for shift in (0, 2, 4, 6)])
        return codes, float(self.floats(name + ".weight_scale")[0])


def i2_s(codes, scale):
    planes = codes.reshape(-1, 4, 32)
    packed = planes[:, 0] << 6 | planes[:, 1] << 4 | planes[:, 2] << 2 | planes[:, 3]
    return packed.tobytes() + struct.pack("<f", scale) + bytes(28)


def tq2_0(codes, scale):
    planes = codes.reshape(-1, 2, 4, 32)
    packed = planes[:, :, 0] | planes[:, :, 1] << 2 | planes[:, :, 2] << 4 | planes[:, :, 3] << 6
    blocks = np.empty((len(planes), 66), "u1")
    blocks[:, :64] = packed.reshape(-1, 64)
    blocks[:, 64:] = np.frombuffer(np.float16(scale).tobytes(), "u1")
    return blocks.tobytes()


def iq2_bn(codes, scale):
    rows, cols = codes.shape
    planes = codes.reshape(rows, cols // 64, 4, 16)
    packed = planes[:, :, 0] | planes[:, :, 1] << 2 | planes[:, :, 2] << 4 | planes[:, :, 3] << 6
    out = np.empty((rows, 4 + cols // 4), "u1")
    out[:, :4] = np.frombuffer(np.float32(scale).tobytes(), "u1")
    out[:, 4:] = packed.reshape(rows, -1)
    return out.tobytes()


def q6_k(values):
    """Rounds to the grid given by the largest weight of each 16, without a search for better scales."""
    groups = values.reshape(-1, 16, 16)
    wanted = np.abs(groups).max(2) / 31
    d = (wanted.max(1) / 127).astype("<f2")
    step = np.maximum(d.astype("<f4"), 1e-30)[:, None]
    scales = np.clip(np.ceil(wanted / step), 1, 127)
    codes = np.clip(np.rint(groups / (step * scales)[:, :, None]), -32, 31).astype("i1") + 32
    q = codes.astype("u1").reshape(-1, 2, 4, 32)
    out = np.empty((len(q), 210), "u1")
    low = [q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4]
    out[:, :128] = np.stack(low, 2).reshape(-1, 128)
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    out[:, 128:192] = high.reshape(-1, 64)
    out[:, 192:208] = scales.astype("u1")
    out[:, 208:] = d.view("u1").reshape(-1, 2)
    return out.tobytes()


def rows_in_pieces(values, encode):
    return b"".join(encode(values[at:at + 8192]) for at in range(0, len(values), 8192))


def head_bytes(checkpoint, kind):
    name = "model.embed_tokens.weight"
    if kind == BF16:
        return checkpoint.raw(name, "<u2").tobytes()
    encode = q6_k if kind == Q6_K else (lambda rows: rows.astype("<f2").tobytes())
    raw = checkpoint.raw(name, "<u2")
    return rows_in_pieces(raw, lambda rows: encode((rows.astype("<u4") << 16).view("<f4")))


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def field(key, kind, value):
    head = text(key) + struct.pack("<I", kind)
    if kind == STRING:
        return head + text(value)
    if kind == ARRAY:
        item, values = value
        body = b"".join(map(text, values)) if item == STRING else np.asarray(values, "<i4").tobytes()
        return head + struct.pack("<IQ", item, len(values)) + body
    return head + struct.pack({U32: "<I", FLOAT: "<f", BOOL: "<?"}[kind], value)


def metadata(folder, arch):
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokens = {at: (token, 1) for token, at in tokenizer["model"]["vocab"].items()}
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = (added["content"], 3 if added["special"] else 4)
    pad = (f"[unused{at}]" for at in range(config["vocab_size"]))
    tokens = [tokens.get(at) or (next(pad), 5) for at in range(config["vocab_size"])]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    heads = config["num_attention_heads"]
    fields = [
        ("general.architecture", STRING, arch),
        ("general.name", STRING, "2B4T shape, random weights"),
        ("general.quantization_version", U32, 2),
        (f"{arch}.vocab_size", U32, config["vocab_size"]),
        (f"{arch}.context_length", U32, config["max_position_embeddings"]),
        (f"{arch}.embedding_length", U32, config["hidden_size"]),
        (f"{arch}.block_count", U32, config["num_hidden_layers"]),
        (f"{arch}.feed_forward_length", U32, config["intermediate_size"]),
        (f"{arch}.attention.head_count", U32, heads),
        (f"{arch}.attention.head_count_kv", U32, config["num_key_value_heads"]),
        (f"{arch}.attention.layer_norm_rms_epsilon", FLOAT, config["rms_norm_eps"]),
        (f"{arch}.rope.dimension_count", U32, config["hidden_size"] // heads),
        (f"{arch}.rope.freq_base", FLOAT, config["rope_theta"]),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "llama-bpe"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [token for token, _ in tokens])),
        ("tokenizer.ggml.token_type", ARRAY, (I32, [kind for _, kind in tokens])),
        ("tokenizer.ggml.merges", ARRAY, (STRING, merges)),
        ("tokenizer.ggml.bos_token_id", U32, config["bos_token_id"]),
        ("tokenizer.ggml.eos_token_id", U32, config["eos_token_id"]),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
    ]
    return config, len(fields), b"".join(field(*entry) for entry in fields)


def tensors(checkpoint, config, kind, pack, head):
    """(name, type, dimensions innermost first, function giving the bytes), in file order."""
    def norm(source):
        return F32, [len(checkpoint.floats(source))], lambda: checkpoint.floats(source).tobytes()

    rows, cols = checkpoint.index["model.embed_tokens.weight"]["shape"]
    yield ("token_embd.weight", head, [cols, rows], lambda: head_bytes(checkpoint, head))
    yield ("output_norm.weight", *norm("model.norm.weight"))
    for layer in range(config["num_hidden_layers"]):
        for source, name in NORMS.items():
            yield (f"blk.{layer}.{name}.weight", *norm(f"model.layers.{layer}.{source}.weight"))
        for source, name in MATRICES.items():
            path = f"model.layers.{layer}.{source}"
            quarter, cols = checkpoint.index[path + ".weight"]["shape"]
            yield (f"blk.{layer}.{name}.weight", kind, [cols, 4 * quarter],
                   lambda path=path: pack(*checkpoint.ternary(path)))


def byte_len(kind, dims):
    count = int(np.prod(dims))
    return {F32: 4 * count, F16: 2 * count, BF16: 2 * count, Q6_K: count // 256 * 210, TQ2_0: count // 256 * 66,
            I2_S: count // 4 + 32, IQ2_BN: count // 4 + 4 * count // dims[0]}[kind]


def write(folder, out, arch, kind, pack, head):
    checkpoint = Checkpoint(folder / "model.safetensors")
    config, count, meta = metadata(folder, arch)
    entries = list(tensors(checkpoint, config, kind, pack, head))
    index, offset = b"", 0
    for name, ty, dims, _ in entries:
        index += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, ty, offset)
        offset += -(-byte_len(ty, dims) // ALIGN) * ALIGN
    start = b"GGUF" + struct.pack("<IQQ", 3, len(entries), count) + meta + index
    with open(out, "wb") as file:
        file.write(start + bytes(-len(start) % ALIGN))
        for name, ty, dims, data in entries:
            data = data()
            if len(data) != byte_len(ty, dims):
                raise SystemExit(f"{name}: {len(data)} bytes, expected {byte_len(ty, dims)}")
            file.write(data + bytes(-len(data) % ALIGN))
    print(out, out.stat().st_size)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("checkpoint", type=Path)
    args.add_argument("out", type=Path)
    args.add_argument("--only", help="write only the files whose name starts so")
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    engines = {"bitnet.cpp": ("bitnet-b1.58", I2_S, i2_s), "ik": ("bitnet-b1.58", IQ2_BN, iq2_bn), "llama": ("bitnet", TQ2_0, tq2_0)}
    for engine, (arch, kind, pack) in engines.items():
        for name, head in {"f16": F16, "bf16": BF16, "q6_k": Q6_K}.items():
            if (file := f"{engine}-{name}").startswith(args.only or ""):
                write(args.checkpoint, args.out / f"{file}.gguf", arch, kind, pack, head)


if __name__ == "__main__":
    main()
