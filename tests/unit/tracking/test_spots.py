from pathlib import Path

import pytest
from paretune.tracking.frame import Span, frame
from paretune.tracking.spots import Role, axes, spots, staircase
from support.made_study import ACCURACY, DOWNLOAD, LATENCY, made_view, manifest


def test_quality_goes_up_and_bytes_to_the_right(tmp_path: Path) -> None:
    ax = axes(made_view(tmp_path, 3))
    assert ax is not None
    assert ax.color is not None
    assert (ax.x.name, ax.y.name, ax.color.name) == ("downloadSize", "accuracy", "latency/cpu")


def test_one_objective_has_no_plane(tmp_path: Path) -> None:
    assert axes(made_view(tmp_path, 3, study=manifest("one", (DOWNLOAD,)))) is None


def test_failed_trials_are_no_points_and_the_baseline_is_its_own_kind(tmp_path: Path) -> None:
    found = {s.number: s.role for s in spots(made_view(tmp_path, 12, failed=(7,)))}
    assert 7 not in found
    assert found[0] is Role.BASELINE
    assert Role.FRONT in found.values()


def test_the_front_of_two_objectives_is_a_staircase() -> None:
    line = staircase([(1, 5), (3, 9), (2, 7), (4, 8)], x_minimized=True, y_minimized=False)
    assert line == [(1, 5), (2, 5), (2, 7), (3, 7), (3, 9)]


def test_a_collapsed_candidate_does_not_squeeze_the_picture(tmp_path: Path) -> None:
    view = made_view(tmp_path, 40, study=manifest("two", (ACCURACY, DOWNLOAD)))
    ax, found = axes(view), spots(view)
    assert ax is not None
    _, y = frame(view, found, ax)
    assert min(s.at(ax.y) for s in found) < y.low
    assert all(s.at(ax.y) in y for s in found if s.on_front)


@pytest.mark.parametrize(
    ("span", "expected"),
    [(Span(9, 110, True), [10, 15, 20, 30, 50, 70, 100]), (Span(1, 5000, True), [1, 10, 100, 1000])],
)
def test_a_logarithmic_axis_has_ticks_that_can_be_read(span: Span, expected: list[float]) -> None:
    assert span.ticks() == pytest.approx(expected)


def test_latency_can_be_an_axis_of_its_own(tmp_path: Path) -> None:
    ax = axes(made_view(tmp_path, 3, study=manifest("slow", (LATENCY, DOWNLOAD))))
    assert ax is not None
    assert (ax.x.name, ax.y.name) in {("downloadSize", "latency/cpu"), ("latency/cpu", "downloadSize")}
