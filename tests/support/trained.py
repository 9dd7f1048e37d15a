"""What a training left behind, for tests that look into it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paretune_compress import flatbuffer as fb
from paretune_compress.graph.description import weighted_operators
from paretune_compress.layers import resolve_layers
from paretune_compress.train.from_file import FileTrainer
from paretune_compress.train.port import TrainingTask
from paretune_compress.train.tfmot.trainer import TfmotTrainer
from paretune_contract.stages import CompressRequest, CompressResult
from paretune_contract.training import TrainerKind

TRAINERS = {TrainerKind.FILE: FileTrainer(), TrainerKind.TFMOT: TfmotTrainer()}


def aware(scheme: str = "int8", granularity: str = "channel", **parts: Any) -> dict[str, Any]:
    """Settings of quantization-aware training."""
    return {"quantization": {"scheme": scheme, "granularity": granularity, "training": "aware"}, **parts}


def by_layer(result: CompressResult) -> dict[str, Any]:
    """What the inspection found, by the layer's name."""
    return {t.layer: t for t in result.inspection.tensors}


def step(result: CompressResult, name: str) -> Any:
    return next(s for s in result.steps if s.name == name)


def training_key(request: CompressRequest) -> Any:
    """The trainer's part of the cache key."""
    plans = resolve_layers(request.settings, request.model.layers)
    task = TrainingTask(Path(request.model.path), plans, request.training, request.seed, 1)
    return json.loads(json.dumps(TRAINERS[request.training.trainer].settings(task)))


def folder_of_training(request: CompressRequest) -> Path:
    """Where the cache holds what was trained for a request."""
    wanted = training_key(request)
    return next(
        p.parent
        for p in Path(request.cache).rglob("history.json")
        if json.loads(p.read_text())["settings"] == wanted
    )


def integer_weights(path: str) -> Iterator[tuple[Any, Any, Any]]:
    """For each layer its integers, their scales in the weights' shape, and the tensor itself."""
    model = fb.read(Path(path))
    for found in weighted_operators(model):
        tensor = model.subgraphs[0].tensors[found.tensors[0]]
        values, scales = fb.constant(model, found.tensors[0]), fb.scales(tensor)
        dims = [1] * values.ndim
        dims[int(tensor.quantization.quantizedDimension)] = len(scales)
        yield values, (scales.reshape(dims) if len(scales) > 1 else scales), tensor
