import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paretune.tracking.backlog import Pace, Tracker
from paretune.tracking.document import from_json, to_json
from paretune.tracking.sync import SyncReport
from paretune.tracking.view import StudyView
from paretune.tracking.wanted import Detail
from support.made_study import grown, made_view

QUICK = Pace(every=0.02, picture_every=0.2, turn=1, first=0.02, slowest=0.05, answer=5, idle=0.1, behind=0.05)
LIVE, OTHER = "http://live", "http://me:hunter2@other"


class Servers:
    """Stand-ins for the processes that write: what each was asked, and what it answers."""

    def __init__(self) -> None:
        self.asked: dict[str, list[dict[str, Any]]] = {LIVE: [], OTHER: []}
        self.views: dict[str, list[StudyView]] = {LIVE: [], OTHER: []}
        self.replies: dict[str, Callable[[dict[str, Any]], SyncReport]] = {}
        self.stopped = 0
        self.credentials: dict[str, Path | None] = {}

    def open(self, uri: str, credentials: Path | None, log: Path) -> "Servers.One":
        self.credentials[uri] = credentials
        return Servers.One(self, uri)

    class One:
        def __init__(self, all_of_them: "Servers", uri: str) -> None:
            self.all, self.uri = all_of_them, uri

        def ask(self, request: Mapping[str, Any], timeout: float) -> SyncReport:
            asked = dict(request)
            self.all.asked[self.uri].append(asked)
            if asked["do"] == "show":
                self.all.views[self.uri].append(from_json(Path(asked["view"]).read_bytes()))
            reply = self.all.replies.get(self.uri)
            return reply(asked) if reply else SyncReport(1, 0)

        def give_up(self) -> None:
            pass

        def stop(self) -> None:
            self.all.stopped += 1


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def tracker(servers: Servers) -> Iterator[Tracker]:
    made = Tracker(pace=QUICK, open_writer=servers.open)
    yield made
    made.close(5)


@pytest.fixture
def view(tmp_path: Path) -> StudyView:
    return made_view(tmp_path, 4, state="Running")


def down(_: dict[str, Any]) -> SyncReport:
    return SyncReport(0, 9, "MLflow at http://live does not answer", unavailable=True)


def test_a_view_survives_the_way_to_the_process_that_writes_it(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12, notes=("an axis was added",))
    assert from_json(to_json(view)) == view
    assert from_json(to_json(replace(view, source=None))).source is None


def test_a_study_is_shown_in_full_with_its_picture_and_then_let_be(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    tracker.show("a/digits", view, LIVE)
    until(lambda: tracker.settled("a/digits"))
    time.sleep(0.4)
    (request,) = servers.asked[LIVE]
    assert servers.views[LIVE] == [view]
    assert Detail(request["detail"]) is Detail.PICTURE
    assert request["verify"] is True
    assert tracker.backlog() == {LIVE: 0}
    assert tracker.problem("a/digits") == ""


def test_a_view_that_says_nothing_new_is_not_written_again(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    for _ in range(3):
        tracker.show("a/digits", replace(view), LIVE)
        until(lambda: tracker.settled("a/digits"))
    assert len(servers.asked[LIVE]) == 1


def test_pictures_follow_now_and_then_and_everything_at_the_end(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    tracker.show("a/digits", view, LIVE)
    until(lambda: tracker.settled("a/digits"))
    tracker.show("a/digits", grown(view, 5), LIVE)
    until(lambda: len(servers.asked[LIVE]) == 3)
    tracker.show("a/digits", replace(view, state="Complete"), LIVE)
    until(lambda: len(servers.asked[LIVE]) == 4)
    details = [Detail(r["detail"]) for r in servers.asked[LIVE]]
    assert details == [Detail.PICTURE, Detail.RECORDS, Detail.PICTURE, Detail.EVERYTHING]
    assert [r["verify"] for r in servers.asked[LIVE]] == [True, False, False, False]


def test_while_a_server_is_busy_only_the_newest_view_waits(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    busy, free = threading.Event(), threading.Event()

    def slow(_: dict[str, Any]) -> SyncReport:
        busy.set()
        assert free.wait(10)
        return SyncReport(1, 0)

    servers.replies[LIVE] = slow
    tracker.show("a/digits", view, LIVE)
    assert busy.wait(10)
    later = [grown(view, n) for n in (5, 6, 7)]
    for each in later:
        started = time.monotonic()
        tracker.show("a/digits", each, LIVE)
        assert time.monotonic() - started < 0.1
    assert not tracker.settled("a/digits")
    free.set()
    until(lambda: tracker.settled("a/digits"))
    assert [len(v.trials) for v in servers.views[LIVE][:2]] == [4, 7]


def test_a_server_that_is_down_stops_no_other_and_is_counted_and_named(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    servers.replies[LIVE] = down
    for name in ("a/one", "a/two", "b/three"):
        tracker.show(name, view, LIVE)
    tracker.show("b/four", view, OTHER)
    until(lambda: tracker.settled("b/four"))
    until(lambda: tracker.backlog() == {LIVE: 3, "http://***@other": 0})
    for name in ("a/one", "a/two", "b/three"):
        assert tracker.problem(name) == "MLflow at http://live does not answer"
    assert tracker.problem("b/four") == ""

    del servers.replies[LIVE]
    until(lambda: all(tracker.settled(name) for name in ("a/one", "a/two", "b/three")))
    assert tracker.backlog()[LIVE] == 0
    assert tracker.problem("a/one") == ""


def test_a_dead_server_is_asked_less_and_less_often_whatever_is_shown(
    servers: Servers, view: StudyView
) -> None:
    tracker = Tracker(pace=replace(QUICK, first=0.3, slowest=10), open_writer=servers.open)
    servers.replies[LIVE] = down
    end = time.monotonic() + 1.5
    number = 0
    while time.monotonic() < end:
        number += 1
        tracker.show(f"a/{number % 7}", replace(view, seed=number), LIVE)
        time.sleep(0.02)
    assert 2 <= len(servers.asked[LIVE]) <= 4
    tracker.close(5)


def test_a_study_that_a_server_refuses_holds_up_no_other_there(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    def picky(request: dict[str, Any]) -> SyncReport:
        seen = from_json(Path(request["view"]).read_bytes())
        return SyncReport(0, 5, "the experiment was deleted there") if seen.uid == "bad" else SyncReport(1, 0)

    servers.replies[LIVE] = picky
    tracker.show("a/bad", replace(view, uid="bad"), LIVE)
    tracker.show("a/good", view, LIVE)
    until(lambda: tracker.settled("a/good"))
    until(lambda: tracker.problem("a/bad") == "the experiment was deleted there")
    assert tracker.problem("a/good") == ""
    assert tracker.backlog() == {LIVE: 1}


def test_studies_take_turns_where_much_is_to_be_written(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    left = {"one": 3, "two": 3}
    order: list[str] = []

    def some(request: dict[str, Any]) -> SyncReport:
        uid = from_json(Path(request["view"]).read_bytes()).uid
        order.append(uid)
        left[uid] -= 1
        time.sleep(0.05)
        return SyncReport(1, left[uid])

    servers.replies[LIVE] = some
    tracker.show("a/one", replace(view, uid="one"), LIVE)
    tracker.show("a/two", replace(view, uid="two"), LIVE)
    until(lambda: left == {"one": 0, "two": 0} and tracker.settled("a/one") and tracker.settled("a/two"))
    assert order == ["one", "two"] * 3


def test_a_deleted_study_is_tagged_once_and_shown_no_more(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    servers.replies[LIVE] = down
    tracker.show("a/digits", view, LIVE)
    until(lambda: tracker.problem("a/digits") != "")
    tracker.deleted("a/digits", LIVE, view.uid)
    assert tracker.settled("a/digits")
    until(lambda: any(r["do"] == "deleted" for r in servers.asked[LIVE]))
    assert tracker.backlog() == {LIVE: 1}
    del servers.replies[LIVE]
    until(lambda: tracker.backlog() == {LIVE: 0})
    time.sleep(0.2)
    last = servers.asked[LIVE][-1]
    assert (last["do"], last["uid"]) == ("deleted", view.uid)
    assert last["time"].startswith("20")
    times = {r["time"] for r in servers.asked[LIVE] if r["do"] == "deleted"}
    assert len(times) == 1


def test_a_study_may_move_to_another_server_or_be_forgotten(
    tracker: Tracker, servers: Servers, view: StudyView
) -> None:
    servers.replies[LIVE] = down
    tracker.show("a/digits", view, LIVE)
    until(lambda: tracker.backlog() == {LIVE: 1})
    tracker.show("a/digits", view, OTHER)
    until(lambda: tracker.settled("a/digits"))
    assert tracker.backlog() == {LIVE: 0, "http://***@other": 0}
    tracker.show("a/digits", replace(view, seed=9), LIVE)
    tracker.forget("a/digits")
    assert tracker.backlog()[LIVE] == 0
    tracker.show("a/digits", view, "")
    assert tracker.settled("a/digits")


def test_a_fault_of_ours_is_told_and_tried_again(
    tracker: Tracker, servers: Servers, view: StudyView, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def broken(request: dict[str, Any]) -> SyncReport:
        calls.append(request)
        if len(calls) == 1:
            raise ZeroDivisionError("a fault")
        return SyncReport(1, 0)

    servers.replies[LIVE] = broken
    tracker.show("a/digits", view, LIVE)
    until(lambda: tracker.settled("a/digits"))
    assert len(calls) == 2
    assert "ZeroDivisionError" in caplog.text


def test_a_writer_with_nothing_to_do_is_ended_and_credentials_are_its_own(
    servers: Servers, view: StudyView, tmp_path: Path
) -> None:
    tracker = Tracker({LIVE: tmp_path}, pace=QUICK, open_writer=servers.open)
    tracker.show("a/digits", view, LIVE)
    tracker.show("a/other", view, OTHER)
    until(lambda: servers.stopped >= 2)
    assert servers.credentials == {LIVE: tmp_path, OTHER: None}
    tracker.close(5)


def test_close_leaves_nothing_and_what_comes_after_is_ignored(servers: Servers, view: StudyView) -> None:
    tracker = Tracker(pace=QUICK, open_writer=servers.open)
    tracker.show("a/digits", view, LIVE)
    until(lambda: bool(servers.asked[LIVE]))
    folder = Path(servers.asked[LIVE][0]["ledger"]).parents[2]
    assert folder.exists()
    tracker.close(5)
    assert not folder.exists()
    tracker.show("b/later", view, LIVE)
    tracker.deleted("a/digits", LIVE, view.uid)
    assert not [t for t in threading.enumerate() if t.name.startswith("mlflow ")]
    assert json.dumps(tracker.backlog())
