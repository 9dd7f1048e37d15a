"""What MLflow servers have not been told yet, for many studies at once: nobody ever waits for a server.

Each server has a thread that decides what is written next and a process that writes it (`serve`). Of each
study only its newest view waits, as a file. What MLflow has already is in its own tags, so that nothing is
lost with this process but what was waiting, and that is shown again after a restart.
"""

import hashlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from .document import to_json
from .process import WriterProcess
from .redact import redact
from .serve import DELETED, SHOW
from .sync import SyncReport
from .view import StudyView
from .wanted import Detail

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """Times in seconds.

    Args:
        every: between two writes of a study; more where a write takes long, so that at most a quarter of a
            core goes into it.
        picture_every: between two pictures of a running study's front.
        turn: how long one study writes while others wait for the same server.
        first: wait after a failure; twice as long after each further one.
        slowest: longest wait after a failure.
        answer: a writer that says nothing for this long is ended.
        idle: a writer that has had nothing to do for this long is ended, and started again when needed.
        behind: a study counts as backlog when something of it waits for longer, or was refused.
    """

    every: float = 5.0
    picture_every: float = 60.0
    turn: float = 20.0
    first: float = 5.0
    slowest: float = 300.0
    answer: float = 600.0
    idle: float = 120.0
    behind: float = 30.0


class Writing(Protocol):
    """Whoever writes to one server: `WriterProcess`, or a stand-in in tests."""

    def ask(self, request: Mapping[str, Any], timeout: float) -> SyncReport: ...
    def give_up(self) -> None: ...
    def stop(self) -> None: ...


OpenWriter = Callable[[str, Path | None, Path], Writing]


class Tracker:
    """Brings MLflow servers up to date with studies, from any number of threads.

    No method but `close` blocks, and none raises: a server that is down, slow or refuses shows in `problem`
    and `backlog` alone.

    Args:
        credentials: by server URI, the folder of its credentials (`credentials.NAMES`).
        pace: how often and how patiently.
        open_writer: what writes to one server: (URI, credentials, log file).
    """

    def __init__(
        self,
        credentials: Mapping[str, Path] | None = None,
        *,
        pace: Pace = Pace(),
        open_writer: OpenWriter = WriterProcess,
    ) -> None:
        self._credentials = dict(credentials or {})
        self._pace, self._open = pace, open_writer
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        self._homes: dict[str, str] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="paretune-tracking-"))
        self._closed = False

    def show(self, key: str, view: StudyView, uri: str) -> bool:
        """Let the server have this view of a study, in place of an earlier one that still waits.

        Args:
            key: identity of the study for the caller, such as NAMESPACE/NAME.
            view: the study as it is now; its trials, front and metadata must not be changed afterwards.
            uri: the server's tracking URI; empty: the study is tracked no longer.

        Returns:
            Whether it was taken; what was not is to be shown again.
        """
        with self._lock:
            home = self._homes.get(key)
            if home is not None and home != uri:
                self._servers[home].forget(key)
                del self._homes[key]
            if uri and not self._closed and (server := self._server(uri)) is not None:
                self._homes[key] = uri
                server.show(key, view)
                return True
            return not uri or self._closed

    def deleted(self, key: str, uri: str, uid: str) -> None:
        """Forget a study, and let the server tag its runs as those of a deleted one; they stay."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self.forget(key)
        with self._lock:
            if uri and not self._closed and (server := self._server(uri)) is not None:
                server.deleted(uid, when)

    def forget(self, key: str) -> None:
        """Drop what waits of a study."""
        with self._lock:
            if (home := self._homes.pop(key, None)) is not None:
                self._servers[home].forget(key)

    def backlog(self) -> dict[str, int]:
        """By server (without secrets): studies of which something waits for longer than `Pace.behind`."""
        with self._lock:
            servers = dict(self._servers)
        return {redact(uri): server.backlog() for uri, server in servers.items()}

    def problem(self, key: str) -> str:
        """Why a study is not fully written: one sentence without secrets; empty when nothing is wrong."""
        with self._lock:
            home = self._homes.get(key)
            server = self._servers[home] if home is not None else None
        return server.problem(key) if server is not None else ""

    def settled(self, key: str) -> bool:
        """The newest view of a study is in MLflow in full; True for one that was never shown."""
        with self._lock:
            home = self._homes.get(key)
            server = self._servers[home] if home is not None else None
        return server.settled(key) if server is not None else True

    def close(self, timeout: float = 10.0) -> None:
        """End. What is being written may be finished within `timeout` seconds; the rest is dropped."""
        with self._lock:
            self._closed = True
            servers = list(self._servers.values())
        until = time.monotonic() + timeout
        for server in servers:
            server.end()
        for server in servers:
            server.join(max(0.0, until - time.monotonic()))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _server(self, uri: str) -> "_Server | None":
        if uri not in self._servers:
            folder = self._folder / _name(uri)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._servers[uri] = _Server(uri, self._credentials.get(uri), folder, self._pace, self._open)
            except (OSError, RuntimeError) as error:  # no space, no thread: the study is shown again later
                _log.warning("MLflow at %s cannot be written to from here: %s", redact(uri), error)
                return None
        return self._servers[uri]


@dataclass
class _Work:
    """Something that a server is to be told. Times are those of the monotonic clock."""

    name: str
    due: float = 0.0
    delay: float = 0.0
    served: float = 0.0
    since: float | None = None
    error: str = ""


@dataclass
class _Study(_Work):
    """A study.

    `packed` is the digest of the newest view that is a file, `written` of that in MLflow, `drawn` of that in
    the pictures there.
    """

    view: StudyView | None = None
    packed: str = ""
    written: str = ""
    drawn: str = ""
    pictured: float = field(default=float("-inf"))
    ended: bool = False
    verify: bool = True

    @property
    def dirty(self) -> bool:
        return self.view is not None or self.packed != self.written


@dataclass
class _Deletion(_Work):
    when: str = ""


class _Server:
    """One server's thread. Everything that is shared is guarded by `_wake`, which is never held for long."""

    def __init__(
        self, uri: str, credentials: Path | None, folder: Path, pace: Pace, open_writer: OpenWriter
    ) -> None:
        self._uri, self._folder, self._pace = uri, folder, pace
        self._writer = open_writer(uri, credentials, folder / "writer.log")
        self._wake = threading.Condition()
        self._studies: dict[str, _Study] = {}
        self._deletions: dict[str, _Deletion] = {}
        self._not_before, self._delay, self._error = 0.0, 0.0, ""
        self._left_over: set[str] = set()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"mlflow {redact(uri)}", daemon=True)
        self._thread.start()

    # --- called from any thread ---------------------------------------------------------------------------

    def show(self, key: str, view: StudyView) -> None:
        with self._wake:
            study = self._studies.setdefault(key, _Study(key))
            if not study.dirty:
                study.since = time.monotonic()
            study.view = view
            self._wake.notify()

    def deleted(self, uid: str, when: str) -> None:
        with self._wake:
            self._deletions.setdefault(uid, _Deletion(uid, when=when, since=time.monotonic()))
            self._wake.notify()

    def forget(self, key: str) -> None:
        with self._wake:
            if self._studies.pop(key, None) is not None:
                self._left_over.add(key)
            self._wake.notify()

    def backlog(self) -> int:
        with self._wake:
            waiting = [s for s in self._studies.values() if s.dirty]
            late = time.monotonic() - self._pace.behind
            return sum(
                bool(work.error or self._error or (work.since is not None and work.since <= late))
                for work in (*waiting, *self._deletions.values())
            )

    def problem(self, key: str) -> str:
        with self._wake:
            study = self._studies.get(key)
            return (self._error or study.error) if study is not None and study.dirty else ""

    def settled(self, key: str) -> bool:
        with self._wake:
            study = self._studies.get(key)
            return study is None or not study.dirty

    def end(self) -> None:
        with self._wake:
            self._ending = True
            self._wake.notify()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._writer.give_up()
            self._thread.join(5.0)

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            with self._wake:
                work, wait = self._next(time.monotonic())
                if self._ending:
                    break
                left_over, self._left_over = self._left_over - self._studies.keys(), set()
                if work is None and not left_over:
                    self._wake.wait(min(wait, self._pace.idle))
            for key in left_over:
                shutil.rmtree(self._folder / _name(key), ignore_errors=True)
            if work is None:
                if time.monotonic() - last >= self._pace.idle:
                    self._writer.stop()
                continue
            try:
                self._perform(work)
            except Exception as error:  # a fault here must not end the tracking of all other studies
                _log.exception("tracking of %s", work.name)
                self._told(work, SyncReport(0, 1, f"{type(error).__name__}: {error}"), "", time.monotonic())
            last = time.monotonic()
        self._writer.stop()

    def _next(self, now: float) -> tuple[_Work | None, float]:
        """What is due, that which waited longest first; else seconds until something will be."""
        times = {id(work): self._time(work) for work in (*self._deletions.values(), *self._studies.values())}
        due = [w for w in (*self._deletions.values(), *self._studies.values()) if times[id(w)] <= now]
        if due:
            return min(due, key=lambda work: work.served), 0.0
        return None, min(times.values(), default=float("inf")) - now

    def _time(self, work: _Work) -> float:
        if not isinstance(work, _Study) or work.dirty:
            return work.due
        if work.drawn != work.packed:
            return max(work.due, work.pictured + self._pace.picture_every)
        return float("inf")

    def _perform(self, work: _Work) -> None:
        started = time.monotonic()
        digest, request = self._packed(work) if isinstance(work, _Study) else ("", self._deletion(work))
        work.served = started
        if request is None:
            return
        with self._wake:
            if started < self._not_before:  # the server is down: what is new waits as a file, not in memory
                work.due = min(self._not_before, started + self._pace.every)
                return
        report = self._writer.ask(
            {**request, "uri": self._uri, "seconds": self._pace.turn}, self._pace.answer
        )
        self._told(work, report, digest, started, Detail(request.get("detail", Detail.RECORDS)))

    def _deletion(self, work: _Work) -> dict[str, Any]:
        assert isinstance(work, _Deletion)
        return {"do": DELETED, "uid": work.name, "time": work.when}

    def _packed(self, study: _Study) -> tuple[str, dict[str, Any] | None]:
        """The newest view as a file; its digest, and the request to write it, None where it is written."""
        with self._wake:
            view, digest, ended = study.view, study.packed, study.ended
        folder = self._folder / _name(study.name)
        if view is not None:
            data = to_json(view)
            digest, ended = hashlib.sha256(data).hexdigest(), view.ended
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "view.json").write_bytes(data)
        now = time.monotonic()
        with self._wake:
            study.packed, study.ended = digest, ended
            if study.view is view:
                study.view = None  # until here it waits, or a fault in between would lose it
            drawn = study.drawn == digest or now - study.pictured < self._pace.picture_every
            if study.written == digest and drawn:
                study.since, study.error = None, ""
                study.due = now + self._pace.every
                return digest, None
            detail = Detail.EVERYTHING if ended else Detail.RECORDS if drawn else Detail.PICTURE
            return digest, {
                "do": SHOW,
                "view": str(folder / "view.json"),
                "ledger": str(folder / "tracking.json"),
                "verify": study.verify,
                "detail": int(detail),
            }

    def _told(
        self,
        work: _Work,
        report: SyncReport,
        digest: str,
        started: float,
        detail: Detail = Detail.RECORDS,
    ) -> None:
        now = time.monotonic()
        with self._wake:
            self._answered(report, now)
            if report.error:
                work.error = report.error
                work.delay = min(max(work.delay * 2, self._pace.first), self._pace.slowest)
                work.due = now + work.delay if not report.unavailable else self._not_before
                if isinstance(work, _Study):
                    work.verify = True
                return
            work.error, work.delay = "", 0.0
            if report.left:
                work.due = now
            elif isinstance(work, _Deletion):
                self._deletions.pop(work.name, None)
            elif isinstance(work, _Study):
                work.written = digest
                if detail is not Detail.RECORDS:
                    work.drawn, work.pictured = digest, now
                work.since = now if work.view is not None else None
                work.due = now + max(self._pace.every, 3 * (now - started))
            if isinstance(work, _Study):
                work.verify = False

    def _answered(self, report: SyncReport, now: float) -> None:
        """Whether the server is up, which concerns all of its studies."""
        if report.unavailable:
            self._delay = min(max(self._delay * 2, self._pace.first), self._pace.slowest)
            self._not_before = now + self._delay
            if not self._error:
                _log.warning("%s; it is asked again from time to time", report.error)
            self._error = report.error
            return
        if self._error:
            _log.info("MLflow at %s answers again", redact(self._uri))
        self._not_before, self._delay, self._error = 0.0, 0.0, ""


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
