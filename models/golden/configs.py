"""Records what transformers makes of config.json: its defaults, and the logits of small checkpoints under many
configurations.

Run by `cargo xtask golden`; README.md beside this file says what the files hold.
"""

import argparse
import json
import os
import pathlib
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # Run transformers' code as written.

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import checkpoints
import golden

VOCAB, HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 24, 32, 40, 2, 2, 1, 16
CONTEXT = 64
TOKENS = 40
# Positions whose logits are kept, from the end.
KEPT = 2
# Fewest by which a case must differ from the same model without what it is about, against limits of 5e-4.
FELT = 5e-3

# Keys that every case has, or else their default is what it is about.
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": CONTEXT,
}
CLASSES = {
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True},
    "gemma3": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "head_dim": HEAD_DIM,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": HEAD_DIM,
        "tie_word_embeddings": True,
    },
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SHORT = [1 + i / 8 for i in range(HEAD_DIM // 2)]
LONG = [1 + i for i in range(HEAD_DIM // 2)]
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": SHORT,
    "long_factor": LONG,
    "original_max_position_embeddings": 16,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1}


def scaled(**parameters):
    """`rope_scaling` as transformers 4 has it."""
    return {"rope_theta": 100.0, "rope_scaling": parameters}


def parameters(**parameters):
    """`rope_parameters` as transformers 5 has it."""
    return {"rope_parameters": {"rope_theta": 100.0, **parameters}}


# Name, class, what config.json has beside SIZES, and number of tokens where it is not TOKENS.
CASES = [
    ("llama: nothing stated", "llama", {}),
    ("llama: eps 1, theta below 1", "llama", {"rms_norm_eps": 1.0, "rope_theta": 0.5}),
    ("llama: eps 0", "llama", {"rms_norm_eps": 0.0}),
    ("llama: swish", "llama", {"hidden_act": "swish"}),
    ("theta", "llama", parameters()),
    ("linear", "llama", scaled(type="linear", factor=3.0)),
    ("linear, transformers 5", "llama", parameters(rope_type="linear", factor=3.0)),
    ("linear below 1", "llama", scaled(type="linear", factor=0.5)),
    ("rope_scaling replaces rope_parameters", "llama", {**scaled(type="linear", factor=3.0), **parameters()}),
    ("dynamic within the context", "llama", scaled(type="dynamic", factor=4.0)),
    (
        "llama3",
        "llama",
        scaled(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    (
        "llama3: the original context is the whole one",
        "llama",
        parameters(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
    ),
    ("yarn", "llama", scaled(**YARN)),
    ("yarn, transformers 5", "llama", parameters(**YARN)),
    ("yarn: type", "llama", scaled(type="yarn", factor=4.0, original_max_position_embeddings=16)),
    ("yarn: a short text", "llama", scaled(**YARN), 9),
    ("yarn: the original context is the whole one", "llama", scaled(rope_type="yarn", factor=4.0)),
    ("yarn: the ratio of contexts", "llama", scaled(**{**YARN, "factor": None})),
    ("yarn: attention_factor", "llama", scaled(**YARN, attention_factor=1.5)),
    ("yarn: mscale", "llama", scaled(**YARN, mscale=1.5, mscale_all_dim=0.5)),
    ("yarn: mscale alone", "llama", scaled(**YARN, mscale=1.5)),
    ("yarn: betas", "llama", scaled(**YARN, beta_fast=1, beta_slow=0.1)),
    ("yarn: betas of 0 and null", "llama", scaled(**YARN, beta_fast=0, beta_slow=None)),
    ("yarn: no truncation", "llama", scaled(**YARN, beta_fast=2, beta_slow=0.3, truncate=False)),
    ("yarn: an empty ramp", "llama", scaled(**YARN, beta_fast=0.4, beta_slow=0.4)),
    (
        "yarn: the original context outside",
        "llama",
        {**scaled(**YARN), "original_max_position_embeddings": 32},
    ),
    ("longrope: a long text", "llama", scaled(**LONGROPE)),
    ("longrope: a short text", "llama", scaled(**LONGROPE), 16),
    ("longrope: just too long", "llama", scaled(**LONGROPE), 17),
    ("longrope: factor", "llama", parameters(**LONGROPE, factor=8.0)),
    ("longrope: attention_factor", "llama", parameters(**LONGROPE, attention_factor=1.5)),
    ("longrope: no longer context", "llama", scaled(**{**LONGROPE, "original_max_position_embeddings": CONTEXT})),
    ("qwen2: nothing stated", "qwen2", {}),
    ("qwen2: yarn", "qwen2", scaled(**YARN)),
    ("qwen2: yarn with windows", "qwen2", {**scaled(**YARN), **WINDOW}),
    ("qwen2: llama3 with windows", "qwen2", {**parameters(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0), **WINDOW}),
    ("qwen2: windows", "qwen2", WINDOW),
    ("qwen2: a window of null", "qwen2", {**WINDOW, "sliding_window": None}),
    ("gemma3: nothing stated", "gemma3", {}),
    ("gemma3: linear beside the parameters", "gemma3", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    (
        "gemma3: yarn",
        "gemma3",
        {
            "rope_parameters": {
                "full_attention": {"rope_theta": 100.0, **YARN},
                "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"},
            }
        },
    ),
    (
        "gemma3: longrope",
        "gemma3",
        {"rope_parameters": {"full_attention": {"rope_theta": 100.0, **LONGROPE}}},
    ),
    ("gemma3: bases", "gemma3", {"rope_theta": 200.0, "rope_local_base_freq": 20.0}),
    ("qwen3: nothing stated", "qwen3", {}),
    ("qwen3: yarn", "qwen3", scaled(**YARN)),
    ("qwen3: yarn, transformers 5", "qwen3", parameters(**YARN)),
    ("qwen3: yarn: attention_factor", "qwen3", scaled(**YARN, attention_factor=1.5)),
    ("qwen3: yarn: no truncation", "qwen3", scaled(**YARN, beta_fast=2, beta_slow=0.3, truncate=False)),
    ("qwen3: yarn with windows", "qwen3", {**scaled(**YARN), **WINDOW}),
    ("qwen3: windows", "qwen3", WINDOW),
    ("qwen3: windows by layer", "qwen3", {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    ("qwen3: windows without their use", "qwen3", {**WINDOW, "use_sliding_window": False}),
]

# Cases that are to be the same as another, by the reference too.
SAME = {
    "linear, transformers 5": "linear",
    "rope_scaling replaces rope_parameters": "linear",
    "llama: swish": "llama: nothing stated",
    "llama: eps 0": "llama: nothing stated",
    "dynamic within the context": "theta",
    "qwen2: a window of null": "qwen2: nothing stated",
    "yarn, transformers 5": "yarn",
    "yarn: type": "yarn",
    "yarn: mscale alone": "yarn",
    "yarn: betas of 0 and null": "yarn",
    "yarn: the ratio of contexts": "yarn",
    "qwen3: yarn, transformers 5": "qwen3: yarn",
    "qwen3: windows without their use": "qwen3: nothing stated",
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("out", type=pathlib.Path, nargs="?", default=pathlib.Path(__file__).parent)
    out = arguments.parse_args().out / "configs"
    golden.check_versions()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out.mkdir(parents=True, exist_ok=True)
    checkpoints.dump(out / "defaults.json", defaults(), indent=1)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB, (TOKENS,), generator=generator).tolist()
    tensors = {name: make_tensors(name, generator) for name in CLASSES}
    for name in CLASSES:
        save_file(tensors[name], out / f"{name}.safetensors", {"format": "pt"})
    found, cases = {}, []
    for name, family, config, *count in CASES:
        ids = tokens[: count[0] if count else TOKENS]
        config = {**CLASSES[family], **SIZES, **config}
        logits = run(tensors[family], config, ids)
        assert torch.isfinite(logits).all(), name
        for other, before in found.items():
            close = before.shape == logits.shape and (before - logits).abs().max().item() < FELT
            assert close == (SAME.get(name, name) == SAME.get(other, other)), (name, other)
        found[name] = logits
        cases.append({"name": name, "weights": family, "config": config, "tokens": ids})
        cases[-1]["logits"] = [[round(x, 5) for x in row] for row in logits[-KEPT:].tolist()]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (out / "cases.json").write_text(f"[\n{lines}\n]\n")


def defaults():
    """What each class of configuration has where config.json says nothing."""
    found = {}
    for name in ("Llama", "BitNet", "Qwen2", "Qwen3", "Gemma3Text"):
        config = getattr(transformers, f"{name}Config")()
        rope = config.rope_parameters
        fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        found[name] = {key: getattr(config, key) for key in fields}
        found[name] |= {
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": getattr(config, "head_dim", None),
            "max_position_embeddings": config.max_position_embeddings,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_theta": rope.get("full_attention", rope)["rope_theta"],
            "activation": getattr(config, "hidden_activation", None) or config.hidden_act,
            "tie_word_embeddings": config.tie_word_embeddings,
        }
        if "sliding_attention" in rope:
            found[name] |= {
                "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
                "sliding_window": config.sliding_window,
                "query_pre_attn_scalar": config.query_pre_attn_scalar,
            }
    return found


def make_tensors(family, generator):
    """Random weights, with queries and keys large enough for RoPE to be felt."""
    shape = dict(
        graph=family,
        linear="Linear",
        packed=False,
        dtype=torch.bfloat16,
        vocab_size=VOCAB,
        hidden=HIDDEN,
        inter=FFN,
        layers=LAYERS,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
    )
    tensors = checkpoints.tensors(shape, generator)
    tensors.pop("lm_head.weight", None)
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensors[name] = tensor * 1.5
    return tensors


@torch.no_grad()
def run(tensors, config, ids):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        checkpoints.dump(folder / "config.json", config)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
    return model.eval()(torch.tensor([ids]), use_cache=False).logits[0]


if __name__ == "__main__":
    main()
