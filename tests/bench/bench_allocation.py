"""What an allocation by sensitivity is worth: accuracy beside a uniform one at as many zeros, bits or bytes.

Trains the digits example (or takes a FOLDER with train.npz, calibration.npz, evaluation.npz and a model), and
makes each file twice, with the same total. Without fine-tuning (`post`) both are made from the float weights;
with it (`tuned`) both are trained alike. There is no uniform mix of 4 and 8 bits, so each mix is beside the
mean of others with as many bits, drawn by chance. `KL` is the divergence of the outputs' probabilities from
the float model's; `=bytes` the accuracy of the uniform files at the coded bytes of the allocated one, on
straight lines between them.
"""

import argparse
import contextlib
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paretune_compress.compress import compress
from paretune_compress.data import PreparedSplit
from paretune_compress.intake.stage import intake_stage
from paretune_compress.quality.model import EvaluatedModel, Floats
from paretune_compress.sensitivity.distance import distance
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.settings import Settings
from paretune_contract.stages import CompressRequest, IntakeRequest, IntakeResult
from paretune_contract.training import Training

DEMO = Path(__file__).parents[2] / "docs" / "examples" / "digits" / "train.py"
POST_LEVELS, TUNED_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6), (0.5, 0.7, 0.8, 0.9)
CLUSTERS, MIXES = (32, 16, 8, 6), (7.0, 6.0, 5.0, 4.5)
DRAWN = 8
"""Other mixes that one is compared with."""


@dataclass(frozen=True)
class Made:
    """What came of a file: share of right answers, divergence in nats, coded bytes."""

    accuracy: float
    divergence: float
    coded: float


@dataclass
class Bench:
    """A model with its data, and what was made of it so far."""

    folder: Path
    intake: IntakeResult
    scaling: Scaling
    threads: int
    _inputs: Floats = field(default_factory=dict)
    _reference: Floats = field(default_factory=dict)

    def __post_init__(self) -> None:
        info = self.intake.data[Split.EVALUATION]
        (batch,) = PreparedSplit(info, self.scaling).batches(info.samples)
        self._inputs = batch.inputs
        self._reference = self._outputs(Path(self.model.path))

    @property
    def model(self) -> Any:
        assert self.intake.model is not None
        return self.intake.model

    def make(self, settings: dict[str, Any], *, tuned: bool = False) -> Made:
        request = CompressRequest(
            settings=Settings.model_validate(settings),
            model=self.model,
            data=self.intake.data,
            scaling=self.scaling,
            training=self.intake.training if tuned else None,
            metrics=("accuracy",),
            cache=str(self.folder / "cache"),
            candidates=str(self.folder / "candidates"),
            threads=self.threads,
            evaluation_seconds=3600.0,
        )
        with contextlib.redirect_stdout(sys.stderr):  # what training says of its epochs
            result = compress(request)
        assert result.artifact is not None
        outputs = self._outputs(Path(result.artifact.path))
        probe = next((s.note for s in result.steps if s.name == "probe" and not s.cached), "")
        if probe:
            print(f"probe: {probe}, {result.steps[0].seconds:.1f} s", flush=True)
        return Made(
            result.metrics["accuracy"].value,
            distance(self._reference, outputs),
            result.metrics["downloadSize"].value,
        )

    def _outputs(self, path: Path) -> Floats:
        model = EvaluatedModel(path, self.threads)
        model.use_batches(self._inputs)
        return model(self._inputs)


def pairs(bench: Bench, what: str, rows: Sequence[tuple[str, dict[str, Any]]], *, tuned: bool) -> None:
    """One line for each treatment, uniform and by sensitivity; then the accuracies at equal bytes."""
    found: list[tuple[str, Made, Made]] = []
    for name, settings in rows:
        uniform = bench.make(settings, tuned=tuned)
        divided = bench.make({**settings, "allocation": "sensitivity"}, tuned=tuned)
        found.append((name, uniform, divided))
        print(f"{what:<12} {name:<11} {_cells(uniform)}   {_cells(divided)}", flush=True)
    known = sorted((uniform.coded, uniform.accuracy) for _, uniform, _ in found)
    at, right = [coded for coded, _ in known], [accuracy for _, accuracy in known]
    for name, _, divided in found:
        if at[0] <= divided.coded <= at[-1]:
            there = float(np.interp(divided.coded, at, right))
            print(f"{what:<12} {name:<11} {there:>8.4f}  =bytes            {divided.accuracy:>10.4f}")


def mixes(bench: Bench) -> None:
    """One line for each mean of bits: other mixes with about as many, and the one by sensitivity."""
    layers = [x for x in bench.model.layers if x.int4 and x.prunable]
    total = sum(x.weights for x in layers)
    chance = random.Random(0)
    for bits in MIXES:
        others: dict[frozenset[str], Made] = {}
        for _ in range(400):
            four = frozenset(x.name for x in layers if chance.random() < (8 - bits) / 4)
            mean = 8 - 4 * sum(x.weights for x in layers if x.name in four) / total
            if len(others) < DRAWN and four not in others and bits - 0.5 <= mean <= bits:
                # Names may be longer than an expression may be; their beginnings tell them apart.
                eight = [x.name.split(";")[0] for x in layers if x.name not in four]
                kept = [{"match": f"^{re.escape(n)}(;|$)", "quantization": {"scheme": "int8"}} for n in eight]
                others[four] = bench.make({"quantization": {"scheme": "int4"}, "layers": kept})
        divided = bench.make({"quantization": {"scheme": "int4", "bits": bits}, "allocation": "sensitivity"})
        found = list(others.values())
        if not found:
            print(
                f"{'post':<12} {f'{bits:g} bits':<11} {'(no other mix)':<27}   {_cells(divided)}", flush=True
            )
            continue
        mean_of = Made(
            accuracy=float(np.mean([m.accuracy for m in found])),
            divergence=float(np.mean([m.divergence for m in found])),
            coded=float(np.mean([m.coded for m in found])),
        )
        best = max(m.accuracy for m in found)
        print(
            f"{'post':<12} {f'{bits:g} bits':<11} {_cells(mean_of)}   {_cells(divided)}"
            f"   best of {len(found)}: {best:.4f}",
            flush=True,
        )


def _cells(made: Made) -> str:
    return f"{made.accuracy:>8.4f} {made.divergence:>8.4f} {made.coded:>9,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="train.npz, calibration.npz and evaluation.npz")
    parser.add_argument("--model", help="file in the folder, such as model.h5; default: model.keras")
    parser.add_argument("--scale", type=float, default=1 / 16, help="model input = x * scale; default: 1/16")
    parser.add_argument("--epochs", type=int, default=12, help="of fine-tuning; 0: none is done")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paretune-bench-") as scratch:
        work = Path(scratch)
        folder = args.folder or work
        if args.folder is None:
            subprocess.run([sys.executable, str(DEMO), str(folder)], check=True)
        scaling = Scaling(scale=args.scale)
        request = IntakeRequest(
            model_uri=str(folder / (args.model or "model.keras")),
            dataset={
                split: DataRequest(uri=str(folder / f"{split.value}.npz"))
                for split in (Split.TRAIN, Split.CALIBRATION, Split.EVALUATION)
            },
            scaling=scaling,
            training=Training(epochs=args.epochs or 1),
            metrics=("accuracy",),
            cache=str(work / "cache"),
        )
        bench = Bench(work, intake_stage(request), scaling, args.threads)
        whole = bench.make({})
        print(f"float: accuracy {whole.accuracy:.4f}, {whole.coded:,.0f} coded bytes")
        head = f"{'accuracy':>8} {'KL':>8} {'bytes':>9}"
        print(f"{'':<24} {'uniform':^27}   {'by sensitivity':^27}\n{'':<24} {head}   {head}")
        int8 = {"quantization": {"scheme": "int8", "granularity": "tensor"}}

        def sparse(levels: Sequence[float]) -> list[tuple[str, dict[str, Any]]]:
            return [
                (f"{level:.0%} zeros", {**int8, "sparsity": {"pattern": "unstructured", "level": level}})
                for level in levels
            ]

        clustered = [
            (f"{k} clusters", {**int8, "clustering": {"stage": "int8", "clusters": k}}) for k in CLUSTERS
        ]
        pairs(bench, "post", sparse(POST_LEVELS), tuned=False)
        pairs(bench, "post", clustered, tuned=False)
        mixes(bench)
        if args.epochs:
            pairs(bench, f"{args.epochs} epochs", sparse(TUNED_LEVELS), tuned=True)


if __name__ == "__main__":
    main()
