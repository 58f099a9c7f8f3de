#!/usr/bin/env python3
"""Benchmarks Hugging Face transformers with llama-bench's arguments, as a peer of `cargo xtask compare`.

    cargo xtask compare --peer "transformers=python3 benches/peers/transformers_bench.py -m FOLDER"

Prefills a prompt of -p tokens and decodes -n tokens greedily, each once to warm up and then -r times, on -t threads. The
output has the format of llama-bench's `-o json`. With `--perplexity FILE --ctx N` it prints the perplexity of the text
instead, by the method of `trilobite perplexity`: windows of N tokens, which start with the beginning-of-text token if the
tokenizer adds one, and otherwise with the last token of the window before.
"""

import argparse
import json
import math
import statistics
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def seconds(work, runs):
    """The time of each run, after one to warm up."""
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times[1:]


def read(model, tokens):
    model(tokens, use_cache=True, logits_to_keep=1)


def decode(model, token, count):
    """Decodes greedily from a prompt of one token. Never stops at an end of text."""
    cache = None
    for _ in range(count):
        out = model(token, past_key_values=cache, use_cache=True)
        cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)


def result(args, kind, times):
    """An entry of llama-bench's output."""
    count = getattr(args, kind)
    speeds = [count / taken for taken in times]
    return {
        "build_commit": f"torch {torch.__version__}", "model_filename": args.m, "n_threads": args.t,
        "n_prompt": count if kind == "p" else 0, "n_gen": count if kind == "n" else 0,
        "avg_ts": statistics.mean(speeds), "samples_ts": speeds,
    }


def perplexity(model, tokenizer, file, window):
    text = open(file, encoding="utf-8", newline="").read()
    bos = tokenizer("").input_ids
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    span, total, scored = window - len(bos), 0.0, 0
    # Without a beginning-of-text token a window begins with the last token of the one before it.
    for start in range(0, len(tokens) if bos else len(tokens) - 1, window - max(len(bos), 1)):
        ids = torch.tensor([bos + tokens[start:start + span]])
        logprobs = model(ids).logits[0, :-1].float().log_softmax(-1)
        total -= logprobs.gather(1, ids[0, 1:, None]).sum().item()
        scored += ids.shape[1] - 1
    begin = " that begin with the beginning-of-text token; every token" if bos else "; every token but the first"
    bytes_scored = len(text.encode()) - (0 if bos else len(tokenizer.decode(tokens[:1]).encode()))
    return {
        "perplexity": math.exp(total / scored), "bits_per_byte": total / math.log(2) / bytes_scored, "tokens": scored,
        "method": f"transformers, windows of {window} tokens{begin} scored once",
    }


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("-m", required=True, metavar="FOLDER")
    args.add_argument("-p", type=int, default=512, metavar="N")
    args.add_argument("-n", type=int, default=128, metavar="N")
    args.add_argument("-t", type=int, default=torch.get_num_threads(), metavar="N")
    args.add_argument("-r", type=int, default=5, metavar="N")
    args.add_argument("-o", choices=["json"], default="json")
    args.add_argument("--dtype", default="bfloat16", help="float32, bfloat16 or float16")
    args.add_argument("--perplexity", metavar="FILE")
    args.add_argument("--ctx", type=int, default=512, metavar="N")
    args = args.parse_args()
    torch.set_num_threads(args.t)
    model = AutoModelForCausalLM.from_pretrained(args.m, dtype=getattr(torch, args.dtype)).eval()
    with torch.inference_mode():
        if args.perplexity:
            tokenizer = AutoTokenizer.from_pretrained(args.m)
            return print(json.dumps(perplexity(model, tokenizer, args.perplexity, args.ctx)))
        prompt = torch.arange(max(args.p, 1))[None] * 7919 % model.config.vocab_size
        results = []
        if args.p:
            results.append(result(args, "p", seconds(lambda: read(model, prompt[:, :args.p]), args.r)))
        if args.n:
            results.append(result(args, "n", seconds(lambda: decode(model, prompt[:, :1], args.n), args.r)))
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
