"""A study with records made up by formula, for tests of what is shown and logged."""

import hashlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flatbuffers
from paretune.api import Ask, Metadata, OptimizationStudy, OptimizationTrial, State
from paretune.api.trial import FinalMeasurement, PoolMeasurement, TrialArtifact, TrialSpec, TrialStatus
from paretune.search.front import front_document, members
from paretune.search.objectives import feasible, resolve
from paretune.tracking.view import ArtifactFolder, StudyView
from paretune_contract.dataset import Split
from paretune_contract.measurement import CODER, Measurement, wilson
from paretune_contract.model import LayerInfo, ModelInfo, SourceFormat, TensorInfo
from paretune_contract.settings import Settings
from paretune_contract.stages import Environment, Evaluation, IntakeResult, Latency, Step
from paretune_contract.summary import summarize

SAMPLES = 2000
BASE_BYTES, BASE_SECONDS, BASE_ACCURACY = 98_496, 0.00124, 0.9135
START = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)
BYTES = {"none": 1.0, "float16": 0.5, "dynamic": 0.31, "int8": 0.3, "int16x8": 0.31, "int4": 0.2}
SPEED = {"none": 1.0, "float16": 1.02, "dynamic": 0.7, "int8": 0.52, "int16x8": 6.0, "int4": 0.61}
DROP = {"none": 0.0, "float16": 0.0, "dynamic": 0.002, "int8": 0.004, "int16x8": 0.0015, "int4": 0.021}
ACCURACY = {"metric": "accuracy", "maxDrop": 0.02}
LATENCY = {"metric": "latency", "atMost": "3ms"}
DOWNLOAD = {"metric": "downloadSize"}


def manifest(
    name: str = "digits", objectives: tuple[dict[str, Any], ...] = (ACCURACY, LATENCY, DOWNLOAD), **spec: Any
):
    """A small manifest; `spec` adds to it."""
    return OptimizationStudy.model_validate(
        {
            "metadata": {"name": name},
            "spec": {
                "model": {"uri": "https://reader:hunter2@models.example/digits.keras?X-Signature=abc"},
                "dataset": {"evaluation": {"uri": "s3://data/digits/eval.npz"}},
                "objectives": list(objectives),
                **spec,
            },
        }
    )


def settings(number: int) -> Settings:
    """The baseline, then something of everything."""
    if number == 0:
        return Settings()
    draw = random.Random(number)
    plain: dict[str, Any] = {
        "quantization": {"scheme": list(BYTES)[number % 6], "granularity": draw.choice(["channel", "tensor"])}
    }
    if number > 6 and draw.random() < 0.75:
        plain["sparsity"] = {"pattern": "unstructured", "level": draw.choice([0.3, 0.5, 0.6, 0.7, 0.8])}
    if number > 10 and draw.random() < 0.4:
        plain["clustering"] = {"stage": "int8", "clusters": draw.choice([8, 16, 32])}
    return Settings.model_validate(plain)


def tflite(tag: str, dtype: int = 0) -> bytes:
    """The least that is a .tflite: one input [1, 8, 8, 1], one output [1, 10]; `tag` makes bytes unique."""
    b = flatbuffers.Builder(256)

    def vector(size: int, items: list[Any], put: Any) -> int:
        b.StartVector(size, len(items), size)
        for item in reversed(items):
            put(item)
        return int(b.EndVector())

    def tensor(name: str, shape: list[int], quantized: bool) -> int:
        text, dims, quantization = b.CreateString(name), vector(4, shape, b.PrependInt32), 0
        if quantized:
            scale, zero = vector(4, [0.5], b.PrependFloat32), vector(8, [-128], b.PrependInt64)
            b.StartObject(7)
            b.PrependUOffsetTRelativeSlot(2, scale, 0)
            b.PrependUOffsetTRelativeSlot(3, zero, 0)
            quantization = b.EndObject()
        b.StartObject(8)
        b.PrependUOffsetTRelativeSlot(0, dims, 0)
        b.PrependInt8Slot(1, dtype, 0)
        b.PrependUOffsetTRelativeSlot(3, text, 0)
        b.PrependUOffsetTRelativeSlot(4, quantization, 0)
        return int(b.EndObject())

    tensors = [tensor("serving_default_x:0", [1, 8, 8, 1], dtype == 9), tensor("call:0", [1, 10], dtype == 9)]
    listed = vector(4, tensors, b.PrependUOffsetTRelative)
    ends = [vector(4, [i], b.PrependInt32) for i in (0, 1)]
    b.StartObject(5)
    for slot, offset in ((0, listed), (1, ends[0]), (2, ends[1])):
        b.PrependUOffsetTRelativeSlot(slot, offset, 0)
    graphs = vector(4, [b.EndObject()], b.PrependUOffsetTRelative)
    words = b.CreateString(tag)
    b.StartObject(8)
    b.PrependUint32Slot(0, 3, 0)
    b.PrependUOffsetTRelativeSlot(2, graphs, 0)
    b.PrependUOffsetTRelativeSlot(3, words, 0)
    b.Finish(b.EndObject(), file_identifier=b"TFL3")
    return bytes(b.Output())


def environment() -> Environment:
    return Environment(
        node="bench-01", cpu="Example CPU @ 3.00GHz", architecture="x86_64", cores=2, threads=1,
        runtime="litert 2.3.0 (XNNPACK)", python="3.11.7", system="Linux 6.1",
    )  # fmt: skip


def measured(seconds: float, noisy: bool = False) -> PoolMeasurement:
    ratio = seconds / BASE_SECONDS
    return PoolMeasurement(
        latency=Latency(
            median=seconds, p10=seconds * 0.95, p90=seconds * 1.2, low=seconds * 0.98, high=seconds * 1.03,
            ratio=ratio, ratio_low=ratio * 0.98, ratio_high=ratio * 1.03, rounds=12, inferences=1200,
            noisy=noisy,
        ),
        environment=environment(),
    )  # fmt: skip


def around(value: float) -> Measurement:
    return Measurement(value=value, low=value * 0.98, high=value * 1.03)


def trial(
    number: int, folder: Path, *, study: OptimizationStudy, state: State | None = None
) -> OptimizationTrial:
    """The record of one finished trial, with its file and log in `folder`."""
    chosen, draw = settings(number), random.Random(number * 7 + 1)
    begun = START + timedelta(seconds=20 * number)
    record = OptimizationTrial(
        metadata=Metadata(name=f"{study.metadata.name}-{number:04d}"),
        spec=TrialSpec(
            study_name=study.metadata.name,
            number=number,
            settings=chosen,
            ask=Ask(seed=number, seen="", origin="baseline" if number == 0 else "sampler"),
        ),
    )
    times = {
        "started": begun.isoformat(),
        "finished": (begun + timedelta(seconds=18)).isoformat(),
        "attempts": 1,
    }
    if state is State.FAILED:
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{number:04d}-compress.log").write_text("converting\nSegmentation fault\n")
        status = TrialStatus(
            state=state, reason="Crashed", message="the converter died of signal 11", **times
        )
        return record.model_copy(update={"status": status})
    q, s, c = chosen.quantization.scheme.value, chosen.sparsity.level, chosen.clustering.clusters
    size = round(
        BASE_BYTES * BYTES[q] * (1 - 0.75 * s) * (0.7 + c / 200 if c else 1) * draw.uniform(0.97, 1.03)
    )
    accuracy = (
        BASE_ACCURACY
        - DROP[q]
        - 0.1 * s**6
        - (0.05 / c if c else 0)
        + draw.uniform(-0.003, 0.003) * bool(number)
    )
    seconds = BASE_SECONDS * SPEED[q] * (draw.uniform(0.96, 1.05) if number else 1)
    content = tflite(f"{study.metadata.name} {number}", dtype=9 if q == "int8" and number % 2 else 0)
    sha = hashlib.sha256(content).hexdigest()
    candidates = folder / "candidates"
    candidates.mkdir(parents=True, exist_ok=True)
    (candidates / f"{sha}.tflite").write_bytes(content)
    metrics = {
        "accuracy": wilson(round(accuracy * SAMPLES), SAMPLES),
        "modelSize": Measurement.exact(round(BASE_BYTES * 1.1 * BYTES[q])),
        "downloadSize": Measurement.exact(size),
        "latency/cpu": around(seconds),
        "latencyRatio/cpu": around(seconds / BASE_SECONDS),
    }  # fmt: skip
    reason, message = "", ""
    if state is None:
        state = State.COMPLETE
        if not feasible(
            resolve(study.spec), metrics, {"accuracy": wilson(round(BASE_ACCURACY * SAMPLES), SAMPLES)}
        ):
            state, reason, message = (
                State.INFEASIBLE,
                "ConstraintBroken",
                f"accuracy {accuracy:.4g} is below the bound",
            )
            for name in ("latency/cpu", "latencyRatio/cpu"):
                del metrics[name]
    status = TrialStatus(
        state=state, reason=reason, message=message, metrics=metrics, coder=CODER,
        artifact=TrialArtifact(uri=f"candidates/{sha}.tflite", sha256=sha, bytes=len(content)),
        evaluation=Evaluation(split=Split.EVALUATION, samples=SAMPLES, of=SAMPLES, seconds=1, complete=True),
        pools={"cpu": measured(seconds, noisy=number % 9 == 5)} if "latency/cpu" in metrics else {},
        steps=(Step(name="train", seconds=6.5 * bool(s), cached=bool(s) and number % 3 == 0),
               Step(name="quantize", seconds=0.4),
               Step(name="evaluate", seconds=0.5), Step(name="benchmark", seconds=4.0)),
        **times,
    )  # fmt: skip
    return record.model_copy(update={"status": status})


def with_final(record: OptimizationTrial) -> OptimizationTrial:
    """Fresh rounds, two percent slower than what the search saw, and test metrics."""
    old = record.status.metrics
    fresh = {
        name: Measurement(value=old[name].value * 1.02, low=old[name].low * 1.02, high=old[name].high * 1.02)
        for name in ("latency/cpu", "latencyRatio/cpu")
        if name in old
    }
    final = FinalMeasurement(
        metrics=fresh,
        test={"accuracy": wilson(round((old["accuracy"].value - 0.003) * 1000), 1000)},
        pools={"cpu": measured(fresh["latency/cpu"].value)} if fresh else {},
    )
    return record.model_copy(update={"status": record.status.model_copy(update={"final": final})})


def model() -> ModelInfo:
    def layer(name: str, operator: str, shape: tuple[int, ...], macs: int, index: int) -> LayerInfo:
        weights = 1
        for n in shape:
            weights *= n
        deep = operator == "DEPTHWISE_CONV_2D"
        return LayerInfo(
            name=name, operator=operator, weight_tensor=index, weight_shape=shape, weights=weights, macs=macs,
            trainable=True, prunable=not deep, clusterable=not deep, int4=not deep,
        )  # fmt: skip

    layers = (
        layer("stem/conv2d", "CONV_2D", (32, 3, 3, 1), 18_432, 1),
        layer("block1/depthwise", "DEPTHWISE_CONV_2D", (1, 3, 3, 32), 18_432, 3),
        layer("block1/pointwise", "CONV_2D", (64, 1, 1, 32), 131_072, 5),
        layer("head/dense", "FULLY_CONNECTED", (10, 64), 640, 7),
    )
    return ModelInfo(
        uri="https://reader:hunter2@models.example/digits.keras?X-Signature=abc", format=SourceFormat.KERAS,
        source_sha256="ab" * 32, path="/none/model.tflite", sha256="cd" * 32, bytes=104_200,
        inputs=(TensorInfo(name="image", shape=(1, 8, 8, 1), dtype="float32"),),
        outputs=(TensorInfo(name="digit", shape=(1, 10), dtype="float32"),), layers=layers,
        parameters=sum(item.weights for item in layers), macs=sum(item.macs for item in layers),
    )  # fmt: skip


def made_view(
    folder: Path, trials: int = 12, *, state: str = "Complete", failed: tuple[int, ...] = (7,),
    uid: str = "uid-1", study: OptimizationStudy | None = None, notes: tuple[str, ...] = (),
) -> StudyView:  # fmt: skip
    """A study after so many trials; at its end the front has fresh rounds and test metrics."""
    study = study or manifest()
    records = [
        trial(n, folder, study=study, state=State.FAILED if n in failed else None) for n in range(trials)
    ]
    if state == "Complete":
        fresh: set[int] = set()
        while missing := ({0, *members(resolve(study.spec), records)} - fresh):
            fresh |= missing
            records = [with_final(r) if r.number in missing else r for r in records]
    objectives = resolve(study.spec)
    return StudyView(
        study=study, uid=uid, seed=7, state=state, trials=tuple(records), notes=notes,
        model=summarize(IntakeResult(model=model())).model, source=model(), artifacts=ArtifactFolder(folder),
        front=front_document(study, uid, 7, objectives, records),
    )  # fmt: skip


def folder_of(view: StudyView) -> Path:
    """Where made_view put candidates and logs."""
    assert isinstance(view.artifacts, ArtifactFolder)
    return view.artifacts.root


def grown(view: StudyView, trials: int, **changes: Any) -> StudyView:
    """The same study later."""
    later = made_view(folder_of(view), trials, state=view.state, uid=view.uid, study=view.study)
    return replace(later, **changes)
