"""What the two pictures of the front share: colors, words, ranges and the line of the front.

Colors are those of Okabe and Ito (jfly.uni-koeln.de/color), which the color-blind can tell apart; shapes say
the same once more.
"""

import math
from collections.abc import Sequence

from ..search.objectives import Bound
from .spots import Axes, Role, Spot, staircase
from .wording import label, show

BLUE, ORANGE, VERMILLION, GREY = "#0072b2", "#e69f00", "#d55e00", "#8a929c"

LEGEND = {
    Role.INFEASIBLE: "breaks a constraint",
    Role.PRUNED: "stopped early",
    Role.DOMINATED: "dominated",
    Role.FRONT: "Pareto front",
    Role.BASELINE: "baseline",
}
FAINT = (Role.INFEASIBLE, Role.PRUNED, Role.DOMINATED)


def drawable(found: Sequence[Spot], ax: Axes) -> list[Spot]:
    return [s for s in found if math.isfinite(s.at(ax.x)) and math.isfinite(s.at(ax.y))]


def step_line(found: Sequence[Spot], ax: Axes) -> list[tuple[float, float]]:
    front = [(s.at(ax.x), s.at(ax.y)) for s in found if s.role is Role.FRONT or _baseline_on_front(s)]
    return staircase(front, ax.x.minimized, ax.y.minimized)


def _baseline_on_front(spot: Spot) -> bool:
    return spot.role is Role.BASELINE and spot.on_front


def bound_words(bound: Bound) -> str:
    sign = "≤" if bound.upper else "≥"
    return f"{label(bound.metric)} {sign} {show(bound.metric, bound.limit)}"
