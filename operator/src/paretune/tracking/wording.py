"""Metrics in words: their names, their numbers with units, and what a candidate gains and costs."""

from collections.abc import Iterable

from paretune_contract.measurement import (
    LATENCY,
    LATENCY_RATIO,
    PEAK_MEMORY,
    SIZE_METRICS,
    Measurement,
    Metrics,
)
from paretune_contract.quantity import show_bytes, show_seconds

FRACTIONS = frozenset({"accuracy", "agreement", "auc", "rocAuc"})
"""Metrics between 0 and 1 that are read as percent and compared in points."""

_LABELS = {
    "accuracy": "accuracy",
    "agreement": "agreement with the baseline",
    "auc": "ROC AUC",
    "rocAuc": "ROC AUC",
    "meanSquaredError": "mean squared error",
    "modelSize": "model size",
    "downloadSize": "download size",
    "latency": "latency",
    "latencyRatio": "latency ratio",
    "peakMemory": "peak memory",
}


def base(name: str) -> str:
    """`latency/cpu` without its pool: `latency`."""
    return name.partition("/")[0]


def label(name: str) -> str:
    """`latency/cpu` as `latency on cpu`."""
    metric, _, pool = name.partition("/")
    words = _LABELS.get(metric, metric)
    return f"{words} on {pool}" if pool else words


def unit(name: str) -> str:
    """Unit of an axis that shows `axis_value`s of this metric; empty for plain numbers."""
    metric = base(name)
    if metric in FRACTIONS:
        return "%"
    if metric in SIZE_METRICS or metric == PEAK_MEMORY:
        return "kB"
    return "ms" if metric == LATENCY else ""


def axis_value(name: str, value: float) -> float:
    """A metric's value in the unit of its axis."""
    return value * {"%": 100.0, "kB": 1e-3, "ms": 1e3, "": 1.0}[unit(name)]


def axis_title(name: str) -> str:
    """`download size (kB)`."""
    return f"{label(name)} ({unit(name)})" if unit(name) else label(name)


def show(name: str, value: float) -> str:
    """A value with its unit: `91.20%`, `30,112 B`, `1.23 ms`, `0.52x`."""
    metric = base(name)
    if metric in FRACTIONS:
        return f"{value:.2%}"
    if metric in SIZE_METRICS or metric == PEAK_MEMORY:
        return show_bytes(value)
    if metric == LATENCY:
        return show_seconds(value)
    return show_ratio(value) if metric == LATENCY_RATIO else f"{value:.4g}"


def show_ratio(value: float) -> str:
    """A ratio with two significant places below one, and never `0.00x`."""
    return f"{value:.2f}x" if value >= 0.095 else f"{value:.2g}x"


def show_interval(name: str, measurement: Measurement) -> str:
    """The 95% interval, `90.10 - 92.20%`; empty for exact numbers."""
    if measurement.low == measurement.high:
        return ""
    low, high = show(name, measurement.low), show(name, measurement.high)
    for suffix in ("%", " ms", " s", " µs", " B", "x"):
        if low.endswith(suffix) and high.endswith(suffix):
            return f"{low.removesuffix(suffix)} – {high}"
    return f"{low} – {high}"


def compare(name: str, value: float, reference: float) -> str:
    """A value against the baseline's: `-0.40 points` for fractions, `0.29x` for the rest."""
    if base(name) in FRACTIONS:
        points = (value - reference) * 100
        if abs(points) < 0.005:
            return "±0 points"
        return f"{'+' if points > 0 else '−'}{abs(points):.2f} points"
    return show_ratio(value / reference) if reference > 0 else f"{value - reference:+.4g}"


def versus(name: str, metrics: Metrics, baseline: Metrics) -> str:
    """A model's metric against the baseline's; empty where one of them is unknown.

    For a latency that is the ratio from interleaved rounds, where there is one: both models had the same
    weather.
    """
    metric, _, pool = name.partition("/")
    ratio = f"{LATENCY_RATIO}/{pool}"
    if metric == LATENCY and ratio in metrics:
        return show_ratio(metrics[ratio].value)
    if name not in metrics or name not in baseline:
        return ""
    return compare(name, metrics[name].value, baseline[name].value)


def change(name: str, metrics: Metrics, baseline: Metrics) -> float | None:
    """Below zero where the model has less of the metric than the baseline, by what `versus` shows."""
    metric, _, pool = name.partition("/")
    ratio = f"{LATENCY_RATIO}/{pool}"
    if metric == LATENCY and ratio in metrics:
        return metrics[ratio].value - 1
    if name not in metrics or name not in baseline:
        return None
    return metrics[name].value - baseline[name].value


def shown_beside(names: Iterable[str]) -> list[str]:
    """Names without the latency ratios, which stand beside their latencies already."""
    listed = list(names)
    return [
        name
        for name in listed
        if not (base(name) == LATENCY_RATIO and name.replace(LATENCY_RATIO, LATENCY, 1) in listed)
    ]


def phrase(name: str, metrics: Metrics, baseline: Metrics) -> str:
    """One metric against the baseline: `download size 0.29x (30,112 B)`, `accuracy −0.40 points (91.20%)`."""
    return f"{label(name)} {versus(name, metrics, baseline)} ({show(name, metrics[name].value)})"


def gains_and_costs(goals: dict[str, str], metrics: Metrics, baseline: Metrics) -> str:
    """What a model gains and costs against the baseline, as the rest of a sentence.

    `download size 0.29x (30,112 B) against the baseline, at the cost of accuracy −0.40 points (91.20%).`

    Args:
        goals: metric name to `minimize` or `maximize`, in the order of the manifest.
        metrics: of the model.
        baseline: of the untouched model, or of the reference where that cannot run.
    """
    gains: list[str] = []
    costs: list[str] = []
    same: list[str] = []
    for name, goal in goals.items():
        difference = change(name, metrics, baseline)
        if difference is None or name not in metrics:
            continue
        if difference == 0:
            same.append(label(name))
        elif (difference < 0) == (goal == "minimize"):
            gains.append(phrase(name, metrics, baseline))
        else:
            costs.append(phrase(name, metrics, baseline))
    if not (gains or costs or same):
        return "nothing to compare with the baseline."
    sentence = f"{_listed(gains)} against the baseline" if gains else "no gain against the baseline"
    sentence += f", at the cost of {_listed(costs)}" if costs else ", at no cost" if gains else ""
    return sentence + (f"; {_listed(same)} as before." if same else ".")


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
