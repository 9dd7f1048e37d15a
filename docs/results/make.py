"""Make the coded models of docs/results again: run the studies, choose by evaluation, read test once.

    uv run python docs/results/make.py DATA [--only NAME] [--out FOLDER]

DATA has the folders of `SOURCES`, each with a float .tflite, train.npz, calib.npz and eval.npz (x, y). The
evaluation data are divided within each class by position: the even ones are `evaluation`, which the search
sees, the odd ones `test`. Of each study's trials one file is taken by a rule (`Rule`), on evaluation data
alone; what test says is reported for that file. A study that was interrupted goes on.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from paretune_codec import pack, unpack
from paretune_contract.measurement import wilson

HERE = Path(__file__).parent
NORMAL = 1.959964
LEAST = 1 / 512
"""Probabilities of int8 outputs are multiples of 1/256: nothing less than half of one is believed."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What a file makes of labelled samples.

    right: whether each label comes out on top.
    loss: mean cross-entropy.
    """

    right: Bools
    loss: float


@dataclass(frozen=True)
class Rule:
    """Which file to take, by the evaluation half.

    at_least: accuracy that is asked, where a loss against the float model is allowed. One standard error more
        must be there; what counts is not a file's own accuracy, since the luckiest of several is biased, but
        the best fit to all trials that falls with the size (`isotonic`). Of the files that have it the one
        with the least cross-entropy is taken, which the same samples tell more surely than accuracy.
    drop: largest upper end of the 95% interval of the paired drop against the float model; the smallest file
        is taken.
    """

    at_least: float | None = None
    drop: float | None = None

    def choose(self, answers: Sequence[Answers], untouched: Answers) -> int:
        """Place of the file that is taken.

        Args:
            answers: of each file, in the order of size.
            untouched: of the float model.
        """
        if self.at_least is not None:
            fitted = isotonic([float(a.right.mean()) for a in answers])
            n = len(untouched.right)
            errors = [math.sqrt(p * (1 - p) / n) for p in fitted]
            enough = [k for k, p in enumerate(fitted) if p - errors[k] >= self.at_least]
            if enough:
                return min(enough, key=lambda k: answers[k].loss)
        elif self.drop is not None:
            for n, own in enumerate(answers):
                if paired_drop(untouched.right, own.right)[2] <= self.drop:
                    return n
        raise SystemExit("no file of the study is good enough")


@dataclass(frozen=True)
class Source:
    """A model and its data."""

    folder: str
    model: str
    rule: Rule


SOURCES = {
    "lenet300-100": Source("mnist_lenet", "lenet300_100_float.tflite", Rule(drop=0.005)),
    "lenet5": Source("mnist_lenet", "lenet5_float.tflite", Rule(drop=0.005)),
    "dscnn": Source("kws_dscnn_speechcommands", "model_float.tflite", Rule(at_least=0.90)),
    "resnet8": Source("ic_resnet8_cifar10", "model_float.tflite", Rule(at_least=0.85)),
}


def main() -> int:
    """Make what is asked for; tells what came out as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the models and their data")
    parser.add_argument("--only", choices=sorted(SOURCES), action="append", help="these alone")
    parser.add_argument("--out", type=Path, default=Path("build/results"), help="where the studies run")
    given = parser.parse_args()
    rows = []
    for name in given.only or SOURCES:
        folder = given.out / name
        prepare(name, given.data, folder)
        command = ["paretune", "run", "study.yaml", "--workdir", "run"]
        subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], cwd=folder, check=True)
        rows.append(winner(name, folder))
        sys.stdout.write(json.dumps(rows[-1], indent=1) + "\n")
    (given.out / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def prepare(name: str, data: Path, folder: Path) -> None:
    """The study's folder: model, data in two halves, manifest."""
    source = SOURCES[name]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(data / source.folder / source.model, folder / "model.tflite")
    for part in ("train", "calib"):
        shutil.copy(data / source.folder / f"{part}.npz", folder / f"{part}.npz")
    shutil.copy(HERE / "studies" / f"{name}.yaml", folder / "study.yaml")
    with np.load(data / source.folder / "eval.npz") as file:
        x, y = file["x"], file["y"]
    position = np.empty(len(y), np.int64)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        position[members] = np.arange(len(members))
    for half, remainder in (("evaluation", 0), ("test", 1)):
        chosen = position % 2 == remainder
        np.savez(folder / f"{half}.npz", x=x[chosen], y=y[chosen])


def winner(name: str, folder: Path) -> dict[str, Any]:
    """Choose by evaluation, write the .ptz, measure on test."""
    rule, run = SOURCES[name].rule, folder / "run"
    scale = _scale(folder / "study.yaml")
    trials = [yaml.safe_load(path.read_text()) for path in sorted((run / "trials").glob("*.yaml"))]
    made = [t for t in trials[1:] if t["status"].get("artifact")]
    made.sort(key=lambda t: float(t["status"]["metrics"]["downloadSize"]["value"]))
    files = [run / t["status"]["artifact"]["uri"] for t in made]
    answers = [answered(file, folder / "evaluation.npz", scale) for file in files]
    place = rule.choose(answers, answered(folder / "model.tflite", folder / "evaluation.npz", scale))
    chosen = made[place]
    content = files[place].read_bytes()
    packed = pack(content)
    assert unpack(packed) == content
    (HERE / "models").mkdir(exist_ok=True)
    (HERE / "models" / f"{name.replace('-', '_')}.ptz").write_bytes(packed)
    test, float_test = (
        answered(p, folder / "test.npz", scale).right for p in (files[place], folder / "model.tflite")
    )
    interval = wilson(int(test.sum()), len(test))
    drop, low, high = paired_drop(float_test, test)
    return {
        "name": name,
        "trial": chosen["spec"]["number"],
        "settings": chosen["spec"]["settings"],
        "bytes": len(packed),
        "tflite": len(content),
        "evaluation": round(float(answers[place].right.mean()), 4),
        "test": round(float(test.mean()), 4),
        "testInterval": [round(interval.low, 4), round(interval.high, 4)],
        "floatTest": round(float(float_test.mean()), 4),
        "drop": [round(v, 4) for v in (drop, low, high)],
    }


def isotonic(values: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to the values (pool adjacent violators, Ayer et al. 1955)."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [_mean(pool) for pool in pools for _ in pool]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scale(study: Path) -> float:
    return float(yaml.safe_load(study.read_text())["spec"]["dataset"]["scale"])


def answered(model: Path, data: Path, scale: float) -> Answers:
    """Run the samples one by one in the file's own runtime."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    with np.load(data) as file:
        x, y = file["x"].astype(np.float32) * np.float32(scale), file["y"]
    probabilities = np.empty((len(y), end["shape"][-1]))
    for i, sample in enumerate(x):
        value = sample.reshape(entry["shape"])
        if entry["dtype"] != np.float32:
            step, zero = entry["quantization"]
            value = np.clip(np.rint(value / step) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(entry["index"], value)
        interpreter.invoke()
        probabilities[i] = interpreter.get_tensor(end["index"])[0]
    if end["dtype"] != np.float32:
        step, zero = end["quantization"]
        probabilities = (probabilities - zero) * step
    own = np.maximum(probabilities[np.arange(len(y)), y], LEAST)
    return Answers(probabilities.argmax(axis=1) == y, float(-np.log(own).mean()))


def paired_drop(before: Bools, after: Bools) -> tuple[float, float, float]:
    """Drop of accuracy on the same samples, and its 95% interval (Wald's for paired proportions)."""
    lost, won, n = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    drop = (lost - won) / n
    half = NORMAL * math.sqrt(max(lost + won - (lost - won) ** 2 / n, 0.0)) / n
    return drop, drop - half, drop + half


if __name__ == "__main__":
    sys.exit(main())
