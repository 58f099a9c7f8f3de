#!/usr/bin/env python3
"""Plot the losses of training logs as an SVG.

    python plot.py curve.svg training/ternary.txt training/dense.txt [...]

A line is the moving average of the training loss, its dots are held-out losses of exported checkpoints.
A run that was stopped repeats the steps since its last state; the last record of a step counts.
"""

import argparse
import os
import re

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402

TRAINING = re.compile(r"step (\d+) .*tokens ([\d.]+)M .*average ([\d.]+)")
HELD_OUT = re.compile(r"held-out step (\d+) tokens ([\d.]+)M loss ([\d.]+)")


def points(path, pattern):
    """Millions of tokens and losses, by step."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            if match := pattern.match(line):
                found[int(match[1])] = float(match[2]), float(match[3])
    return [found[step] for step in sorted(found)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("svg")
    parser.add_argument("log", nargs="+")
    args = parser.parse_args()

    # Without a date and with a fixed salt the same logs give the same file.
    plt.rcParams.update({"svg.hashsalt": "tinystories", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    # Blue and vermilion of Okabe and Ito: told apart by colour-blind readers.
    for path, colour in zip(args.log, ("#0072b2", "#d55e00", "#009e73", "#cc79a7")):
        folder, file = os.path.split(os.path.abspath(path))
        name = os.path.basename(folder) if file == "log.txt" else os.path.splitext(file)[0]
        if training := points(path, TRAINING):
            axes.plot(*zip(*training), color=colour, linewidth=1, label=f"{name}, training")
        if held_out := points(path, HELD_OUT):
            axes.plot(*zip(*held_out), "o", color=colour, markersize=4, label=f"{name}, held out")
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss per token")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.1f"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%.1f"))
    axes.grid(True, which="both", color="#dddddd", linewidth=0.5)
    axes.legend(frameon=False)
    figure.savefig(args.svg, metadata={"Date": None})


if __name__ == "__main__":
    main()
