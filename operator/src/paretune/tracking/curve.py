"""The hypervolume over the trials as a small SVG that takes its colors from the page."""

from collections.abc import Sequence

from .markup import Markup, join, tag

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 250, 52, 14, 12, 34


def curve_svg(points: Sequence[tuple[int, float]]) -> Markup:
    """A step line of (trial number, hypervolume); empty for fewer than two points."""
    if len(points) < 2:
        return join()
    last, top = max(number for number, _ in points), max(value for _, value in points) or 1.0
    first = min(number for number, _ in points)

    def x(number: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (number - first) / max(last - first, 1)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / (top * 1.05)

    parts: list[Markup] = []
    step = next(s * 10.0**k for k in range(-6, 3) for s in (1, 2, 2.5, 5) if top / (s * 10.0**k) <= 5)
    for i in range(int(top / step) + 1):
        value = step * i
        parts.append(
            tag(
                "line",
                x1=_LEFT,
                x2=_WIDTH - _RIGHT,
                y1=f"{y(value):.1f}",
                y2=f"{y(value):.1f}",
                class_="grid",
            )
        )
        parts.append(tag("text", f"{value:.4g}", x=_LEFT - 8, y=f"{y(value) + 4:.1f}", text_anchor="end"))
    for number in _ticks(first, last):
        parts.append(tag("text", str(number), x=f"{x(number):.1f}", y=_HEIGHT - 12, text_anchor="middle"))
    path = f"M{x(points[0][0]):.1f} {y(points[0][1]):.1f}" + "".join(
        f"H{x(number):.1f}V{y(value):.1f}" for number, value in points[1:]
    )
    under = f"{path}V{y(0):.1f}H{x(first):.1f}Z"
    parts += [tag("path", d=under, class_="under"), tag("path", d=path, class_="step")]
    title = f"Hypervolume after each trial, {points[-1][1]:.4f} at the end"
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", tag("title", title), *parts, viewBox=box, class_="curve", role="img")


def _ticks(first: int, last: int) -> list[int]:
    step = next(
        s
        for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
        if (last - first) / s <= 8 or s == 5000
    )
    return [n for n in range(first, last + 1) if n % step == 0]
