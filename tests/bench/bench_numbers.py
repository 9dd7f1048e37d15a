"""What the choice of numbers is worth: algorithms, bias correction and calibration samples, without training.

Takes FOLDERs with calib.npz, eval.npz (x, and labels y) and model_float.tflite. One line for each treatment:
accuracy on the evaluation data, the 95% half-width of its difference from minMax (samples on which both
differ), and mean squared error of the outputs against the float model's.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from paretune_compress.chain import Chain
from paretune_compress.data import PreparedSplit
from paretune_compress.intake.stage import intake_stage
from paretune_compress.quality.model import EvaluatedModel
from paretune_compress.train.from_file import FileTrainer
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.settings import Settings
from paretune_contract.stages import IntakeRequest
from paretune_contract.training import Training
from paretune_store.steps import StepCache

BASES = {
    "int8/tensor": {"scheme": "int8", "granularity": "tensor"},
    "int8": {"scheme": "int8"},
    "dynamic": {"scheme": "dynamic", "granularity": "tensor"},
    "int4": {"scheme": "int4"},
    "int4/tensor": {"scheme": "int4", "granularity": "tensor"},
}


def treatments(bases: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and settings of quantization."""
    for base in bases:
        for algorithm in ("minMax", "octav", "mse", "gptq"):
            for corrected in (False, True):
                name = f"{base} {algorithm}{' corrected' if corrected else ''}"
                yield name, {**BASES[base], "algorithm": algorithm, "biasCorrection": corrected}
        if BASES[base]["scheme"] != "dynamic":
            for samples in (16, 50, 200):
                yield f"{base} minMax {samples} samples", {**BASES[base], "calibrationSamples": samples}


def measure(folder: Path, work: Path, samples: int, bases: list[str]) -> None:
    data = {
        split: DataRequest(uri=str(folder / file))
        for split, file in ((Split.CALIBRATION, "calib.npz"), (Split.EVALUATION, "eval.npz"))
    }
    request = IntakeRequest(
        model_uri=str(folder / "model_float.tflite"), dataset=data, scaling=Scaling(), training=Training(),
        metrics=("accuracy",), cache=str(work / "cache"),
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        intake = intake_stage(request)
    assert intake.model is not None
    info = intake.data[Split.EVALUATION]
    chosen = np.unique(np.linspace(0, info.samples - 1, min(samples, info.samples)).astype(np.int64))
    (batch,) = PreparedSplit(info, Scaling()).batches(len(chosen), indices=chosen)
    assert batch.labels is not None

    def outputs(path: Path) -> Any:
        (found,) = EvaluatedModel(path, 1)(batch.inputs).values()
        return found

    reference = outputs(Path(intake.model.path))
    print(f"{folder.name}: {len(chosen)} samples, {intake.data[Split.CALIBRATION].samples} for calibration")
    print(f"{'float':<32} {np.mean(reference.argmax(1) == batch.labels):.4f}")
    plain = np.zeros(0)
    for name, quantization in treatments(bases):
        settings = Settings.model_validate({"quantization": quantization})
        chain = Chain(
            cache=StepCache(work / "cache"), model=intake.model, data=intake.data, scaling=Scaling(),
            training=None, trainer=FileTrainer(), threads=1, seed=0,
        )  # fmt: skip
        made = outputs(chain.run(settings, chain.plans(settings)).path)
        right = (made.argmax(1) == batch.labels).astype(float)
        if "minMax" in name and name.endswith("minMax"):
            plain = right
        half = 1.96 * float(np.std(right - plain)) / len(right) ** 0.5
        error = float(np.mean((made - reference) ** 2))
        seconds = sum(s.seconds for s in chain.steps if s.name in ("round", "correct-biases"))
        print(f"{name:<32} {right.mean():.4f} ±{half:.4f} {error:.3e} {seconds:5.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--samples", type=int, default=1000, help="of the evaluation data")
    parser.add_argument("--bases", nargs="+", choices=BASES, default=["int8/tensor", "int4"])
    arguments = parser.parse_args()
    for folder in arguments.folders:
        with tempfile.TemporaryDirectory() as work:
            measure(folder, Path(work), arguments.samples, arguments.bases)


if __name__ == "__main__":
    main()
