import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from paretune.tracking.figures import front_figure, front_html
from paretune.tracking.markup import raw, tag
from paretune.tracking.picture import front_png
from paretune.tracking.report import report_html
from paretune.tracking.table import front_table
from paretune.tracking.view import view_of_records
from support.made_study import ACCURACY, DOWNLOAD, made_view, manifest

ATTACK = "<script>alert('x')</script>"


class Seen(HTMLParser):
    """Tags outside of scripts, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.loads += [
            v for k, v in attrs if k in ("src", "href", "srcset") and v and not v.startswith("data:")
        ]
        if tag not in ("meta", "img", "br", "source", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("td", "<b>", raw("<i>x</i>"), title='"') == '<td title="&quot;">&lt;b&gt;<i>x</i></td>'


def test_the_report_tells_everything_in_one_file_that_loads_nothing(tmp_path: Path) -> None:
    view = made_view(tmp_path, 24, notes=("2 of 4 trials run at a time.",))
    page = seen(report_html(view))
    assert page.loads == []
    for text in (
        "digits", "download size", "knee", "best-downloadSize", "Test accuracy", "Hypervolume",
        "the converter died", "Crashed", "Example CPU", "litert 2.3.0", "paretune-1", "Noisy",
        "2 of 4 trials", "kind: OptimizationStudy",
        "block1/pointwise", "All 24 trials", view.front.front[0].artifact.sha256[:12],
    ):  # fmt: skip
        assert text in page.text, text


def test_plotly_is_inside_once(tmp_path: Path) -> None:
    html = report_html(made_view(tmp_path, 6))
    assert len(re.findall(r"plotly\.js v\d", html)) == 1


def test_names_and_messages_of_strangers_run_no_script(tmp_path: Path) -> None:
    view = made_view(tmp_path, 9)
    assert view.source is not None
    scripts = seen(report_html(view)).scripts
    bad = view.trials[7].model_copy(
        update={"status": view.trials[7].status.model_copy(update={"message": ATTACK, "reason": ATTACK})}
    )
    layers = tuple(layer.model_copy(update={"name": ATTACK}) for layer in view.source.layers)
    metadata = view.study.metadata.model_copy(update={"name": ATTACK})
    hostile = replace(
        view,
        study=view.study.model_copy(update={"metadata": metadata}),
        source=view.source.model_copy(update={"layers": layers, "uri": f"file:///{ATTACK}"}),
        trials=(*view.trials[:7], bad, *view.trials[8:]),
        notes=(ATTACK,),
    )
    for html in (report_html(hostile), front_html(hostile)):
        assert ATTACK not in html
    page = seen(report_html(hostile))
    assert page.scripts == scripts
    assert page.text.count(ATTACK) >= 5


def test_no_password_is_in_the_report(tmp_path: Path) -> None:
    html = report_html(made_view(tmp_path, 3))
    assert "models.example/digits.keras" in html
    assert "hunter2" not in html
    assert "X-Signature" not in html


def test_a_study_with_nothing_feasible_has_a_report(tmp_path: Path) -> None:
    study = manifest("hopeless", ({"metric": "accuracy", "atLeast": 0.99}, DOWNLOAD))
    page = seen(report_html(made_view(tmp_path, 6, study=study)))
    assert "Nothing feasible was found" in page.text
    assert "No trial met every constraint" in page.text


@pytest.mark.parametrize("names", [(DOWNLOAD,), (ACCURACY, DOWNLOAD)])
@pytest.mark.parametrize("trials", [1, 2, 12])
def test_studies_of_any_size_have_pictures(
    tmp_path: Path, names: tuple[dict[str, object], ...], trials: int
) -> None:
    view = made_view(tmp_path, trials, study=manifest("any", names))
    assert seen(report_html(view)).open == []
    png = front_png(view)
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (1600, 960)


def test_two_objectives_have_a_front_line_and_three_have_parallel_coordinates(tmp_path: Path) -> None:
    two = front_figure(made_view(tmp_path, 12, study=manifest("two", (ACCURACY, DOWNLOAD))))
    three = front_figure(made_view(tmp_path, 12))
    assert "lines" in {trace.mode for trace in two.data}
    assert [trace.type for trace in three.data].count("parcoords") == 1


def test_pointing_at_a_trial_shows_settings_and_metrics(tmp_path: Path) -> None:
    figure = front_figure(made_view(tmp_path, 12))
    (front,) = (t for t in figure.data if t.name == "Pareto front" and t.hovertext is not None)
    assert any("int8" in text for text in front.hovertext)
    assert all("download size:" in text and "x)" in text for text in front.hovertext)


def test_a_picture_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    view = made_view(tmp_path, 6)
    assert front_png(view) == front_png(view)
    assert front_png(view) != front_png(view, dark=True)


def test_the_table_has_the_baseline_first_and_a_row_for_each_model(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    table = json.loads(json.dumps(front_table(view)))
    assert {len(row) for row in table["data"]} == {len(table["columns"])}
    numbers = [row[0] for row in table["data"]]
    assert set(numbers) == {0} | {entry.trial for entry in view.front.front}
    assert numbers[0] == 0
    column = table["columns"].index("downloadSize ratio")
    assert table["data"][0][column] == 1.0


def test_records_alone_give_the_report_but_for_the_layers(tmp_path: Path) -> None:
    made = made_view(tmp_path, 12)
    view = view_of_records(
        made.study, made.trials[::-1], uid=made.uid, seed=made.seed, state=made.state, model=made.model
    )
    assert view is not None
    assert view.front == made.front
    page = seen(report_html(view))
    assert page.loads == []
    for text in ("knee", "Hypervolume", "4 layers with weights", "models.example/digits.keras"):
        assert text in page.text, text
    for text in ("block1/pointwise", "beside front.json", "paretune explain", "hunter2"):
        assert text not in page.text, text
    assert front_png(view) == front_png(made)


def test_before_the_baseline_there_is_nothing_to_report(tmp_path: Path) -> None:
    made = made_view(tmp_path, 3)
    known = {"uid": "u", "seed": 1, "state": "Running", "model": made.model}
    assert view_of_records(made.study, (), **known) is None
    assert view_of_records(made.study, made.trials[1:], **known) is None
