"""The intake stage: read the model and the data, once per study."""

import json
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from paretune_contract.dataset import DataInfo, DataRequest, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import ACCURACY
from paretune_contract.model import LayerInfo, ModelInfo, SourceFormat
from paretune_contract.stages import IntakeRequest, IntakeResult, Step
from paretune_contract.training import Loss, TrainerKind
from paretune_store.fetch import fetch_cached
from paretune_store.files import sha256_file, sha256_folder
from paretune_store.steps import JSON, CachedStep, StepCache

from .. import flatbuffer as fb
from ..data import prepare_noted
from ..graph import describe
from ..runtime import open_interpreter, run_interpreter
from ..train.config import resolve_training
from ..train.tfmot.keras_model import must_have_layers
from .keras_files import KerasConfig, read_archive, read_h5
from .saved_model import check_saved_model
from .sniff import source_format
from .tflite_files import normalized, read_bytes, renamed, tensor_infos

MODEL = "model.tflite"
FACTS = "facts.json"
STEP_VERSION = 2


def intake_stage(request: IntakeRequest) -> IntakeResult:
    """Normalize the model to one float .tflite and every split to arrays that fit it.

    Raises:
        StageError: what is wrong with the model or the data, naming the URI and the cause; MODEL_UNSUPPORTED
            when `training.trainer` cannot train the model.
    """
    cache = StepCache(Path(request.cache))
    started = time.perf_counter()
    model, made = _model(request, cache)
    took = time.perf_counter() - started
    steps = [Step(name="model", seconds=took, cached=made.cached, spared=made.spared)]
    check_layers(request.layers, model.layers)
    data: dict[Split, DataInfo] = {}
    notes: list[str] = []
    for split, source in request.dataset.items():
        started = time.perf_counter()
        counted = ACCURACY in request.metrics and split is not Split.CALIBRATION
        data[split], said = prepare_noted(
            source, split, model.inputs, cache,
            scaling=request.scaling, classes=_classes(model) if counted else None,
        )  # fmt: skip
        notes += said
        steps.append(Step(name=f"data {split.value}", seconds=time.perf_counter() - started))
    _check_labels(request, data)
    training = resolve_training(request.training, model, data, request.metrics)
    if training is not None and training.trainer is TrainerKind.TFMOT:
        must_have_layers(fb.read(Path(model.path)), Reason.MODEL_UNSUPPORTED)
    if training is not None and training.loss is Loss.CATEGORICAL_CROSSENTROPY:
        _check_train_labels(request.dataset[Split.TRAIN], model, cache)
    return IntakeResult(
        model=model,
        data=data,
        scaling=request.scaling,
        training=training,
        notes=tuple(notes),
        steps=tuple(steps),
    )


# --- the model ----------------------------------------------------------------------------------------------


def _model(request: IntakeRequest, cache: StepCache) -> tuple[ModelInfo, CachedStep]:
    uri, limit = request.model_uri, request.model_limit
    path = fetch_cached(uri, cache, limit_bytes=limit)
    kind = source_format(path, uri)
    source = sha256_folder(path) if path.is_dir() else sha256_file(path)

    def produce(folder: Path) -> None:
        facts: dict[str, JSON] = {"compile": {}}
        if kind is SourceFormat.TFLITE:
            model = normalized(read_bytes(path, uri), uri)
        else:
            from .convert import convert

            config = _checked(path, uri, kind, limit)
            converted = convert(path, uri, kind, config)
            model = renamed(normalized(converted.data, uri), converted.inputs, converted.outputs)
            facts["compile"] = config.compile if config else {}
        fb.write(model, folder / MODEL)
        _must_run(folder / MODEL, uri)
        (folder / FACTS).write_text(json.dumps(facts))

    inputs: dict[str, JSON] = {"source": source, "format": kind.value, "converter": _converter(kind)}
    step = cache.run("intake-model", STEP_VERSION, inputs, produce)
    target = step.folder / MODEL
    graph = fb.read(target)
    described = describe(target)
    info = ModelInfo(
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
    return info, step


def _checked(path: Path, uri: str, kind: SourceFormat, limit: int) -> KerasConfig | None:
    if kind is SourceFormat.KERAS:
        return read_archive(path, uri, limit)
    if kind is SourceFormat.H5:
        return read_h5(path, uri, limit)
    check_saved_model(path, uri)
    return None


def _converter(kind: SourceFormat) -> str:
    """Which converter writes the file; another one may write another."""
    if kind is SourceFormat.TFLITE:
        return ""
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def _must_run(path: Path, uri: str) -> None:
    """Run the normalized model once, on zeros."""
    try:
        interpreter = open_interpreter(path, threads=1)
        zeros = [np.zeros(detail["shape"], np.float32) for detail in interpreter.get_input_details()]
        run_interpreter(interpreter, zeros)
    except StageError as error:
        raise StageError(Reason.MODEL_UNSUPPORTED, f"{uri}: {error.message}") from error
    except (RuntimeError, ValueError) as error:
        raise StageError(
            Reason.MODEL_UNSUPPORTED, f"{uri}: LiteRT cannot run it: {' '.join(str(error).split())[:300]}"
        ) from error


def check_layers(patterns: tuple[str, ...], layers: tuple[LayerInfo, ...]) -> None:
    """Refuse regexes of `space.layers` that match no layer.

    Raises:
        StageError: LAYER_NOT_FOUND naming the pattern and a few layers.
    """
    names = ", ".join(repr(layer.name) for layer in layers[:4]) + (", ..." if len(layers) > 4 else "")
    for number, pattern in enumerate(patterns):
        where = f"space.layers[{number}].match: {pattern!r}"
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise StageError(
                Reason.LAYER_NOT_FOUND, f"{where} is no regular expression ({error}); layers are {names}"
            ) from error
        if not any(expression.search(layer.name) for layer in layers):
            raise StageError(Reason.LAYER_NOT_FOUND, f"{where} matches no layer; there are {names or 'none'}")


# --- the data -----------------------------------------------------------------------------------------------


def _classes(model: ModelInfo) -> int:
    """Classes of the first output; a single sigmoid output tells two apart."""
    last = model.outputs[0].shape[-1] if model.outputs[0].shape else 1
    return max(2, last)


def _check_labels(request: IntakeRequest, data: dict[Split, DataInfo]) -> None:
    for split in (Split.EVALUATION, Split.TEST):
        if ACCURACY in request.metrics and split in data and data[split].labels is None:
            raise StageError(
                Reason.DATA_MISMATCH,
                f"dataset.{split.value} ({data[split].uri}): accuracy needs labels and there are none; "
                "add the array y, or use another metric, such as agreement",
            )


def _check_train_labels(source: DataRequest, model: ModelInfo, cache: StepCache) -> None:
    """Class indices that fine-tuning would look up must be in range, whatever the metric is."""
    prepare_noted(source, Split.TRAIN, model.inputs, cache, classes=_classes(model))
