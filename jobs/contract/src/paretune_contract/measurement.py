"""Metrics: a value with its 95% interval, and the names under which metrics travel."""

import math
from typing import Annotated

from pydantic import Field

from .base import Document

ACCURACY = "accuracy"
ROC_AUC = "rocAuc"
AGREEMENT = "agreement"
MEAN_SQUARED_ERROR = "meanSquaredError"
MODEL_SIZE = "modelSize"
DOWNLOAD_SIZE = "downloadSize"
LATENCY = "latency"
LATENCY_RATIO = "latencyRatio"
PEAK_MEMORY = "peakMemory"

CODER = "paretune-1"
"""The coder behind `downloadSize`: the container .ptz of version 1, made with the codec's own effort.

Whatever makes other bytes for the same file needs another name, since sizes of two coders do not compare.
"""

QUALITY_METRICS = frozenset({ACCURACY, ROC_AUC, AGREEMENT, MEAN_SQUARED_ERROR})
"""Evaluated on data by every installation; a user's own are entry points of `paretune.metrics`."""
SIZE_METRICS = frozenset({MODEL_SIZE, DOWNLOAD_SIZE})
"""Exact, in bytes: known before anything is evaluated or measured."""
DEVICE_METRICS = frozenset({LATENCY, LATENCY_RATIO, PEAK_MEMORY})
"""Measured on a device pool: seconds per inference at batch 1, ratio to the reference, bytes."""


class Measurement(Document):
    """A number and its 95% interval; for exact numbers both ends equal the value."""

    value: float = Field(description="Median, estimate or exact number.")
    low: float = Field(description="Lower end of the 95% interval.")
    high: float = Field(description="Upper end of the 95% interval.")

    @classmethod
    def exact(cls, value: float) -> "Measurement":
        """A number that is known, such as bytes."""
        return cls(value=value, low=value, high=value)


Metrics = Annotated[dict[str, Measurement], Field(max_length=128)]


def on_pool(metric: str, pool: str) -> str:
    """`latency` on pool `pi` is `latency/pi`."""
    return f"{metric}/{pool}"


def wilson(successes: float, n: int, z: float = 1.959964) -> Measurement:
    """A proportion with its Wilson score interval (Wilson 1927).

    Args:
        successes: number of successes, 0..n.
        n: number of tries, at least 1.
        z: standard normal quantile; the default gives 95%.

    Raises:
        ValueError: when n < 1 or successes lie outside 0..n (NaN included).
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson: {successes} successes of {n}")
    p = successes / n
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    # At p = 0 and p = 1 rounding would leave the estimate a hair outside its own interval.
    return Measurement(value=p, low=max(0.0, min(p, centre - half)), high=min(1.0, max(p, centre + half)))
