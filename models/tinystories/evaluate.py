#!/usr/bin/env python3
"""Perplexity and samples of an exported folder, computed in float32 from exactly the stored values.

    python evaluate.py FOLDER --file TEXT --ctx 512      # perplexity of a plain text
    python evaluate.py FOLDER --stories val.txt          # perplexity per story
    python evaluate.py FOLDER --prompt "Once upon a time"
    python evaluate.py FOLDER --check TEXT               # compare with transformers

--file: the whole file is tokenised as one stream without a leading token; special tokens in the
text are not recognised. The stream is cut into consecutive pieces of ctx - 1 tokens, the last one
shorter. Each piece is preceded by the beginning-of-text token and run by itself, and each of its
ctx - 1 tokens is predicted from those before it. The perplexity is exp of the mean negative
log-likelihood over all tokens of the stream.

--stories: each story of the file (separated by lines "<|endoftext|>") is run by itself as
<|endoftext|> story <|endoftext|>, cut to 512 input tokens; every token but the first is predicted.
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from train import END_ID, encode_stories, generate, load, read_stories


def read_pieces(path, tokenizer, ctx):
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    # encode() would turn a literal "<|endoftext|>" in the text into the special token.
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    return [[END_ID] + ids[i : i + ctx - 1] for i in range(0, len(ids), ctx - 1)]


def story_pieces(path, tokenizer, ctx):
    return [list(s[:ctx]) + [END_ID] * (len(s) <= ctx) for s in encode_stories(tokenizer, read_stories(path))]


@torch.no_grad()
def negative_log_likelihood(model, pieces):
    """Sum and count over the predicted tokens. Pieces of equal length share a batch; padding would be a
    second case to get right."""
    total, count = 0.0, 0
    groups = {}
    for piece in pieces:
        if len(piece) > 1:
            groups.setdefault(len(piece), []).append(piece)
    for group in groups.values():
        for i in range(0, len(group), 8):
            ids = torch.tensor(group[i : i + 8]).long()
            logits = model(ids[:, :-1])
            nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            total += nll.double().sum().item()
            count += nll.numel()
    return total, count


def check(folder, model, pieces):
    """Largest difference of the logits and of the loss between this model and transformers."""
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # Unpacking the ternary weights ignores the requested type, and transformers refuses .float().
    torch.nn.Module.float(other)
    print(type(other).__name__, type(other.model.layers[0].self_attn.q_proj).__name__)
    worst, ours, theirs, positions, differing = 0.0, [], [], 0, 0
    with torch.no_grad():
        for piece in pieces:
            ids = torch.tensor([piece]).long()
            a, b = model(ids)[0], other(ids).logits[0]
            worst = max(worst, (a - b).abs().max().item())
            positions += len(a)
            differing += int(((a - b).abs().amax(-1) > 1e-3).sum())
            ours.append(F.cross_entropy(a[:-1], ids[0, 1:]))
            theirs.append(F.cross_entropy(b[:-1], ids[0, 1:]))
    print(f"largest logit difference {worst:.2e}; above 1e-3 at {differing} of {positions} positions")
    print(f"mean loss {torch.stack(ours).mean():.6f} here, {torch.stack(theirs).mean():.6f} in transformers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--file")
    parser.add_argument("--stories")
    parser.add_argument("--prompt")
    parser.add_argument("--check")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--limit", type=int, help="use only the first pieces (or stories)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = load(args.folder)
    tokenizer = Tokenizer.from_file(f"{args.folder}/tokenizer.json")
    for path, pieces_of in ((args.file, read_pieces), (args.stories, story_pieces)):
        if path:
            pieces = pieces_of(path, tokenizer, args.ctx)[: args.limit]
            start = time.time()
            total, count = negative_log_likelihood(model, pieces)
            print(
                f"{path}: perplexity {math.exp(total / count):.4f} (mean {total / count:.6f}) over {count} tokens "
                f"in {len(pieces)} pieces, ctx {args.ctx}, {time.time() - start:.1f} s"
            )
    if args.check:
        check(args.folder, model, read_pieces(args.check, tokenizer, args.ctx)[: args.limit or 4])
    if args.prompt is not None:
        print(generate(model, tokenizer, args.prompt, args.tokens, args.temperature, args.top_p, args.seed))


if __name__ == "__main__":
    main()
