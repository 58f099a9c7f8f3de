"""Writes the small checkpoints and reference outputs that the tests compare Trilobite with.

Run by `cargo xtask golden`; README.md beside this file says what the files hold.
"""

import argparse
import importlib.metadata
import os
import pathlib
import shutil
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # Run transformers' code as written.

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

import checkpoints
import vocabularies

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32

# `linear` is the transformers class of the projections; `packed` says whether they are stored as
# 2-bit codes or as master weights that are quantised on load. Models of the class `Linear` are dense.
FAMILIES = {
    "bitnet_offline": dict(
        graph="bitnet",
        linear="AutoBitLinear",
        packed=True,
        dtype=BF16,
        vocabulary=vocabularies.llama3,
        vocab_size=304,
        hidden=128,
        inter=160,
        layers=2,
        heads=4,
        kv_heads=2,
        theta=500000.0,
    ),
    "bitnet_online": dict(
        graph="bitnet",
        linear="AutoBitLinear",
        packed=False,
        dtype=BF16,
        vocabulary=vocabularies.gpt2,
        vocab_size=280,
        hidden=64,
        inter=88,
        layers=2,
        heads=4,
        kv_heads=1,
        theta=10000.0,
    ),
    # Columns that are no multiple of 32, a head of 20.
    "bitnet_1bitllm": dict(
        graph="1bitllm",
        linear="AutoBitLinear",
        packed=False,
        dtype=F16,
        vocabulary=vocabularies.llama2,
        vocab_size=336,
        hidden=60,
        inter=84,
        layers=2,
        heads=3,
        kv_heads=3,
        theta=10000.0,
    ),
    # Heads that are wider than hidden / heads, two shards, a scale that divides.
    "llama_bitnet": dict(
        graph="llama",
        linear="BitLinear",
        packed=True,
        dtype=BF16,
        vocabulary=vocabularies.llama3,
        vocab_size=288,
        hidden=96,
        inter=128,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=32,
        theta=1000042.0,
        eps=1e-6,
        shards=2,
    ),
    # The config dialect of transformers 5 with Llama 3's scaled RoPE.
    "llama_bitnet_online": dict(
        graph="llama",
        linear="AutoBitLinear",
        packed=False,
        dtype=BF16,
        vocabulary=vocabularies.llama2,
        vocab_size=320,
        hidden=64,
        inter=80,
        layers=2,
        heads=4,
        kv_heads=2,
        theta=10000.0,
        dialect="transformers5",
        rope=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    # Also written as GGUF, whose TQ types need columns in multiples of 256.
    "bitnet_gguf": dict(
        graph="bitnet",
        linear="AutoBitLinear",
        packed=True,
        dtype=BF16,
        vocabulary=vocabularies.llama3,
        vocab_size=264,
        hidden=256,
        inter=256,
        layers=1,
        heads=4,
        kv_heads=1,
        theta=500000.0,
        gguf=True,
    ),
    # No matrix has a multiple of 128 weights, so rows begin anywhere in a block.
    "bitnet_odd_shape": dict(
        graph="bitnet",
        linear="AutoBitLinear",
        packed=True,
        dtype=BF16,
        vocabulary=vocabularies.llama3,
        vocab_size=280,
        hidden=72,
        inter=100,
        layers=2,
        heads=6,
        kv_heads=2,
        theta=500000.0,
    ),
    # Llama 3's scaled RoPE, biases of q, k, v and o, two shards, a head of its own.
    "llama": dict(
        graph="llama",
        linear="Linear",
        packed=False,
        dtype=F16,
        vocabulary=vocabularies.llama3,
        vocab_size=296,
        hidden=64,
        inter=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=24,
        theta=10000.0,
        attention_bias=True,
        shards=2,
        dialect="transformers5",
        rope=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    # Biases of q, k and v; the last layer slides.
    "qwen2": dict(
        graph="qwen2",
        linear="Linear",
        packed=False,
        dtype=BF16,
        vocabulary=vocabularies.gpt2,
        vocab_size=288,
        hidden=64,
        inter=80,
        layers=2,
        heads=4,
        kv_heads=1,
        theta=1000000.0,
        eps=1e-6,
        extra=dict(use_sliding_window=True, sliding_window=9, max_window_layers=1),
    ),
    # Two layers of three slide, with another RoPE base; the third has scaled RoPE. Scores are not
    # scaled by the width of a head, and logits are capped.
    "gemma3": dict(
        graph="gemma3",
        linear="Linear",
        packed=False,
        dtype=F32,
        vocabulary=vocabularies.llama2,
        vocab_size=320,
        hidden=48,
        inter=64,
        layers=3,
        heads=4,
        kv_heads=2,
        head_dim=20,
        theta=1000000.0,
        eps=1e-6,
        dialect="transformers5",
        rope=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
        ),
        extra=dict(
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            sliding_window=8,
            query_pre_attn_scalar=24,
            final_logit_softcapping=12.0,
            attn_logit_softcapping=None,
        ),
    ),
    # Heads that are wider than hidden / heads, YaRN that multiplies cosines, texts beyond its original
    # context.
    "qwen3": dict(
        graph="qwen3",
        linear="Linear",
        packed=False,
        dtype=BF16,
        vocabulary=vocabularies.gpt2,
        vocab_size=288,
        hidden=64,
        inter=80,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=24,
        theta=1000000.0,
        eps=1e-6,
        dialect="transformers5",
        rope=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16),
    ),
    # Master weights, and a norm of the input of every projection (`use_rms_norm`).
    "llama_bitnet_norms": dict(
        graph="llama",
        linear="AutoBitLinear",
        packed=False,
        dtype=BF16,
        vocabulary=vocabularies.gpt2,
        vocab_size=272,
        hidden=64,
        inter=96,
        layers=2,
        heads=4,
        kv_heads=2,
        theta=10000.0,
        input_norms="rms_norm",
    ),
    # Factors of embedding, residual stream and logits; LongRoPE within the original context.
    "minicpm": dict(
        graph="minicpm",
        linear="Linear",
        packed=False,
        dtype=BF16,
        vocabulary=vocabularies.gpt2,
        vocab_size=280,
        hidden=64,
        inter=80,
        layers=2,
        heads=4,
        kv_heads=2,
        theta=10000.0,
        eps=1e-6,
        extra=dict(
            scale_emb=12,
            scale_depth=1.4,
            dim_model_base=16,
            rope_scaling=dict(
                rope_type="longrope",
                short_factor=[1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 1.9, 2.1],
                long_factor=[2.2, 2.4, 2.6, 2.8, 3.0, 3.4, 3.8, 4.2],
                original_max_position_embeddings=512,
            ),
        ),
    ),
    # Qwen 3 with every matrix ternary, an f16 scale for each 128 columns, and a few weights that are no
    # multiples of it.
    "bonsai": dict(
        graph="qwen3",
        linear="Linear",
        packed=False,
        groups=128,
        dtype=F16,
        vocabulary=vocabularies.gpt2,
        vocab_size=280,
        hidden=128,
        inter=256,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=32,
        theta=1000000.0,
        eps=1e-6,
        extra=dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    ),
}

# Vocabulary of the tokenizers that are written on their own, without a model.
TOKENIZER_VOCAB_SIZE = 640

SHORT = "The river: 12345!"
MID = "She said: 川 🦀 it's\n\tπ = 3.14"
LONG_TOKENS = 40
GREEDY_TOKENS = 32

# Another correct implementation sums in another order, which now and then moves one int8 code by 1.
# Runs with this relative noise before every quantisation show how far that carries.
NOISE = 2e-7
NOISY_RUNS = 4


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    arguments.add_argument("--family", action="append", choices=FAMILIES)
    arguments = arguments.parse_args()
    check_versions()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for index, name in enumerate(FAMILIES):
        if arguments.family is None or name in arguments.family:
            generate(arguments.out / name, FAMILIES[name], 1000 * (index + 1))
    for name in ("gpt2", "llama2", "llama3"):
        tokenizer, _ = getattr(vocabularies, name)(TOKENIZER_VOCAB_SIZE)
        folder = arguments.out / "tokenizers" / name
        (folder / "golden").mkdir(parents=True, exist_ok=True)
        write_tokenizer(folder, tokenizer, vocabularies.CASES)


def check_versions():
    requirements = pathlib.Path(__file__).with_name("requirements.txt").read_text().split()
    for requirement in requirements:
        package, pinned = requirement.split("==")
        found = importlib.metadata.version(package)
        if found.split("+")[0] != pinned:
            raise SystemExit(f"{package} is {found}, requirements.txt pins {pinned}")


def generate(folder, family, first_seed):
    """Writes one family, with the first seed whose outputs are well conditioned."""
    tokenizer, vocab = family["vocabulary"](family["vocab_size"])
    config = checkpoints.config(family, vocab)
    for seed in range(first_seed, first_seed + 1000):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "golden").mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        tensors = checkpoints.tensors(family, generator)
        checkpoints.write(folder, family, config, tensors, vocab)
        model = load(folder, family, config, tensors)
        prompts = make_prompts(tokenizer, vocab, family["vocab_size"], generator)
        results = {name: evaluate(model, prompt["ids"], generator) for name, prompt in prompts.items()}
        if well_conditioned(results):
            break
    else:
        raise SystemExit(f"{folder.name}: no seed is well conditioned")

    write_tokenizer(folder, tokenizer, vocabularies.CASES[::3])
    golden = folder / "golden"
    checkpoints.dump(golden / "prompts.json", prompts)
    for name, result in results.items():
        np.save(golden / f"logits_{name}.npy", result["logits"])
        np.save(golden / f"spread_{name}.npy", result["spread"])
    checkpoints.dump(golden / "greedy.json", {name: result["greedy"] for name, result in results.items()})
    checkpoints.dump(
        golden / "meta.json",
        {
            "seed": seed,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "reference": "transformers, weights upcast to float32, eager attention, no KV cache",
            "spread": f"largest logit difference of {NOISY_RUNS} runs with relative noise {NOISE} before every quantisation",
        },
        indent=2,
    )
    if family.get("gguf"):
        checkpoints.write_gguf(folder, config, tensors, tokenizer, vocab)
    print(
        f"{folder.name}: seed {seed}, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes"
    )


def write_tokenizer(folder, tokenizer, texts):
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    checkpoints.dump(folder / "golden" / "tokenizer_cases.json", vocabularies.cases(tokenizer, texts))


def load(folder, family, config, tensors):
    """The checkpoint as transformers loads it, upcast to float32."""
    with tempfile.TemporaryDirectory() as renamed:
        if family["graph"] == "1bitllm":
            folder = pathlib.Path(renamed)
            write_as_bitnet(folder, config, tensors)
        elif family["graph"] == "minicpm":
            folder = pathlib.Path(renamed)
            write_as_llama(folder, config, tensors)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    torch.nn.Module.float(model)  # transformers refuses `model.float()` for quantised models.
    names = {type(module).__name__ for name, module in model.named_modules() if name.endswith("_proj")}
    assert names == {family["linear"]}, names
    for module in model.modules():
        if type(module).__name__ == "BitLinear":
            module.dtype = torch.float32
    return model.eval()


def write_as_bitnet(folder, config, tensors):
    """1bitLLM's model code is not in transformers; its graph is BitNetForCausalLM with SiLU."""
    checkpoints.dump(
        folder / "config.json",
        {
            **config,
            "architectures": ["BitNetForCausalLM"],
            "model_type": "bitnet",
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "online",
            },
        },
    )
    checkpoints.save_file(
        {
            name.replace("inner_attn_ln", "attn_sub_norm").replace("ffn_layernorm", "ffn_sub_norm"): tensor
            for name, tensor in tensors.items()
        },
        folder / "model.safetensors",
        {"format": "pt"},
    )


def write_as_llama(folder, config, tensors):
    """MiniCPM's model code is not in transformers; it is Llama with factors, which its weights can hold."""
    factors = {
        "embed_tokens": config["scale_emb"],
        "o_proj": config["scale_depth"] / config["num_hidden_layers"] ** 0.5,
        "down_proj": config["scale_depth"] / config["num_hidden_layers"] ** 0.5,
    }
    scaled = {name: tensor.float() * factors.get(name.split(".")[-2], 1) for name, tensor in tensors.items()}
    head = tensors["model.embed_tokens.weight"].float()
    scaled["lm_head.weight"] = head * config["dim_model_base"] / config["hidden_size"]
    checkpoints.save_file(scaled, folder / "model.safetensors", {"format": "pt"})
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
    checkpoints.dump(folder / "config.json", {**config, **llama})


def make_prompts(tokenizer, vocab, vocab_size, generator):
    long = torch.randint(vocab_size, (LONG_TOKENS,), generator=generator).tolist()
    return {
        "one": {"ids": [vocab["bos"][1]], "text": None},
        "short": {"ids": tokenizer.encode(SHORT).ids, "text": SHORT},
        "mid": {"ids": tokenizer.encode(MID).ids, "text": MID},
        "long": {"ids": long, "text": None},
    }


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def noisy_logits(model, ids, generator):
    """`logits` with a little noise on the input of every projection."""

    def disturb(_, inputs):
        return inputs[0] * (1 + NOISE * torch.randn(inputs[0].shape, generator=generator))

    hooks = [
        m.register_forward_pre_hook(disturb) for name, m in model.named_modules() if name.endswith("_proj")
    ]
    try:
        return logits(model, ids)
    finally:
        for hook in hooks:
            hook.remove()


def evaluate(model, prompt, generator):
    """Logits, greedy continuation, and how far noisy runs are from both."""
    ids = list(prompt)
    for _ in range(GREEDY_TOKENS):
        ids.append(int(logits(model, ids)[-1].argmax()))
    reference = logits(model, ids[:-1])
    noisy = [noisy_logits(model, ids[:-1], generator) for _ in range(NOISY_RUNS)]
    spread = np.max([np.abs(run - reference).max(axis=1) for run in noisy], axis=0)
    ranked = np.sort(reference, axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    n = len(prompt)
    return {
        "logits": reference[:n],
        "noisy": [run[:n] for run in noisy],
        "spread": spread[:n],
        "greedy": {
            "ids": ids[n:],
            "top1_minus_top2": [round(float(value), 6) for value in margin[n - 1 :]],
            "spread": [round(float(value), 6) for value in spread[n - 1 :]],
        },
    }


def well_conditioned(results):
    """Whether the noisy runs stay well inside the tolerances that the tests apply to Trilobite, and
    enough greedy tokens come before the first that is too close to call."""
    for name, result in results.items():
        reference = result["logits"]
        for run in result["noisy"]:
            error = np.abs(run - reference)
            rms = np.sqrt(np.mean(error**2)) / reference.std()
            exact = np.mean(error.max(axis=1) <= 1e-4)
            agreement = np.mean(run.argmax(axis=1) == reference.argmax(axis=1))
            if name == "one" and error.max() > 2e-5:
                return False
            if name == "short" and (rms > 0.004 or exact < 0.85):
                return False
            if name in ("mid", "long") and (rms > 0.02 or agreement < 0.97):
                return False
    return sum(decisive_steps(result) for result in results.values()) >= 16


def decisive_steps(result):
    """Greedy tokens before the first whose margin is within the reach of rounding."""
    close = 0.1 * result["logits"].std()
    for step, (margin, spread) in enumerate(
        zip(result["greedy"]["top1_minus_top2"], result["greedy"]["spread"])
    ):
        if margin < max(4 * spread, close):
            return step
    return GREEDY_TOKENS


if __name__ == "__main__":
    main()
