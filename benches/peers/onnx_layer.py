#!/usr/bin/env python3
"""The products of a decoder layer of Bonsai 1.7B in onnxruntime (MatMulNBits, 2 bits, blocks of 128), for one token.

    onnx_layer.py [THREADS] [LAYERS] [RUNS]

Prints the milliseconds of LAYERS layers with random weights of their own, the median, minimum and maximum of RUNS, for f32
activations and for int8 ones (accuracy level 4). Needs onnx and onnxruntime.
"""

import statistics
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

BLOCK = 128
SHAPES = {"q": (2048, 2048), "k": (1024, 2048), "v": (1024, 2048), "o": (2048, 2048),
          "gate": (6144, 2048), "up": (6144, 2048), "down": (2048, 6144)}


def model(layers, level):
    rng = np.random.default_rng(1)
    nodes, weights = [], []

    def product(layer, name, source, target):
        n, k = SHAPES[name]
        codes = rng.integers(1, 4, (n, k // BLOCK, BLOCK), dtype=np.uint8).reshape(n, k // BLOCK, -1, 4)
        packed = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
        scales = np.full(n * k // BLOCK, 1.3 / k**0.5, np.float32)
        weights.extend([numpy_helper.from_array(packed, f"{layer}.{name}.b"),
                        numpy_helper.from_array(scales, f"{layer}.{name}.s")])
        nodes.append(helper.make_node(
            "MatMulNBits", [source, f"{layer}.{name}.b", f"{layer}.{name}.s"], [target], domain="com.microsoft",
            K=k, N=n, bits=2, block_size=BLOCK, accuracy_level=level))

    x = "x0"
    for layer in range(layers):
        names = {name: f"{layer}.{name}.y" for name in SHAPES}
        for name in ("q", "k", "v"):
            product(layer, name, x, names[name])
        product(layer, "o", names["q"], names["o"])
        product(layer, "gate", names["o"], names["gate"])
        product(layer, "up", names["o"], names["up"])
        nodes.append(helper.make_node("Mul", [names["gate"], names["up"]], [f"{layer}.gated"]))
        product(layer, "down", f"{layer}.gated", names["down"])
        # Keeps k and v in the graph, and the values in range.
        nodes.append(helper.make_node("Concat", [names["k"], names["v"]], [f"{layer}.kv"], axis=1))
        nodes.append(helper.make_node("Add", [names["down"], f"{layer}.kv"], [f"{layer}.sum"]))
        nodes.append(helper.make_node("Softsign", [f"{layer}.sum"], [f"x{layer + 1}"]))
        x = f"x{layer + 1}"
    graph = helper.make_graph(
        nodes, "layers", [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 2048])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 2048])], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def main():
    threads, layers, runs = (int(value) for value in (sys.argv[1:] + ["2", "4", "31"][len(sys.argv) - 1:]))
    for level, name in ((4, "int8"), (0, "f32")):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model(layers, level), options, providers=["CPUExecutionProvider"])
        x = np.random.default_rng(2).standard_normal((1, 2048), np.float32)
        times = []
        for run in range(runs + 3):
            start = time.perf_counter()
            session.run(None, {"x0": x})
            times.append(1e3 * (time.perf_counter() - start))
        times = times[3:]
        print(f"onnxruntime {onnxruntime.__version__}, {name} activations, {threads} threads: {layers} layers in "
              f"{statistics.median(times):.3f} ms ({min(times):.3f} to {max(times):.3f})")


if __name__ == "__main__":
    main()
