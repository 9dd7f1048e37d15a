"""The largest results that stages plausibly have fit into a termination message, and say what decides."""

import pytest
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason
from paretune_contract.measurement import CODER, Measurement, Metrics
from paretune_contract.stages import (
    Artifact,
    BenchmarkResult,
    CompressResult,
    Environment,
    EvaluateResult,
    Evaluation,
    Inspection,
    Latency,
    Memory,
    Result,
    Step,
    TensorInspection,
)
from paretune_contract.summary import IntakeSummary, ModelSummary, SplitSummary
from paretune_contract.termination import LIMIT, IntakeReport, NoMessage, failed, from_message, to_message
from paretune_contract.training import Loss, Optimizer, ResolvedTraining
from paretune_store.pod.results import report

SHA = "f" * 64
THIRD = 0.12345678901234567
STEPS = tuple(Step(name=f"step-{n:02d} " + "n" * 40, seconds=THIRD, note="note " * 60) for n in range(20))
EVALUATION = Evaluation(split=Split.EVALUATION, samples=50_000, of=50_000, seconds=THIRD, complete=True)
NUMBER = Measurement(value=THIRD, low=THIRD, high=THIRD)


def metrics(count: int) -> Metrics:
    return {f"metric-{n:03d}-{'m' * 12}": NUMBER for n in range(count)}


def inspection(layers: int, kinds: int = 4) -> Inspection:
    return Inspection(
        tensors=tuple(
            TensorInspection(
                layer=f"block_{n}/conv2d/Conv2D", dtype="INT8", zeros=THIRD, distinct=256, scales=512
            )
            for n in range(layers)
        ),
        dtypes={f"INT{n}": 10**9 for n in range(kinds)},
        sparsity=THIRD,
        inputs=("FLOAT32",) * 4,
        outputs=("FLOAT32",) * 4,
    )


def candidate(count: int = 10) -> CompressResult:
    return CompressResult(
        artifact=Artifact(path=f"/work/candidates/{SHA}.tflite", sha256=SHA, bytes=10**9),
        coder=CODER,
        metrics=metrics(count),
        evaluation=EVALUATION,
        inspection=inspection(300),
        steps=STEPS,
        seconds=7199.123456789,
    )


def measured() -> BenchmarkResult:
    device = "d" * 63
    return BenchmarkResult(
        metrics={f"{m}/{device}": NUMBER for m in ("latency", "latencyRatio", "peakMemory")},
        latency=Latency(
            median=THIRD, p10=THIRD, p90=THIRD, low=THIRD, high=THIRD, ratio=THIRD, ratio_low=THIRD,
            ratio_high=THIRD, rounds=10_000, inferences=10**9, noisy=True, statistic="s" * 256,
        ),
        memory=Memory(arena=10**12, process=10**12),
        environment=Environment(
            node="n" * 256, cpu="c" * 256, architecture="a" * 256, cores=512, runtime="r" * 256, threads=256,
            python="p" * 256, system="s" * 256,
        ),
        steps=STEPS,
        seconds=THIRD,
    )  # fmt: skip


def intake() -> IntakeReport:
    model = ModelSummary(
        format="savedModel", source_sha256=SHA, sha256=SHA, bytes=2**40, parameters=2**40, macs=2**50,
        layers=300, operators=("DEPTHWISE_CONV_2D" * 15,) * 8, prunable=True, two_of_four=True,
        clusterable=True, int4=True, untrainable=("CustomOperator" * 18,) * 8,
    )  # fmt: skip
    training = ResolvedTraining(
        epochs=1000, batch_size=65536, optimizer=Optimizer.ADAM, learning_rate=THIRD,
        loss=Loss.CATEGORICAL_CROSSENTROPY, distill=THIRD,
        origin={f"field-{n}": "o" * 256 for n in range(16)},
    )  # fmt: skip
    data = {split: SplitSummary(samples=10**9, digest=SHA, labels=True) for split in Split}
    summary = IntakeSummary(model=model, data=data, training=training, notes=("n" * 2048,) * 16)
    return IntakeReport(summary=summary, intake=SHA, steps=STEPS, seconds=THIRD, message="m" * 3000)


EVERY = {
    "compress": candidate(),
    "evaluate": EvaluateResult(metrics=metrics(10), evaluation=EVALUATION, steps=STEPS),
    "benchmark": measured(),
    "intake": intake(),
    "retain": Result(message="m" * 10_000, steps=STEPS),
}


@pytest.mark.parametrize("stage", EVERY)
def test_the_largest_result_of_every_stage_fits_and_is_one_of_that_stage(stage: str) -> None:
    text = to_message(EVERY[stage])
    assert len(text.encode()) <= LIMIT
    found = from_message(text, stage)
    assert type(found) is type(EVERY[stage])
    assert found.seconds == EVERY[stage].seconds


def test_a_candidate_of_300_layers_keeps_file_metrics_and_types() -> None:
    whole, found = candidate(), from_message(to_message(candidate()), "compress")
    assert isinstance(found, CompressResult)
    assert (found.artifact, found.metrics, found.evaluation) == (
        whole.artifact,
        whole.metrics,
        whole.evaluation,
    )
    assert found.inspection is not None
    assert whole.inspection is not None
    assert found.inspection.tensors == ()
    assert (found.inspection.dtypes, found.inspection.sparsity) == (whole.inspection.dtypes, THIRD)


def test_a_benchmark_keeps_all_but_its_steps() -> None:
    whole, found = measured(), from_message(to_message(measured()), "benchmark")
    assert found.model_copy(update={"steps": whole.steps}) == whole


def test_an_intake_keeps_every_number_that_decides() -> None:
    whole, found = intake(), from_message(to_message(intake()), "intake")
    assert isinstance(found, IntakeReport)
    assert found.summary is not None
    assert whole.summary is not None
    cut = {"operators", "untrainable"}
    assert found.summary.model.model_dump(exclude=cut) == whole.summary.model.model_dump(exclude=cut)
    assert len(found.summary.model.untrainable) == 8
    assert found.summary.data == whole.summary.data
    assert found.summary.training is not None
    assert found.summary.training.learning_rate == THIRD
    assert found.intake == SHA


@pytest.mark.parametrize("count", [24, 32, 64, 128])
def test_more_metrics_than_fit_are_a_result_that_says_so_and_never_an_exception(count: int) -> None:
    """A study has at most eight objectives, so this is a stage that does not keep to its request."""
    for result in (candidate(count), EvaluateResult(metrics=metrics(count), evaluation=EVALUATION)):
        stage = "compress" if isinstance(result, CompressResult) else "evaluate"
        text = to_message(report(result))
        assert len(text.encode()) <= LIMIT
        found = from_message(text, stage)
        if found.reason is None:
            assert isinstance(found, CompressResult | EvaluateResult)
            assert found.metrics == result.metrics
        else:
            assert found.reason is Reason.INTERNAL
            assert "does not fit into a termination message" in found.message
            assert count > 24


def test_notes_go_before_steps() -> None:
    result = Result(steps=tuple(Step(name=f"s{n}", seconds=1.0, note="n" * 300) for n in range(20)))
    found = from_message(to_message(result), "retain")
    assert [s.name for s in found.steps] == [f"s{n}" for n in range(20)]
    assert {s.note for s in found.steps} == {""}


@pytest.mark.parametrize("text", ["caf\udce9.npz", "\ud800", "ok", "é", "\x00"])
def test_a_failure_can_speak_of_a_file_whose_name_is_no_unicode(text: str) -> None:
    found = from_message(failed(Reason.DATA_UNREADABLE, f"{text}: it is empty"), "intake")
    assert found.reason is Reason.DATA_UNREADABLE
    assert "it is empty" in found.message


# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", EVERY)
def test_a_failure_is_a_plain_result_whatever_the_stage(stage: str) -> None:
    found = from_message(failed(Reason.STORE_UNAVAILABLE, "503"), stage)
    assert type(found) is Result
    assert (found.reason, found.message) == (Reason.STORE_UNAVAILABLE, "503")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Killed",
        "null",
        "3",
        "[]",
        '"x"',
        '{"reason": "NoSuchReason"}',
        '{"seconds": "soon"}',
        '{"steps": [',
        "\x00",
    ],
)
def test_what_is_no_result_is_told_apart(text: str) -> None:
    with pytest.raises(NoMessage, match="no result of compress"):
        from_message(text, "compress")


def test_deeply_nested_text_is_no_result() -> None:
    with pytest.raises(NoMessage):
        from_message("[" * 4000, "compress")


def test_what_a_newer_image_adds_is_left_unread_at_any_depth() -> None:
    text = (
        '{"schemaVersion":2,"new":1,"latency":null,"memory":{"arena":1,"process":2,"peak":3},'
        '"steps":[{"name":"a","seconds":1,"new":{}}],"metrics":{"latency/pi":{"value":1,"low":1,"high":1,"n":9}}}'
    )
    found = from_message(text, "benchmark")
    assert isinstance(found, BenchmarkResult)
    assert found.schema_version == 2
    assert found.memory == Memory(arena=1, process=2)
    assert found.metrics == {"latency/pi": Measurement.exact(1)}
