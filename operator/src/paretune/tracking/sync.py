"""Bring a store to what it should say about a study: level-triggered, so it can be run at any time, twice."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paretune_store.locks import FileLock

from .connection import connected, explain, unanswered
from .flavor import DamagedCandidateError
from .ledger import Logged, read_ledger, write_ledger
from .redact import redact
from .tflite_io import NotTfLiteError
from .view import StudyView
from .wanted import Detail, Parts, missing, wanted
from .writer import StoreRefusesError, Writer, observe


@dataclass(frozen=True)
class SyncReport:
    """What one synchronization did.

    Args:
        written: runs, files, models and the like that were written.
        left: those that were not.
        error: why, in one sentence without secrets; empty when nothing is left, or only for want of time.
        unavailable: the store did not answer, or had a fault of its own: worth another attempt.
    """

    written: int
    left: int
    error: str = ""
    unavailable: bool = False


class Stop(Protocol):
    """The part of threading.Event and multiprocessing.Event that `watch` needs."""

    def wait(self, timeout: float) -> bool: ...
    def is_set(self) -> bool: ...


def sync(
    view: StudyView,
    ledger: Path,
    uri: str,
    *,
    verify: bool = True,
    detail: Detail = Detail.EVERYTHING,
    parts: Parts = Parts.ALL,
    seconds: float = math.inf,
) -> SyncReport:
    """Write what a store lacks. Never raises for a store that is down, slow or refuses.

    Args:
        view: the study.
        ledger: file in the work directory that remembers what has been written.
        uri: MLflow tracking URI, such as that of `connection.default_uri`.
        verify: ask the store what it has; without it the ledger is believed, and when that says that
            nothing is missing the store is not contacted at all.
        detail: how much is drawn.
        parts: what is written; another process may write the rest.
        seconds: nothing new is begun after this time, counted from the store's first answer.
    """
    want = wanted(view, detail, parts)
    place = f"{redact(uri)} {experiment_name(view)}"
    logged = read_ledger(ledger).stores.get(place, Logged())
    if logged.uid != view.uid:
        logged = Logged(uid=view.uid)
    left = len(missing(want, logged))
    if not left and not verify:
        return SyncReport(written=0, left=0)
    lock = FileLock(ledger.with_name(f".{ledger.name}.lock"))
    if not lock.acquire(blocking=False):
        return SyncReport(0, left, f"another process is writing to MLflow at {redact(uri)}")
    written, errors, unavailable = 0, [], False
    try:
        with connected(uri) as client:
            if verify:
                logged = observe(client, view, experiment_name(view), registered_name(view), parts)
            tasks = missing(want, logged)
            left = len(tasks)
            writer = Writer(
                client=client,
                uri=uri,
                view=view,
                want=want,
                logged=logged,
                experiment=experiment_name(view),
                registered=registered_name(view),
            )
            until = time.monotonic() + seconds
            for task in tasks:
                if time.monotonic() >= until:
                    break
                try:
                    writer.write(task)
                except Exception as error:
                    errors.append(f"{task}: {explain(error, uri)}")
                    if not _only_this(error):
                        unavailable = unanswered(error)
                        break
                else:
                    written, left = written + 1, left - 1
                finally:
                    write_ledger(ledger, place, writer.logged)
    except Exception as error:  # MLflow raises errors of any library below it; none may reach the study
        errors.append(explain(error, uri))
        unavailable = unanswered(error)
    finally:
        lock.release()
    # What ended it says more than what was passed over before.
    return SyncReport(written, left, errors[-1 if unavailable else 0] if errors else "", unavailable)


def _only_this(error: Exception) -> bool:
    """The store lives and refuses just this; the other tasks are worth a try."""
    refused = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}
    return getattr(error, "error_code", "") in refused or isinstance(
        error, DamagedCandidateError | NotTfLiteError | StoreRefusesError | KeyError
    )


def watch(
    load_view: Callable[[], StudyView | None],
    ledger: Path,
    uri: str,
    stop: Stop,
    *,
    every: float = 5.0,
    picture_every: float = 60.0,
    slowest: float = 120.0,
    tell: Callable[[SyncReport], None] = lambda _: None,
) -> SyncReport:
    """Synchronize until `stop` is set, and then once in full.

    While a study runs, records go at once, the picture now and then, and the pages (which take a second of
    a core that a benchmark may be using) at the end. A store that does not answer is asked less and less
    often.

    Args:
        load_view: the study as it is now; None while there is nothing to show.
        stop: set from another thread or process when the study has ended or is interrupted.
        every: seconds between two looks.
        picture_every: seconds between two pictures.
        slowest: longest wait in seconds for a store that does not answer.
        tell: called after each synchronization.
    """
    delay, verify, pictured = every, True, -math.inf
    while not stop.wait(delay):
        draw = time.monotonic() - pictured >= picture_every
        report = _attempt(load_view, ledger, uri, verify, Detail.PICTURE if draw else Detail.RECORDS)
        if report is None:
            continue
        tell(report)
        if draw and not report.error:
            pictured = time.monotonic()
        verify = bool(report.error)
        delay = min(delay * 2, slowest) if report.error else every
    report = _attempt(load_view, ledger, uri, True, Detail.EVERYTHING) or SyncReport(0, 0)
    tell(report)
    return report


def _attempt(
    load_view: Callable[[], StudyView | None], ledger: Path, uri: str, verify: bool, detail: Detail
) -> SyncReport | None:
    try:
        view = load_view()
        return sync(view, ledger, uri, verify=verify, detail=detail) if view else None
    except Exception as error:  # a fault in tracking must not end tracking, let alone the study
        return SyncReport(0, 0, explain(error, uri))


def experiment_name(view: StudyView) -> str:
    """`tracking.experiment`, or the study's name."""
    return view.study.spec.tracking.experiment or view.name


def registered_name(view: StudyView) -> str:
    """`tracking.registeredModel`, or the study's name."""
    return view.study.spec.tracking.registered_model or view.name
