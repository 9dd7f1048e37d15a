"""A candidate as an MLflow model: the .tflite beside an MLmodel file with a flavor `tflite`."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune_contract.model import ModelInfo, TensorInfo
from paretune_store.files import sha256_file

from ..api import OptimizationTrial
from .tflite_io import Port, read_ports
from .view import StudyView

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

FLAVOR = "tflite"
DATA = "model.tflite"


class DamagedCandidateError(Exception):
    """A candidate's file is missing, or its content is not what the record says."""


def write_model(view: StudyView, trial: OptimizationTrial, model_id: str, run_id: str, folder: Path) -> None:
    """Write the folder of one MLflow model: MLmodel and model.tflite.

    Raises:
        DamagedCandidateError: when the file is missing or was changed.
        tflite_io.NotTfLiteError: when the file is no .tflite.
    """
    from mlflow.models import Model

    artifact = trial.status.artifact
    if artifact is None:
        raise DamagedCandidateError(f"trial {trial.number} has no artifact")
    source = view.candidate(artifact.sha256)
    if not source.is_file():
        raise DamagedCandidateError(f"{source} is missing; trial {trial.number} cannot be uploaded")
    if (found := sha256_file(source)) != artifact.sha256:
        raise DamagedCandidateError(f"{source} was changed: its sha256 is {found}")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / DATA)
    inputs, outputs = read_ports(source)
    model = Model(
        run_id=run_id,
        model_id=model_id,
        model_size_bytes=source.stat().st_size,
        signature=signature(inputs, outputs, view.model),
        flavors={FLAVOR: flavor(trial, inputs, outputs)},
        metadata={
            "study": view.name,
            "studyUid": view.uid,
            "trial": trial.number,
            "settings": trial.settings.canonical(),
            "sourceModelSha256": view.model.source_sha256,
        },
    )
    model.save(str(folder / "MLmodel"))


def flavor(trial: OptimizationTrial, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> dict[str, Any]:
    """What a loader of the flavor needs: the file, its ports, and the versions it was measured with."""
    runtimes = {
        pool: measured.environment.runtime
        for pool, measured in trial.status.pools.items()
        if measured.environment
    }
    artifact = trial.status.artifact
    return {
        "data": DATA,
        "sha256": artifact.sha256 if artifact else "",
        "inputs": [_port(p) for p in inputs],
        "outputs": [_port(p) for p in outputs],
        "runtimes": runtimes,
        "coder": trial.status.coder,
        "paretune_version": version("paretune"),
    }


def signature(inputs: tuple[Port, ...], outputs: tuple[Port, ...], model: ModelInfo) -> "ModelSignature":
    """The file's inputs and outputs as an MLflow signature.

    A file names its tensors as its converter liked; where there are as many as in the source model, they
    take the names that the user knows.
    """
    from mlflow.models import ModelSignature

    return ModelSignature(inputs=_schema(inputs, model.inputs), outputs=_schema(outputs, model.outputs))


def _schema(ports: tuple[Port, ...], known: tuple[TensorInfo, ...]) -> Any:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    names = [t.name for t in known] if len(known) == len(ports) else [p.name for p in ports]
    specs = zip(ports, names, strict=True)
    return Schema([TensorSpec(np.dtype(port.dtype), port.shape, name) for port, name in specs])


def _port(port: Port) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}
    if port.scale is not None:
        plain |= {"scale": port.scale, "zeroPoint": port.zero_point}
    return plain
