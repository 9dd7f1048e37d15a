"""The study on this machine: observe, decide, act, until there is nothing left to do."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from paretune_contract.dataset import DataInfo, Split
from paretune_contract.failure import Reason
from paretune_contract.settings import Settings
from paretune_contract.stages import (
    COMPRESS,
    EVALUATE,
    Artifact,
    BenchmarkRequest,
    CompressRequest,
    EvaluateRequest,
    Result,
)
from paretune_contract.summary import summarize
from pydantic import BaseModel

from ..api import OptimizationTrial
from ..plan import transitions
from ..plan.actions import Action, Ask, Conclude, Copy, Finish, Run
from ..plan.decide import decide
from ..plan.observed import Capacity, Observed, Work
from ..search import gates
from ..search.asking import next_trial
from ..search.front import FrontDocument, front_document
from ..search.made_with import made_with
from ..search.objectives import quality_metrics, resolve
from ..search.sampler import SpaceExhausted
from ..search.space import available
from .accept import Accepted, runtimes
from .capacity import capacity, cores_here, free_memory
from .workdir import StudyState, WorkDirectory
from .workers import Call, Stages, WorkerPool

COMPRESS_SECONDS = 3600.0
BENCHMARK_MARGIN = 180.0


@dataclass(frozen=True)
class Snapshot:
    """What there is to see while a study runs."""

    name: str
    phase: str
    trials: tuple[OptimizationTrial, ...]
    running: tuple[Work, ...]
    front: FrontDocument | None
    elapsed: float
    total: int


class Engine:
    """Runs an accepted study.

    Args:
        accepted: what `accept` gave.
        work: its directory, locked by the caller.
        cache: folder of steps.
        observe: called with a snapshot whenever something changed.
        stop: when set, running stages are ended and `run` returns None; the next run continues.
        stages: where stages run; processes of this machine by default.
    """

    def __init__(
        self,
        accepted: Accepted,
        work: WorkDirectory,
        cache: Path,
        observe: Callable[[Snapshot], None],
        stop: threading.Event,
        stages: Stages | None = None,
    ) -> None:
        assert accepted.intake.model is not None
        self._study, self._state, self._intake = accepted.study, accepted.state, accepted.intake
        self._model = accepted.intake.model
        self._work, self._cache, self._observe, self._stop = work, cache, observe, stop
        self._objectives = resolve(self._study.spec)
        self._cpus = cores_here()
        self.capacity, notices = _capacity(self._study.spec.budget.parallelism, self._state, self._cpus)
        self.notices = (*self._state.notices, *notices)
        self.space = available(self._study.spec, summarize(self._intake), runtimes(self._state.pools))
        self._trials = list(work.read_trials())
        self._running: dict[Work, Call] = {}
        self._phase = ""
        self._front: FrontDocument | None = None
        self._workers = stages or WorkerPool(work.logs)
        self._began = time.monotonic()
        self._earlier = self._state.active_seconds

    @property
    def trials(self) -> tuple[OptimizationTrial, ...]:
        return tuple(self._trials)

    def run(self) -> Finish | None:
        """Work until the study is finished (the reason why) or `stop` is set (None)."""
        try:
            self._front = self._write_front()
            while not self._stop.is_set():
                plan = decide(self._observed())
                changed = plan.phase != self._phase
                self._phase = plan.phase
                for action in plan.actions:
                    if isinstance(action, Finish):
                        return self._finish(action)
                    self._act(action)
                if not any(isinstance(a, Ask | Conclude | Copy) for a in plan.actions):
                    changed |= self._collect()
                if changed or plan.actions:
                    self._observe(self.snapshot())
            return None
        finally:
            self._workers.close()
            self._save("Running" if self._state.state == "Running" else self._state.state)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            self._study.metadata.name,
            self._phase,
            self.trials,
            tuple(self._running),
            self._front,
            self._elapsed(),
            self._study.spec.budget.trials,
        )

    # --- observe ------------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return self._earlier + time.monotonic() - self._began

    def _observed(self) -> Observed:
        return Observed(
            spec=self._study.spec,
            objectives=self._objectives,
            pools=tuple(p.name for p in self._state.pools),
            trials=self.trials,
            running=frozenset(self._running),
            capacity=self.capacity,
            elapsed=self._elapsed(),
            exhausted=self._state.exhausted,
        )

    # --- act ----------------------------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        match action:
            case Ask(number):
                self._ask(number)
            case Run(work):
                self._start(work)
            case Copy(number, pool, source):
                self._record(transitions.copied(self._trials[number], pool, self._trials[source]))
            case Conclude(number, state, reason, message):
                self._record(transitions.concluded(self._trials[number], state, reason, message, _now()))
                self._front = self._write_front()
                self._save("Running")

    def _ask(self, number: int) -> None:
        try:
            trial = next_trial(
                self._study, self.space, self._objectives, self._state.seed, self.trials, number
            )
        except SpaceExhausted:
            self._state = self._state.model_copy(update={"exhausted": True})
            self._save("Running")
            return
        self._record(trial)

    def _start(self, work: Work) -> None:
        trial = self._trials[work.number]
        started = transitions.started(trial, work, _now())
        if started != trial:
            self._record(started)
        taken = self._workers.busy_cpus
        free = [c for c in self._cpus if c not in taken]
        cpus = tuple(free[: self.capacity.cores_of(work)])
        request, timeout = self._request(work, len(cpus))
        log = self._work.log(work.number, work.stage, work.pool)
        call = Call(work, work.stage, request, log, cpus, timeout)
        self._running[work] = call
        self._workers.submit(call)

    def _request(self, work: Work, threads: int) -> tuple[BaseModel, float]:
        spec = self._study.spec
        if work.stage == COMPRESS:
            return self._compress_request(self._trials[work.number].settings, threads), COMPRESS_SECONDS
        artifact = self._artifact(work.number)
        if work.stage == EVALUATE:
            test = self._intake.data[Split.TEST]
            limit = spec.evaluation.seconds * 10
            return EvaluateRequest(
                artifact=artifact,
                data=test,
                scaling=self._intake.scaling,
                metrics=quality_metrics(self._objectives),
                reference=self._artifact(0),
                threads=threads,
                evaluation_seconds=limit,
                cache=str(self._cache),
            ), limit + BENCHMARK_MARGIN
        pool = next(p for p in self._state.pools if p.name == work.pool)
        seconds = spec.benchmark.seconds
        return BenchmarkRequest(
            candidate=artifact,
            reference=self._artifact(0),
            pool=pool.name,
            threads=pool.threads,
            half_width=spec.benchmark.half_width,
            max_seconds=seconds,
            seed=(self._state.seed + 2 * work.number + work.final) % 2**31,
        ), seconds * 2 + BENCHMARK_MARGIN

    def _compress_request(self, settings: Settings, threads: int) -> CompressRequest:
        baseline = self._trials[0]
        known = baseline.final and baseline.status.artifact is not None
        return CompressRequest(
            settings=settings,
            model=self._model,
            data=_without_test(self._intake.data),
            scaling=self._intake.scaling,
            training=self._intake.training,
            metrics=quality_metrics(self._objectives),
            size_limits=gates.size_limits(self._objectives, baseline.status.metrics) if known else {},
            cache=str(self._cache),
            candidates=str(self._work.candidates),
            threads=threads,
            evaluation_seconds=self._study.spec.evaluation.seconds,
            reference=self._artifact(0) if known else None,
        )

    def _artifact(self, number: int) -> Artifact:
        artifact = self._trials[number].status.artifact
        assert artifact is not None
        return Artifact(
            path=str(self._work.root.absolute() / artifact.uri), sha256=artifact.sha256, bytes=artifact.bytes
        )

    def _collect(self) -> bool:
        answers = self._workers.wait(0.5)
        for call, result in answers:
            work: Work = call.key
            del self._running[work]
            self._end(work, result)
        return bool(answers)

    def _end(self, work: Work, result: Result) -> None:
        trial = self._trials[work.number]
        if result.reason is Reason.CRASHED:
            log = self._work.log(work.number, work.stage, work.pool)
            result = result.model_copy(update={"message": f"{result.message}; log: {log.name}"})
        after = transitions.finished(trial, work, result, self._trials[0], _now(), self._state.coder)
        self._record(after)
        if after.final:
            self._front = self._write_front()
            self._save("Running")

    # --- records ------------------------------------------------------------------------------------------

    def _record(self, trial: OptimizationTrial) -> None:
        self._work.write_trial(trial)
        if trial.number == len(self._trials):
            self._trials.append(trial)
        else:
            self._trials[trial.number] = trial

    def _write_front(self) -> FrontDocument | None:
        if not self._trials or not self._trials[0].final:
            return None
        made = made_with(self._intake, self._state.versions, self.capacity.compress_cores)
        document = front_document(
            self._study, self._state.uid, self._state.seed, self._objectives, self.trials, made
        )
        self._work.write_front(document.model_dump(mode="json", by_alias=True, exclude_none=True))
        return document

    def _finish(self, finish: Finish) -> Finish:
        self._front = self._write_front()
        self._state = self._state.model_copy(update={"reason": finish.reason, "message": finish.message})
        self._save("Failed" if finish.failed else "Complete")
        self._phase = "Finished"
        self._observe(self.snapshot())
        return finish

    def _save(self, state: str) -> None:
        self._state = self._state.model_copy(
            update={"state": state, "active_seconds": self._elapsed(), "notices": self.notices}
        )
        self._work.write_state(self._state)


def _capacity(parallelism: int, state: StudyState, cpus: tuple[int, ...]) -> tuple[Capacity, tuple[str, ...]]:
    return capacity(parallelism, {p.name: p.threads for p in state.pools}, len(cpus), free_memory())


def _without_test(data: dict[Split, DataInfo]) -> dict[Split, DataInfo]:
    return {split: info for split, info in data.items() if split is not Split.TEST}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
