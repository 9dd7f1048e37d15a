import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs.benchmark.tiny_tflite import Tensor, add, dense, fully_connected, tflite
from numpy.typing import NDArray
from paretune_compress.data import Batch
from paretune_compress.quality import evaluation as evaluation_module
from paretune_compress.quality import model as model_module
from paretune_compress.quality import registry
from paretune_compress.quality.evaluation import evaluate
from paretune_compress.quality.model import EvaluatedModel, Port, dequantized, quantized
from paretune_contract.dataset import DataInfo, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import Measurement
from paretune_contract.stages import Evaluation

IDENTITY = np.eye(4, dtype=np.float32)


@dataclass
class InMemory:
    """A split that lives in memory and remembers in which order it was read."""

    inputs: dict[str, NDArray[np.float32]]
    labels: NDArray[Any] | None = None
    visited: list[int] = field(default_factory=list)

    @property
    def info(self) -> DataInfo:
        return DataInfo(
            split=Split.EVALUATION, uri="memory", folder="/", digest="0", samples=self.samples, inputs={}
        )

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batches(self, size: int, *, indices: NDArray[Any] | None = None) -> Iterator[Batch]:
        order = np.arange(self.samples) if indices is None else indices
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            self.visited += rows.tolist()
            yield Batch(
                inputs={name: array[rows] for name, array in self.inputs.items()},
                labels=None if self.labels is None else self.labels[rows],
            )


def one_hot(samples: int) -> InMemory:
    """Class-sorted samples that the identity classifies right, but for every tenth label."""
    labels = np.sort(np.arange(samples) % 4)
    split = InMemory({"x": IDENTITY[labels]}, labels.copy())
    assert split.labels is not None
    split.labels[::10] = (split.labels[::10] + 1) % 4
    return split


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity.tflite"
    path.write_bytes(dense(IDENTITY))
    return path


def run(
    model: Path, split: InMemory, *metrics: str, reference: Path | None = None, seconds: float = 60
) -> tuple[dict[str, Measurement], Evaluation]:
    return evaluate(model, split, metrics, reference=reference, seconds=seconds, threads=1)


def test_all_samples_are_evaluated_once(identity: Path) -> None:
    metrics, evaluation = run(identity, one_hot(500), "accuracy")
    assert metrics["accuracy"].value == 0.9
    assert (evaluation.samples, evaluation.of, evaluation.complete) == (500, 500, True)
    assert evaluation.split is Split.EVALUATION


def test_a_file_without_a_signature_goes_by_its_tensors_names(tmp_path: Path) -> None:
    path = tmp_path / "plain.tflite"
    path.write_bytes(dense(IDENTITY, signature=False))
    assert run(path, one_hot(40), "accuracy")[0]["accuracy"].value == 0.9


def test_when_the_time_is_up_the_samples_seen_are_a_random_part(
    identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 0.01)  # every look at the clock takes 10 ms
    monkeypatch.setattr(evaluation_module.time, "perf_counter", lambda: next(clock))
    split = one_hot(4000)
    metrics, evaluation = run(identity, split, "accuracy", seconds=1.0)
    assert not evaluation.complete
    assert 100 < evaluation.samples < 4000
    assert metrics["accuracy"].low < 0.9 < metrics["accuracy"].high
    assert split.labels is not None
    classes = np.bincount(split.labels[split.visited[: evaluation.samples]], minlength=4)
    assert classes.min() > 0.7 * classes.max()  # the file is sorted by class, the visit is not


def test_the_first_batch_is_evaluated_however_short_the_time(identity: Path) -> None:
    _, evaluation = run(identity, one_hot(100), "accuracy", seconds=0)
    assert evaluation.samples == 1


def test_the_order_is_the_same_in_every_evaluation(identity: Path) -> None:
    one, other = one_hot(50), one_hot(50)
    run(identity, one, "accuracy")
    run(identity, other, "accuracy")
    assert one.visited[:1] == other.visited[:1]
    assert one.visited != sorted(one.visited)


def test_agreement_needs_no_labels(identity: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.tflite"
    swapped.write_bytes(dense(IDENTITY[[1, 0, 2, 3]]))
    split = InMemory({"x": IDENTITY[np.arange(80) % 4]})
    # an output of the input's shape is a reconstruction: two of four samples are far off
    assert run(swapped, split, "agreement", reference=identity)[0]["agreement"].value == 0.5
    assert run(identity, split, "agreement", reference=identity)[0]["agreement"].value == 1.0


def test_agreement_without_the_baselines_file_is_refused(identity: Path) -> None:
    with pytest.raises(StageError, match="agreement needs the baseline"):
        run(identity, one_hot(10), "agreement")


def test_outputs_of_another_shape_cannot_agree(identity: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider.tflite"
    wider.write_bytes(dense(np.ones((5, 4), np.float32)))
    with pytest.raises(StageError, match=r"\[1, 5\].*\[1, 4\]") as raised:
        run(wider, one_hot(10), "agreement", reference=identity)
    assert raised.value.reason is Reason.DATA_MISMATCH


def test_several_inputs_are_fed_by_name(tmp_path: Path) -> None:
    tensors = [
        Tensor("serving_default_b:0", [1, 2]),
        Tensor("serving_default_a:0", [1, 2]),
        Tensor("y", [1, 2]),
    ]
    names = ["serving_default_b:0", "serving_default_a:0"]
    doubled = tflite(
        [*tensors, Tensor("two_a", [1, 2])],
        [add([names[1], names[1]], "two_a"), add(["two_a", names[0]], "y")],
        names,
        ["y"],
        {"a": names[1], "b": names[0], "sum": "y"},
    )
    path = tmp_path / "sum.tflite"
    path.write_bytes(doubled)
    a, b = np.array([[1.0, 2.0]], np.float32), np.array([[10.0, 20.0]], np.float32)
    assert EvaluatedModel(path, 1)({"a": a, "b": b})["sum"].tolist() == [[12.0, 24.0]]
    with pytest.raises(StageError, match="no data for input 'b'; the data have 'a', 'c'"):
        EvaluatedModel(path, 1)({"a": a, "c": b})


def test_data_of_another_shape_are_refused_with_both_shapes(identity: Path) -> None:
    with pytest.raises(StageError, match=r"'x' takes \[1, 4\], the data have \[1, 2, 2\]") as raised:
        run(identity, InMemory({"x": np.zeros((3, 2, 2), np.float32)}, np.zeros(3)), "accuracy")
    assert raised.value.reason is Reason.DATA_MISMATCH


def test_an_empty_split_is_refused(identity: Path) -> None:
    with pytest.raises(StageError, match="empty"):
        run(identity, InMemory({"x": np.zeros((0, 4), np.float32)}, np.zeros(0)), "accuracy")


def test_outputs_that_are_not_numbers_end_the_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "nan.tflite"
    path.write_bytes(dense(np.full((4, 4), np.nan, np.float32)))
    with pytest.raises(StageError, match=r"output 'y' has NaN") as raised:
        run(path, one_hot(10), "accuracy")
    assert raised.value.reason is Reason.NOT_RUNNABLE


def test_a_file_that_is_no_model_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(StageError, match=r"broken\.tflite") as raised:
        run(path, one_hot(10), "accuracy")
    assert raised.value.reason is Reason.NOT_RUNNABLE


@pytest.fixture
def open_batch(tmp_path: Path) -> Path:
    """Two dense layers whose file leaves the batch size open."""
    rng = np.random.default_rng(0)
    weights = Tensor("w", [300, 700], data=rng.normal(size=(300, 700)).astype(np.float32))
    narrow = Tensor("v", [9, 300], data=rng.normal(size=(9, 300)).astype(np.float32))
    tensors = [Tensor("x", [1, 700]), weights, Tensor("h", [1, 300]), narrow, Tensor("y", [1, 9])]
    for tensor in tensors[::2]:
        tensor.batch_open = True
    operators = [fully_connected(["x", "w"], "h", activation=1), fully_connected(["h", "v"], "y")]
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite(tensors, operators, ["x"], ["y"]))
    return path


def timed_as(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """What the single samples, then the batch, are timed at."""
    left = iter(seconds)
    monkeypatch.setattr(model_module, "_timed", lambda run: (run(), next(left)))


def some(samples: int) -> dict[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(1).normal(size=(samples, 700)).astype(np.float32)}


def test_faster_batches_are_used_and_give_the_bits_of_single_samples(
    open_batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed_as(monkeypatch, 0.01, 0.005)
    single, batched = EvaluatedModel(open_batch, 1), EvaluatedModel(open_batch, 1)
    assert batched.use_batches(some(16))
    assert np.array_equal(single(some(50))["y"], batched(some(50))["y"])


def test_batches_that_are_no_faster_are_not_used(open_batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_as(monkeypatch, 0.01, 0.01)
    assert not EvaluatedModel(open_batch, 1).use_batches(some(16))


def test_slow_models_are_not_tried_in_batches(open_batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_as(monkeypatch, 60.0)
    assert not EvaluatedModel(open_batch, 1).use_batches(some(16))


def test_a_file_with_a_fixed_batch_is_left_at_one(identity: Path) -> None:
    model = EvaluatedModel(identity, 1)
    assert not model.inputs[0].dynamic
    assert not model.use_batches({"x": np.zeros((16, 4), np.float32)})


def test_state_does_not_leak_from_sample_to_sample(tmp_path: Path) -> None:
    # SVDF with memory: the second of two equal samples would see the first one's activations
    path = tmp_path / "stateful.tflite"
    path.write_bytes(_svdf())
    out = EvaluatedModel(path, 1)({"x": np.ones((3, 2), np.float32)})["y"]
    assert out[0, 0] != 0
    assert np.array_equal(out[0], out[1])
    assert np.array_equal(out[0], out[2])


def _svdf() -> bytes:
    from ai_edge_litert import schema_py_generated as schema
    from jobs.benchmark.tiny_tflite import Operator, Operators

    options = schema.SVDFOptionsT()
    options.rank = 1
    tensors = [
        Tensor("x", [1, 2]),
        Tensor("feature", [1, 2], data=[[1.0, 2.0]]),
        Tensor("time", [1, 3], data=[[0.5, 1.0, 2.0]]),
        Tensor("bias", [1], data=[0.0]),
        Tensor("state", [1, 3], variable=True),
        Tensor("y", [1, 1]),
    ]
    operator = Operator(
        Operators.SVDF,
        ["x", "feature", "time", "bias", "state"],
        ["y"],
        options,
        schema.BuiltinOptions.SVDFOptions,
    )
    return tflite(tensors, [operator], ["x"], ["y"])


# --- number formats


def port(dtype: str, scale: float = 0.0, zero_point: int = 0) -> Port:
    return Port("x", 0, (1, 1), np.dtype(dtype), scale, zero_point, dynamic=False)


def test_inputs_are_rounded_and_clipped_into_the_tensors_type() -> None:
    values = np.array([-1000, -0.26, -0.24, 0.0, 0.24, 0.26, 1000], np.float32)
    assert quantized(values, port("int8", 0.5, 3)).tolist() == [-128, 2, 3, 3, 3, 4, 127]
    assert quantized(values, port("uint8", 0.5, 128)).tolist() == [0, 127, 128, 128, 128, 129, 255]
    assert quantized(values, port("int16", 0.5)).tolist() == [-2000, -1, 0, 0, 0, 1, 2000]


def test_indices_keep_their_value() -> None:
    assert quantized(np.array([0, 7, 30000], np.float32), port("int32")).tolist() == [0, 7, 30000]


def test_outputs_are_dequantized_and_probabilities_of_zero_stay_zero() -> None:
    raw = np.array([-128, 0, 127], np.int8)
    assert dequantized(raw, port("int8", 1 / 256, -128)).tolist() == [0.0, 0.5, 255 / 256]
    assert dequantized(np.array([1.5], np.float32), port("float32")).tolist() == [1.5]


def test_an_int8_model_is_fed_and_read_in_real_numbers(tmp_path: Path) -> None:
    tensors = [
        Tensor("x", [1, 4], "int8", scale=0.1, zero_point=5),
        Tensor("y", [1, 4], "int8", scale=0.2, zero_point=-7),
    ]
    path = tmp_path / "double.tflite"
    path.write_bytes(tflite(tensors, [add(["x", "x"], "y")], ["x"], ["y"], {"x": "x", "y": "y"}))
    x = np.array([[0.0, 1.0, -2.5, 3.14]], np.float32)
    assert EvaluatedModel(path, 1)({"x": x})["y"] == pytest.approx(2 * x, abs=0.21)


# --- metrics of packages


class LargestOutput:
    """A metric as a package would bring it."""

    def __init__(self) -> None:
        self._largest = -np.inf

    def update(self, outputs: Any, labels: Any, inputs: Any) -> None:
        self._largest = max(self._largest, float(outputs["y"].max()))

    def result(self) -> Measurement:
        return Measurement.exact(self._largest)


class Broken(LargestOutput):
    def update(self, outputs: Any, labels: Any, inputs: Any) -> None:
        raise KeyError("nothing here")


class NoMetric:
    pass


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {"largest": LargestOutput, "broken": Broken, "noMetric": NoMetric}
    monkeypatch.setattr(EntryPoint, "load", lambda self: classes[self.name])
    points = EntryPoints(EntryPoint(name, f"package:{name}", registry.GROUP) for name in classes)
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))


@pytest.mark.usefixtures("installed")
def test_a_packages_metric_stands_beside_the_built_in_ones(identity: Path) -> None:
    metrics, _ = run(identity, one_hot(40), "accuracy", "largest")
    assert metrics["largest"] == Measurement.exact(1.0)
    assert metrics["accuracy"].value == 0.9


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "metric 'broken' failed: KeyError: 'nothing here'"),
        ("noMetric", "without update"),
        ("f1", "metric 'f1' is unknown; known are accuracy, agreement, broken, largest"),
    ],
)
def test_a_metric_that_cannot_be_used_is_named(identity: Path, name: str, words: str) -> None:
    with pytest.raises(StageError, match=words) as raised:
        run(identity, one_hot(10), name)
    assert raised.value.reason is Reason.STEP_FAILED
