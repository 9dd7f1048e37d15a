"""Top-1 accuracy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.measurement import Measurement, wilson

from .metric import Arrays
from .shapes import class_indices, labels_needed, mismatch, sole_output

NAME = "accuracy"


class Accuracy:
    """Share of samples whose highest output is the label's class; Wilson's interval.

    Labels are class indices or one-hot. A single output is binary: above 0.5 is class 1, or above 0 when
    any output lies outside [0, 1], which makes them logits. With a class for every position (segmentation)
    a sample counts by its share of right positions.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._right = 0.0
        self._right_as_logits = 0.0
        self._logits = False

    def update(self, outputs: Arrays, labels: NDArray[Any] | None, inputs: Arrays) -> None:  # noqa: ARG002
        """Take in one batch.

        Raises:
            StageError: DataMismatch when labels are missing or are no classes of this output.
        """
        output = sole_output(NAME, outputs)
        if labels is None:
            raise labels_needed(NAME)
        n = len(output)
        classes = output.shape[-1] if output.ndim > 1 else 1
        if classes > 1:
            found = output.argmax(axis=-1).reshape(n, -1)
            if labels.shape == output.shape:
                wanted = labels.argmax(axis=-1).reshape(n, -1)
            else:
                wanted = class_indices(NAME, _positions(labels, found, output), classes)
            self._right += float((found == wanted).mean(axis=1).sum())
        else:
            scores = output.reshape(n, -1)
            wanted = class_indices(NAME, _positions(labels, scores, output), 2)
            self._right += float(((scores > 0.5) == wanted).mean(axis=1).sum())
            self._right_as_logits += float(((scores > 0) == wanted).mean(axis=1).sum())
            self._logits |= bool(scores.min() < 0 or scores.max() > 1)
        self._samples += n

    def result(self) -> Measurement:
        """Share of right samples."""
        right = self._right_as_logits if self._logits else self._right
        return wilson(min(right, self._samples), self._samples)


def _positions(labels: NDArray[Any], found: NDArray[Any], output: NDArray[Any]) -> NDArray[Any]:
    """Labels as [n, positions].

    Raises:
        StageError: DataMismatch when there is not one for each position.
    """
    if labels.size != found.size or len(labels) != len(found):
        wanted = [len(output)] if found.shape[1] == 1 else list(output.shape[:-1])
        raise mismatch(
            f"labels of shape {list(labels.shape)} do not fit an output of shape {list(output.shape)}: "
            f"expected class indices {wanted} or one-hot {list(output.shape)}"
        )
    return labels.reshape(found.shape)


def agreeing(output: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.bool_]:
    """For each sample, whether the highest outputs are the same (in every position); shape [n]."""
    same = output.argmax(axis=-1) == reference.argmax(axis=-1)
    return np.asarray(same.reshape(len(output), -1).all(axis=1), np.bool_)
