"""A study as it goes on: the first list, then what the watches tell."""

import threading
from types import TracebackType
from typing import Self

from ...api import OptimizationTrial
from ...cluster.api import STUDIES, TRIALS, Json, Resource
from ...cluster.reading import (
    Change,
    Cluster,
    NotFound,
    ReadingError,
    parsed_study,
    parsed_trial,
    unbroken,
)
from .study import ReadStudy

PAUSE = 2.0
"""Seconds before a watch that failed is tried again."""


class Gone(Exception):
    """The study was deleted."""


class Follower:
    """Keeps the objects of a study up to date, in threads of its own, between `with` and its end.

    Args:
        cluster: where it is.
        name: of the study.

    Raises:
        ReadingError: when it cannot be read at first. Later failures are in `problem`, and it is tried again.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._study = cluster.study(name)
        self._since = cluster.version_of(TRIALS, self._study)
        self._trials = self._listed()
        self._read: ReadStudy | None = None
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._gone = False
        self.problem = ""

    def __enter__(self) -> Self:
        for resource in (STUDIES, TRIALS):
            threading.Thread(target=self._watch, args=(resource,), daemon=True).start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._closed.set()

    def read(self) -> ReadStudy:
        """The study as it is now.

        Raises:
            Gone: when it was deleted.
            Unreadable: when a record is not as this version knows it.
        """
        self._changed.clear()
        with self._lock:
            if self._gone:
                raise Gone("it was deleted")
            if self._read is None:
                trials = unbroken(self._trials.values())
                self._read = ReadStudy(self._study, parsed_study(self._study), trials)
            return self._read

    def wait(self, seconds: float | None) -> None:
        """Until something changed since `read`, or for so long."""
        self._changed.wait(seconds)

    def _watch(self, resource: Resource) -> None:
        since = self._study["metadata"]["resourceVersion"] if resource is STUDIES else self._since
        while not self._closed.is_set():
            try:
                for change in self._cluster.watch(resource, self._study, since):
                    since = change.obj["metadata"]["resourceVersion"]
                    self._take(change)
                self.problem = ""
            except NotFound:  # the version is too old to go on from
                since = self._again(resource)
            except ReadingError as error:
                self.problem = str(error)
                self._changed.set()
                self._closed.wait(PAUSE)

    def _again(self, resource: Resource) -> str:
        try:
            if resource is TRIALS:
                since = self._cluster.version_of(TRIALS, self._study)
                found = self._listed()
                with self._lock:
                    self._trials, self._read = found, None
            else:
                study = self._cluster.study(self._study["metadata"]["name"])
                since = str(study["metadata"]["resourceVersion"])
                self._take(Change(STUDIES, study))
        except NotFound:
            self._lose()
        except ReadingError as error:
            self.problem = str(error)
            self._closed.wait(PAUSE)
        else:
            self._changed.set()
            return since
        return "0"

    def _take(self, change: Change) -> None:
        obj: Json = change.obj
        if change.resource is STUDIES:
            if change.deleted or obj["metadata"]["uid"] != self._study["metadata"]["uid"]:
                self._lose()
                return
            with self._lock:
                self._study, self._read = obj, None
        else:
            trial = parsed_trial(obj)
            with self._lock:
                self._read = None
                if change.deleted:
                    self._trials.pop(trial.metadata.name, None)
                else:
                    self._trials[trial.metadata.name] = trial
        self._changed.set()

    def _listed(self) -> dict[str, OptimizationTrial]:
        return {t["metadata"]["name"]: parsed_trial(t) for t in self._cluster.trials(self._study)}

    def _lose(self) -> None:
        with self._lock:
            self._gone = True
        self._closed.set()
        self._changed.set()
