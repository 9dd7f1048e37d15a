"""Termination messages fit, whatever a result holds."""

import json

import pytest
from paretune_contract.failure import Reason
from paretune_contract.stages import CompressResult, Inspection, Result, Step
from paretune_contract.summary import IntakeSummary, ModelSummary, SplitSummary
from paretune_contract.termination import LIMIT, IntakeReport, failed, from_message, to_message
from paretune_contract.training import Loss, Optimizer, ResolvedTraining


def summary(**more) -> IntakeSummary:
    model = ModelSummary(
        format="keras", source_sha256="a" * 64, sha256="b" * 64, bytes=1, parameters=1, macs=1, layers=300,
        operators=("CONV_2D" * 30,) * 8, prunable=True, two_of_four=True, clusterable=True, int4=True,
        untrainable=("operator" * 30,) * 8,
    )  # fmt: skip
    training = ResolvedTraining(
        epochs=10, batch_size=64, optimizer=Optimizer.ADAM, learning_rate=1e-3,
        loss=Loss.CATEGORICAL_CROSSENTROPY, distill=0.0,
        origin={f"field{n}": "default: " + "because " * 40 for n in range(6)},
    )  # fmt: skip
    data = {s: SplitSummary(samples=10, digest="c" * 64, labels=True) for s in ("train", "evaluation")}
    return IntakeSummary(model=model, data=data, training=training, notes=("note " * 400,) * 16, **more)


def test_a_long_intake_keeps_all_that_decides() -> None:
    report = IntakeReport(summary=summary(), intake="d" * 64, steps=(Step(name="model", seconds=1.0),))
    text = to_message(report)
    assert len(text.encode()) <= LIMIT
    read = from_message(text, "intake")
    assert isinstance(read, IntakeReport)
    assert read.summary
    assert read.intake == report.intake
    assert read.summary.model.untrainable
    assert read.summary.model.sha256 == "b" * 64
    assert read.summary.training
    assert read.summary.training.learning_rate == 1e-3


@pytest.mark.parametrize("character", ["a", "é", "\x01", "😀", '"', "\\"])
def test_a_failure_fits_whatever_its_message_is_made_of(character) -> None:
    text = failed(Reason.CRASHED, character * 100_000)
    assert len(text.encode()) <= LIMIT
    assert from_message(text, "compress").reason is Reason.CRASHED
    assert len(from_message(text, "compress").message) > 100


def test_a_candidate_with_a_thousand_outputs_loses_its_inspection_and_keeps_its_metrics() -> None:
    inspection = Inspection(
        tensors=(), dtypes={"INT8": 1}, sparsity=0, inputs=("FLOAT32",), outputs=("FLOAT32",) * 1000
    )
    metrics = {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}}
    result = CompressResult.model_validate({"inspection": inspection, "metrics": metrics})
    text = to_message(result)
    assert len(text.encode()) <= LIMIT
    assert "accuracy" in json.loads(text)["metrics"]


def test_a_short_result_keeps_everything() -> None:
    result = Result(message="all is well", steps=(Step(name="a", seconds=1, note="b"),))
    assert from_message(to_message(result), "retain") == result
