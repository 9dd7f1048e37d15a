"""Compress requests over a small made model and made data."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from paretune_compress import flatbuffer as fb
from paretune_compress.data import prepare
from paretune_compress.graph import describe
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.train.config import resolve_training
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.model import ModelInfo, SourceFormat, TensorInfo
from paretune_contract.settings import Settings
from paretune_contract.stages import CompressRequest
from paretune_contract.training import Training
from paretune_store.steps import StepCache

from .made_tflite import image_classifier


class Workplace:
    """A model, its data and a cache in one folder; labels are what the float model itself says."""

    def __init__(
        self,
        folder: Path,
        samples: int = 96,
        train: bool = False,
        make: Callable[[Path], Path] = image_classifier,
    ) -> None:
        self.folder = folder
        self.path = make(folder / "float.tflite")
        self.model = _info(self.path)
        self.cache = StepCache(folder / "cache")
        self.data = {}
        splits = [Split.CALIBRATION, Split.EVALUATION, *([Split.TRAIN] if train else [])]
        for seed, split in enumerate(splits):
            x = np.random.default_rng(seed).normal(0, 1, (samples, 8, 8, 4)).astype(np.float32)
            file = folder / f"{split.value}.npz"
            np.savez(file, x=x, y=_answers(self.path, x))
            request = DataRequest(uri=str(file))
            self.data[split] = prepare(request, split, self.model.inputs, self.cache)

    def request(self, settings: dict[str, Any], training: Training | None = None, **more: Any):
        """A request with these settings; with `training` and a train split, it can train."""
        metrics = ("accuracy",)
        resolved = resolve_training(training or Training(), self.model, self.data, metrics)
        return CompressRequest(
            **{
                "settings": Settings.model_validate(settings),
                "model": self.model,
                "data": self.data,
                "scaling": Scaling(),
                "training": resolved,
                "metrics": metrics,
                "cache": str(self.folder / "cache"),
                "candidates": str(self.folder / "candidates"),
                **more,
            }
        )


def _answers(path: Path, x: Any) -> Any:
    interpreter = open_interpreter(path, threads=1)
    return np.array([run_interpreter(interpreter, [s[None]])[0].argmax() for s in x], np.int64)


def _info(path: Path) -> ModelInfo:
    graph, found = fb.read(path).subgraphs[0], describe(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def ends(indices: Any) -> tuple[TensorInfo, ...]:
        tensors = [graph.tensors[int(i)] for i in indices]
        return tuple(TensorInfo(name=fb.tensor_name(t), shape=fb.shape(t), dtype="float32") for t in tensors)

    return ModelInfo(
        uri=str(path), format=SourceFormat.TFLITE, source_sha256=sha256, path=str(path), sha256=sha256,
        bytes=path.stat().st_size, inputs=ends(graph.inputs), outputs=ends(graph.outputs),
        layers=found.layers, parameters=found.parameters, macs=found.macs, untrainable=found.untrainable,
    )  # fmt: skip
