"""Compares items that `trilobite eval` scored with lm-evaluation-harness on the same weights.

    trilobite eval model.gguf --tasks arc_easy,piqa --data DIR --limit 100 -o OUT
    python lm_eval_check.py model.gguf DIR OUT arc_easy piqa

The harness's own task definitions build the prompts from the records in DIR. Its own code encodes,
scores and decides, in f32 on transformers, which dequantises the GGUF file. Uses no network.
Needs lm-eval, torch, transformers and gguf.
"""

import hashlib
import os
import sys
from pathlib import Path

import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_tasks import definition, lines


def model(path):
    place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    # transformers treats every byte-level vocabulary as GPT-2's. SmolLM2 also splits digits first.
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    weights = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    return HFLM(pretrained=weights, tokenizer=tokenizer, batch_size=8, add_bos_token=False)


def main():
    path, data, output, *names = sys.argv[1:]
    path, data, output = Path(path), Path(data), Path(output)
    harness = model(path)
    for name in names:
        ours = lines(output / f"{name}.jsonl")[: int(os.environ.get("LIMIT", "100"))]
        group = "abstract_algebra" if name == "mmlu" else None
        task = definition(name, data, group)
        task.build_all_requests(limit=len(ours), rank=0, world_size=1)
        requests = [request for request in task.instances]
        for request, found in zip(requests, harness.loglikelihood(requests)):
            request.resps.append(found)
        documents = {}
        for request in requests:
            documents.setdefault(request.doc_id, []).append(request)
        largest, decisions, prompts = 0.0, 0, 0
        for line, (number, asked) in zip(ours, sorted(documents.items())):
            asked.sort(key=lambda request: request.idx)
            contexts = [request.args[0] for request in asked]
            distinct = [c for i, c in enumerate(contexts) if i == 0 or c != contexts[i - 1]]
            text = "".join(distinct).encode()
            prompts += hashlib.sha256(text).hexdigest() == line["prompt_sha256"]
            theirs = [request.resps[0][0] for request in asked]
            scored = [choice["logprob"] for choice in line["choices"]]
            assert len(theirs) == len(scored), (name, number)
            largest = max([largest, *(abs(a - b) for a, b in zip(theirs, scored))])
            verdict = task.process_results(asked[0].doc, [r.resps[0] for r in asked])
            decisions += agrees(name, line, verdict)
        count = sum(len(line["choices"]) for line in ours)
        print(
            f"{name}: {len(ours)} items, {count} choices, largest difference {largest:.2e}, "
            f"{decisions} equal decisions, {prompts} equal prompts",
            flush=True,
        )


def agrees(name, line, verdict):
    """Whether the harness's verdict on an item equals that of the line."""
    if name == "truthfulqa_mc2":
        import numpy

        p = numpy.exp([choice["logprob"] for choice in line["choices"]])
        right = numpy.array(line["gold"]) == 1
        return abs(p[right].sum() / p.sum() - float(verdict["acc"])) < 1e-4
    norm = float(verdict.get("acc_norm", line["correct_norm"]))
    return float(verdict["acc"]) == line["correct"] and norm == line["correct_norm"]


main()
