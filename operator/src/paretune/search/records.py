"""What the search reads from trial records: metrics, the baseline, and ranges of trial numbers."""

from collections.abc import Iterable, Sequence

from paretune_contract.measurement import DEVICE_METRICS, Metrics

from ..api import OptimizationTrial


def searched(trial: OptimizationTrial) -> Metrics:
    """What the search saw; it never changes after a final state."""
    return trial.status.metrics


def reported(trial: OptimizationTrial) -> Metrics:
    """What is reported: the fresh rounds' values where there are any, else what the search saw."""
    final = trial.status.final
    return {**trial.status.metrics, **final.metrics} if final else trial.status.metrics


def baseline(trials: Sequence[OptimizationTrial], *, fresh: bool = False) -> Metrics | None:
    """Metrics of the untouched model, trial 0; None while it is not finished.

    Where a device could not run it, the reference's values (plain int8, trial 1) stand in.

    Args:
        trials: records in number order.
        fresh: take the values of the fresh rounds where there are any.
    """
    read = reported if fresh else searched
    if not trials or trials[0].number != 0 or not trials[0].final:
        return None
    own = read(trials[0])
    references = [t for t in trials[1:] if t.spec.ask.origin == "reference" and t.final]
    if not references:
        return own
    device = {k: v for k, v in read(references[0]).items() if k.partition("/")[0] in DEVICE_METRICS}
    return {**device, **own}


def format_ranges(numbers: Iterable[int]) -> str:
    """`{0, 1, 2, 5}` as `"0-2,5"`; no numbers as `""`."""
    parts: list[str] = []
    first = last = None
    for number in sorted(set(numbers)):
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            parts.append(_range(first, last))
        first = last = number
    if first is not None and last is not None:
        parts.append(_range(first, last))
    return ",".join(parts)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def parse_ranges(text: str) -> frozenset[int]:
    """The inverse of `format_ranges`.

    Raises:
        ValueError: when the text is no list of ranges.
    """
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            raise ValueError(f"{text!r} is no list of ranges such as 0-41,43: {part!r}")
        numbers.update(range(int(low), int(high or low) + 1))
    return frozenset(numbers)
