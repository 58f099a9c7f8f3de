"""Random checkpoints in the layouts that ternary models are published in."""

import json

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim"
    " + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)

# Attention projections with a bias, where the architecture decides it.
BIASED = {"qwen2": ["q_proj", "k_proj", "v_proj"]}

# Epsilon of the norms of projections' inputs, which is not that of the other norms.
INPUT_NORM_EPS = 1e-4

# Share of zeros among the weights of a packed checkpoint.
ZEROS = 0.375


def config(family, vocab):
    """config.json in the dialect of the family."""
    activation = {"bitnet": "relu2", "gemma3": "gelu_pytorch_tanh"}.get(family["graph"], "silu")
    out = {
        "architectures": {
            "bitnet": ["BitNetForCausalLM"],
            "1bitllm": ["BitnetForCausalLM"],
            "llama": ["LlamaForCausalLM"],
            "qwen2": ["Qwen2ForCausalLM"],
            "qwen3": ["Qwen3ForCausalLM"],
            "gemma3": ["Gemma3ForCausalLM"],
            "minicpm": ["MiniCPMForCausalLM"],
        }[family["graph"]],
        "model_type": {"1bitllm": "llama", "gemma3": "gemma3_text"}.get(family["graph"], family["graph"]),
        "hidden_activation" if family["graph"] == "gemma3" else "hidden_act": activation,
        "hidden_size": family["hidden"],
        "intermediate_size": family["inter"],
        "num_hidden_layers": family["layers"],
        "num_attention_heads": family["heads"],
        "num_key_value_heads": family["kv_heads"],
        "vocab_size": family["vocab_size"],
        "max_position_embeddings": 512,
        "rms_norm_eps": family.get("eps", 1e-5),
        "tie_word_embeddings": family["graph"] != "llama",
        "bos_token_id": vocab["bos"][1],
        "eos_token_id": vocab["eos"][1],
    }
    dtype = str(family["dtype"]).removeprefix("torch.")
    if family.get("dialect") == "transformers5":
        out["dtype"] = dtype
        rope = family.get("rope", {"rope_type": "default"})
        # Gemma 3 has the parameters once for each kind of layer.
        out["rope_parameters"] = rope if family["graph"] == "gemma3" else {"rope_theta": family["theta"], **rope}
    else:
        out["torch_dtype"] = dtype
        out["rope_theta"] = family["theta"]
    if "head_dim" in family:
        out["head_dim"] = family["head_dim"]
    if family.get("attention_bias"):
        out["attention_bias"] = True
    out.update(family.get("extra", {}))
    if family["graph"] == "1bitllm":
        out.update(weight_bits=1, input_bits=8)
    elif family["linear"] == "Linear":
        pass
    elif family["linear"] == "BitLinear":
        out["quantization_config"] = {"quant_method": "bitnet", "modules_to_not_convert": None}
    else:
        out["quantization_config"] = {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline" if family["packed"] else "online",
        }
        if family.get("input_norms"):
            out["quantization_config"].update(use_rms_norm=True, rms_norm_eps=INPUT_NORM_EPS)
    return out


def tensors(family, generator):
    """The tensors by their published names."""
    hidden, inter, dtype = family["hidden"], family["inter"], family["dtype"]
    head_dim = family.get("head_dim", hidden // family["heads"])
    queries, keys = family["heads"] * head_dim, family["kv_heads"] * head_dim
    out = {}

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    def norm(name, width):
        # Gemma's are stored as what they differ from 1 by.
        low = -0.25 if family["graph"] == "gemma3" else 0.75
        out[name + ".weight"] = (low + 0.5 * uniform(width)).to(dtype)

    def rows(name):
        # Logits get a standard deviation of about 3. Values below 2^-9 are left out so that f16,
        # which GGUF files use for this tensor, holds every one exactly.
        if "groups" in family:
            out[name + ".weight"] = grouped(family["vocab_size"], hidden, 3 / hidden**0.5)
            return
        values = normal(family["vocab_size"], hidden) * 3 / hidden**0.5
        out[name + ".weight"] = torch.where(values.abs() < 2**-9, 0, values).to(dtype)

    def grouped(n, k, std):
        """Ternary values with a scale for each group of columns, and two others."""
        groups = n * k // family["groups"]
        scales = ((0.8 + 0.4 * uniform(groups, 1)) * std / (1 - ZEROS) ** 0.5).to(dtype)
        draw = uniform(groups, family["groups"])
        trits = (draw >= (1 - ZEROS) / 2).to(dtype) + (draw >= (1 + ZEROS) / 2).to(dtype) - 1
        values = (trits * scales).reshape(n, k)
        values[1, 3], values[n - 2, k - 1] = 2.3 * std, -0.4 * std
        return values

    def projection(name, n, k):
        if family.get("input_norms"):
            out[f"{name}.{family['input_norms']}.weight"] = (0.5 + uniform(k)).to(dtype)
        # An input of RMS 1 gives an output of RMS about 1.
        scale = (0.8 + 0.4 * uniform(1)) / (k * (1 - ZEROS)) ** 0.5
        if family["packed"]:
            draw = uniform(n, k)
            codes = (draw >= (1 - ZEROS) / 2).to(torch.uint8) + (draw >= (1 + ZEROS) / 2).to(torch.uint8)
            out[name + ".weight"] = pack(codes)
            stored = scale if family["linear"] == "AutoBitLinear" else 1 / scale
            out[name + ".weight_scale"] = stored.to(dtype)
        elif "groups" in family:
            out[name + ".weight"] = grouped(n, k, k**-0.5)
        elif family["linear"] == "Linear":
            out[name + ".weight"] = (normal(n, k) / k**0.5).to(dtype)
        else:
            # The mean of |x| is 0.798 for normal x.
            out[name + ".weight"] = (normal(n, k) * scale / 0.798).to(dtype)

    rows("model.embed_tokens")
    if family["graph"] == "llama":
        rows("lm_head")
    norm("model.norm", hidden)
    for layer in range(family["layers"]):
        prefix = f"model.layers.{layer}."
        norm(prefix + "input_layernorm", hidden)
        norm(prefix + "post_attention_layernorm", hidden)
        if family["graph"] == "bitnet":
            norm(prefix + "self_attn.attn_sub_norm", queries)
            norm(prefix + "mlp.ffn_sub_norm", inter)
        elif family["graph"] == "1bitllm":
            norm(prefix + "self_attn.inner_attn_ln", queries)
            norm(prefix + "mlp.ffn_layernorm", inter)
        if family["graph"] == "gemma3":
            norm(prefix + "pre_feedforward_layernorm", hidden)
            norm(prefix + "post_feedforward_layernorm", hidden)
        if family["graph"] in ("qwen3", "gemma3"):
            norm(prefix + "self_attn.q_norm", head_dim)
            norm(prefix + "self_attn.k_norm", head_dim)
        biased = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
        for name in BIASED.get(family["graph"], list(biased) if family.get("attention_bias") else []):
            out[f"{prefix}self_attn.{name}.bias"] = (0.5 * normal(biased[name])).to(dtype)
        projection(prefix + "self_attn.q_proj", queries, hidden)
        projection(prefix + "self_attn.k_proj", keys, hidden)
        projection(prefix + "self_attn.v_proj", keys, hidden)
        projection(prefix + "self_attn.o_proj", hidden, queries)
        projection(prefix + "mlp.gate_proj", inter, hidden)
        projection(prefix + "mlp.up_proj", inter, hidden)
        projection(prefix + "mlp.down_proj", hidden, inter)
    return out


def pack(codes):
    """[N, K] codes to [N/4, K] bytes: bit plane i is the i-th quarter of the rows."""
    planes = codes.reshape(4, codes.shape[0] // 4, codes.shape[1])
    return planes[0] | planes[1] << 2 | planes[2] << 4 | planes[3] << 6


def unpack(packed):
    """The inverse of `pack`, as -1, 0, 1."""
    return torch.cat([(packed >> (2 * plane)) & 3 for plane in range(4)]).to(torch.int8) - 1


def write(folder, family, config, tensors, vocab):
    """Writes the folder as a repository has it, all but tokenizer.json."""
    dump(folder / "config.json", config, indent=2)
    ends = [vocab["eos"][1]] + ([vocab["end_of_turn"]] if "end_of_turn" in vocab else [])
    dump(
        folder / "generation_config.json",
        {
            "bos_token_id": vocab["bos"][1],
            "eos_token_id": ends,
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.9,
        },
        indent=2,
    )
    dump(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": vocab["bos"][0],
            "eos_token": vocab["eos"][0],
            "clean_up_tokenization_spaces": False,
            "model_max_length": 512,
            "chat_template": CHAT_TEMPLATE,
        },
        indent=2,
    )
    shards = family.get("shards", 1)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, {"format": "pt"})
        weight_map.update({name: file for name in part})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    dump(
        folder / "model.safetensors.index.json",
        {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(weight_map.items())),
        },
        indent=2,
    )


def dump(path, value, indent=None):
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------------

GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
}
I2_S = 36


def write_gguf(folder, config, tensors, tokenizer, vocab):
    """The checkpoint as microsoft/bitnet-b1.58-2B-4T-gguf has it, with its 24 keys: once in I2_S, once with
    the attention in TQ1_0 and the feed-forward in TQ2_0."""
    arch = "bitnet-b1.58"
    model = json.loads(tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = {token["content"] for token in model["added_tokens"]}
    for name, attention, feed_forward, file_type in [
        ("i2_s", I2_S, I2_S, 40),
        ("tq", gguf.GGMLQuantizationType.TQ1_0, gguf.GGMLQuantizationType.TQ2_0, 36),
    ]:
        out = gguf.GGUFWriter(folder / f"model-{name}.gguf", arch)
        out.add_name("golden")
        out.add_vocab_size(config["vocab_size"])
        out.add_context_length(config["max_position_embeddings"])
        out.add_embedding_length(config["hidden_size"])
        out.add_block_count(config["num_hidden_layers"])
        out.add_feed_forward_length(config["intermediate_size"])
        out.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
        out.add_head_count(config["num_attention_heads"])
        out.add_head_count_kv(config["num_key_value_heads"])
        out.add_layer_norm_rms_eps(config["rms_norm_eps"])
        out.add_rope_freq_base(config["rope_theta"])
        out.add_file_type(file_type)
        out.add_tokenizer_model("gpt2")
        out.add_token_list([token for token, _ in tokens])
        out.add_token_scores([0.0] * len(tokens))
        out.add_token_types([3 if token in special else 1 for token, _ in tokens])
        out.add_token_merges([" ".join(pair) for pair in model["model"]["merges"]])
        out.add_bos_token_id(vocab["bos"][1])
        out.add_eos_token_id(vocab["eos"][1])
        out.add_pad_token_id(vocab["eos"][1])
        out.add_add_bos_token(True)
        out.add_chat_template(CHAT_TEMPLATE)
        out.add_quantization_version(2)
        for tensor, value in tensors.items():
            if tensor.endswith("weight_scale"):
                continue
            if tensor == "model.embed_tokens.weight":
                half = value.to(torch.float16)
                assert torch.equal(half.float(), value.float())
                out.add_tensor("token_embd.weight", half.numpy())
            elif tensor == "model.norm.weight":
                out.add_tensor("output_norm.weight", value.float().numpy())
            else:
                _, _, layer, part = tensor.removesuffix(".weight").split(".", 3)
                target = f"blk.{layer}.{GGUF_NAMES[part]}.weight"
                if value.dtype != torch.uint8:
                    out.add_tensor(target, value.float().numpy())
                    continue
                ternary = attention if part.startswith("self_attn") else feed_forward
                trits = unpack(value).numpy()
                scale = np.float32(tensors[tensor + "_scale"].item())
                if ternary == I2_S:
                    # The writer takes bytes only for types that it knows: pass them as floats.
                    out.add_tensor(target, i2_s(trits, scale).view(np.float32), trits.shape, I2_S)
                else:
                    data = gguf.quantize(trits * scale, ternary)
                    assert np.array_equal(gguf.dequantize(data, ternary), trits * scale)
                    out.add_tensor(target, data, raw_dtype=ternary)
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()


def i2_s(trits, scale):
    """bitnet.cpp's x86 layout: blocks of 128 over the flattened tensor, element j of a block in byte
    j % 32, bits 6 - 2 * (j / 32); then the scale and 28 zero bytes."""
    codes = (trits + 1).astype(np.uint8).reshape(-1, 4, 32)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    tail = np.zeros(8, np.float32)
    tail[0] = scale
    return np.concatenate([packed.reshape(-1), tail.view(np.uint8)])
