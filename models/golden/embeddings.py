"""Writes `embeddings/*`: small BitNet embedding models and the vectors of a few texts.

Run by `cargo xtask golden`. The reference is transformers' base model in float32 whose projections are
replaced: an RMS norm of the input, int8 activations for every token, ternary weights by their mean magnitude.
"""

import argparse
import os
import pathlib
import shutil

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # Run transformers' code as written.

import numpy as np
import torch
import transformers
from tokenizers import processors
from transformers import AutoConfig, AutoModel

import checkpoints
import golden
import vocabularies

BASE = dict(linear="Linear", packed=False, dtype=torch.bfloat16, input_norms="norm", eps=1e-6)
FAMILIES = {
    # The tokenizer leaves out the token that ends a text.
    "qwen3": dict(
        BASE,
        graph="qwen3",
        vocabulary=vocabularies.gpt2,
        vocab_size=280,
        hidden=64,
        inter=88,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=24,
        theta=1000000.0,
        architecture="Qwen3Model",
        pooling="lasttoken",
    ),
    # The tokenizer adds it.
    "gemma3": dict(
        BASE,
        graph="gemma3",
        vocabulary=vocabularies.llama2,
        vocab_size=320,
        hidden=48,
        inter=72,
        layers=3,
        heads=2,
        kv_heads=1,
        head_dim=20,
        theta=10000.0,
        architecture="Gemma3TextModel",
        pooling="mean_tokens",
        extra=dict(
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            sliding_window=8,
            query_pre_attn_scalar=24,
        ),
    ),
}
PROMPTS = {"query": "Instruct: find what answers\nQuery: ", "document": ""}
TEXTS = [
    ("query", "Where does the water go?"),
    ("query", "Où va l'eau? 🦀"),
    ("document", "The river ran down from the hills, past the mill."),
    ("document", "def total(values):\n    return sum(values)"),
    ("document", ""),
    ("document", "It's 12:30; we'll meet at 7, don't be late. " * 8),
]
FIRST_SEED = 7000


class NormedBitLinear(torch.nn.Module):
    def __init__(self, weight, norm, eps):
        super().__init__()
        scale = weight.double().abs().mean().clamp(min=1e-5).float()
        self.weight = (weight / scale).round().clamp(-1, 1)
        self.scale, self.norm, self.eps = scale, norm, eps

    def forward(self, x):
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.norm
        step = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        codes = (x * step).round().clamp(-128, 127)
        return (codes @ self.weight.T) * (self.scale / step)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = arguments.parse_args().out
    golden.check_versions()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for index, (name, family) in enumerate(FAMILIES.items()):
        generate(out / "embeddings" / name, family, FIRST_SEED + 100 * index)


def generate(folder, family, seed):
    tokenizer, vocab = family["vocabulary"](family["vocab_size"])
    bos, (end, end_id) = vocab["bos"], vocab["eos"]
    config = checkpoints.config(family, vocab)
    config["architectures"] = [family["architecture"]]
    tensors = checkpoints.tensors(family, torch.Generator().manual_seed(seed))
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "golden").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    checkpoints.write(folder, family, config, tensors, vocab)
    if family["graph"] == "gemma3":
        pieces = [bos, (end, end_id)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos[0]} $A {end}", special_tokens=pieces
        )
    golden.write_tokenizer(folder, tokenizer, [])
    module = "sentence_transformers.models."
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": module + kind} for i, (path, kind) in enumerate(parts)
    ]
    checkpoints.dump(folder / "modules.json", modules, indent=2)
    modes = ["cls_token", "mean_tokens", "max_tokens", "lasttoken"]
    pooling = {f"pooling_mode_{mode}": mode == family["pooling"] for mode in modes}
    checkpoints.dump(folder / "1_Pooling" / "config.json", pooling, indent=2)
    settings = {"prompts": PROMPTS, "default_prompt_name": None}
    checkpoints.dump(folder / "config_sentence_transformers.json", settings, indent=2)

    model = load(config, tensors, family)
    texts, vectors = [], {"last": [], "mean": []}
    for kind, text in TEXTS:
        ids = tokenizer.encode(PROMPTS[kind] + text).ids
        ids += [end_id] if not ids or ids[-1] != end_id else []
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        vectors["last"].append(unit(states[-1]))
        vectors["mean"].append(unit(states.mean(0)))
        texts.append({"prompt": kind, "text": text, "ids": ids})
    checkpoints.dump(folder / "golden" / "texts.json", texts)
    for pooling, rows in vectors.items():
        np.save(folder / "golden" / f"embeddings_{pooling}.npy", np.stack(rows).astype(np.float32))
    print(f"{folder.name}: seed {seed}, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes")


def load(config, tensors, family):
    """transformers' model with the weights, in float32."""
    settings = AutoConfig.for_model(**{k: v for k, v in config.items() if k != "architectures"})
    settings._attn_implementation = "eager"
    model = AutoModel.from_config(settings, dtype=torch.float32).eval()
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    norms = {name: weights.pop(f"{name}.norm.weight") for name in list_projections(model)}
    model.load_state_dict(weights)
    for name, norm in norms.items():
        weight = model.get_submodule(name).weight.detach()
        model.set_submodule(name, NormedBitLinear(weight, norm, family["eps"]))
    return model


def list_projections(model):
    return [name for name, _ in model.named_modules() if name.endswith("_proj")]


def unit(vector):
    return (vector / vector.norm()).numpy()


if __name__ == "__main__":
    main()
