"""Area under the ROC curve."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.measurement import Measurement

from .intervals import area_under_curve, auc_interval
from .metric import Arrays
from .shapes import class_indices, labels_needed, mismatch, reconstructed_input, sole_output, squared_errors

NAME = "rocAuc"


class RocAuc:
    """Area under the ROC curve for labels 0 and 1; Newcombe's interval.

    The score of a sample is its reconstruction error when the output has the input's shape (an anomaly,
    label 1, is reconstructed badly), the output when there is one, and the lead of class 1 when there are
    two.
    """

    def __init__(self) -> None:
        self._scores: list[NDArray[np.float64]] = []
        self._positive: list[NDArray[np.bool_]] = []

    def update(self, outputs: Arrays, labels: NDArray[Any] | None, inputs: Arrays) -> None:
        """Take in one batch.

        Raises:
            StageError: DataMismatch when labels are not one 0 or 1 a sample, or outputs are no score.
        """
        output = sole_output(NAME, outputs)
        if labels is None:
            raise labels_needed(NAME)
        n = len(output)
        if labels.size != n:
            raise mismatch(f"{NAME} needs one label a sample, 0 or 1; found shape {list(labels.shape)}")
        self._positive.append(class_indices(NAME, labels.reshape(n), 2) == 1)
        self._scores.append(_scores(output, inputs))

    def result(self) -> Measurement:
        """The area.

        Raises:
            StageError: DataMismatch when all labels seen are equal.
        """
        scores, positive = np.concatenate(self._scores), np.concatenate(self._positive)
        positives = int(positive.sum())
        if positives in (0, len(positive)):
            raise mismatch(
                f"{NAME} needs samples of both labels; "
                f"all {len(positive):,} samples have {int(positives > 0)}"
            )
        return auc_interval(area_under_curve(scores, positive), positives, len(positive) - positives)


def _scores(output: NDArray[Any], inputs: Arrays) -> NDArray[np.float64]:
    source = reconstructed_input(output, inputs)
    if source is not None:
        return squared_errors(output, source)
    flat = output.reshape(len(output), -1).astype(np.float64)
    if flat.shape[1] == 1:
        return np.asarray(flat[:, 0], np.float64)
    if flat.shape[1] == 2:
        return np.asarray(flat[:, 1] - flat[:, 0], np.float64)
    raise mismatch(
        f"{NAME} is of models that reconstruct their input or give one score or two classes; "
        f"the output has shape {list(output.shape)}"
    )
