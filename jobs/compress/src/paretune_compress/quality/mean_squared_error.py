"""Mean squared error against labels, or against the input that is reconstructed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import Measurement

from .intervals import mean_interval
from .metric import Arrays
from .shapes import labels_needed, mismatch, reconstructed_input, sample_shape, sole_output, squared_errors

NAME = "meanSquaredError"


class MeanSquaredError:
    """Mean over samples of the mean squared error of each; normal interval of that mean.

    The target is the labels when they have the output's shape, else the input when that has it.
    """

    def __init__(self) -> None:
        self._errors: list[NDArray[np.float64]] = []

    def update(self, outputs: Arrays, labels: NDArray[Any] | None, inputs: Arrays) -> None:
        """Take in one batch.

        Raises:
            StageError: DataMismatch when neither labels nor input have the output's shape.
        """
        output = sole_output(NAME, outputs)
        target = reconstructed_input(output, inputs)
        if labels is not None and sample_shape(labels) == sample_shape(output):
            target = labels
        if target is None and labels is None:
            raise labels_needed(NAME)
        if target is None or len(target) != len(output):
            found = "none" if labels is None else f"{list(labels.shape)}"
            raise mismatch(
                f"{NAME} needs labels of the output's shape {list(output.shape)}, found {found}; "
                "without labels, a model that reconstructs its input"
            )
        self._errors.append(squared_errors(output, target))

    def result(self) -> Measurement:
        """Mean of the samples' errors.

        Raises:
            StageError: NotRunnable when the error is infinite.
        """
        errors = np.concatenate(self._errors)
        if not np.isfinite(errors).all():
            raise StageError(
                Reason.NOT_RUNNABLE,
                f"{NAME}: the outputs of {int((~np.isfinite(errors)).sum())} samples are infinite",
            )
        return mean_interval(errors, lowest=0.0)
