"""A study in a cluster whose operator is killed with SIGKILL again and again, and what must hold.

Stages are simulated, so that results are a function of the settings: with parallelism 1 the trials must be
those of a run that nobody interrupts, and with any parallelism the search must replay from its records.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.api import OptimizationStudy, OptimizationTrial
from paretune.search.objectives import resolve
from paretune.search.replay import Match, replay
from paretune.search.space import available

from .api_server import ApiServer, Document
from .cluster_study import path, pool, study, trials, wait_for
from .operator_process import operator
from .simulated import SimulatedStages, simulated_engine
from .simulated_answers import function_of_settings
from .simulated_node import Answers, Later, PodRun, SimulatedNodes

FINAL = ("Complete", "Infeasible", "Pruned", "Failed")
NAME = "kws"
POOL = "killed"
STAGE_SECONDS = 0.2


@dataclass(frozen=True)
class Kill:
    """What one life of the operator came to.

    Attributes:
        seconds: that it led before it was killed.
        known: trials on record afterwards.
        finished: of these, those in a final state.
        unfinished: state of the others, by number.
        faults: what was lost or changed since the kill before; empty as it should be.
    """

    seconds: float
    known: int
    finished: int
    unfinished: dict[int, str]
    faults: tuple[str, ...]


@dataclass
class KilledStudy:
    """One study under fire; `killed_study` makes it.

    Attributes:
        manifest: as applied.
        ran: `(stage, trial, device, final)` of each pod that ran.
    """

    api: ApiServer
    namespace: str
    folder: Path
    manifest: Document
    ran: list[tuple[str, ...]] = field(default_factory=list)
    _lives: int = 0
    _before: dict[int, Document] = field(default_factory=dict)

    def kill_after(self, seconds: float) -> Kill:
        """Start an operator, and kill it so many seconds after it began to lead."""
        with self._operator() as running:
            time.sleep(seconds)
            running.kill()
        now = {int(t["spec"]["number"]): t for t in trials(self.api, self.namespace)}
        faults = tuple(self._changes(now))
        self._before = now
        states = {n: t.get("status", {}).get("state", "Pending") for n, t in now.items()}
        unfinished = {n: s for n, s in states.items() if s not in FINAL}
        return Kill(seconds, len(now), len(now) - len(unfinished), unfinished, faults)

    def complete(self) -> bool:
        """Whether the study has come to its end, so that there is nothing left to kill."""
        found = self.api.get(path(self.namespace, NAME)).get("status", {}).get("conditions", [])
        return any(c["type"] == "Complete" and c["status"] == "True" for c in found)

    def run_to_the_end(self, seconds: float = 900) -> tuple[str, ...]:
        """Let an operator finish it undisturbed; what is wrong in the end, empty as it should be.

        Raises:
            AssertionError: when it does not complete in time.
        """
        with self._operator():
            document = wait_for(self.api, self.namespace, NAME, "Complete", seconds=seconds)
        now = {int(t["spec"]["number"]): t for t in trials(self.api, self.namespace)}
        records = [OptimizationTrial.model_validate(now[n]) for n in sorted(now)]
        wanted = int(self.manifest["spec"]["budget"]["trials"])
        faults = list(self._changes(now))
        if [r.number for r in records] != list(range(wanted)):
            faults.append(f"trials are numbered {[r.number for r in records]}, not 0 to {wanted - 1}")
        if document["status"]["progress"] != f"{wanted}/{wanted}":
            faults.append(f"the study says {document['status']['progress']}")
        digests = Counter(r.settings.digest() for r in records)
        faults += [f"settings {digest[:12]} are there {n} times" for digest, n in digests.items() if n > 1]
        faults += [f"{what} ran {n} times" for what, n in Counter(self.ran).items() if n > 1]
        faults += [f"trial {n} never ran" for n in sorted(now.keys() - {int(r[1] or -1) for r in self.ran})]
        return (*faults, *self.replayed(document, records))

    def replayed(self, document: Document, records: list[OptimizationTrial]) -> Iterator[str]:
        """What `paretune replay` would complain about."""
        accepted = OptimizationStudy.model_validate(document)
        status = accepted.status
        assert status.intake is not None
        space = available(accepted.spec, status.intake, {n: d.runtime for n, d in status.devices.items()})
        for outcome in replay(space, resolve(accepted.spec), status.seed or 0, "auto", records):
            if not isinstance(outcome, Match):
                yield f"replay: {outcome}"

    def differences(self) -> tuple[str, ...]:
        """Trials that are not those of a run on this machine that nobody interrupts; for parallelism 1."""
        manifest = OptimizationStudy.model_validate(self.manifest)
        whole = simulated_engine(self.folder / "uninterrupted", SimulatedStages(), manifest)
        whole.run()
        here = [OptimizationTrial.model_validate(t) for t in trials(self.api, self.namespace)]
        if len(here) != len(whole.trials):
            return (f"{len(here)} trials, uninterrupted {len(whole.trials)}",)
        return tuple(
            f"trial {a.number}: {part} differs"
            for a, b in zip(here, whole.trials, strict=True)
            for part, same in (
                ("settings", a.settings.canonical() == b.settings.canonical()),
                ("ask", a.spec.ask == b.spec.ask),
                ("state", a.status.state == b.status.state),
            )
            if not same
        )

    def _changes(self, now: dict[int, Document]) -> Iterator[str]:
        """What a later look must not find changed. Fresh rounds may join a final trial, and nothing else."""
        for number, before in self._before.items():
            after = now.get(number)
            if after is None:
                yield f"trial {number} is gone"
                continue
            if after["metadata"]["uid"] != before["metadata"]["uid"]:
                yield f"trial {number} is another object"
            if after["spec"] != before["spec"]:
                yield f"trial {number} has another spec"
            status = before.get("status", {})
            if status.get("state") in FINAL and _as_searched(after) != _as_searched(before):
                yield f"trial {number} changed after its end"

    @contextmanager
    def _operator(self) -> Iterator[Any]:
        """A life of the operator. Its Lease is its own: the one of a dead holder runs on for a while."""
        self._lives += 1
        lease = {"name": f"{self.namespace}-{self._lives}", "namespace": "default"}
        with operator(self.api.kubeconfig, self.folder / f"life-{self._lives}", lease=lease) as running:
            yield running


@contextmanager
def killed_study(
    api: ApiServer, namespace: str, folder: Path, *, parallelism: int, count: int, seed: int = 7
) -> Iterator[KilledStudy]:
    """A study of `count` trials on one device, applied; no operator looks at it yet."""
    manifest = study(NAME, devices=[{"name": "cpu", "pool": POOL}])
    manifest["spec"]["budget"] = {"trials": count, "parallelism": parallelism}
    manifest["spec"]["search"] = {"seed": seed}
    found = KilledStudy(api, namespace, folder, manifest)

    def answer(run: PodRun) -> Later:
        keys = ("stage", "trial", "device", "final")
        found.ran.append(tuple(run.labels.get(f"paretune.dev/{key}", "") for key in keys))
        return Later(STAGE_SECONDS, function_of_settings(run))

    with SimulatedNodes(api, Answers(answer)) as nodes:
        nodes.add("killed-1", labels={"pool": POOL})
        api.apply(pool(POOL))
        api.create(manifest, namespace)
        yield found


def moments(parallelism: int, shortest: float = 0.2, longest: float = 3.0) -> Iterator[float]:
    """Seconds that one life after the other may last, always the same."""
    chance = random.Random(parallelism)
    while True:
        yield chance.uniform(shortest, longest)


def _as_searched(trial: Document) -> Document:
    return {key: value for key, value in trial["status"].items() if key not in ("final", "attempts")}
