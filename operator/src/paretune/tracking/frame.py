"""What part of the plane a picture shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..search.objectives import ResolvedObjective
from .spots import Axes, Role, Spot, limits
from .view import StudyView

_LOG_FROM = 6.0  # ratio of largest to smallest value from which ratios tell values apart better
_REACH = 0.35  # how far beyond front and baseline other trials may widen the picture, in its own extent
_AIR = 0.07


@dataclass(frozen=True)
class Span:
    """The range of an axis, in the unit of the axis."""

    low: float
    high: float
    log: bool

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ends(self) -> tuple[float, float]:
        """Low and high as Plotly takes them: powers of ten on a logarithmic axis."""
        return (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)

    def widened(self, share: float) -> "Span":
        """The span with so much of its extent more on each side."""
        low, high = self.ends()
        more = (high - low) * share or (0.05 if self.log else abs(high) * 0.05 or 1.0)
        low, high = low - more, high + more
        return Span(10**low, 10**high, True) if self.log else Span(low, high, False)

    def position(self, value: float) -> float:
        """0 at the low end, 1 at the high end, as far along as it is drawn."""
        low, high = self.ends()
        return ((math.log10(value) if self.log else value) - low) / (high - low)

    def ticks(self) -> list[float]:
        """1, 2, 5 and their like on a logarithmic axis; more in a short one, fewer in a long one."""
        low, high = self.ends()
        steps: tuple[float, ...] = (1, 1.5, 2, 3, 5, 7) if high - low < 1.2 else (1, 2, 5)
        if high - low >= 2.5:
            steps = (1,)
        marks = [s * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for s in steps]
        return [m for m in marks if m in self]


def frame(view: StudyView, found: Sequence[Spot], ax: Axes) -> tuple[Span, Span]:
    """Ranges of x and y.

    Front and baseline are in view, with what lies around them: a candidate that collapsed must not squeeze
    the models that matter into a corner.
    """
    named = [s for s in found if s.role in (Role.FRONT, Role.BASELINE)] or list(found)
    spans = [_span([s.at(o) for s in named], logarithmic=o.minimized) for o in (ax.x, ax.y)]
    wide = [span.widened(_REACH) for span in spans]
    near = [s for s in found if s.at(ax.x) in wide[0] and s.at(ax.y) in wide[1]]
    out = []
    for objective, span, reach in zip((ax.x, ax.y), spans, wide, strict=True):
        bounds = [limit for _, limit in limits(view, objective) if limit in reach.widened(_REACH)]
        values = [s.at(objective) for s in [*named, *near]] + bounds
        out.append(_span(values, logarithmic=span.log, forced=True).widened(_AIR))
    return out[0], out[1]


def labelled(found: Sequence[Spot], ax: Axes, spans: tuple[Span, Span]) -> set[int]:
    """Numbers of the front's trials whose labels have room; models with a name come first."""
    taken: list[tuple[float, float]] = []
    numbers = set()
    for spot in sorted((s for s in found if s.on_front), key=lambda s: (not s.marks, s.number)):
        place = tuple(
            (span.position(spot.at(o)) if spot.at(o) in span else -1.0)
            for o, span in zip((ax.x, ax.y), spans, strict=True)
        )
        if all(abs(place[0] - x) > 0.03 or abs(place[1] - y) > 0.05 for x, y in taken):
            taken.append((place[0], place[1]))
            numbers.add(spot.number)
    return numbers


def _span(values: Sequence[float], *, logarithmic: bool, forced: bool = False) -> Span:
    known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    log = logarithmic and low > 0 and (forced or high / low >= _LOG_FROM)
    return Span(low, high, log)


def span_of(view: StudyView, found: Sequence[Spot], objective: ResolvedObjective) -> Span:
    """Range of the only axis of a study with one objective."""
    values = [s.at(objective) for s in found] + [limit for _, limit in limits(view, objective)]
    return _span(values, logarithmic=objective.minimized).widened(_AIR)
