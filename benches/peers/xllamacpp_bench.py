#!/usr/bin/env python3
"""llama-bench's measurement with the llama.cpp that xllamacpp (PyPI) carries, which is built for AVX2, FMA and F16C.

    xllamacpp_bench.py -m MODEL -p 512 -n 64 -t 2 -r 5

Takes llama-bench's arguments and prints its JSON. Speeds are those that the engine's server reports.
"""

import argparse
import json
import sys

import xllamacpp


def main():
    args = argparse.ArgumentParser()
    args.add_argument("-m", required=True)
    args.add_argument("-p", type=int, default=512)
    args.add_argument("-n", type=int, default=128)
    args.add_argument("-t", type=int, default=2)
    args.add_argument("-r", type=int, default=5)
    args.add_argument("-o", default="json")
    args = args.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = args.m
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.t
    params.n_ctx = args.p + args.n + 64
    params.n_batch = params.n_ubatch = 512
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cache_ram_mib = 0
    params.fit_params = False
    server = xllamacpp.Server(params)

    def speed(prompt, count, key):
        request = {"prompt": [1000 + i % 1000 for i in range(prompt)], "n_predict": count, "cache_prompt": False,
                   "ignore_eos": True, "temperature": 0, "samplers": ["top_k"], "top_k": 1}
        answer = server.handle_completions(request)
        timings = answer["timings"]
        assert (timings["prompt_n"], timings["predicted_n"]) == (prompt, count), timings
        return timings[key]

    results = []
    for prompt, generated, run in [(args.p, 0, (args.p, 1, "prompt_per_second")), (0, args.n, (1, args.n, "predicted_per_second"))]:
        if prompt + generated:
            speed(*run)
            samples = [speed(*run) for _ in range(args.r)]
            results.append({"model_filename": args.m, "build_commit": xllamacpp.__version__, "n_threads": args.t,
                            "n_prompt": prompt, "n_gen": generated, "avg_ts": sum(samples) / len(samples),
                            "samples_ts": samples})
    print(json.dumps(results))


if __name__ == "__main__":
    main()
