from typing import Any

import numpy as np
import pytest
from paretune_compress.quality.accuracy import Accuracy
from paretune_compress.quality.agreement import Agreement
from paretune_compress.quality.mean_squared_error import MeanSquaredError
from paretune_compress.quality.roc_auc import RocAuc
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import Measurement, wilson

X = {"x": np.zeros((4, 3), np.float32)}


def after(
    metric: Any, output: Any, labels: Any = None, inputs: dict[str, np.ndarray] | None = None
) -> Measurement:
    array = np.asarray(output, np.float32)
    metric.update({"y": array}, None if labels is None else np.asarray(labels), inputs or X)
    return metric.result()


def agreement(output: Any, reference: Any, inputs: dict[str, np.ndarray] | None = None) -> Measurement:
    metric = Agreement()
    metric.compare(
        {"y": np.asarray(output, np.float32)}, {"y": np.asarray(reference, np.float32)}, inputs or X
    )
    return metric.result()


# --- accuracy


THREE = [[9, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 1],
        [[0], [1], [2], [1]],
        [0.0, 1.0, 2.0, 1.0],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]],
    ],
    ids=["indices", "column", "floats", "one-hot"],
)
def test_accuracy_is_the_share_of_highest_outputs_with_wilsons_interval(labels: Any) -> None:
    assert after(Accuracy(), THREE, labels) == wilson(3, 4)


def test_accuracy_adds_up_over_batches() -> None:
    metric = Accuracy()
    for start, stop in ((0, 1), (1, 4)):
        metric.update({"y": np.array(THREE[start:stop], np.float32)}, np.array([0, 1, 2, 1][start:stop]), X)
    assert metric.result() == wilson(3, 4)


def test_classes_behind_axes_of_one_are_classes() -> None:
    assert after(Accuracy(), np.reshape(THREE, (4, 1, 1, 3)), [0, 1, 2, 1]).value == 0.75


def test_a_single_probability_is_binary_at_one_half() -> None:
    assert after(Accuracy(), [[0.4], [0.6], [0.9], [0.1]], [0, 1, 0, 0]).value == 0.75


def test_a_single_logit_is_binary_at_zero() -> None:
    assert after(Accuracy(), [[0.4], [-0.6], [3.0], [-2.0]], [1, 0, 1, 0]).value == 1.0


def test_segmentation_counts_each_sample_by_its_share_of_right_positions() -> None:
    output = np.zeros((2, 4, 4, 3))
    output[..., 1] = 1
    labels = np.ones((2, 4, 4), int)
    labels[0, :2] = 2
    assert after(Accuracy(), output, labels) == wilson(1.5, 2)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "needs labels"),
        ([0, 1, 2, 3], r"label 3 lies outside 0\.\.2"),
        ([0, 1, -1, 0], "label -1"),
        ([0, 1, 0.5, 0], "0.5"),
        ([[0, 1], [1, 0], [1, 0], [0, 1]], r"labels of shape \[4, 2\].*output of shape \[4, 3\]"),
    ],
)
def test_labels_that_are_no_classes_of_the_model_are_refused(labels: Any, words: str) -> None:
    with pytest.raises(StageError, match=words) as raised:
        after(Accuracy(), THREE, labels)
    assert raised.value.reason is Reason.DATA_MISMATCH


def test_several_outputs_have_no_accuracy() -> None:
    with pytest.raises(StageError, match="'a', 'b'"):
        Accuracy().update({"a": np.zeros((1, 2)), "b": np.zeros((1, 2))}, np.zeros(1), X)


# --- mean squared error


def test_the_error_is_against_labels_of_the_outputs_shape() -> None:
    measured = after(MeanSquaredError(), [[1.0], [2.0]], [2.0, 4.0], {"x": np.zeros((2, 1))})
    assert measured.value == 2.5
    assert 0 <= measured.low < 2.5 < measured.high


def test_without_such_labels_it_is_against_the_input_that_is_reconstructed() -> None:
    inputs = {"x": np.ones((4, 3), np.float32)}
    assert after(MeanSquaredError(), np.zeros((4, 3)), [0, 1, 0, 1], inputs).value == 1.0
    assert after(MeanSquaredError(), np.zeros((4, 3)), None, inputs).value == 1.0


def test_labels_of_the_outputs_shape_come_before_the_input() -> None:
    inputs = {"x": np.ones((2, 3), np.float32)}
    assert after(MeanSquaredError(), np.zeros((2, 3)), np.full((2, 3), 2.0), inputs).value == 4.0


def test_class_indices_are_no_target_of_a_classifier() -> None:
    with pytest.raises(StageError, match=r"output's shape \[4, 10\], found \[4\]"):
        after(MeanSquaredError(), np.zeros((4, 10)), [0, 1, 2, 3])


def test_an_infinite_error_is_a_model_that_does_not_run() -> None:
    with pytest.raises(StageError, match="infinite") as raised:
        after(MeanSquaredError(), [[np.inf], [1.0]], [1.0, 1.0], {"x": np.zeros((2, 1))})
    assert raised.value.reason is Reason.NOT_RUNNABLE


# --- area under the ROC curve


def test_an_anomaly_is_what_is_reconstructed_badly() -> None:
    inputs = {"x": np.array([[0, 0], [0, 0], [5, 5], [7, 0]], np.float32)}
    assert after(RocAuc(), np.zeros((4, 2)), [0, 0, 1, 1], inputs).value == 1.0
    assert after(RocAuc(), np.zeros((4, 2)), [1, 1, 0, 0], inputs).value == 0.0


def test_a_single_output_is_the_score() -> None:
    assert after(RocAuc(), [[0.1], [0.7], [0.6], [0.9]], [0, 0, 1, 1]).value == 0.75


def test_of_two_classes_the_lead_of_the_second_is_the_score() -> None:
    assert after(RocAuc(), [[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.1, 0.9]], [0, 0, 1, 1]).value == 0.75


@pytest.mark.parametrize(
    ("output", "labels", "words"),
    [
        (np.zeros((4, 1)), [1, 1, 1, 1], "all 4 samples have 1"),
        (np.zeros((4, 1)), [0, 1, 2, 1], r"0\.\.1"),
        (np.zeros((4, 1)), None, "needs labels"),
        (np.zeros((4, 5)), [0, 1, 0, 1], r"\[4, 5\]"),
        (np.zeros((4, 1)), np.zeros((4, 2)), r"\[4, 2\]"),
    ],
)
def test_what_has_no_roc_curve_is_refused(output: Any, labels: Any, words: str) -> None:
    with pytest.raises(StageError, match=words) as raised:
        after(RocAuc(), output, labels)
    assert raised.value.reason is Reason.DATA_MISMATCH


# --- agreement


def test_classes_agree_when_the_highest_output_is_the_same() -> None:
    other = [[8, 7, 0], [0, 1, 0], [5, 0, 4], [1, 0, 0]]
    assert agreement(THREE, other, {"x": np.zeros((4, 9))}) == wilson(3, 4)


def test_probabilities_agree_on_the_same_side_of_one_half() -> None:
    assert agreement([[0.1], [0.6], [0.4], [0.9]], [[0.4], [0.9], [0.6], [0.8]]) == wilson(3, 4)


def test_numbers_agree_within_a_twentieth_of_the_references_spread() -> None:
    reference = np.array([[-10.0], [0.0], [10.0], [20.0]])  # standard deviation 11.18: tolerance 0.559
    shifts = np.array([[0.5], [-0.5], [0.6], [0.0]])
    assert agreement(reference + shifts, reference) == wilson(3, 4)


def test_the_spread_is_that_of_all_batches() -> None:
    reference = np.array([[-10.0], [0.0], [10.0], [20.0]])
    metric = Agreement()
    for row, shift in zip(reference, (0.5, -0.5, 0.6, 0.0), strict=True):
        metric.compare({"y": (row + shift)[np.newaxis]}, {"y": row[np.newaxis]}, {"x": np.zeros((1, 3))})
    assert metric.result() == wilson(3, 4)


def test_reconstructions_agree_by_distance_and_not_by_their_highest_value() -> None:
    inputs = {"x": np.zeros((2, 3), np.float32)}
    reference = [[1.0, 0.999, 0.0], [1.0, 0.0, 0.0]]
    assert agreement([[0.999, 1.0, 0.0], [1.0, 0.2, 0.0]], reference, inputs) == wilson(1, 2)


def test_with_several_outputs_a_sample_agrees_when_all_do() -> None:
    metric = Agreement()
    one, other = np.eye(3)[[0, 1, 2]], np.eye(3)[[0, 1, 1]]
    metric.compare(
        {"a": one, "b": one}, {"a": one[[1, 1, 2]], "b": other}, {"x": np.zeros((3, 9), np.float32)}
    )
    assert metric.result() == wilson(1, 3)
