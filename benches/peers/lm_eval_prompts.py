"""Records the expected values of `trilobite-eval`'s tests from lm-evaluation-harness: hashes of every
prompt that it builds for a folder of data sets, its verdicts on made-up scores, and its windows of
long texts.

    python lm_eval_prompts.py DIR > ../../crates/trilobite-eval/tests/data/harness.json

Needs lm-eval, no network.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lm_eval_tasks import FILES, definition, groups

# Maximum number of tokens of a text, and of a window.
MAX_TOKENS = 80
MAX_WINDOW = 20


def score(task, item, choice):
    """A made-up log-likelihood. There are only eight values, so that some scores are equal."""
    return -1.0 - hashlib.sha256(f"{task}/{item}/{choice}".encode()).digest()[0] % 8


def windows():
    """The hash of the contexts and continuations of many texts; token 0 is the prefix."""
    digest = hashlib.sha256()
    for count in range(MAX_TOKENS + 1):
        for span in range(1, MAX_WINDOW + 1):
            tokens = list(range(1, count + 1))
            for pair in get_rolling_token_windows(tokens, 0, span, 1):
                context, continuation = make_disjoint_window(pair)
                digest.update(f"{count} {span} {context} {continuation}\n".encode())
    return digest.hexdigest()


def main():
    data, tasks = Path(sys.argv[1]), {}
    for name in FILES:
        digest, items, sums = hashlib.sha256(), 0, {}
        for group in groups(name, data):
            task = definition(name, data, group)
            task.build_all_requests(rank=0, world_size=1)
            documents = {}
            for request in task.instances:
                documents.setdefault(request.doc_id, []).append(request)
            for _, asked in sorted(documents.items()):
                asked.sort(key=lambda request: request.idx)
                for request in asked:
                    texts = [text for text in request.args if isinstance(text, str)]
                    digest.update("".join(f"{text}\0" for text in texts).encode())
                if task.OUTPUT_TYPE == "multiple_choice":
                    scores = [(score(name, items, choice), False) for choice in range(len(asked))]
                    for metric, value in task.process_results(asked[0].doc, scores).items():
                        if metric in ("acc", "acc_norm"):
                            sums[metric] = sums.get(metric, 0.0) + float(numpy.mean(value))
                items += 1
        tasks[name] = {"items": items, "sha256": digest.hexdigest(), "sums": sums}
        print(name, tasks[name], file=sys.stderr, flush=True)
    print(json.dumps({"windows": windows(), "tasks": tasks}, indent=1))


main()
