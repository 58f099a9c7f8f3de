#!/usr/bin/env python3
"""Train a small BitNet b1.58 story model on a CPU or a GPU and export it for inference.

    python train.py --train train.txt --valid val.txt --out OUT --work WORK --steps 5200
    python train.py ... --out OUT2 --work WORK2 --from WORK/state.pt --decay 1200
    python train.py ... --dense        # the dense twin: a plain LlamaForCausalLM of the same shape
    python train.py ... --teacher OUT3 --teacher OUT4    # learn the mean of other models' probabilities too

The first command trains at a constant learning rate after the warm-up and may be stopped at any moment;
started again, it goes on from WORK/state.pt. The second makes a finished model of whatever the first has
reached: the learning rate falls to 0 over 1200 more steps. It leaves the first folder as it is, so that
the longer run can go on afterwards. The batches of a step depend only on the seed and the step.

The text files hold stories separated by lines "<|endoftext|>". The ternary model is
transformers' BitNetForCausalLM, trained with quantisation-aware training: every linear layer sees
int8 activations (absmax per token) and ternary weights (absmean per tensor) in the forward pass,
and the straight-through estimator passes gradients to full-precision master weights.
OUT receives config.json, model.safetensors (2-bit packed weights), tokenizer.json,
tokenizer_config.json and generation_config.json; WORK receives the training state.

Tested with the versions in requirements.txt.
"""

import argparse
import bisect
import ctypes
import json
import math
import os
import platform
import random
import signal
import time
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

END = "<|endoftext|>"
END_ID = 0

# ---------------------------------------------------------------- model


@dataclass
class Config:
    vocab_size: int = 2048
    hidden_size: int = 384
    intermediate_size: int = 1024
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    max_position_embeddings: int = 512
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    dense: bool = False
    dropout: float = 0.0

    @property
    def head_dim(self):
        return self.hidden_size // self.num_attention_heads


class Round(torch.autograd.Function):
    """Round half to even and clamp; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, x, low, high):
        return x.round().clamp(low, high)

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None


def quantize_activations(x):
    """int8 codes (as floats) and the multiplier s of each token; x is approximately codes / s."""
    s = 127.0 / x.detach().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return Round.apply(x * s, -128, 127), s


def quantize_weight(w):
    """Ternary weights and their scalar: w is approximately q * scale."""
    scale = w.detach().abs().mean().clamp(min=1e-5)
    return Round.apply(w * (1.0 / scale), -1, 1), scale


class Linear(nn.Module):
    def __init__(self, n_in, n_out, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * (0.5 * gain / math.sqrt(n_in)))
        self.stored = None  # (q, scale) when the weights come from an exported checkpoint

    def ternary(self):
        return quantize_weight(self.weight) if self.stored is None else self.stored


def project(x, layers, dense, dtype):
    """Outputs of several linear layers that share the input x, which is quantised once.

    The matrix product runs in `dtype`. int8 codes and ternary weights are exact in bfloat16, so
    only the product's result is rounded there, and in float32 nothing is.
    """
    if dense:
        w = torch.cat([layer.weight for layer in layers])
        y = F.linear(x.to(dtype), w.to(dtype)).float()
        return y.split([layer.weight.shape[0] for layer in layers], -1)
    codes, s = quantize_activations(x)
    codes = codes.to(dtype)
    pairs = [layer.ternary() for layer in layers]
    y = F.linear(codes, torch.cat([q.to(dtype) for q, _ in pairs])).float()
    parts = y.split([q.shape[0] for q, _ in pairs], -1)
    return [part * (scale / s) for part, (_, scale) in zip(parts, pairs)]


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def attend(q, k, v, block=128):
    """Causal attention over [batch, length, heads, head_dim].

    In bfloat16 on a CPU, that is in training, it runs in blocks of queries that skip the later keys, and the
    heads of a group are consecutive rows of one product with the key and value heads that they share: compiled,
    it takes less than half the time of scaled_dot_product_attention, to which it is equal but for rounding.
    """
    batch, length, heads, size = q.shape
    groups = k.shape[2]
    group = heads // groups
    if q.dtype == torch.float32 or q.is_cuda:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    q = q.view(batch, length, groups, group, size).transpose(1, 2).reshape(batch * groups, length * group, size)
    k, v = (t.transpose(1, 2).reshape(batch * groups, length, size) for t in (k, v))
    place = torch.arange(length)
    outputs = []
    for start in range(0, length, block):
        end = min(start + block, length)
        scores = (q[:, start * group : end * group] @ k[:, :end].mT).float() * size**-0.5
        later = place[:end] > place[start:end].repeat_interleave(group)[:, None]
        p = scores.masked_fill(later, -math.inf).softmax(-1)
        outputs.append(p.to(q.dtype) @ v[:, :end])
    o = torch.cat(outputs, 1).view(batch, groups, length, group, size)
    return o.transpose(1, 2).reshape(batch, length, heads, size)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        kv = c.num_key_value_heads * c.head_dim
        self.q_proj = Linear(c.hidden_size, c.hidden_size)
        self.k_proj = Linear(c.hidden_size, kv)
        self.v_proj = Linear(c.hidden_size, kv)
        self.o_proj = Linear(c.hidden_size, c.hidden_size, 1 / math.sqrt(2 * c.num_hidden_layers))
        if not c.dense:
            self.attn_sub_norm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def forward(self, x, cos, sin, dtype):
        c, (batch, length, _) = self.c, x.shape
        q, k, v = project(x, [self.q_proj, self.k_proj, self.v_proj], c.dense, dtype)
        q, k, v = (t.reshape(batch, length, -1, c.head_dim) for t in (q, k, v))
        o = attend(rotate(q, cos, sin).to(dtype), rotate(k, cos, sin).to(dtype), v.to(dtype))
        o = o.float().reshape(batch, length, -1)
        if not c.dense:
            o = self.attn_sub_norm(o)
        return project(o, [self.o_proj], c.dense, dtype)[0]


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.gate_proj = Linear(c.hidden_size, c.intermediate_size)
        self.up_proj = Linear(c.hidden_size, c.intermediate_size)
        self.down_proj = Linear(c.intermediate_size, c.hidden_size, 1 / math.sqrt(2 * c.num_hidden_layers))
        if not c.dense:
            self.ffn_sub_norm = RMSNorm(c.intermediate_size, c.rms_norm_eps)

    def forward(self, x, dtype):
        gate, up = project(x, [self.gate_proj, self.up_proj], self.c.dense, dtype)
        h = F.silu(gate) * up if self.c.dense else self.ffn_sub_norm(F.relu(gate).square() * up)
        return project(h, [self.down_proj], self.c.dense, dtype)[0]


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)
        self.drop = nn.Dropout(c.dropout)

    def forward(self, x, cos, sin, dtype):
        x = x + self.drop(self.self_attn(self.input_layernorm(x), cos, sin, dtype))
        return x + self.drop(self.mlp(self.post_attention_layernorm(x), dtype))


class Model(nn.Module):
    """BitNetForCausalLM, or LlamaForCausalLM if config.dense. Parameter names follow transformers."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        inv = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, dtype=torch.float64) / c.head_dim)
        angle = torch.arange(c.max_position_embeddings, dtype=torch.float64)[:, None] * inv
        angle = torch.cat([angle, angle], -1)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, ids, dtype=torch.float32):
        x = self.embed_tokens(ids)
        cos, sin = (t[: ids.shape[1], None] for t in (self.cos, self.sin))
        for layer in self.layers:
            x = layer(x, cos, sin, dtype)
        return F.linear(self.norm(x).to(dtype), self.embed_tokens.weight.to(dtype)).float()

    def compile_layers(self):
        """Compile one layer for all of them, which takes seconds where the whole model takes minutes."""
        for layer in self.layers:
            layer.compile(dynamic=False)


def loss_of(model, ids, targets, dtype):
    return F.cross_entropy(model(ids, dtype).flatten(0, 1), targets.flatten(), ignore_index=-100)


def losses_of(model, teachers, share, ids, targets, dtype):
    """The cross-entropy of the targets, and the loss to minimise, of which the teachers' mean probabilities have a share."""
    logits, targets = model(ids, dtype).flatten(0, 1), targets.flatten()
    loss = F.cross_entropy(logits, targets, ignore_index=-100)
    if not teachers:
        return loss, loss
    with torch.no_grad():
        expected = sum(teacher(ids, dtype).flatten(0, 1).softmax(-1) for teacher in teachers) / len(teachers)
    return loss, (1 - share) * loss + share * distance(logits, expected, targets)


def distance(logits, expected, targets):
    """Mean cross-entropy with the expected probabilities of each token, over the places that have a target."""
    counted = targets >= 0
    return -((expected * F.log_softmax(logits, -1)).sum(-1) * counted).sum() / counted.sum()


# ---------------------------------------------------------------- checkpoint


def pack(q):
    """[N, K] in {-1, 0, 1} to U8 [N/4, K]: two bits each, plane i (lowest first) is the i-th quarter of the rows."""
    planes = (q + 1).to(torch.uint8).chunk(4)
    return planes[0] | planes[1] << 2 | planes[2] << 4 | planes[3] << 6


def unpack(p):
    return torch.cat([(p >> 2 * i & 3).float() - 1 for i in range(4)])


def export(model, tokenizer, folder):
    os.makedirs(folder, exist_ok=True)
    c = model.c
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear) and not c.dense:
            q, scale = module.ternary()
            tensors[f"model.{name}.weight"] = pack(q.detach())
            tensors[f"model.{name}.weight_scale"] = scale.detach().reshape(1).bfloat16()
        elif isinstance(module, (Linear, RMSNorm, nn.Embedding)):
            tensors[f"model.{name}.weight"] = module.weight.detach().bfloat16()
    # Written beside and renamed, so that a reader never sees half a file.
    path = os.path.join(folder, "model.safetensors")
    save_file({k: t.contiguous() for k, t in tensors.items()}, path + ".part", metadata={"format": "pt"})
    os.replace(path + ".part", path)

    config = {
        "architectures": ["LlamaForCausalLM" if c.dense else "BitNetForCausalLM"],
        "model_type": "llama" if c.dense else "bitnet",
        "hidden_act": "silu" if c.dense else "relu2",
        **{f.name: getattr(c, f.name) for f in fields(c) if f.name not in ("dense", "dropout")},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
    }
    if not c.dense:
        config["quantization_config"] = {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
        }
    generation = {
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "pad_token_id": END_ID,
        "do_sample": True,
        "temperature": 0.2,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "loop_penalty": 4.0,  # of Trilobite; others ignore it
        "max_length": c.max_position_embeddings,
    }
    token = {"content": END, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": c.max_position_embeddings,
        "added_tokens_decoder": {str(END_ID): token},
    }
    for name, data in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
    ):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(data, f, indent=2)
            f.write("\n")
    tokenizer.save(os.path.join(folder, "tokenizer.json"))


def load(folder, device="cpu"):
    """The model of an exported folder, in float32 with exactly the stored values."""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    names = {f.name for f in fields(Config)}
    c = Config(**{k: v for k, v in config.items() if k in names}, dense=config["model_type"] == "llama")
    tensors = load_file(os.path.join(folder, "model.safetensors"), device=str(device))
    model = Model(c).to(device)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, Linear) and not c.dense:
                q = unpack(tensors[f"model.{name}.weight"])
                module.stored = q, tensors[f"model.{name}.weight_scale"].float()
            elif isinstance(module, (Linear, RMSNorm, nn.Embedding)):
                module.weight.copy_(tensors[f"model.{name}.weight"].float())
    return model.eval()


# ---------------------------------------------------------------- data


def read_stories(path):
    with open(path, encoding="utf-8") as f:
        return [s for s in (part.strip() for part in f.read().split(END)) if s]


def train_tokenizer(stories, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        stories,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    # A prompt starts with the end-of-text token, as every story does in training.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, END_ID)]
    )
    return tokenizer


def encode_stories(tokenizer, stories):
    encoded = tokenizer.encode_batch(stories, add_special_tokens=False)
    return [np.array([END_ID] + e.ids, dtype=np.int32) for e in encoded]


def pack_rows(stories, length, rng):
    """One epoch of rows of length + 1 tokens, each starting at the beginning of a story.

    Stories are placed best-fit, longest first, so that their endings are seen too and few places
    stay empty; a story longer than a row is cut. A row ends with the end-of-text token if there is
    room, then padding (-1).
    """
    size = length + 1
    order = list(range(len(stories)))
    rng.shuffle(order)
    order.sort(key=lambda i: -len(stories[i]))
    rows, free = [], []  # free: sorted (room, row) of rows that can take another story
    for i in order:
        story = stories[i][:size]
        at = bisect.bisect_left(free, (len(story), -1))
        if at < len(free):
            room, row = free.pop(at)
            rows[row].append(story)
        else:
            room, row = size, len(rows)
            rows.append([story])
        if room - len(story) > 0:
            bisect.insort(free, (room - len(story), row))
    out = np.full((len(rows), size), -1, dtype=np.int32)
    for row, parts in enumerate(rows):
        rng.shuffle(parts)
        flat = np.concatenate(parts + [np.array([END_ID], dtype=np.int32)])[:size]
        out[row, : len(flat)] = flat
    return out[rng.sample(range(len(out)), len(out))]


def to_batch(rows):
    rows = rows.long()
    ids, targets = rows[:, :-1].clamp(min=0), rows[:, 1:].clone()
    targets[targets < 0] = -100
    return ids.contiguous(), targets.contiguous()


# ---------------------------------------------------------------- optimiser


class Muon:
    """Momentum whose update is orthogonalised by a Newton-Schulz iteration, for the weight matrices."""

    def __init__(self, params, momentum=0.95, dtype=torch.float32):
        self.momentum, self.dtype = momentum, dtype
        self.groups = {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.buffers = {k: torch.zeros(len(v), *k, device=v[0].device) for k, v in self.groups.items()}

    @torch.no_grad()
    def step(self, lr, weight_decay):
        for shape, params in self.groups.items():
            grad = torch.stack([p.grad for p in params])
            buffer = self.buffers[shape].lerp_(grad, 1 - self.momentum)
            x = grad.lerp_(buffer, self.momentum)
            tall = shape[0] > shape[1]
            x = (x.mT if tall else x).to(self.dtype)
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = (x.mT if tall else x).float()
            rate = lr * math.sqrt(max(1.0, shape[0] / shape[1]))
            for p, update in zip(params, x):
                p.mul_(1 - lr * weight_decay).add_(update, alpha=-rate)


# ---------------------------------------------------------------- sampling


@torch.no_grad()
def generate(model, tokenizer, prompt, count=250, temperature=0.0, top_p=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    ids = tokenizer.encode(prompt).ids
    for _ in range(count):
        logits = model(torch.tensor([ids[-model.c.max_position_embeddings :]], device=model.cos.device))[0, -1].cpu()
        if temperature == 0:
            token = int(logits.argmax())
        else:
            p, order = torch.softmax(logits / temperature, -1).sort(descending=True)
            p[p.cumsum(-1) - p >= top_p] = 0
            token = int(order[torch.multinomial(p, 1, generator=rng)])
        if token == END_ID:
            break
        ids.append(token)
    return tokenizer.decode(ids)


# ---------------------------------------------------------------- training


def keep_memory():
    """Let glibc's malloc keep what is freed: by default each large tensor is mapped and zeroed anew by the kernel."""
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--valid", required=True)
    parser.add_argument("--out", required=True, help="folder for the exported checkpoint")
    parser.add_argument("--work", required=True, help="folder for the training state and log; continued if it has a state")
    parser.add_argument("--from", dest="origin", help="state.pt of another run to start from")
    parser.add_argument("--tokenizer", help="use this tokenizer.json instead of training one")
    parser.add_argument("--dense", action="store_true", help="train the dense twin")
    parser.add_argument("--teacher", action="append", default=[], help="exported folder of a model to learn from")
    parser.add_argument("--teacher-share", type=float, default=0.5, help="share of the teachers in the loss")
    parser.add_argument("--steps", type=int, help="step at which the run ends; by default --decay steps after its start")
    parser.add_argument("--decay", type=int, default=0, help="last steps, in which the learning rate falls linearly to 0")
    parser.add_argument("--batch", type=int, default=16, help="rows per step")
    parser.add_argument("--length", type=int, default=512, help="tokens per row")
    parser.add_argument("--lr", type=float, default=0.02, help="Muon, weight matrices")
    parser.add_argument("--lr-embed", type=float, default=4e-3, help="Adam, embeddings and norms")
    parser.add_argument("--weight-decay", type=float, default=0.02, help="of the matrices, before the decay only")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fp32", action="store_true", help="train in float32 instead of bfloat16 products")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--save-minutes", type=float, default=8)
    parser.add_argument("--validate", type=int, default=250, help="steps between exports and held-out losses")
    for f in fields(Config):
        if f.name != "dense":
            parser.add_argument("--" + f.name.replace("_", "-"), type=type(f.default), default=f.default)
    args = parser.parse_args()
    if not args.steps and not args.decay:
        parser.error("the run needs an end: give --steps or --decay")

    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.makedirs(args.work, exist_ok=True)
    config = Config(**{f.name: getattr(args, f.name) for f in fields(Config)})
    dtype = torch.float32 if args.fp32 else torch.bfloat16
    device = torch.device(args.device)

    stories = read_stories(args.train)
    path = args.tokenizer or os.path.join(args.work, "tokenizer.json")
    if os.path.exists(path):
        tokenizer = Tokenizer.from_file(path)
    else:
        tokenizer = train_tokenizer(stories, config.vocab_size)
        tokenizer.save(path)
    train = encode_stories(tokenizer, stories)
    valid_ids, valid_targets = to_batch(
        torch.from_numpy(
            pack_rows(encode_stories(tokenizer, read_stories(args.valid)), args.length, random.Random(0))[:32]
        ).to(device)
    )
    lengths = np.array([len(s) for s in train])

    model = Model(config).to(device)
    teachers = [load(folder, device) for folder in args.teacher]
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon = Muon(matrices, dtype=dtype)
    adam = torch.optim.Adam(others, lr=args.lr_embed, betas=(0.9, 0.95), eps=1e-10, foreach=True)
    parameters = sum(p.numel() for p in model.parameters())

    log = open(os.path.join(args.work, "log.txt"), "a")

    def say(text):
        print(text, flush=True)
        print(text, file=log, flush=True)

    # `at` counts the rows of the epoch that are used up; `start` is the step at which this run left its origin.
    step, tokens, epoch, at, start, average = 0, 0, 1, 0, 0, None
    state_path = os.path.join(args.work, "state.pt")
    source = state_path if os.path.exists(state_path) else args.origin
    if source:
        state = torch.load(source, map_location=device)
        if state["config"] != asdict(config):
            raise SystemExit(f"{source} holds a model of another shape: {state['config']}, not {asdict(config)}")
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.buffers = state["muon"]
        step, tokens, epoch, at, average = (state[k] for k in ("step", "tokens", "epoch", "at", "average"))
        start = state["start"] if source == state_path else step
        say(f"continued from {source} at step {step}")
    else:
        say(f"{asdict(config)}")
        say(
            f"{parameters} parameters; {len(train)} stories, {lengths.sum()} tokens, mean length {lengths.mean():.0f}, "
            f"{(lengths > args.length).mean():.1%} longer than a row"
        )
    end = args.steps or start + args.decay

    def epoch_rows(epoch):
        """The rows of an epoch, on the device, and the number of targets of each."""
        rows = pack_rows(train, args.length, random.Random(f"{args.seed} {epoch}"))
        return torch.from_numpy(rows).to(device), (rows[:, 1:] >= 0).sum(1)

    def check():
        if average is not None and not math.isfinite(average):
            raise SystemExit(f"the loss is not finite by step {step}; {state_path} holds an earlier step")

    def save():
        check()
        torch.save(
            dict(model=model.state_dict(), adam=adam.state_dict(), muon=muon.buffers, step=step, tokens=tokens,
                 epoch=epoch, at=at, start=start, average=None if average is None else float(average), config=asdict(config)),
            state_path + ".part",
        )
        os.replace(state_path + ".part", state_path)

    def validate():
        export(model, tokenizer, args.out)
        exported = load(args.out, device)
        with torch.no_grad():
            losses = [
                loss_of(exported, valid_ids[i : i + 8], valid_targets[i : i + 8], torch.float32)
                for i in range(0, len(valid_ids), 8)
            ]
        say(f"held-out step {step} tokens {tokens / 1e6:.2f}M loss {float(torch.stack(losses).mean()):.4f}")
        say("  " + generate(exported, tokenizer, "Once upon a time", 120, 0.7, 0.9).replace("\n", "\n  "))

    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    losses = losses_of
    if device.type == "cuda" and not args.no_compile:
        for one in [model, *teachers]:
            one.compile_layers()
    elif not args.no_compile:
        losses = torch.compile(losses_of, dynamic=False)
    rows, counts = epoch_rows(epoch)
    last_save = last_log = time.time()
    logged = step
    while step < end and not stopped:
        if at + args.batch > len(rows):
            epoch, at = epoch + 1, 0
            rows, counts = epoch_rows(epoch)
        ids, targets = to_batch(rows[at : at + args.batch])
        tokens += int(counts[at : at + args.batch].sum())
        at += args.batch

        decaying = step >= end - args.decay
        factor = (end - step) / args.decay if decaying else 1.0
        factor = min(factor, (step + 1) / args.warmup)
        value, loss = losses(model, teachers, args.teacher_share, ids, targets, dtype)
        loss.backward()
        muon.step(args.lr * factor, 0.0 if decaying else args.weight_decay)
        adam.param_groups[0]["lr"] = args.lr_embed * factor
        adam.step()
        model.zero_grad(set_to_none=True)

        step += 1
        value = value.detach()
        average = value if average is None else average + 0.05 * (value - average)
        # Reading a loss waits for the device, which is why it is not done at every step.
        if step % 20 == 0:
            now = time.time()
            check()
            say(
                f"step {step} epoch {epoch} tokens {tokens / 1e6:.2f}M loss {value:.4f} average {average:.4f} "
                f"lr {args.lr * factor:.5f} {(step - logged) * args.batch * args.length / (now - last_log):.0f} tokens/s "
                f"{time.strftime('%H:%M:%S')}"
            )
            last_log, logged = now, step
        if step % args.validate == 0 and step < end:
            validate()
        if time.time() - last_save > 60 * args.save_minutes:
            save()
            last_save = time.time()
    save()
    if step < end:
        raise SystemExit(f"stopped at step {step} of {end}")
    say(f"finished: step {step}, epoch {epoch}, {tokens} tokens")
    validate()


if __name__ == "__main__":
    main()
