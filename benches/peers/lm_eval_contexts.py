"""Records the expected values of `trilobite-eval`'s tests of examples, system messages and chat
templates: every context and continuation that lm-evaluation-harness builds for the small tasks in a
folder.

    python lm_eval_contexts.py ../../crates/trilobite-eval/tests/data/own > .../own/harness.json

Needs lm-eval, no network. A chat template here writes the messages as JSON.
"""

import csv
import itertools
import json
import sys
from pathlib import Path

from lm_eval_tasks import lines

import datasets
from lm_eval.api.task import ConfigurableTask

SYSTEMS = [None, "Be brief.", "Be brief.\n"]
CHATS = [None, "single", "turns"]
SHOTS = [0, 1, 3]


def tasks(folder):
    """Name, definition, items and examples of each task."""
    capitals = lines(folder / "capitals.jsonl")
    shots = list(csv.DictReader((folder / "capitals_examples.csv").open(newline="")))
    shots = [row | {"choices": row["choices"].split(";"), "answer": int(row["answer"])} for row in shots]
    definition = {
        "output_type": "multiple_choice",
        "description": "The following are questions about {{subject}}.",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
    }
    yield "capitals", definition, capitals, shots

    def texts(doc):
        return [doc["sentence"].split("_")[0] + doc[option] for option in ("option1", "option2")]

    definition = {
        "output_type": "multiple_choice",
        "doc_to_text": lambda doc: int(doc["answer"]) - 1,
        "doc_to_choice": texts,
        "doc_to_target": lambda doc: doc["sentence"].split("_")[1].strip(),
    }
    yield "blanks", definition, lines(folder / "blanks.jsonl"), None

    rows = (folder / "sums.tsv").read_text().splitlines()[1:]
    sums = [dict(zip("ab", row.split("\t"))) for row in rows]
    shots = json.loads((folder / "sums_examples.json").read_text())
    shots = [{name: str(value) for name, value in row.items()} for row in shots]
    definition = {
        "output_type": "generate_until",
        "doc_to_text": "{{a}} plus {{b}} is",
        "doc_to_target": "{{a | int + b | int}}",
        "fewshot_config": {"sampler": "first_n"},
    }
    yield "sums", definition, sums, shots


def made(name, definition, items, examples, shots):
    splits = {"test": datasets.Dataset.from_list(items)}
    if examples:
        splits["train"] = datasets.Dataset.from_list(examples)
    config = definition | {
        "task": name,
        "test_split": "test",
        "fewshot_split": "train" if examples else "test",
        "num_fewshot": shots,
        "custom_dataset": lambda **_: splits,
    }
    task = ConfigurableTask(config=config)
    # `lm_eval run` does this too.
    task.set_fewshot_seed(seed=1234)
    return task


def main():
    folder, cases = Path(sys.argv[1]), []
    for name, definition, items, examples in tasks(folder):
        for shots, system, chat in itertools.product(SHOTS, SYSTEMS, CHATS):
            task = made(name, definition, items, examples, shots)
            task.build_all_requests(
                system_instruction=system,
                apply_chat_template=chat is not None,
                fewshot_as_multiturn=chat == "turns",
                chat_template=lambda messages, **_: json.dumps(messages),
            )
            requests = [[] for _ in items]
            for request in sorted(task.instances, key=lambda request: request.idx):
                context, *rest = request.args
                context = json.loads(context) if chat else context
                requests[request.doc_id].append([context, rest[0] if isinstance(rest[0], str) else ""])
            cases.append({"task": name, "shots": shots, "system": system, "chat": chat, "requests": requests})
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


main()
