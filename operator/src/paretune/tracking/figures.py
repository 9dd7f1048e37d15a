"""The front as an interactive Plotly page."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from ..search.objectives import ResolvedObjective, resolve
from .drawing import (
    BLUE,
    FAINT,
    GREY,
    LEGEND,
    ORANGE,
    VERMILLION,
    bound_words,
    drawable,
    step_line,
)
from .frame import Span, frame, labelled, span_of
from .headline import headline
from .markup import Markup, join, raw, tag
from .redact import redact_text
from .spots import Axes, Role, Spot, axes, interval, limits, spots
from .view import StudyView
from .wording import axis_title, label, show, show_interval, shown_beside, versus

_PLOTLY_SYMBOL = {
    Role.INFEASIBLE: "x-thin",
    Role.PRUNED: "triangle-down-open",
    Role.DOMINATED: "circle-open",
    Role.FRONT: "circle",
    Role.BASELINE: "diamond",
}


def front_figure(view: StudyView) -> Any:
    """The front as a `plotly.graph_objects.Figure`; point at a trial to see its settings and metrics.

    Two objectives: a scatter with the front as a step line. Three and more: the third is the color, and
    all of them stand side by side as parallel coordinates below.
    """
    import plotly.graph_objects as go

    ax = axes(view)
    found = spots(view)
    if ax is None:
        return _single_objective(view, found)
    many = len(ax.all) > 2
    figure = go.Figure(_scatter_traces(view, found, ax))
    if many:
        figure.add_trace(_parallel(found, ax))
    figure.update_layout(_layout(860 if many else 560))
    for name, objective, span in zip("xy", (ax.x, ax.y), frame(view, found, ax), strict=True):
        figure.update_layout({f"{name}axis": _axis(axis_title(objective.name), span)})
        _bounds(figure, view, objective, span, vertical=name == "x")
    if many:
        figure.update_layout(yaxis={"domain": [0.45, 1.0]})
    if ax.color is not None:
        figure.update_layout(coloraxis=_coloraxis(found, ax.color))
    return figure


_AXIS = {
    "gridcolor": "rgba(128,138,150,0.22)",
    "linecolor": "rgba(128,138,150,0.6)",
    "showline": True,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "rgba(128,138,150,0.6)",
}


_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def _axis(title: str, span: Span) -> dict[str, Any]:
    axis = {"title": {"text": escape(title), "standoff": 10}, "range": list(span.ends()), **_AXIS}
    if span.log:
        ticks = span.ticks()
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{t:g}" for t in ticks]}
    return axis


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 70, "r": 24, "t": 48, "b": 60},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 13, "color": "#6b7683"},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hoverlabel": {"align": "left", "font": {"size": 13}},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
    }  # fmt: skip


def _coloraxis(found: Sequence[Spot], color: ResolvedObjective) -> dict[str, Any]:
    values = [v for s in found if s.on_front and math.isfinite(v := s.at(color))] or [0.0, 1.0]
    bar = {
        "title": {"text": escape(axis_title(color.name)), "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "len": 0.57,
        "y": 1.0,
        "yanchor": "top",
    }
    return {
        "colorscale": "Viridis",
        "reversescale": True,
        "cmin": min(values),
        "cmax": max(values),
        "colorbar": bar,
    }


def _scatter_traces(view: StudyView, found: Sequence[Spot], ax: Axes) -> list[Any]:
    import plotly.graph_objects as go

    shown = drawable(found, ax)
    traces: list[Any] = []
    if ax.color is None and (line := step_line(shown, ax)):
        traces.append(
            go.Scatter(
                x=[p[0] for p in line], y=[p[1] for p in line], mode="lines", hoverinfo="skip",
                line={"color": BLUE, "width": 2}, opacity=0.7, showlegend=False,
            )
        )  # fmt: skip
    for role in Role.INFEASIBLE, Role.PRUNED, Role.DOMINATED, Role.FRONT, Role.BASELINE:
        members = [s for s in shown if s.role is role]
        if not members:
            continue
        if role is Role.FRONT and ax.color is not None:
            # A legend takes one color for a trace; this one is of the middle of the scale.
            traces.append(
                go.Scatter(
                    x=[None], y=[None], mode="markers", name=LEGEND[role], hoverinfo="skip",
                    marker={"size": 12, "color": _MIDDLE},
                )
            )  # fmt: skip
        traces.append(_marks(view, members, role, ax, labelled(shown, ax, frame(view, found, ax))))
    knee = [s for s in shown if "knee" in s.marks]
    if knee:
        traces.append(
            go.Scatter(
                x=[s.at(ax.x) for s in knee], y=[s.at(ax.y) for s in knee], mode="markers", name="knee",
                marker={"symbol": "circle-open", "size": 22, "color": VERMILLION, "line": {"width": 2.5}},
                hoverinfo="skip",
            )
        )  # fmt: skip
    return traces


def _marks(view: StudyView, members: list[Spot], role: Role, ax: Axes, numbered: set[int]) -> Any:
    import plotly.graph_objects as go

    marker: dict[str, Any] = {
        "symbol": _PLOTLY_SYMBOL[role],
        "size": {Role.FRONT: 12, Role.BASELINE: 14}.get(role, 8),
        "color": {Role.FRONT: BLUE, Role.BASELINE: ORANGE}.get(role, GREY),
        "opacity": {Role.INFEASIBLE: 0.55, Role.PRUNED: 0.6, Role.DOMINATED: 0.8}.get(role, 1.0),
        "line": {"width": 1.5 if role in FAINT else 0, "color": GREY},
    }
    extra: dict[str, Any] = {}
    if role is Role.FRONT:
        if ax.color is not None:
            marker |= {"color": [s.at(ax.color) for s in members], "coloraxis": "coloraxis", "size": 13}
            marker["line"] = {"width": 1, "color": GREY}
            extra["showlegend"] = False
        # Intervals of the named models only: those of all of them would hide the points.
        spreads = [interval(s, ax.y) if s.marks else (0.0, 0.0) for s in members]
        if any(low or high for low, high in spreads):
            extra["error_y"] = {
                "type": "data", "symmetric": False, "array": [high for _, high in spreads],
                "arrayminus": [low for low, _ in spreads], "color": "rgba(62,146,204,0.5)",
                "thickness": 1.2, "width": 3,
            }  # fmt: skip
        extra |= {
            "text": [str(s.number) if s.number in numbered else "" for s in members],
            "textposition": _label_side(ax),
            "mode": "markers+text",
        }
    return go.Scatter(
        x=[s.at(ax.x) for s in members],
        y=[s.at(ax.y) for s in members],
        name=LEGEND[role],
        marker=marker,
        hovertext=[_hover(view, s) for s in members],
        hoverinfo="text",
        **({"mode": "markers"} | extra),
    )


def _label_side(ax: Axes) -> str:
    """Towards the better corner, where no dominated trial can be."""
    return f"{'bottom' if ax.y.minimized else 'top'} {'left' if ax.x.minimized else 'right'}"


def _hover(view: StudyView, spot: Spot) -> str:
    baseline = view.front.baseline.metrics
    title = f"<b>Trial {spot.number}</b> · {escape(spot.trial.settings.sentence())}"
    lines = [title + (f" · <i>{escape(', '.join(spot.marks))}</i>" if spot.marks else "")]
    for name in shown_beside(spot.metrics):
        measurement = spot.metrics[name]
        text = f"{label(name)}: {show(name, measurement.value)}"
        if spot.role is not Role.BASELINE and (against := versus(name, spot.metrics, baseline)):
            text += f" ({against})"
        if between := show_interval(name, measurement):
            text += f"  [{between}]"
        lines.append(escape(text))
    if spot.trial.status.message and spot.role in FAINT:
        lines.append(
            f"<i>{escape(_wrapped(redact_text(spot.trial.status.message)))}</i>".replace("\n", "<br>")
        )
    return "<br>".join(lines)


def _wrapped(text: str, width: int = 70) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text[:400], width))


def _bounds(
    figure: Any, view: StudyView, objective: ResolvedObjective, span: Span, *, vertical: bool
) -> None:
    """Constraints as dashed lines. Plotly takes shapes in data units and annotations in powers of ten."""
    for bound, limit in limits(view, objective):
        if limit not in span:
            continue
        along = {"x0": limit, "x1": limit, "y0": 0, "y1": 1}
        if not vertical:
            along = {"y0": limit, "y1": limit, "x0": 0, "x1": 1}
        refs = {"xref": "x", "yref": "y domain"} if vertical else {"xref": "x domain", "yref": "y"}
        at = math.log10(limit) if span.log else limit
        figure.add_shape(
            type="line", line={"color": VERMILLION, "width": 1.2, "dash": "dash"}, opacity=0.75,
            layer="below", **along, **refs,
        )  # fmt: skip
        figure.add_annotation(
            text=escape(bound_words(bound)), showarrow=False, font={"size": 11, "color": VERMILLION},
            textangle=-90 if vertical else 0, xanchor="right", yanchor="top" if vertical else "bottom",
            **({"x": at, "y": 1} if vertical else {"x": 1, "y": at}), **refs,
        )  # fmt: skip


def _parallel(found: Sequence[Spot], ax: Axes) -> Any:
    import plotly.graph_objects as go

    feasible = [s for s in found if s.role in (Role.FRONT, Role.BASELINE, Role.DOMINATED)]
    complete = [s for s in feasible if all(math.isfinite(s.at(o)) for o in ax.all)]
    complete.sort(key=lambda s: s.on_front)
    dimensions = []
    for objective in ax.all:
        values = [s.at(objective) for s in complete]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        # Better is up on every axis.
        ends = [high, low] if objective.minimized else [low, high]
        dimensions.append({"label": escape(axis_title(objective.name)), "values": values, "range": ends})
    return go.Parcoords(
        line={
            "color": [1.0 if s.on_front else 0.0 for s in complete],
            "colorscale": [[0.0, "rgba(138,146,156,0.35)"], [1.0, BLUE]],
            "cmin": 0,
            "cmax": 1,
        },
        dimensions=dimensions,
        domain={"y": [0.0, 0.27]},
        labelfont={"size": 13},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
    )


def _single_objective(view: StudyView, found: Sequence[Spot]) -> Any:
    """One objective has no front; its value over the trial number tells how the search went."""
    import plotly.graph_objects as go

    objective = resolve(view.study.spec)[0]
    figure = go.Figure()
    for role in reversed(Role):
        members = [s for s in found if s.role is role and math.isfinite(s.at(objective))]
        if members:
            figure.add_trace(
                go.Scatter(
                    x=[s.number for s in members], y=[s.at(objective) for s in members], mode="markers",
                    name=LEGEND[role], hovertext=[_hover(view, s) for s in members], hoverinfo="text",
                    marker={
                        "symbol": _PLOTLY_SYMBOL[role], "size": 10, "line": {"width": 1.5, "color": GREY},
                        "color": {Role.FRONT: BLUE, Role.BASELINE: ORANGE}.get(role, GREY),
                    },
                )
            )  # fmt: skip
    figure.update_layout(_layout(480))
    figure.update_layout(
        xaxis={"title": {"text": "trial"}, **_AXIS},
        yaxis=_axis(axis_title(objective.name), span_of(view, found, objective)),
    )
    return figure


_THEME_SCRIPT = """
(() => {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const paint = () => document.querySelectorAll('.plotly-graph-div').forEach(plot => {
    const d = dark.matches;
    Plotly.relayout(plot, {'font.color': d ? '#c3cbd5' : '#3d4854',
      'hoverlabel.bgcolor': d ? '#20262e' : '#ffffff', 'hoverlabel.font.color': d ? '#e8ecf1' : '#1c2430',
      'hoverlabel.bordercolor': d ? '#4a5563' : '#c5ccd4'});
  });
  paint();
  dark.addEventListener('change', paint);
})();
"""


_MIDDLE = "#21918c"
_BUTTONS = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]]


def figure_block(view: StudyView) -> Markup:
    """The interactive front as part of a page, with Plotly's script inside; it follows the color scheme."""
    html: str = front_figure(view).to_html(
        full_html=False,
        include_plotlyjs=True,
        config={"displaylogo": False, "responsive": True, "modeBarButtons": _BUTTONS},
        div_id="front",
    )
    return join(raw(html), tag("script", raw(_THEME_SCRIPT)))


_PAGE_STYLE = """
:root { color-scheme: light dark; }
body {
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; margin: 1.5rem; max-width: 1200px;
  background: light-dark(#fff, #14181d); color: light-dark(#1c2430, #e8ecf1);
}
h1 { font-size: 1.25rem; margin: 0; } p { margin: .25rem 0 1rem; color: light-dark(#5a6673, #9aa6b3); }
"""


def front_html(view: StudyView) -> str:
    """The interactive front as one page that needs nothing from the net."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", f"{view.name}: the front"),
        tag("style", raw(_PAGE_STYLE)),
    )
    body = tag("body", tag("h1", view.name), tag("p", f"{headline(view)}."), figure_block(view))
    return raw("<!doctype html>") + tag("html", head, body, lang="en")
