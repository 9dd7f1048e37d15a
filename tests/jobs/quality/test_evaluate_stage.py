import hashlib
from pathlib import Path

import numpy as np
import pytest
from jobs.benchmark.tiny_tflite import dense
from paretune_compress.quality.stage import evaluate_stage
from paretune_contract.dataset import ArrayInfo, DataInfo, Scaling, Split
from paretune_contract.stages import Artifact, EvaluateRequest, EvaluateResult


@pytest.fixture
def request_(tmp_path: Path) -> EvaluateRequest:
    labels = np.arange(60) % 4
    samples = (255 * np.eye(4)[labels]).astype(np.uint8)
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "x.npy", samples)
    np.save(data / "y.npy", labels)
    content = dense(np.eye(4, dtype=np.float32))
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return EvaluateRequest(
        artifact=Artifact(path=str(path), sha256=digest, bytes=len(content)),
        data=DataInfo(
            split=Split.TEST,
            uri="test.npz",
            folder=str(data),
            digest="d" * 64,
            samples=60,
            inputs={"x": ArrayInfo(file="x.npy", shape=(60, 4), dtype="uint8")},
            labels=ArrayInfo(file="y.npy", shape=(60,), dtype="int64"),
        ),
        scaling=Scaling(scale=1 / 255),
        metrics=("accuracy",),
        cache=str(tmp_path / "cache"),
    )


def cached(result: EvaluateResult) -> bool:
    return result.steps[0].cached


def test_the_stage_measures_the_split_that_it_is_given(request_: EvaluateRequest) -> None:
    result = evaluate_stage(request_)
    assert result.metrics["accuracy"].value == 1.0
    assert result.evaluation is not None
    assert (result.evaluation.split, result.evaluation.samples) == (Split.TEST, 60)


def test_a_finished_evaluation_is_not_repeated(request_: EvaluateRequest) -> None:
    first, second = evaluate_stage(request_), evaluate_stage(request_)
    assert not cached(first)
    assert cached(second)
    assert second.metrics == first.metrics
    assert second.evaluation == first.evaluation


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": ("accuracy", "meanSquaredError")},
        {"scaling": Scaling(scale=0.5)},
    ],
)
def test_another_question_is_another_evaluation(request_: EvaluateRequest, change: dict[str, object]) -> None:
    evaluate_stage(request_)
    assert not cached(evaluate_stage(request_.model_copy(update=change)))


def test_other_data_are_another_evaluation(request_: EvaluateRequest) -> None:
    evaluate_stage(request_)
    other = request_.data.model_copy(update={"digest": "e" * 64})
    assert not cached(evaluate_stage(request_.model_copy(update={"data": other})))


def test_an_evaluation_that_ran_out_of_time_is_not_kept(request_: EvaluateRequest) -> None:
    partial = evaluate_stage(request_.model_copy(update={"evaluation_seconds": 0.0}))
    assert partial.evaluation is not None
    assert not partial.evaluation.complete
    assert partial.metrics["accuracy"].low < 1.0
    assert "stopped after 1 of 60" in partial.steps[0].note
    whole = evaluate_stage(request_)
    assert not cached(whole)
    assert whole.evaluation is not None
    assert whole.evaluation.complete


def test_agreement_is_cached_by_its_reference(request_: EvaluateRequest, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(dense(np.eye(4, dtype=np.float32)[::-1].copy()))
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    itself = request_.model_copy(update={"metrics": ("agreement",), "reference": request_.artifact})
    reference = Artifact(path=str(other), sha256=digest, bytes=1)
    assert evaluate_stage(itself).metrics["agreement"].value == 1.0
    changed = evaluate_stage(itself.model_copy(update={"reference": reference}))
    assert not cached(changed)
    assert changed.metrics["agreement"].value < 1.0
