"""`paretune init`: a commented study from the model's shapes."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from paretune_contract.dataset import DataInfo, DataRequest, Scaling, Split
from paretune_contract.stages import (
    EVALUATE,
    Artifact,
    EvaluateRequest,
    EvaluateResult,
    IntakeRequest,
    IntakeResult,
)
from paretune_store.files import atomic_write

from ..local.accept import IntakeFailed, absolute_uri, run_intake
from ..local.capacity import cores_here
from ..local.workdir import WorkDirectory
from ..local.workers import Call, run_alone
from .errors import BadInput

_SPLITS = {Split.TRAIN: "train", Split.CALIBRATION: "calib", Split.EVALUATION: "eval", Split.TEST: "test"}
_SCALINGS = {
    "x as it is": (1.0, 0.0),
    "x / 255": (1 / 255, 0.0),
    "x / 127.5 - 1": (1 / 127.5, -1.0),
}
TRIAL_SECONDS = 5.0


@dataclass(frozen=True)
class _Scale:
    scale: float
    offset: float
    why: str


@click.command()
@click.argument("model")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="A folder with train, calib*, eval* and test (.npz or folders), or the evaluation set itself.",
)
@click.option("--train", help="URI of the training set.")
@click.option("--calibration", help="URI of the calibration set.")
@click.option("--evaluation", help="URI of the evaluation set.")
@click.option("--test", help="URI of the test set, which the search never sees.")
@click.option("--name", help="Name of the study. Default: from the model's file name.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Default: standard output."
)
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def init(
    model: str, data: Path | None, train: str | None, calibration: str | None, evaluation: str | None,
    test: str | None, name: str | None, output: Path | None, force: bool,
) -> None:  # fmt: skip
    """Write a commented study for MODEL (.keras, .h5, SavedModel folder, float .tflite).

    Where there is labeled data, the scaling of the inputs is found by trying the usual ones.
    """
    if output and output.exists() and not force:
        raise BadInput(f"{output}: exists; --force overwrites it")
    given = {
        Split.TRAIN: train,
        Split.CALIBRATION: calibration,
        Split.EVALUATION: evaluation,
        Split.TEST: test,
    }
    sources = {**(_found(data) if data else {}), **{split: uri for split, uri in given.items() if uri}}
    with tempfile.TemporaryDirectory(prefix="paretune-init-") as scratch:
        work = WorkDirectory(Path(scratch))
        work.create()
        request = IntakeRequest(
            model_uri=absolute_uri(model, Path.cwd()),
            dataset={split: DataRequest(uri=absolute_uri(uri, Path.cwd())) for split, uri in sources.items()},
            cache=str(work.cache),
        )
        try:
            intake = run_intake(request, work)
        except IntakeFailed as error:
            raise BadInput(error.message) from error
        scale = _scaling(intake, work)
    base = output.parent if output else Path.cwd()
    text = _manifest(name or _study_name(model), _relative(model, base), intake, sources, scale, base)
    if output:
        atomic_write(output, text)
        click.echo(f"{output}: written. Next: paretune plan {output}", err=True)
    else:
        click.echo(text, nl=False)


def _found(data: Path) -> dict[Split, str]:
    """Splits in a folder, by the usual names; a file or any other folder is the evaluation set."""
    found: dict[Split, str] = {}
    if data.is_dir():
        for split, stem in _SPLITS.items():
            matches = sorted(
                p for p in data.iterdir() if p.name.startswith(stem) and (p.is_dir() or p.suffix == ".npz")
            )
            if matches:
                found[split] = str(matches[0])
    return found or {Split.EVALUATION: str(data)}


def _scaling(intake: IntakeResult, work: WorkDirectory) -> _Scale:
    """Try the usual scalings of byte images on labeled data and keep the most accurate."""
    info = intake.data.get(Split.EVALUATION)
    if info is None or info.labels is None or any(a.dtype != "uint8" for a in info.inputs.values()):
        return _Scale(1.0, 0.0, "a number, or one per channel")
    accuracies = {
        name: _accuracy(intake, info, Scaling(scale=s, offset=o), work) for name, (s, o) in _SCALINGS.items()
    }
    known = {name: value for name, value in accuracies.items() if value is not None}
    if not known:
        return _Scale(1.0, 0.0, "a number, or one per channel")
    best = max(known, key=lambda name: known[name])
    tried = ", ".join(f"{name}: {value:.1%}" for name, value in known.items())
    return _Scale(*_SCALINGS[best], f"chosen by accuracy ({tried})")


def _accuracy(intake: IntakeResult, info: DataInfo, scaling: Scaling, work: WorkDirectory) -> float | None:
    model = intake.model
    assert model is not None
    request = EvaluateRequest(
        artifact=Artifact(path=model.path, sha256=model.sha256, bytes=model.bytes),
        data=info, scaling=scaling, metrics=("accuracy",), evaluation_seconds=TRIAL_SECONDS,
        cache=str(work.cache),
    )  # fmt: skip
    call = Call(None, EVALUATE, request, work.logs / "evaluate.log", cores_here(), 120.0)
    result = run_alone(call, work.logs)
    return result.metrics["accuracy"].value if isinstance(result, EvaluateResult) and result.metrics else None


def _study_name(model: str) -> str:
    stem = Path(model.rstrip("/")).stem.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40] or "study"


def _relative(uri: str, base: Path) -> str:
    if "://" in uri:
        return uri
    path = Path(uri).absolute()
    return str(path.relative_to(base.absolute())) if path.is_relative_to(base.absolute()) else str(path)


def _manifest(
    name: str, model: str, intake: IntakeResult, sources: dict[Split, str], scale: _Scale, base: Path
) -> str:
    info = intake.model
    assert info is not None
    shapes = "; ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in info.inputs)
    outputs = "; ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in info.outputs)
    labeled = Split.EVALUATION not in intake.data or intake.data[Split.EVALUATION].labels is not None
    quality = "accuracy" if labeled else "agreement"
    trains = Split.TRAIN in sources

    def source(split: Split, comment: str) -> str:
        uri = sources.get(split)
        line = f"{split.value}: {{uri: {_relative(uri, base) if uri else split.value + '.npz'}}}"
        needed = split is Split.EVALUATION
        return f"    {'' if uri or needed else '# '}{line}  # {comment}"

    data_lines = "\n".join(
        [
            source(Split.TRAIN, "optional: with it come sparsity and clustering while training"),
            source(Split.CALIBRATION, "some hundred samples: int8 activations need it"),
            source(Split.EVALUATION, "what the search sees"),
            source(Split.TEST, "optional: the front is measured on it once, at the end"),
        ]
    )
    return f"""# Inputs:  {shapes}
# Outputs: {outputs}
# {info.parameters:,} parameters, {info.macs:,} multiply-accumulates, {len(info.layers)} layers with weights.
# `paretune plan` shows what this study will do, `paretune run` does it.
apiVersion: paretune.dev/v1alpha1
kind: OptimizationStudy
metadata: {{name: {name}}}
spec:
  model: {{uri: {model}}}
  dataset:  # .npz or a folder of .npy with x and y, or a folder of images by class name
{data_lines}
    # model input = float32(x) * scale + offset: {scale.why}
    scale: {scale.scale!r}
    offset: {scale.offset!r}
  objectives:
    - {{metric: {quality}, maxDrop: 0.01}}  # at most one point below the untouched model
    - {{metric: downloadSize}}  # bytes after lossless coding
    - {{metric: latency}}  # seconds per inference at batch 1, on this machine's CPU
  {"" if trains else "# "}training: {{}}  # epochs, optimizer, learningRate, loss: see `paretune plan`
  budget: {{trials: 40, parallelism: 1}}
"""
