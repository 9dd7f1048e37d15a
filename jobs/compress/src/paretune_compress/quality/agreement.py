"""Agreement with the baseline's outputs; no labels are needed."""

import numpy as np
from numpy.typing import NDArray
from paretune_contract.measurement import Measurement, wilson

from .accuracy import agreeing
from .metric import Arrays
from .shapes import reconstructed_input, squared_errors

NAME = "agreement"
TOLERANCE = 0.05
"""A number agrees when it is off by at most this share of the reference outputs' standard deviation."""


class Agreement:
    """Share of samples on which a model decides as the reference does; Wilson's interval.

    - An output of two or more values along its last axis is a class: the highest must be the same.
    - A single output whose reference lies in [0, 1] throughout is a binary probability: both must lie on
      the same side of 0.5.
    - Every other output is a number (a regression, a reconstruction of the input): its root mean square
      difference over the sample must be at most 5% of the standard deviation of the reference's output
      over all samples seen.

    With several outputs a sample agrees when all of them do.
    """

    def __init__(self) -> None:
        self._outputs: dict[str, _OutputAgreement] = {}

    def compare(self, outputs: Arrays, reference: Arrays, inputs: Arrays) -> None:
        """Take in one batch."""
        for name, output in outputs.items():
            self._outputs.setdefault(name, _OutputAgreement()).add(output, reference[name], inputs)

    def result(self) -> Measurement:
        """Share of agreeing samples."""
        agrees = np.logical_and.reduce([output.agrees() for output in self._outputs.values()])
        return wilson(int(agrees.sum()), len(agrees))


class _OutputAgreement:
    """One output's samples. What a single output is, is known only when all of them are."""

    def __init__(self) -> None:
        self._same_decision: list[NDArray[np.bool_]] = []
        self._squared: list[NDArray[np.float64]] = []
        self._is_class = True
        self._low, self._high = np.inf, -np.inf
        self._count, self._mean, self._spread = 0, 0.0, 0.0

    def add(self, output: NDArray[np.float32], reference: NDArray[np.float32], inputs: Arrays) -> None:
        single = output.size == len(output)
        reconstruction = reconstructed_input(output, inputs) is not None
        if single:
            same = (output > 0.5) == (reference > 0.5)
            self._same_decision.append(same.reshape(len(output)))
        elif not reconstruction:
            self._same_decision.append(agreeing(output, reference))
        self._squared.append(squared_errors(output, reference))
        self._low = min(self._low, float(reference.min()))
        self._high = max(self._high, float(reference.max()))
        self._is_class = not reconstruction and (not single or (self._low >= 0 and self._high <= 1))
        self._grow(reference.astype(np.float64))

    def agrees(self) -> NDArray[np.bool_]:
        if self._is_class:
            return np.concatenate(self._same_decision)
        limit = TOLERANCE**2 * self._spread / self._count
        return np.asarray(np.concatenate(self._squared) <= limit, np.bool_)

    def _grow(self, values: NDArray[np.float64]) -> None:
        """Mean and sum of squared deviations, batch by batch (Chan, Golub and LeVeque 1979)."""
        n, mean = values.size, float(values.mean())
        total = self._count + n
        shift = mean - self._mean
        self._spread += float(((values - mean) ** 2).sum()) + shift**2 * self._count * n / total
        self._mean += shift * n / total
        self._count = total
