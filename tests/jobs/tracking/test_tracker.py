"""The operator's tracker against real servers: one that lives, one that is dead, one that hangs."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paretune.tracking.backlog import Pace, Tracker
from paretune.tracking.connection import connected
from paretune.tracking.records import STUDY_DELETED
from paretune.tracking.view import StudyView
from support.made_study import grown, made_view, manifest
from support.mlflow_server import closed_port, hanging_server, tracking_server
from support.mlflow_store import Store

SECONDS = 240.0
"""How long a busy machine may take; nothing here waits for it when all is well."""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def operators(view: StudyView) -> StudyView:
    return replace(view, artifacts=None, source=None)


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    made = Tracker(pace=Pace(every=0.5, first=0.5, slowest=1, behind=2))
    yield made
    made.close(5)


def shown(tracker: Tracker, key: str, view: StudyView, uri: str) -> float:
    started = time.monotonic()
    tracker.show(key, view, uri)
    return time.monotonic() - started


def test_a_live_server_gets_everything_while_others_are_dead_or_hang(
    tmp_path: Path, server: str, patient: None, tracker: Tracker
) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"
    view = operators(made_view(tmp_path, 6, study=manifest("alive"), uid="alive", state="Running"))
    with hanging_server() as hanging:
        took = [shown(tracker, f"x/{n}-{uri}", view, uri) for uri in (dead, hanging) for n in range(5)]
        took.append(shown(tracker, "ns/alive", view, server))
        assert max(took) < 0.5
        until(lambda: tracker.settled("ns/alive"))
        end = replace(operators(grown(made_view(tmp_path, 5, study=manifest("alive"), uid="alive"), 8)))
        assert shown(tracker, "ns/alive", end, server) < 0.5
        until(lambda: tracker.settled("ns/alive"))
        until(lambda: tracker.backlog() == {dead: 5, hanging: 5, server: 0})
        assert tracker.problem("ns/alive") == ""
        assert tracker.problem(f"x/0-{dead}") == f"MLflow at {dead} does not answer"
        started = time.monotonic()
        tracker.close(1)
        assert time.monotonic() - started < 30
    with connected(server) as client:
        store = Store(client, view)
        assert set(store.trials()) == set(range(8))
        assert store.study().info.status == "FINISHED"
        assert "report.html" in {f.path for f in client.list_artifacts(store.study().info.run_id)}
        assert store.models() == {}


def test_a_server_that_comes_back_gets_the_newest_view_and_a_restart_repeats_nothing(
    tmp_path: Path, migrated: Path, patient: None, tracker: Tracker
) -> None:
    port = closed_port()
    address = f"http://127.0.0.1:{port}"
    early = made_view(tmp_path, 3, study=manifest("back"), uid="back", state="Running")
    tracker.show("ns/back", operators(early), address)
    until(lambda: tracker.problem("ns/back") != "")
    tracker.show("ns/back", operators(grown(early, 6)), address)
    with tracking_server(tmp_path / "server", migrated, port=port):
        until(lambda: tracker.settled("ns/back"))
        assert tracker.problem("ns/back") == ""
        before = _runs(address, early)
        assert len(before) == 7

        again = Tracker(pace=Pace(every=0.5))
        again.show("ns/back", operators(grown(early, 6)), address)
        until(lambda: again.settled("ns/back"))
        assert _runs(address, early) == before

        again.deleted("ns/back", address, "back")
        until(lambda: all(STUDY_DELETED in run.data.tags for run in _found(address, early)))
        assert len(_runs(address, early)) == 7
        again.close(5)


def _found(address: str, view: StudyView) -> list[Any]:
    with connected(address) as client:
        return Store(client, view).runs()


def _runs(address: str, view: StudyView) -> dict[str, Any]:
    return {run.info.run_id: (run.info.status, run.data.to_dictionary()) for run in _found(address, view)}


def test_credentials_are_those_of_the_server_and_never_told(
    tmp_path: Path, patient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that asks for a password, in the standard library's clothes."""
    import base64
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    seen: list[str] = []

    class Guard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            body = f'{{"error_code": "PERMISSION_DENIED", "message": "no {seen[-1]} hunter3"}}'.encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as http.server wants it

        def log_message(self, *_: Any) -> None:
            pass

    guard = HTTPServer(("127.0.0.1", 0), Guard)
    threading.Thread(target=guard.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{guard.server_port}"
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "MLFLOW_TRACKING_USERNAME").write_text("operator\n")
    (secrets / "MLFLOW_TRACKING_PASSWORD").write_text("hunter3\n")
    (secrets / "other").write_text("not for MLflow")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-another-server")
    view = operators(made_view(tmp_path, 2, study=manifest("guarded"), uid="guarded", state="Running"))
    tracker = Tracker({address: secrets}, pace=Pace(every=0.2, first=0.2, slowest=0.5))
    with caplog.at_level(logging.DEBUG):
        tracker.show("ns/guarded", view, address)
        until(lambda: tracker.problem("ns/guarded") != "")
        basic = "Basic " + base64.b64encode(b"operator:hunter3").decode()
        assert set(seen) == {basic}
        assert "hunter3" not in tracker.problem("ns/guarded")
        assert "PERMISSION_DENIED" in tracker.problem("ns/guarded")

        (secrets / "MLFLOW_TRACKING_PASSWORD").write_text("hunter4\n")
        renewed = "Basic " + base64.b64encode(b"operator:hunter4").decode()
        until(lambda: seen[-1] == renewed)
    tracker.close(5)
    guard.shutdown()
    guard.server_close()
    assert "hunter" not in caplog.text
