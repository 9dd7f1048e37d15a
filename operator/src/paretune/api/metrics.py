"""The metrics that every installation knows: which way is better, in what unit, and on a device or not."""

from dataclasses import dataclass
from enum import StrEnum

from paretune_contract import measurement as names
from paretune_contract.quantity import plain_number, seconds, size_bytes


class Goal(StrEnum):
    """Which way a metric gets better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class Unit(StrEnum):
    """Unit of a metric's values."""

    NONE = "1"
    SECONDS = "s"
    BYTES = "B"


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    Attributes:
        goal: which way is better.
        unit: unit of its values, and of `atMost`.
        on_device: measured on a device pool; otherwise it has one value per candidate.
        meaning: a few words for people.
    """

    name: str
    goal: Goal
    unit: Unit
    on_device: bool
    meaning: str


BUILT_IN: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(names.ACCURACY, Goal.MAXIMIZE, Unit.NONE, False, "top-1 accuracy"),
        Metric(names.ROC_AUC, Goal.MAXIMIZE, Unit.NONE, False, "area under the ROC curve"),
        Metric(names.AGREEMENT, Goal.MAXIMIZE, Unit.NONE, False, "share of the baseline's answers kept"),
        Metric(names.MEAN_SQUARED_ERROR, Goal.MINIMIZE, Unit.NONE, False, "mean squared error"),
        Metric(names.MODEL_SIZE, Goal.MINIMIZE, Unit.BYTES, False, "bytes of the .tflite"),
        Metric(names.DOWNLOAD_SIZE, Goal.MINIMIZE, Unit.BYTES, False, "bytes after entropy coding"),
        Metric(names.LATENCY, Goal.MINIMIZE, Unit.SECONDS, True, "time of one inference at batch 1"),
        Metric(names.LATENCY_RATIO, Goal.MINIMIZE, Unit.NONE, True, "latency divided by the reference's"),
        Metric(names.PEAK_MEMORY, Goal.MINIMIZE, Unit.BYTES, True, "peak memory of one inference"),
    )
}


def metric_named(name: str, goal: Goal | None = None) -> Metric:
    """A built-in metric, or a user's own, which is evaluated on data and has no unit.

    Raises:
        ValueError: when a user's own metric comes without a goal.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if goal is None:
        raise ValueError(
            f"metric {name!r} is not built in: its objective must say goal: minimize or maximize"
        )
    return Metric(name, goal, Unit.NONE, False, "a metric of your own")


def in_unit(value: int | str, unit: Unit) -> float:
    """A bound such as `20ms`, `64KiB` or `"0.02"` in its metric's unit.

    Raises:
        ValueError: when it is no such quantity; the message says what would be right.
    """
    parse = {Unit.SECONDS: seconds, Unit.BYTES: size_bytes, Unit.NONE: plain_number}[unit]
    return parse(value)
