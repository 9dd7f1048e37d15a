"""Balanced accuracy: the mean of the classes' recalls, which a frequent class cannot hide behind."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from paretune_contract.measurement import Measurement

Arrays = Mapping[str, NDArray[Any]]


class BalancedAccuracy:
    """One object for one evaluation; Paretune makes it, feeds it batches and asks for the result.

    The 95% interval is that of a mean of independent proportions (normal approximation).
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self._right: Counter[int] = Counter()

    def update(self, outputs: Arrays, labels: NDArray[Any] | None, inputs: Arrays) -> None:  # noqa: ARG002
        """Count a batch: `outputs` by name, float32 [n, classes]; `labels` [n], class indices."""
        if labels is None:
            raise ValueError("balancedAccuracy needs labels")
        predicted = next(iter(outputs.values())).argmax(axis=-1)
        for wanted, got in zip(labels.tolist(), predicted.tolist(), strict=True):
            self._seen[wanted] += 1
            self._right[wanted] += wanted == got

    def result(self) -> Measurement:
        """The mean recall of the classes seen."""
        recalls = {label: self._right[label] / n for label, n in self._seen.items()}
        value = sum(recalls.values()) / len(recalls)
        variance = sum(r * (1 - r) / self._seen[label] for label, r in recalls.items()) / len(recalls) ** 2
        half = 1.96 * math.sqrt(variance)
        return Measurement(value=value, low=max(0.0, value - half), high=min(1.0, value + half))
