"""Compares items that `trilobite eval` scored with lm-evaluation-harness on the same weights.

    trilobite eval model.gguf --tasks arc_easy,piqa --data DIR --limit 100 -o OUT
    python lm_eval_check.py model.gguf DIR OUT arc_easy piqa

The harness's own task definitions make the prompts, of the records in DIR; its own code encodes,
scores and decides, in f32 on transformers, which dequantises the GGUF file. No network is used.
Needs lm-eval, torch, transformers and gguf.
"""

import bz2
import csv
import hashlib
import json
import os
import re
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

import datasets
import lm_eval
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

DEFINITIONS = Path(lm_eval.__file__).parent / "tasks"
FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "mmlu": "mmlu/default/mmlu_abstract_algebra.yaml",
}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def columns(choices):
    return {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}


def records(task, data):
    """The records of a task in the shape of the data sets that the harness loads."""
    if task.startswith("arc"):
        file = "ARC-Easy-Test.jsonl" if task == "arc_easy" else "ARC-Challenge-Test.jsonl"
        for row in lines(data / "arc" / file):
            question = row["question"]
            choices = columns(question["choices"])
            yield {"question": question["stem"], "choices": choices, "answerKey": row["answerKey"]}
    elif task == "openbookqa":
        for row in (data / "openbookqa/test.tsv").read_text().splitlines()[1:]:
            _, stem, choices, _, key = row.split("\t")
            texts = re.split(r" ?\([A-D]\) ", choices)[1:]
            choices = {"text": texts, "label": list("ABCD")}
            yield {"question_stem": stem, "choices": choices, "answerKey": key}
    elif task == "boolq":
        for row in lines(data / "boolq/superglue_boolq_val.jsonl"):
            yield row | {"label": int(str(row["label"]).lower() == "true")}
    elif task == "hellaswag":
        text = bz2.open(data / "hellaswag/hellaswag_val_full.txt.bz2", "rt").read().split("\n")
        for first in range(0, len(text) - 5, 6):
            context, label, *endings = text[first : first + 6]
            # What the harness capitalises begins after the last end of a sentence.
            label_end = context.index(": ") + 2
            ends = [m.end() for m in re.finditer(r"[.!?][\"')]*\s+", context)]
            how_to = context[label_end:].startswith("How to ")
            cut = len(context) if how_to else max([label_end, *ends])
            query = context[:cut] + context[cut:].capitalize()
            yield {"query": query, "choices": endings, "label": label}
    elif task == "piqa":
        labels = (data / "piqa/valid-labels.lst").read_text().split()
        for row, label in zip(lines(data / "piqa/valid.jsonl"), labels):
            yield row | {"label": int(label)}
    elif task == "winogrande":
        yield from lines(data / "winogrande/dev.reconstructed.jsonl")
    elif task == "commonsense_qa":
        for row in lines(data / "commonsenseqa/dev_rand_split.jsonl"):
            question = row["question"]
            choices = columns(question["choices"])
            yield {"question": question["stem"], "choices": choices, "answerKey": row["answerKey"]}
    elif task.startswith("truthfulqa"):
        for row in json.loads((data / "truthfulqa/v1_mc_task.json").read_text()):
            targets = {
                name: {"choices": list(row[name]), "labels": list(row[name].values())}
                for name in ("mc1_targets", "mc2_targets")
            }
            yield {"question": row["question"]} | targets
    elif task == "mmlu":
        file = data / "mmlu/test/abstract_algebra_test.csv"
        for row in csv.DictReader(file.open(newline="")):
            choices = [row[f"choice{i}"] for i in range(4)]
            yield {"question": row["question"], "choices": choices, "answer": int(row["answer"])}


def definition(task, data):
    config = load_yaml(DEFINITIONS / FILES[task], resolve_func=True, recursive=True)
    table = datasets.Dataset.from_list(list(records(task, data)))
    splits = {"test": table, "validation": table}
    for name in ("training_split", "fewshot_split", "fewshot_config", "tag", "task_alias"):
        config.pop(name, None)
    if task == "hellaswag":
        config.pop("process_docs")
    return ConfigurableTask(config=config | {"custom_dataset": lambda **_: splits})


def model(path):
    place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    # transformers takes every byte-level vocabulary for GPT-2's; SmolLM2 cuts digits apart first.
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
        task = definition(name, data)
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
    """Whether the harness's verdict on an item is that of the line."""
    if name == "truthfulqa_mc2":
        import numpy

        p = numpy.exp([choice["logprob"] for choice in line["choices"]])
        right = numpy.array(line["gold"]) == 1
        return abs(p[right].sum() / p.sum() - float(verdict["acc"])) < 1e-4
    norm = float(verdict.get("acc_norm", line["correct_norm"]))
    return float(verdict["acc"]) == line["correct"] and norm == line["correct_norm"]


main()
