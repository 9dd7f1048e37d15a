"""The front as a PNG."""

import io
import math
from collections.abc import Sequence
from typing import Any

from ..search.objectives import ResolvedObjective, resolve
from .drawing import BLUE, GREY, LEGEND, ORANGE, VERMILLION, bound_words, drawable, step_line
from .frame import Span, frame, span_of
from .spots import Axes, Role, Spot, axes, interval, limits, spots
from .view import StudyView
from .wording import axis_title

_LIGHT = {
    "back": "#ffffff",
    "text": "#1c2430",
    "soft": "#5a6673",
    "grid": "#e3e7eb",
    "line": "#b4bcc5",
    "front": BLUE,
}
_DARK = {
    "back": "#181d23",
    "text": "#e8ecf1",
    "soft": "#9aa6b3",
    "grid": "#2a313a",
    "line": "#4a5563",
    "front": "#56b4e9",
}


def front_png(view: StudyView, *, dark: bool = False, dpi: int = 160) -> bytes:
    """The front as a PNG of 10 x 6 inches: 1600 x 960 pixels unless `dpi` says otherwise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tone = _DARK if dark else _LIGHT
    figure = Figure(figsize=(10, 6), dpi=dpi, facecolor=tone["back"], layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot(facecolor=tone["back"])
    plot.grid(color=tone["grid"], linewidth=0.8)
    plot.set_axisbelow(True)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        plot.spines[side].set_color(tone["line"])
    plot.tick_params(colors=tone["soft"], labelsize=10)
    found, ax = spots(view), axes(view)
    if ax is None:
        _draw_single(plot, view, found, tone)
    else:
        _draw_front(plot, view, found, ax, tone)
    plot.set_title(
        view.name.replace("$", r"\$"), loc="left", color=tone["text"], fontsize=13, fontweight="bold", pad=26
    )
    handles, labels = plot.get_legend_handles_labels()
    if handles:
        plot.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6, frameon=False, fontsize=9.5,
            labelcolor=tone["soft"], borderaxespad=0.2, handletextpad=0.3, columnspacing=1.3, borderpad=0.1,
        )  # fmt: skip
    if ax is not None:
        figure.draw_without_rendering()
        _number_the_front(plot, drawable(found, ax), ax, tone)
    out = io.BytesIO()
    figure.savefig(out, format="png", facecolor=tone["back"], metadata={"Software": "paretune"})
    return out.getvalue()


def _draw_front(plot: Any, view: StudyView, found: Sequence[Spot], ax: Axes, tone: dict[str, str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    shown = drawable(found, ax)
    for name, objective, span in zip("xy", (ax.x, ax.y), frame(view, found, ax), strict=True):
        if span.log:
            getattr(plot, f"set_{name}scale")("log")
            scale = getattr(plot, f"{name}axis")
            scale.set_major_locator(FixedLocator(span.ticks()))
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            scale.set_minor_locator(NullLocator())
        getattr(plot, f"set_{name}lim")(span.low, span.high)
        getattr(plot, f"set_{name}label")(
            axis_title(objective.name), color=tone["text"], fontsize=11.5, labelpad=8
        )
        _draw_bounds(plot, view, objective, span, vertical=name == "x", tone=tone)
    if ax.color is None and (line := step_line(shown, ax)):
        xs, ys = [p[0] for p in line], [p[1] for p in line]
        plot.plot(xs, ys, color=tone["front"], linewidth=1.8, alpha=0.75, zorder=3)
    edge = {"edgecolors": tone["back"], "linewidths": 1.2}
    styles: dict[Role, dict[str, Any]] = {
        Role.INFEASIBLE: {"marker": "x", "c": GREY, "s": 26, "alpha": 0.45, "linewidths": 1.1},
        Role.PRUNED: {"marker": "v", "facecolors": "none", "edgecolors": GREY, "s": 30, "alpha": 0.55},
        Role.DOMINATED: {"marker": "o", "facecolors": "none", "edgecolors": GREY, "s": 34, "alpha": 0.85},
        Role.FRONT: {"marker": "o", "c": tone["front"], "s": 80, "zorder": 5, **edge},
        Role.BASELINE: {"marker": "D", "c": ORANGE, "s": 85, "zorder": 4, **edge},
    }  # fmt: skip
    for role, style in styles.items():
        members = [s for s in shown if s.role is role]
        if not members:
            continue
        xs, ys = [s.at(ax.x) for s in members], [s.at(ax.y) for s in members]
        if role is Role.FRONT:
            _error_bars(plot, members, ax, tone)
            if ax.color is not None:
                values = [s.at(ax.color) for s in members]
                style = {**style, "c": values, "cmap": "viridis_r", "edgecolors": tone["line"]}  # noqa: PLW2901
        points = plot.scatter(xs, ys, label=LEGEND[role], **style)
        if role is Role.FRONT and ax.color is not None:
            bar = plot.figure.colorbar(points, ax=plot, pad=0.02, aspect=30, shrink=0.9)
            bar.set_label(axis_title(ax.color.name), color=tone["text"], fontsize=11)
            bar.ax.tick_params(colors=tone["soft"], labelsize=9.5)
            bar.outline.set_visible(False)
    for spot in shown:
        if "knee" in spot.marks:
            plot.scatter(
                [spot.at(ax.x)], [spot.at(ax.y)], s=260, facecolors="none", edgecolors=VERMILLION,
                linewidths=1.8, zorder=6, label="knee",
            )  # fmt: skip
    outside = _outside(plot, shown, ax)
    if outside:
        words = "1 trial lies" if outside == 1 else f"{outside} trials lie"
        plot.text(
            0.995, 0.012, f"{words} outside the picture", transform=plot.transAxes, ha="right", va="bottom",
            fontsize=8.5, color=tone["soft"], style="italic",
        )  # fmt: skip


def _outside(plot: Any, shown: Sequence[Spot], ax: Axes) -> int:
    (x0, x1), (y0, y1) = plot.get_xlim(), plot.get_ylim()
    return sum(not (x0 <= s.at(ax.x) <= x1 and y0 <= s.at(ax.y) <= y1) for s in shown)


def _error_bars(plot: Any, members: Sequence[Spot], ax: Axes, tone: dict[str, str]) -> None:
    """Intervals of the named models only: those of all of them would hide the points."""
    members = [s for s in members if s.marks]
    spreads = [interval(s, ax.y) for s in members]
    if any(low or high for low, high in spreads):
        plot.errorbar(
            [s.at(ax.x) for s in members], [s.at(ax.y) for s in members],
            yerr=[[low for low, _ in spreads], [high for _, high in spreads]],
            fmt="none", ecolor=tone["front"], alpha=0.45, elinewidth=1.2, capsize=2.5, zorder=2,
        )  # fmt: skip


def _draw_bounds(
    plot: Any, view: StudyView, objective: ResolvedObjective, span: Span,
    *, vertical: bool, tone: dict[str, str],
) -> None:  # fmt: skip
    for bound, limit in limits(view, objective):
        if limit not in span:
            continue
        line = plot.axvline if vertical else plot.axhline
        line(limit, color=VERMILLION, linewidth=1.1, linestyle=(0, (5, 4)), alpha=0.8, zorder=1)
        across = plot.get_xaxis_transform() if vertical else plot.get_yaxis_transform()
        where = (limit, 0.985) if vertical else (0.992, limit)
        plot.annotate(
            bound_words(bound), where, xycoords=across, fontsize=8.5, color=VERMILLION,
            rotation=90 if vertical else 0, ha="right",
            va="top" if vertical else "bottom", xytext=(-3, 0) if vertical else (0, 2),
            textcoords="offset points",
            bbox={"facecolor": tone["back"], "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )  # fmt: skip


def _number_the_front(plot: Any, shown: Sequence[Spot], ax: Axes, tone: dict[str, str]) -> None:
    """Trial numbers beside the front's points, towards the better corner, none over another."""
    left, down = (-1 if ax.x.minimized else 1), (-1 if ax.y.minimized else 1)
    taken: list[tuple[float, float]] = []
    place, dot = plot.transData.transform, plot.figure.dpi / 72
    numbered = [s for s in shown if s.on_front or s.role is Role.BASELINE]
    dots = {s.number: tuple(place((s.at(ax.x), s.at(ax.y)))) for s in shown}
    for spot in sorted(numbered, key=lambda s: (not s.marks, dots[s.number])):
        x, y = dots[spot.number]
        offsets = [(left * 9, down * 9), (left * 4, down * 14), (left * 15, down * 3), (left * 9, down * 20),
                   (-left * 9, -down * 9), (-left * 4, -down * 16)]  # fmt: skip
        for dx, dy in offsets:
            spot_at = (x + dx * dot, y + dy * dot)
            if all(
                abs(spot_at[0] - tx) > 15 * dot or abs(spot_at[1] - ty) > 11 * dot for tx, ty in taken
            ) and all(
                abs(spot_at[0] - tx) > 11 * dot or abs(spot_at[1] - ty) > 10 * dot for tx, ty in dots.values()
            ):
                break
        else:
            continue
        taken.append(spot_at)
        plot.annotate(
            str(spot.number), (spot.at(ax.x), spot.at(ax.y)), xytext=(dx, dy), textcoords="offset points",
            ha="center", va="center", fontsize=9.5, color=tone["text"],
            fontweight="bold" if spot.marks else "normal", zorder=7, annotation_clip=True,
        )  # fmt: skip


def _draw_single(plot: Any, view: StudyView, found: Sequence[Spot], tone: dict[str, str]) -> None:
    objective = resolve(view.study.spec)[0]
    colors = {Role.FRONT: tone["front"], Role.BASELINE: ORANGE}
    for role in reversed(Role):
        members = [s for s in found if s.role is role and math.isfinite(s.at(objective))]
        if members:
            plot.scatter(
                [s.number for s in members], [s.at(objective) for s in members], c=colors.get(role, GREY),
                s=50, marker="x" if role is Role.INFEASIBLE else "o", label=LEGEND[role],
            )  # fmt: skip
    plot.set_xlabel("trial", color=tone["text"])
    plot.set_ylabel(axis_title(objective.name), color=tone["text"])
    span = span_of(view, found, objective)
    plot.set_ylim(span.low, span.high)
    _draw_bounds(plot, view, objective, span, vertical=False, tone=tone)
