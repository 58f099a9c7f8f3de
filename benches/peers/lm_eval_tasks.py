"""lm-evaluation-harness's own task definitions over the records in a folder of data sets.

Needs neither a network nor PyTorch.
"""

import bz2
import csv
import gzip
import json
import os
import re
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

import datasets
import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

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
    "mmlu": "mmlu/default/mmlu_{group}.yaml",
    "mmlu_5shot": "mmlu/default/mmlu_{group}.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "triviaqa": "triviaqa/default.yaml",
    "ifeval": "ifeval/ifeval.yaml",
    "wikitext": "wikitext/wikitext.yaml",
}
# Number of ActivityNet items, which come first in HellaSwag's validation split; the others are WikiHow items.
ACTIVITY_NET = 3243


def groups(task, data):
    """The parts of a task that have definitions of their own."""
    if not task.startswith("mmlu"):
        return [None]
    return sorted(path.name.removesuffix("_test.csv") for path in (data / "mmlu/test").glob("*.csv"))


def lines(path):
    text = gzip.open(path, "rt").read() if path.suffix == ".gz" else path.read_text()
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def columns(choices):
    return {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}


def unquoted(text):
    """A text without the CSV quotes that remain around it."""
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and '""' in text[1:-1]
    return text[1:-1].replace('""', '"') if quoted else text


def pages(text):
    """The pages of WikiText, as the data set `EleutherAI/wikitext_document_level` divides them."""
    found, page = [], []
    for line in text.split("\n"):
        title = line.replace("= = =", "===").replace("= =", "==").strip()
        if title.startswith("= ") and title.endswith(" ="):
            found.append("\n".join(page))
            page = []
        page.append(line)
    return [page for page in [*found, "\n".join(page)] if page.strip()]


def records(task, data, group=None, split="test"):
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
            cut = len(context)
            if first // 6 < ACTIVITY_NET:
                # The harness capitalises the text after the last end of a sentence.
                ends = [m.end() for m in re.finditer(r"[.!?][\"')]*\s+", context)]
                cut = max([context.index(": ") + 2, *ends])
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
    elif task.startswith("mmlu"):
        file = data / "mmlu" / split / f"{group}_{split}.csv"
        for row in csv.DictReader(file.open(newline="")):
            choices = [row[f"choice{i}"] for i in range(4)]
            yield {"question": row["question"], "choices": choices, "answer": int(row["answer"])}
    elif task == "gsm8k":
        yield from lines(data / ("gsm8k/test.jsonl" if split == "test" else "gsm8k/train.jsonl.gz"))
    elif task == "triviaqa":
        for row in lines(data / "triviaqa/triviaqa_sm_sub.llmfoundry.jsonl"):
            question = row["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
            aliases = [unquoted(alias) for alias in row["aliases"]]
            yield {"question": unquoted(question), "answer": {"aliases": aliases}}
    elif task == "ifeval":
        for row in lines(data / "ifeval/input_data.jsonl"):
            # All rows of a data set have all columns; the harness drops empty ones.
            yield row | {"kwargs": json.dumps(row["kwargs"])}
    elif task == "wikitext":
        for page in pages((data / "wikitext2/wiki.test.raw").read_text()):
            yield {"page": page}


def definition(task, data, group=None):
    """The harness's definition of a task, or of a part of it, over the records in a folder."""
    file = DEFINITIONS / FILES[task].format(group=group)
    config = load_yaml(file, resolve_func=True, recursive=True)
    table = datasets.Dataset.from_list(list(records(task, data, group)))
    splits = {"test": table, "validation": table, "train": table}
    for name in ("training_split", "tag", "task_alias"):
        config.pop(name, None)
    if task in ("mmlu_5shot", "gsm8k"):
        config["num_fewshot"] = 5
        split = config["fewshot_split"]
        splits[split] = datasets.Dataset.from_list(list(records(task, data, group, split)))
    else:
        config.pop("fewshot_split", None)
        config.pop("fewshot_config", None)
    if task == "hellaswag":
        config.pop("process_docs")
    made = ConfigurableTask(config=config | {"custom_dataset": lambda **_: splits})
    # `lm_eval run` does this too.
    made.set_fewshot_seed(seed=1234)
    return made
