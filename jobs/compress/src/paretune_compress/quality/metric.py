"""What a metric is. A package adds its own as an entry point in the group `paretune.metrics`."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from paretune_contract.measurement import Measurement

Arrays = Mapping[str, NDArray[Any]]


class Metric(Protocol):
    """A quality metric over one evaluation, fed batch by batch.

    The entry point names a factory without arguments, such as the class itself:

        [project.entry-points."paretune.metrics"]
        meanAbsoluteError = "my_package:MeanAbsoluteError"

    A fresh object is made for every evaluation. Samples come in a fixed shuffled order; the evaluation may
    end early, and `result` then speaks of the samples seen.
    """

    def update(self, outputs: Arrays, labels: NDArray[Any] | None, inputs: Arrays) -> None:
        """Take in one batch of n samples.

        Args:
            outputs: float32 of shape [n, ...] by output name; quantized outputs come dequantized.
            labels: shape [n, ...], as the data set has them; None where it has none.
            inputs: float32 of shape [n, ...] by input name, scaled as the model takes them.
        """
        ...

    def result(self) -> Measurement:
        """The metric's value and its 95% interval over the samples seen; at least one was."""
        ...


@runtime_checkable
class Comparison(Protocol):
    """A metric that compares outputs with those of a reference model on the same samples."""

    def compare(self, outputs: Arrays, reference: Arrays, inputs: Arrays) -> None:
        """Take in one batch; `reference` has the keys and shapes of `outputs`."""
        ...

    def result(self) -> Measurement:
        """The metric's value and its 95% interval over the samples seen."""
        ...
