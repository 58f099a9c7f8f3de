"""Writes the three small Maple checkpoints and what deepgrove's model code computes for them.

transformers does not have the architecture, so the reference is written here after `modeling_maple.py` of
deepgrove/maple-preview, in NumPy and float64. Needs numpy and gguf of requirements.txt. The tokenizer and the
prompts are those of the folder `qwen3`.
"""

import json
import pathlib
import shutil
import struct
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
TOKENIZER = HERE / "qwen3"
VOCAB = 288
GREEDY_TOKENS = 32
CLAMP = 7.0
EPS = 1e-6
THETA = 10000.0

# A head of which an odd number of pairs is rotated, a last layer that slides, an untied head.
SMALL = dict(
    hidden=64, heads=4, kv_heads=2, head_dim=20, window=9, layers="SGS", experts=6, used=3, width=24, tied=False
)
# Rows of whole blocks of TQ1_0 and TQ2_0.
BLOCKS = dict(
    hidden=256, heads=4, kv_heads=1, head_dim=64, window=12, layers="GS", experts=3, used=2, width=256, tied=True
)
# Packed as MLX does: one scale a row, an embedding and a head of four bits.
MLX = dict(
    hidden=256, heads=2, kv_heads=1, head_dim=64, window=10, layers="SG", experts=3, used=2, width=256, tied=False
)


def bf16(x):
    """x rounded to bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def tensors(shape, rng):
    """The tensors by their published names, in values of bfloat16."""
    hidden, head_dim = shape["hidden"], shape["head_dim"]
    out = {}

    def norm(name, width):
        out[name + ".weight"] = bf16(0.75 + 0.5 * rng.random(width))

    def rows(name):
        # Without values below 2^-9, so that f16 holds every one exactly.
        values = rng.standard_normal((VOCAB, hidden)) * 3 / hidden**0.5
        out[name + ".weight"] = bf16(np.where(np.abs(values) < 2**-9, 0, values))

    def ternary(name, n, k, gain=1.0):
        # About half of the zeros are negative.
        scale = bf16(gain * (0.5 + rng.random((n, 1))) / (0.61 * k) ** 0.5)
        trits = rng.choice([1.0, -1.0, 0.0, -0.0], (n, k), p=[0.305, 0.305, 0.195, 0.195]).astype(np.float32)
        out[name + ".weight"] = trits * scale

    rows("model.word_embeddings")
    if not shape["tied"]:
        rows("lm_head")
    norm("model.norm", hidden)
    for layer in range(len(shape["layers"])):
        prefix = f"model.layers.{layer}."
        norm(prefix + "input_layernorm", hidden)
        norm(prefix + "post_attention_layernorm", hidden)
        norm(prefix + "self_attn.q_norm", head_dim)
        norm(prefix + "self_attn.k_norm", head_dim)
        ternary(prefix + "self_attn.q_proj", shape["heads"] * head_dim, hidden)
        ternary(prefix + "self_attn.k_proj", shape["kv_heads"] * head_dim, hidden)
        ternary(prefix + "self_attn.v_proj", shape["kv_heads"] * head_dim, hidden)
        ternary(prefix + "self_attn.o_proj", hidden, shape["heads"] * head_dim)
        out[prefix + "mlp.gate.weight"] = bf16(2 * rng.standard_normal((shape["experts"], hidden)) / hidden**0.5)
        for expert in range(shape["experts"]):
            # Some gates and outputs of the up projection reach the clamp.
            ternary(f"{prefix}mlp.experts.{expert}.gate_proj", shape["width"], hidden, 3)
            ternary(f"{prefix}mlp.experts.{expert}.up_proj", shape["width"], hidden, 3)
            ternary(f"{prefix}mlp.experts.{expert}.down_proj", hidden, shape["width"], 0.3)
    return out


class Reference:
    """The forward pass in one float type."""

    def __init__(self, shape, tensors, dtype):
        self.shape, self.dtype = shape, dtype
        self.tensors = {name: value.astype(dtype) for name, value in tensors.items()}
        self.router_gap = np.inf
        self.clamped = 0

    def rms(self, x, name):
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return self.tensors[name + ".weight"] * (x / np.sqrt(mean + self.dtype(EPS)))

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T

    def rotate(self, x):
        """Rotates the first half of each head of [tokens, heads, head_dim], in pairs (i, i + n)."""
        pairs = self.shape["head_dim"] // 4
        angles = np.arange(len(x))[:, None] * (1 / THETA ** (np.arange(pairs) / pairs))
        cos, sin = np.cos(angles).astype(self.dtype)[:, None], np.sin(angles).astype(self.dtype)[:, None]
        a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)

    def attention(self, x, prefix, sliding):
        shape, n = self.shape, len(x)
        dim, group = shape["head_dim"], shape["heads"] // shape["kv_heads"]
        q, k, v = (
            self.linear(x, prefix + name).reshape(n, -1, dim) for name in ["q_proj", "k_proj", "v_proj"]
        )
        q, k = self.rms(q, prefix + "q_norm"), self.rms(k, prefix + "k_norm")
        distance = np.arange(n)[:, None] - np.arange(n)
        visible = distance >= 0
        if sliding:
            q, k = self.rotate(q), self.rotate(k)
            visible &= distance <= shape["window"]
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("ihd,jhd->hij", q, k) * self.dtype(dim**-0.5)
        p = softmax(np.where(visible, scores, -np.inf))
        return self.linear(np.einsum("hij,jhd->ihd", p, v).reshape(n, -1), prefix + "o_proj")

    def mixture(self, x, prefix):
        shape = self.shape
        p = softmax(self.linear(x, prefix + "gate"))
        order = np.argsort(-p, axis=-1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=-1)
        self.router_gap = min(self.router_gap, (ranked[:, shape["used"] - 1] - ranked[:, shape["used"]]).min())
        out = np.zeros_like(x)
        for token, experts in enumerate(order[:, : shape["used"]]):
            weights = p[token, experts]
            weights = weights / (weights.sum() + self.dtype(1e-20))
            for expert, weight in zip(experts, weights):
                name = f"{prefix}experts.{expert}."
                gate, up = self.linear(x[token], name + "gate_proj"), self.linear(x[token], name + "up_proj")
                self.clamped += (gate > CLAMP).sum() + (np.abs(up) > CLAMP).sum()
                gate, up = np.minimum(gate, self.dtype(CLAMP)), np.clip(up, -CLAMP, CLAMP)
                out[token] += weight * self.linear(gate / (1 + np.exp(-gate)) * up, name + "down_proj")
        return out

    def logits(self, ids):
        x = self.tensors["model.word_embeddings.weight"][ids]
        for layer, kind in enumerate(self.shape["layers"]):
            prefix = f"model.layers.{layer}."
            x = x + self.attention(self.rms(x, prefix + "input_layernorm"), prefix + "self_attn.", kind == "S")
            x = x + self.mixture(self.rms(x, prefix + "post_attention_layernorm"), prefix + "mlp.")
        head = "model.word_embeddings" if self.shape["tied"] else "lm_head"
        return self.linear(self.rms(x, "model.norm"), head)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def config(shape):
    ends = json.loads((TOKENIZER / "config.json").read_text())
    return {
        "architectures": ["MapleForCausalLM"],
        "model_type": "maple",
        "hidden_act": "silu",
        "hidden_size": shape["hidden"],
        "intermediate_size": 96,
        "num_hidden_layers": len(shape["layers"]),
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["head_dim"],
        "vocab_size": VOCAB,
        "max_position_embeddings": 512,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "rope_scaling": None,
        "partial_rotary_factor": 0.5,
        "layer_types": [
            "sliding_attention" if kind == "S" else "full_attention" for kind in shape["layers"]
        ],
        "sliding_window": shape["window"],
        "nope_on_global_attention": True,
        "use_qk_norm": True,
        "use_bias": False,
        "num_experts": shape["experts"],
        "num_experts_per_tok": shape["used"],
        "num_shared_experts": 0,
        "moe_intermediate_size": shape["width"],
        "norm_topk_prob": True,
        "router_dtype": "fp32",
        "tie_word_embeddings": shape["tied"],
        "dtype": "bfloat16",
        "bos_token_id": ends["bos_token_id"],
        "eos_token_id": ends["eos_token_id"],
    }


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, value in sorted(tensors.items()):
        if value.dtype == np.uint32:
            dtype, raw = "U32", value.astype("<u4").tobytes()
        else:
            dtype, raw = "BF16", (value.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate": "ffn_gate_inp",
}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def write_gguf(path, shape, tensors):
    """A GGUF file, in TQ1_0 (attention) and TQ2_0 (experts), with the keys of a converter other than
    llama.cpp's: no rotated elements in layers without a window, the router's function stated."""
    out = gguf.GGUFWriter(path, "maple")
    out.add_name("golden")
    out.add_context_length(512)
    out.add_embedding_length(shape["hidden"])
    out.add_block_count(len(shape["layers"]))
    out.add_head_count(shape["heads"])
    out.add_head_count_kv(shape["kv_heads"])
    out.add_key_length(shape["head_dim"])
    out.add_value_length(shape["head_dim"])
    out.add_layer_norm_rms_eps(EPS)
    out.add_rope_freq_base(THETA)
    out.add_rope_dimension_count(0)
    out.add_uint32("maple.rope.dimension_count_swa", shape["head_dim"] // 2)
    out.add_sliding_window(shape["window"])
    out.add_array("maple.attention.sliding_window_pattern", [kind == "S" for kind in shape["layers"]])
    out.add_expert_count(shape["experts"])
    out.add_expert_used_count(shape["used"])
    out.add_expert_feed_forward_length(shape["width"])
    out.add_uint32("maple.expert_gating_func", 1)
    out.add_bool("maple.expert_weights_norm", True)
    tokenizer = (TOKENIZER / "tokenizer.json").read_text(encoding="utf-8")
    out.add_string("tokenizer.huggingface.json", tokenizer)
    ends = json.loads((TOKENIZER / "config.json").read_text())
    out.add_bos_token_id(ends["bos_token_id"])
    out.add_eos_token_id(ends["eos_token_id"])

    def add(name, value, ty=None):
        if ty is None:
            out.add_tensor(name, value)
            return
        rows = value.reshape(-1, value.shape[-1])
        packed = gguf.quants.quantize(rows, ty)
        assert np.array_equal(gguf.quants.dequantize(packed, ty), rows), name
        out.add_tensor(name, packed.reshape(*value.shape[:-1], -1), raw_dtype=ty)

    tq1, tq2 = gguf.GGMLQuantizationType.TQ1_0, gguf.GGMLQuantizationType.TQ2_0
    add("token_embd.weight", tensors["model.word_embeddings.weight"].astype(np.float16))
    add("output_norm.weight", tensors["model.norm.weight"])
    for layer in range(len(shape["layers"])):
        for name, written in GGUF_NAMES.items():
            value = tensors[f"model.layers.{layer}.{name}.weight"]
            add(f"blk.{layer}.{written}.weight", value, tq1 if name.endswith("_proj") else None)
        for name, written in EXPERTS.items():
            prefix = f"model.layers.{layer}.mlp.experts."
            stack = [tensors[f"{prefix}{expert}.{name}.weight"] for expert in range(shape["experts"])]
            add(f"blk.{layer}.{written}.weight", np.stack(stack), tq2)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def four_bits(value, group=64):
    """MLX's codes of four bits with a scale and a bias for each group of columns, and the weights they stand for."""
    groups = value.reshape(len(value), -1, group)
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    # Without a scale below 2^-9, so that f16 holds every one exactly.
    scales, biases = bf16(np.maximum((high - low) / 15, 2**-9)), bf16(low)
    codes = np.clip(np.rint((groups - biases[..., None]) / scales[..., None]), 0, 15)
    weights = (codes * scales[..., None] + biases[..., None]).astype(np.float32)
    return codes.astype(np.uint32).reshape(value.shape), scales, biases, weights.reshape(value.shape)


def words(codes, bits):
    """Codes of so many bits as 32-bit words, lowest first."""
    each = 32 // bits
    return np.bitwise_or.reduce(codes.reshape(*codes.shape[:-1], -1, each) << bits * np.arange(each, dtype=np.uint32), axis=-1)


def mlx_tensors(shape, tensors):
    """The tensors of deepgrove's pack for MLX. Replaces the embedding and the head by what their codes stand for."""
    out = {}

    def ternary(name, value):
        scale = np.abs(value).max(axis=-1)
        codes = (np.sign(value) + 1).astype(np.uint32)
        out[name + ".weight"], out[name + ".row_alpha"] = words(codes, 2), scale

    for name in ["model.word_embeddings", "lm_head"]:
        codes, scales, biases, tensors[name + ".weight"] = four_bits(tensors[name + ".weight"])
        out[name + ".weight"], out[name + ".scales"], out[name + ".biases"] = words(codes, 4), scales, biases
    for name, value in tensors.items():
        if name.endswith("_proj.weight") and ".experts." not in name:
            ternary(name.removesuffix(".weight"), value)
        elif "proj" not in name and name not in out:
            out[name] = value
    for layer in range(len(shape["layers"])):
        prefix = f"model.layers.{layer}.mlp."
        for name in EXPERTS:
            stack = [tensors[f"{prefix}experts.{expert}.{name}.weight"] for expert in range(shape["experts"])]
            ternary(f"{prefix}switch_mlp.{name}", np.stack(stack))
    return out


def evaluate(exact, rounded, prompt):
    """Logits, greedy continuation, and how far a pass in float32 is from both."""
    ids = list(prompt)
    for _ in range(GREEDY_TOKENS):
        ids.append(int(exact.logits(ids)[-1].argmax()))
    logits = exact.logits(ids[:-1])
    spread = np.abs(rounded.logits(ids[:-1]) - logits).max(axis=1)
    ranked = np.sort(logits, axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    n = len(prompt)
    greedy = {
        "ids": ids[n:],
        "top1_minus_top2": [round(float(value), 6) for value in margin[n - 1 :]],
        "spread": [round(float(value), 6) for value in spread[n - 1 :]],
    }
    return logits[:n], spread[:n], greedy


def write(folder, shape, seed, form):
    rng = np.random.default_rng(seed)
    all_tensors = tensors(shape, rng)
    packed = mlx_tensors(shape, all_tensors) if form == "mlx" else all_tensors
    golden = folder / "golden"
    golden.mkdir(parents=True, exist_ok=True)
    prompts = json.loads((TOKENIZER / "golden/prompts.json").read_text(encoding="utf-8"))
    exact = Reference(shape, all_tensors, np.float64)
    rounded = Reference(shape, all_tensors, np.float32)
    greedy = {}
    for name, prompt in prompts.items():
        logits, spread, greedy[name] = evaluate(exact, rounded, prompt["ids"])
        np.save(golden / f"logits_{name}.npy", logits.astype(np.float32))
        np.save(golden / f"spread_{name}.npy", spread.astype(np.float32))
    # No choice of an expert depends on rounding, and the clamps matter.
    assert exact.router_gap > 1e-5 and exact.clamped > 100, (exact.router_gap, exact.clamped)
    dump(golden / "greedy.json", greedy)
    reference = "maple.py in float64; spread: the same in float32"
    dump(golden / "meta.json", {"seed": seed, "numpy": np.__version__, "reference": reference}, 2)
    for name in ["prompts.json", "tokenizer_cases.json"]:
        shutil.copyfile(TOKENIZER / "golden" / name, golden / name)
    settings = config(shape)
    if form == "mlx":
        head = {"group_size": 64, "bits": 4}
        settings["quantization"] = {
            "group_size": 128, "bits": 2, "mode": "affine", "lm_head": head, "model.word_embeddings": head
        }
        settings["quantization_config"] = settings["quantization"]
    dump(folder / "config.json", settings, 2)
    if form == "gguf":
        write_gguf(folder / "model.gguf", shape, all_tensors)
        return
    write_safetensors(folder / "model.safetensors", packed)
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]:
        shutil.copyfile(TOKENIZER / name, folder / name)


def dump(path, value, indent=None):
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    write(out / "maple", SMALL, 21, "floats")
    write(out / "maple_gguf", BLOCKS, 22, "gguf")
    write(out / "maple_mlx", MLX, 23, "mlx")
