"""A candidate as an MLflow model: the .tflite beside an MLmodel file with a flavor `tflite`."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from paretune_contract.model import ModelInfo, TensorInfo
from paretune_store.files import sha256_file

from ..api import OptimizationTrial
from .tflite_io import Port, read_ports
from .view import StudyView

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
    if view.artifacts is None:
        raise DamagedCandidateError(f"the file of trial {trial.number} is out of reach from here")
    source = view.artifacts.candidate(artifact.sha256)
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
        flavors={FLAVOR: flavor(trial, inputs, outputs)},
        metadata={
            "study": view.name,
            "studyUid": view.uid,
            "trial": trial.number,
            "settings": trial.settings.canonical(),
            "sourceModelSha256": view.model.source_sha256,
        },
    )
    document = {
        **model.to_dict(),
        "signature": signature(inputs, outputs, view.source),
        "is_signature_from_type_hint": False,
        "type_hint_from_example": False,
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document, default_flow_style=False))


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


def signature(
    inputs: tuple[Port, ...], outputs: tuple[Port, ...], model: ModelInfo | None
) -> dict[str, str | None]:
    """The file's inputs and outputs as `mlflow.models.ModelSignature.to_dict` has them.

    A file names its tensors as its converter liked; where the source model is known and has as many, they
    take the names that the user knows. MLflow's own class needs pandas, which is not in the operator's image.
    """
    known = (model.inputs, model.outputs) if model else ((), ())
    return {"inputs": _schema(inputs, known[0]), "outputs": _schema(outputs, known[1]), "params": None}


def _schema(ports: tuple[Port, ...], known: tuple[TensorInfo, ...]) -> str:
    names = [t.name for t in known] if len(known) == len(ports) else [p.name for p in ports]
    return json.dumps(
        [
            {"name": name, "type": "tensor", "tensor-spec": {"dtype": port.dtype, "shape": list(port.shape)}}
            for port, name in zip(ports, names, strict=True)
        ]
    )


def _port(port: Port) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}
    if port.scale is not None:
        plain |= {"scale": port.scale, "zeroPoint": port.zero_point}
    return plain
