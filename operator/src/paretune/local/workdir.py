"""The work directory: records as files, written by fsync and rename, under one lock."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from paretune_contract.base import TolerantDocument
from paretune_contract.stages import IntakeRequest, IntakeResult
from paretune_store.files import atomic_write
from pydantic import Field

from ..api import OptimizationStudy, OptimizationTrial
from ..api.manifest import load

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class LocalPool(TolerantDocument):
    """A device pool as this machine plays it."""

    name: str
    threads: int = 1
    proxy: bool = Field(False, description="Measured here although the pool is something else.")


class StudyState(TolerantDocument):
    """What acceptance fixed, and how far the study came."""

    uid: str
    seed: int
    coder: str = ""
    sampler: str = Field("", description="Sampler and its version; kept through upgrades.")
    versions: dict[str, str] = Field(default_factory=dict)
    accepted: str = ""
    state: str = "Running"
    reason: str = ""
    message: str = ""
    active_seconds: float = 0.0
    exhausted: bool = False
    pools: tuple[LocalPool, ...] = ()
    without: tuple[str, ...] = Field((), description="Pools left out; their objectives are dropped.")
    notices: tuple[str, ...] = ()
    sources: dict[str, str] = Field(
        default_factory=dict, description="Local source to size and modification time, to notice a change."
    )


class Locked(Exception):
    """Another run holds the work directory."""


class DamagedRecord(Exception):
    """A record that cannot be read; the message names the file."""


@dataclass(frozen=True)
class WorkDirectory:
    """Paths and documents of one study on this machine."""

    root: Path

    @property
    def trials_folder(self) -> Path:
        return self.root / "trials"

    @property
    def candidates(self) -> Path:
        return self.root / "candidates"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def front(self) -> Path:
        return self.root / "front.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def manifest(self) -> Path:
        return self.root / "study.yaml"

    @property
    def ledger(self) -> Path:
        return self.root / "tracking.json"

    def create(self) -> None:
        for folder in (self.trials_folder, self.candidates, self.cache, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory; the kernel lets go when the process ends, however it ends.

        Raises:
            Locked: when another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(handle, 32, 0).decode().strip() or "unknown"
                raise Locked(f"{self.root} is in use by another run (process {owner})") from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    # --- documents ----------------------------------------------------------------------------------------

    def log(self, number: int, stage: str, pool: str = "") -> Path:
        return self.logs / f"{number:04d}-{stage}{'-' + pool if pool else ''}.log"

    def read_study(self) -> OptimizationStudy:
        return load(self.manifest.read_text(), str(self.manifest))

    def write_study(self, text: str) -> None:
        atomic_write(self.manifest, text.encode())

    def read_state(self) -> StudyState | None:
        path = self.root / "status.json"
        return StudyState.model_validate_json(path.read_text()) if path.exists() else None

    def write_state(self, state: StudyState) -> None:
        atomic_write(self.root / "status.json", state.model_dump_json(by_alias=True, indent=2).encode())

    def read_intake(self) -> IntakeResult | None:
        path = self.root / "intake.json"
        return IntakeResult.model_validate(json.loads(path.read_text())["result"]) if path.exists() else None

    def write_intake(self, request: IntakeRequest, result: IntakeResult) -> None:
        document = {
            "request": request.model_dump(mode="json", by_alias=True),
            "result": result.model_dump(mode="json", by_alias=True),
        }
        atomic_write(self.root / "intake.json", json.dumps(document, indent=1).encode())

    def read_trials(self) -> tuple[OptimizationTrial, ...]:
        """All records in number order.

        Raises:
            DamagedRecord: when one cannot be read, or a number is missing.
        """
        trials = tuple(self._read_trial(path) for path in sorted(self.trials_folder.glob("[0-9]*.yaml")))
        for expected, trial in enumerate(trials):
            if trial.number != expected:
                raise DamagedRecord(f"{self.trials_folder}: record {expected:04d}.yaml is missing")
        return trials

    def _read_trial(self, path: Path) -> OptimizationTrial:
        try:
            return OptimizationTrial.model_validate(yaml.load(path.read_text(), _LOADER))  # noqa: S506 (a safe loader)
        except (yaml.YAMLError, ValueError) as error:
            raise DamagedRecord(f"{path}: {str(error)[:300]}") from error

    def write_trial(self, trial: OptimizationTrial) -> None:
        """Write the record durably: after this returns it survives a crash."""
        plain: dict[str, Any] = trial.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        document = {"apiVersion": trial.api_version, "kind": trial.kind, **plain}
        text = yaml.dump(document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=110)
        atomic_write(self.trials_folder / f"{trial.number:04d}.yaml", text.encode())

    def write_front(self, document: dict[str, Any]) -> None:
        atomic_write(self.front, (json.dumps(document, indent=2) + "\n").encode())
