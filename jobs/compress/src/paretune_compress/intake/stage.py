"""The intake stage: read the model and the data, once per study."""

import json
import re
import time
from pathlib import Path

from paretune_contract.dataset import DataInfo, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import ACCURACY
from paretune_contract.model import LayerInfo, ModelInfo, SourceFormat
from paretune_contract.stages import IntakeRequest, IntakeResult, Step
from paretune_store.fetch import fetch_cached
from paretune_store.files import folder_bytes, sha256_file, sha256_folder
from paretune_store.steps import StepCache

from .. import flatbuffer as fb
from ..data import prepare_noted
from ..graph import describe
from ..train.config import resolve_training
from .keras_files import KerasConfig, read_archive, read_h5
from .saved_model import check_saved_model
from .sniff import source_format
from .tflite_files import normalized, tensor_infos

MODEL = "model.tflite"
FACTS = "facts.json"
STEP_VERSION = 1


def intake(request: IntakeRequest) -> IntakeResult:
    """Normalize the model to one float .tflite and every split to arrays that fit it.

    Raises:
        StageError: what is wrong with the model or the data, naming the URI and the cause.
    """
    cache = StepCache(Path(request.cache))
    started = time.perf_counter()
    model = _model(request, cache)
    steps = [Step(name="model", seconds=time.perf_counter() - started)]
    _check_layers(request.layers, model.layers)
    data: dict[Split, DataInfo] = {}
    notes: list[str] = []
    classes = _classes(model) if ACCURACY in request.metrics else None
    for split, source in request.dataset.items():
        started = time.perf_counter()
        data[split], said = prepare_noted(
            source, split, model.inputs, cache, scaling=request.scaling, classes=classes
        )
        notes += said
        steps.append(Step(name=f"data {split.value}", seconds=time.perf_counter() - started))
    return IntakeResult(
        model=model,
        data=data,
        scaling=request.scaling,
        training=resolve_training(request.training, model, data, request.metrics),
        notes=tuple(notes),
        steps=tuple(steps),
    )


def _model(request: IntakeRequest, cache: StepCache) -> ModelInfo:
    uri = request.model_uri
    path = fetch_cached(uri, cache, limit_bytes=request.model_limit)
    size = folder_bytes(path) if path.is_dir() else path.stat().st_size
    if size > request.model_limit:
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{uri}: {size:,} bytes are more than the limit of {request.model_limit:,}"
        )
    kind = source_format(path, uri)
    source = sha256_folder(path) if path.is_dir() else sha256_file(path)

    def produce(folder: Path) -> None:
        config = _checked(path, uri, kind)
        float_file = path
        if kind is not SourceFormat.TFLITE:
            from .convert import convert

            float_file = folder / MODEL
            float_file.write_bytes(convert(path, uri, kind, config))
        fb.write(normalized(float_file, uri), folder / MODEL)
        facts = {"compile": config.compile if config else {}}
        (folder / FACTS).write_text(json.dumps(facts))

    step = cache.run("intake-model", STEP_VERSION, {"source": source, "format": kind.value}, produce)
    target = step.folder / MODEL
    graph = fb.read(target)
    described = describe(target)
    return ModelInfo(
        uri=uri,
        format=kind,
        source_sha256=source,
        path=str(target),
        sha256=sha256_file(target),
        bytes=target.stat().st_size,
        inputs=tensor_infos(graph, inputs=True),
        outputs=tensor_infos(graph, inputs=False),
        layers=described.layers,
        parameters=described.parameters,
        macs=described.macs,
        untrainable=described.untrainable,
        compile_config=json.loads((step.folder / FACTS).read_text())["compile"],
    )


def _checked(path: Path, uri: str, kind: SourceFormat) -> KerasConfig | None:
    if kind is SourceFormat.KERAS:
        return read_archive(path, uri)
    if kind is SourceFormat.H5:
        return read_h5(path, uri)
    if kind is SourceFormat.SAVED_MODEL:
        check_saved_model(path, uri)
    return None


def _check_layers(patterns: tuple[str, ...], layers: tuple[LayerInfo, ...]) -> None:
    for number, pattern in enumerate(patterns):
        if not any(re.search(pattern, layer.name) for layer in layers):
            names = ", ".join(repr(layer.name) for layer in layers[:4])
            raise StageError(
                Reason.LAYER_NOT_FOUND,
                f"space.layers[{number}].match: {pattern!r} matches no layer; there are {names}"
                f"{', ...' if len(layers) > 4 else ''}",
            )


def _classes(model: ModelInfo) -> int:
    """Classes of the first output; a single sigmoid output tells two apart."""
    last = model.outputs[0].shape[-1] if model.outputs[0].shape else 1
    return max(2, last)
