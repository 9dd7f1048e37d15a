"""One look at a study: observe everything, decide, act, write the status once."""

import logging
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Protocol

from paretune_contract.failure import WORLD_REASONS, Reason
from paretune_contract.measurement import CODER
from paretune_contract.stages import BENCHMARK, COMPRESS, INTAKE, Result
from paretune_contract.task import Store
from paretune_contract.termination import IntakeReport
from pydantic import ValidationError

from ..api import OptimizationStudy, OptimizationTrial
from ..api.study import StoreStatus, StudyStatus
from ..plan import admission, transitions
from ..plan.actions import Action, Ask, Conclude, Copy, Finish, Run
from ..plan.decide import decide
from ..plan.observed import UNLIMITED, Capacity, Observed, Work
from ..search.asking import next_trial
from ..search.choices import SearchSpace
from ..search.front import FrontDocument, front_document
from ..search.objectives import resolve
from ..search.sampler import SpaceExhausted
from ..search.space import SpaceError, available
from . import jobs, manifests, names, observe, status, tasks
from .after import After
from .api import JOBS, STUDIES, TRIALS, AlreadyExists, Api, ApiError, Conflict, Forbidden, Json, Resource
from .cache import Cache
from .config import OperatorConfig
from .events import Events
from .known import Known

log = logging.getLogger(__name__)

Key = tuple[str, str]
LOOK_AGAIN = 15.0
"""Seconds to the next look at a study whose Jobs run: waiting has deadlines, and events can be lost."""
REFUSED_LOOK = 60.0
SETTLING_LOOK = 1.0
"""Seconds to the next look at a finished study, when something changed during this one."""
UNTRACKED_LOOK = 5.0
"""Seconds to the next look at a finished study of which MLflow has not everything."""
WAITING_AFTER = 10.0
"""Seconds without a pod before a trial says so."""
WARM = 8
"""Studies whose search space is kept, with what it knows of a thousand records."""
NOT_FOUND = 404
TERMINATING = "because it is being terminated"
STORE_PAUSE, STORE_LONGEST = 15.0, 300.0
INTAKE_DEADLINE = 3600


class Tracking(Protocol):
    """What the reconcile wants of tracking; it never blocks and never raises."""

    def show(
        self,
        study: OptimizationStudy,
        trials: tuple[OptimizationTrial, ...],
        front: FrontDocument,
        state: str,
    ) -> bool:
        """The study as it is now; false: it could not be taken, and is to be shown again."""

    def deleted(self, study: OptimizationStudy) -> None:
        """The study is gone; its runs stay."""

    def problem(self, study: OptimizationStudy) -> str:
        """Why not all of it is written; empty: it is, or will be soon."""

    def settled(self, study: OptimizationStudy) -> bool:
        """All of it is written."""


class EarlierStudy(Exception):
    """A child's name belongs to an earlier study that is still being deleted."""


class Reconciler:
    """Reconciles studies.

    Args:
        api: the API server.
        config: the operator's configuration.
        tracking: MLflow.
        now: the time, in UTC.
        left: called with a trial's state and the seconds that it was in it, when it leaves it.
    """

    def __init__(
        self,
        api: Api,
        config: OperatorConfig,
        tracking: Tracking,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        left: Callable[[str, float], None] = lambda _state, _seconds: None,
    ) -> None:
        self.api, self.config, self.tracking, self.now, self.left = api, config, tracking, now, left
        self.events = Events(api, now)
        self.cache = Cache(api, config.namespaces)
        self.places = threading.Lock()
        self.known: dict[str, Known] = defaultdict(Known)
        self._warm: dict[str, None] = {}
        self._warm_lock = threading.Lock()

    def __call__(self, key: Key) -> float | None:
        """Look at a study once; returns the seconds to the next look, None: when something happens."""
        document = self.api.get(STUDIES, *key)
        if document is None:
            return None
        changes = self.cache.changes(*key)
        known = self.known[document["metadata"]["uid"]]
        if known.settled == (document["metadata"]["resourceVersion"], changes):
            return None
        try:
            study = OptimizationStudy.model_validate(document)
        except ValidationError as error:
            return self._unreadable(document, error)
        look = Look(self, document, study, changes)
        if document["metadata"].get("deletionTimestamp"):
            look.delete()
            return None
        try:
            again = look.run()
        except ApiError as error:
            if isinstance(error, Forbidden) and TERMINATING in error.message:
                return None  # the namespace goes, and the study with it
            self.cache.doubt(*key)
            if error.status == NOT_FOUND:  # somebody took a record away
                raise Conflict(error.status, error.reason, error.message) from error
            raise
        return None if again is None or math.isinf(again) else again

    def warm(self, uid: str) -> None:
        """A study is searched; of those that were not for longest, what takes much memory is forgotten."""
        with self._warm_lock:
            self._warm.pop(uid, None)
            self._warm[uid] = None
            while len(self._warm) > WARM:
                known = self.known.get(oldest := next(iter(self._warm)))
                del self._warm[oldest]
                if known is not None:
                    known.space = known.front = None

    def trial_states(self) -> Counter[str]:
        """Trials of all studies by state."""
        return sum((known.states for known in list(self.known.values())), Counter())

    def forget(self, key: Key, uid: str) -> None:
        """The study is gone."""
        self.cache.forget(*key)
        self.known.pop(uid, None)

    def _unreadable(self, document: Json, error: ValidationError) -> float | None:
        """The schema of the cluster takes what this operator does not know: versions differ."""
        metadata = document["metadata"]
        if metadata.get("deletionTimestamp"):
            if names.FINALIZER in metadata.get("finalizers", []):
                log.warning(
                    "%s/%s: not understood; its artifacts stay", metadata["namespace"], metadata["name"]
                )
                _let_go(self.api, document)
            return None
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        log.error("%s: %s: %s", document["metadata"]["name"], path, first["msg"])
        plain = document.get("status", {})
        facts = status.refused("NotUnderstood", f"{path}: {first['msg']}; do operator and CRDs fit together?")
        after = status.with_conditions(
            StudyStatus.model_validate({"conditions": plain.get("conditions", [])}),
            facts,
            document["metadata"]["generation"],
            jobs.text_of(self.now()),
        )
        conditions = [c.model_dump(mode="json", by_alias=True) for c in after.conditions]
        if conditions != plain.get("conditions"):
            self.api.replace(STUDIES, {**document, "status": {**plain, "conditions": conditions}}, "status")
        return REFUSED_LOOK


class Look:
    """One look at one study."""

    def __init__(self, owner: Reconciler, document: Json, study: OptimizationStudy, changes: int) -> None:
        self.api, self.config, self._owner = owner.api, owner.config, owner
        self.document, self.study = document, study
        self.before = study.status
        self.status = study.status
        self.objectives = resolve(study.spec)
        self.known = owner.known[study.metadata.uid or ""]
        self._changes = changes
        self._put_off = False
        self.now = owner.now()
        self.trials: list[OptimizationTrial] = []
        self.children = observe.Children()
        self.running: dict[Work, jobs.JobSeen | None] = {}
        self._unwritten: set[int] = set()
        self._done: list[jobs.JobSeen] = []
        self.phase = ""
        self.again: float = LOOK_AGAIN

    # --- the whole of it ----------------------------------------------------------------------------------

    def run(self) -> float | None:
        self._hold()
        try:
            self.children = observe.children(self.api, self._owner.cache, self.study, self.now)
        except observe.NotUnderstood as error:
            self._write((status.Fact(status.PROGRESSING, "False", "RecordNotUnderstood", str(error)),))
            return REFUSED_LOOK
        if self.children.earlier:
            return self._waits_for_earlier()
        if self.status.seed is None and not self._accept():
            return REFUSED_LOOK
        try:
            if self.status.intake is None and not self._read():
                return self.again
            return self._work()
        except EarlierStudy:
            return self._waits_for_earlier()

    def _waits_for_earlier(self) -> float:
        self._owner.cache.doubt(self.study.metadata.namespace or "", self.study.metadata.name)
        message = "Trials or Jobs of an earlier study of this name are still being deleted."
        self._write((status.Fact(status.PROGRESSING, "False", "Waiting", message),))
        return 2.0

    def _hold(self) -> None:
        """The finalizer keeps the study until its artifacts are seen to."""
        metadata = self.document["metadata"]
        if names.FINALIZER not in metadata.get("finalizers", []):
            finalizers = [*metadata.get("finalizers", []), names.FINALIZER]
            change = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
            self.document = self.api.patch(STUDIES, metadata["namespace"], metadata["name"], change)

    # --- accepting ----------------------------------------------------------------------------------------

    def _accept(self) -> bool:
        """Fix what stays fixed, or say why not."""
        cluster = observe.cluster(self.api, self._owner.cache, self.study, self.config)
        found = admission.refusal(self.study, cluster)
        if found is not None:
            self._refuse(found.reason, found.message)
            return False
        seed = self.study.spec.search.seed
        uid = self.study.metadata.uid or ""
        self.status = self.status.model_copy(
            update={
                "seed": seed if seed is not None else int(uid.replace("-", "")[:8] or "0", 16),
                "coder": CODER,
                "sampler": f"{self.study.spec.search.sampler} {sampler_version()}",
                "images": {
                    "compress": self.config.images.compress,
                    "benchmark": self.config.images.benchmark,
                    "publish": self.config.images.operator,
                },
                "devices": admission.devices(self.study, cluster),
                "tracking": admission.server_of(self.study, cluster),
                "started": jobs.text_of(self.now),
            }
        )
        self._adopt()
        self._write(status.reading("Reading model and data."))
        self._event("Normal", "Accepted", "Reading model and data.")
        return True

    def _refuse(self, reason: str, message: str) -> None:
        new = all(c.reason != reason or c.message != message for c in self.before.conditions)
        self._write(status.refused(reason, message))
        if new:
            self._event("Warning", reason, message)

    def _adopt(self) -> None:
        self.study = self.study.model_copy(update={"status": self.status})

    @property
    def store(self) -> Store:
        return tasks.store_of(self.study, self.status.tracking, self.config.share_steps)

    @property
    def tasks(self) -> tasks.Tasks:
        return tasks.Tasks(self.study, self.objectives, self.store, self.status.seed or 0, self._threads())

    # --- intake -------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Have model and data read; true once that is done."""
        refused = any(c.type == status.READY and c.status == "False" for c in self.before.conditions)
        found = [job for job in self.children.jobs if job.work.stage == INTAKE]
        attempt = self.status.attempts.get(INTAKE, 0)
        job = next((job for job in found if job.attempt == attempt), None)
        if job is None:
            if refused:
                self.again = math.inf
                return False
            if self._starts() < 1:
                self._write(status.reading("The artifact store does not answer."))
                return False
            try:
                self._create(Work(names.ON_STUDY, INTAKE), attempt, self.document)
            except Forbidden as error:  # a quota on Jobs, or an admission rule
                if TERMINATING in error.message:
                    raise
                self._write(status.reading(f"{jobs.QUOTA}: {error.message}"))
            else:
                self._write(status.reading("Reading model and data."))
            return False
        if job.result is None:
            waits = f"{job.waits}: {job.message}"
            self._write(status.reading(waits if job.waits else "Reading model and data."))
            return False
        return self._end_intake(job, job.result)

    def _end_intake(self, job: jobs.JobSeen, result: Result) -> bool:
        self._note_store(result)
        attempts = {**self.status.attempts, INTAKE: job.attempt + 1}
        if isinstance(result, IntakeReport) and result.summary is not None:
            self.status = self.status.model_copy(
                update={"intake": result.summary, "intake_digest": result.intake or ""}
            )
            try:
                available(self.study.spec, result.summary, self._runtimes())
            except SpaceError as error:
                self.status = self.status.model_copy(update={"intake": None})
                self._refuse("SettingsNotPossible", str(error))
                self._delete(job)
                return False
            self._adopt()
            self._delete(job)
            return True
        reason = result.reason or Reason.INTERNAL
        again = reason in WORLD_REASONS
        self.status = self.status.model_copy(update={"attempts": attempts})
        if again:
            self._write(status.reading(f"{reason.value}: {result.message}"))
        else:
            self._refuse(reason.value, result.message)
        self._delete(job)
        return False

    # --- the search ---------------------------------------------------------------------------------------

    def _work(self) -> float | None:
        self.trials = list(self.children.trials)
        lost = self._lost_records()
        if lost:
            self._write((status.Fact(status.PROGRESSING, "False", "RecordsMissing", lost),))
            return REFUSED_LOOK
        self._spend_time()
        for job in self.children.jobs:
            if job.work.number >= 0:
                self._look_at(job)
        self._tell_waiting()
        with self._owner.places:
            finish = self._carry_out()
        front = self._front()
        self.status = status.counted(self.study, self.status, self.trials, self.objectives, front)
        self.known.states = Counter(trial.status.state.value for trial in self.trials)
        if front is not None:
            self._show(front, _state(finish))
        tracked = self._owner.tracking.settled(self.study)
        after = After(self, finish, front)
        facts = (
            *status.working(self.phase, finish, self.status),
            *after.facts(),
            *self._tracked(finish is None or tracked),
        )
        if finish is not None and finish.reason != "Suspended" and not self.status.finished:
            self.status = self.status.model_copy(update={"finished": jobs.text_of(self.now)})
            self._event("Warning" if finish.failed else "Normal", finish.reason, finish.message)
        elif finish is None and self.status.finished:
            self.status = self.status.model_copy(update={"finished": ""})
        self._write(facts)
        if finish is None:
            return self._again()
        return after.again if after.again is not None else self._settle(tracked)

    def _carry_out(self) -> Finish | None:
        """Decide and act until nothing is to be done now. Returns how the search ended, None: it runs."""
        capacity = self._capacity()
        while True:
            plan = decide(self._observed(capacity))
            self.phase = plan.phase
            for action in plan.actions:
                if isinstance(action, Finish):
                    self._write_records()
                    return action
                self._act(action)
                if isinstance(action, Run):
                    capacity = _less(capacity, action.work)
            if not plan.actions:
                self._write_records()
                return None

    def _settle(self, tracked: bool) -> float | None:
        """Nothing is left to do until study or children change, unless something came during this look."""
        if not tracked:
            return REFUSED_LOOK if self._owner.tracking.problem(self.study) else UNTRACKED_LOOK
        key = (self.document["metadata"]["namespace"], self.document["metadata"]["name"])
        if self._put_off or self.running or self._owner.cache.changes(*key) != self._changes:
            return SETTLING_LOOK
        settled = (self.document["metadata"]["resourceVersion"], self._changes)
        self._owner.known[self.study.metadata.uid or ""] = Known(states=self.known.states, settled=settled)
        self._owner.cache.release(*key)
        return None

    def _lost_records(self) -> str:
        """Records that somebody took away; a search without them would repeat and reuse numbers."""
        counts = self.before.trials
        known = counts.running + counts.complete + counts.infeasible + counts.pruned + counts.failed
        there = {trial.number for trial in self.trials}
        missing = sorted(set(range(max(known, *there, -1) if there else known)) - there)
        if not missing:
            return ""
        return (
            f"The record of trial {missing[0]}{' and others' if missing[1:] else ''} is gone. Restore it, or "
            "delete the study and apply it anew."
        )

    def _tracked(self, tracked: bool) -> tuple[status.Fact, ...]:
        """Whether MLflow has what there is; while the search runs, whether anything keeps it from there."""
        if not self.status.tracking:
            return ()
        problem = self._owner.tracking.problem(self.study)
        if problem:
            return (status.Fact(status.TRACKED, "False", "TrackingUnavailable", problem),)
        if not tracked:
            return (status.Fact(status.TRACKED, "Unknown", "Writing", "The last results are being written."),)
        return (status.Fact(status.TRACKED, "True", "Tracked"),)

    def _look_at(self, job: jobs.JobSeen) -> None:
        """A Job of a trial: it runs, waits, or has ended."""
        number = job.work.number
        if number >= len(self.trials):
            self._delete(job)
            return
        trial = self.trials[number]
        counted = job.attempt < trial.status.attempts and job.result is not None and job.result.reason
        if self._recorded(trial, job) or counted:  # another device's attempt does not end this one's
            self._delete(job)
            return
        result = job.result or self._overdue(job)
        if result is not None:
            self._end(job, result)
            self._done.append(job)  # deleted once the record is written
            return
        self.running[job.work] = job

    def _tell_waiting(self) -> None:
        """A trial runs when one of its Jobs does; else it says what the first of them waits for."""
        for number in {work.number for work in self.running}:
            found = [job for work, job in sorted(self.running.items()) if work.number == number and job]
            trial, first = self.trials[number], next((job for job in found if self._waits(job)), None)
            active = next((job for job in found if not job.waits), None)
            if first is not None and first.waits == jobs.NO_POD:
                first = replace(first, waits=jobs.QUEUED)
            if active is not None:
                self._record(transitions.started(trial, active.work, jobs.text_of(self.now)))
            elif first is not None:
                self._record(transitions.waiting(trial, first.waits, first.message))

    def _waits(self, job: jobs.JobSeen) -> bool:
        """The moment that every Job takes to have a pod is no waiting."""
        since = job.since or self.now
        return job.waits != jobs.NO_POD or (self.now - since).total_seconds() > WAITING_AFTER

    def _recorded(self, trial: OptimizationTrial, job: jobs.JobSeen) -> bool:
        """The record has this work's result already, or does not want it any more."""
        work, final = job.work, trial.status.final
        if work.final:
            done = {*final.pools, *final.faults} if final else set()
            tested = bool(final and (final.test or "test" in final.faults))
            return work.pool in done if work.pool else tested
        if trial.final:
            return True
        if work.stage == COMPRESS:
            return trial.status.artifact is not None
        return work.pool in trial.status.pools

    def _overdue(self, job: jobs.JobSeen) -> Result | None:
        """A benchmark that waited for a node for as long as its pool allows."""
        device = self.status.devices.get(job.work.pool)
        if not job.waits or job.since is None or device is None or job.waits in (jobs.QUEUED, jobs.NO_POD):
            return None
        pool = self._pools.get(device.pool)
        limit = pool.spec.pending_seconds if pool else 0.0
        waited = (self.now - job.since).total_seconds()
        if waited < limit:
            return None
        text = f"No node of pool {device.pool} took it for {waited:.0f} s: {job.waits}: {job.message}"
        return Result(reason=Reason.UNSCHEDULABLE, message=text)

    def _end(self, job: jobs.JobSeen, result: Result) -> None:
        self._note_store(result)
        trial = self.trials[job.work.number]
        if result.reason is Reason.STORE_UNAVAILABLE or self._baseline_waits(job.work, result):
            after = transitions.postponed(trial, result)
        else:
            now, coder = jobs.text_of(self.now), self.status.coder
            after = transitions.finished(trial, job.work, result, self.trials[0], now, coder)
        self._record(after)

    def _baseline_waits(self, work: Work, result: Result) -> bool:
        """A pool that has no node yet is waited for: without the baseline there is no study."""
        limit = self.study.spec.budget.seconds
        late = limit is not None and self.status.active_seconds >= limit
        unmeasured = work.number == 0 and not work.final
        return unmeasured and result.reason is Reason.UNSCHEDULABLE and not late

    def _act(self, action: Action) -> None:
        match action:
            case Ask(number):
                self._ask(number)
            case Run(work):
                trial = self.trials[work.number]
                self.running[work] = None
                try:
                    self._create(work, trial.status.attempts, trial.model_dump(mode="json", by_alias=True))
                except Forbidden as error:  # a quota on Jobs, or an admission rule
                    if TERMINATING in error.message:
                        raise
                    self._record(transitions.waiting(trial, jobs.QUOTA, error.message))
                else:
                    self._record(transitions.started(trial, work, jobs.text_of(self.now)))
            case Copy(number, pool, source):
                self._record(transitions.copied(self.trials[number], pool, self.trials[source]))
            case Conclude(number, state, reason, message):
                concluded = transitions.concluded(
                    self.trials[number], state, reason, message, jobs.text_of(self.now)
                )
                self._record(concluded)

    def _ask(self, number: int) -> None:
        self._write_records()  # the new record names the results that it knew
        try:
            trial = next_trial(
                self.study, self._space(), self.objectives, self.status.seed or 0, self.trials, number
            )
        except SpaceExhausted:
            self.status = self.status.model_copy(update={"exhausted": True})
            return
        metadata = self.study.metadata
        assert metadata.uid is not None
        document: Json = {
            "apiVersion": trial.api_version,
            "kind": trial.kind,
            "metadata": {
                "namespace": metadata.namespace,
                "name": names.trial_name(metadata.name, number),
                "labels": {
                    **names.study_labels(metadata.name, metadata.uid),
                    names.TRIAL: str(number),
                },
                "ownerReferences": [names.owner(self.document)],
            },
            "spec": trial.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        }
        record = self._owner.cache.seen(TRIALS, self._created(TRIALS, document))
        self.trials.append(record.trial)
        self.children.versions[number] = record.version

    # --- what it is made from -----------------------------------------------------------------------------

    def _observed(self, capacity: Capacity) -> Observed:
        return Observed(
            spec=self.study.spec,
            objectives=self.objectives,
            pools=tuple(self.status.devices),
            trials=tuple(self.trials),
            running=frozenset(self.running),
            capacity=capacity,
            elapsed=self.status.active_seconds,
            exhausted=self.status.exhausted,
        )

    def _capacity(self) -> Capacity:
        """A pool has as many places as its `maxConcurrent` leaves beside all studies' benchmarks."""
        places = {}
        for name in {device.pool for device in self.status.devices.values()}:
            pool = self._pools.get(name)
            limit = pool.spec.max_concurrent if pool else 0
            places[name] = max(0, limit - observe.busy(self._owner.cache, name))
        return Capacity(
            parallelism=self.study.spec.budget.parallelism,
            cores=UNLIMITED,
            compress_cores=1,
            pool_cores=dict.fromkeys(self.status.devices, 1),
            benchmarks=UNLIMITED,
            places=places,
            pools={name: device.pool for name, device in self.status.devices.items()},
            starts=self._starts(),
        )

    @property
    def _pools(self) -> dict[str, Any]:
        if not hasattr(self, "_known_pools"):
            self._known_pools = observe.pools(self._owner.cache)
        return self._known_pools

    def _space(self) -> SearchSpace:
        assert self.status.intake is not None
        made_from = (self.study.spec.space, self.status.intake, self._runtimes())
        self._owner.warm(self.study.metadata.uid or "")
        kept = self.known.space  # which another worker may forget at any time
        if kept is None or kept[0] != made_from:
            kept = (made_from, available(self.study.spec, self.status.intake, self._runtimes()))
            self.known.space = kept
        return kept[1]

    def _runtimes(self) -> dict[str, Any]:
        return {name: device.runtime for name, device in self.status.devices.items()}

    def _threads(self) -> int:
        resources = self._compress_resources()
        return max(1, int(cores(str(resources.get("limits", {}).get("cpu", "1")))))

    def _compress_resources(self) -> Json:
        own = self.study.spec.compress.resources
        chosen = own if own.limits or own.requests else self.config.compress.resources
        plain = {"limits": dict(chosen.limits), "requests": dict(chosen.requests)}
        return {part: amounts for part, amounts in plain.items() if amounts}

    def _front(self) -> FrontDocument | None:
        if not self.trials or not self.trials[0].final:
            return None
        made_from = hash(tuple((t.number, self.children.versions[t.number]) for t in self.trials if t.final))
        kept = self.known.front
        if kept is None or kept[0] != made_from:
            metadata = self.study.metadata
            front = front_document(
                self.study, metadata.uid or "", self.status.seed or 0, self.objectives, self.trials
            )
            self.known.front = kept = (made_from, front)
        return kept[1]

    def _show(self, front: FrontDocument, state: str) -> None:
        """Tell tracking what is new."""
        versions = hash(tuple(self.children.versions.items()))
        shown = (versions, state, self.document["metadata"]["generation"])
        if self.known.shown != shown and self._owner.tracking.show(
            self.study, tuple(self.trials), front, state
        ):
            self.known.shown = shown

    # --- time and the store -------------------------------------------------------------------------------

    def _spend_time(self) -> None:
        """Time counts while the study is worked on, not while the operator is away."""
        seconds, last = self.status.active_seconds, self.known.active
        if last is not None:
            seconds = max(seconds, last[1])
            if not self.status.finished and not self.study.spec.suspend:
                seconds += min((self.now - last[0]).total_seconds(), 4 * LOOK_AGAIN)
        self.known.active = (self.now, seconds)
        self.status = self.status.model_copy(update={"active_seconds": round(seconds, 1)})

    def _note_store(self, result: Result) -> None:
        """A store that failed a stage is left alone for a while; one that served a stage is back."""
        if result.reason is not Reason.STORE_UNAVAILABLE:
            if self.status.store is not None and result.reason is None:
                self.status = self.status.model_copy(update={"store": None})
                self._event("Normal", "StoreAvailable", "The artifact store answers again.")
            return
        failures = (self.status.store.failures if self.status.store else 0) + 1
        pause = min(STORE_PAUSE * 2 ** (failures - 1), STORE_LONGEST)
        if self.status.store is None:
            self._event("Warning", "StoreUnavailable", result.message)
        self.status = self.status.model_copy(
            update={
                "store": StoreStatus(
                    failures=failures,
                    since=self.status.store.since if self.status.store else jobs.text_of(self.now),
                    retry=jobs.text_of(self.now + timedelta(seconds=pause)),
                    message=result.message,
                )
            }
        )

    def _starts(self) -> int:
        """Stages that may start: all, or one to see whether the store is back, or none yet."""
        store = self.status.store
        if store is None:
            return UNLIMITED
        retry = jobs.moment(store.retry)
        return 0 if self.running or (retry is not None and self.now < retry) else 1

    def _again(self) -> float:
        store = self.status.store
        retry = jobs.moment(store.retry) if store else None
        if retry is not None:
            return max(1.0, min(self.again, (retry - self.now).total_seconds() + 0.5))
        return self.again

    # --- writing ------------------------------------------------------------------------------------------

    def _create(self, work: Work, attempt: int, parent: Json) -> None:
        metadata = self.study.metadata
        assert metadata.uid is not None
        benchmark = work.stage == BENCHMARK
        device = self.status.devices[work.pool] if benchmark else None
        pool = self._pools[device.pool].spec if device and device.pool in self._pools else None
        placement = manifests.Placement(pool, device.threads if device else 1)
        secrets = tasks.secrets(self.study.spec, work.stage)
        job = manifests.stage_job(
            self.config,
            namespace=metadata.namespace or "",
            name=names.job_name(metadata.name, work, attempt),
            labels=names.work_labels(
                metadata.name, metadata.uid, work, attempt, device.pool if device else ""
            ),
            owner=names.owner(parent),
            task=self.tasks.of(work, self.trials),
            image=(pool.image if pool and pool.image else self.status.images["benchmark"])
            if benchmark
            else self.status.images["compress"],
            access=manifests.Access(
                fetch=secrets,
                upload=tasks.secrets_of_upload(secrets, self.store),
                claims=tasks.claims(self.study.spec, work.stage),
                store=tasks.store_claim(self.study.spec),
            ),
            resources=manifests.benchmark_resources(placement) if benchmark else self._compress_resources(),
            deadline=manifests.benchmark_deadline(self.study.spec.benchmark.seconds)
            if benchmark
            else INTAKE_DEADLINE
            if work.stage == INTAKE
            else self.config.compress.active_deadline_seconds,
            placement=placement,
            queue=self.study.spec.compress.queue if self.config.kueue.enabled and not benchmark else None,
        )
        self._created(JOBS, job)

    def _created(self, resource: Resource, document: Json) -> Json:
        """Create a child; one that is there already and is ours is as good.

        Raises:
            EarlierStudy: when the name belongs to somebody else.
        """
        try:
            created = self.api.create(resource, document)
        except AlreadyExists:
            metadata = document["metadata"]
            there = self.api.get(resource, metadata["namespace"], metadata["name"])
            owners = {o["uid"] for o in (there or {"metadata": {}})["metadata"].get("ownerReferences", [])}
            wanted = {o["uid"] for o in metadata.get("ownerReferences", [])}
            if there is None or not wanted & owners or there["metadata"].get("deletionTimestamp"):
                raise EarlierStudy(metadata["name"]) from None
            created = there
        self._owner.cache.seen(resource, created)
        return created

    def _record(self, trial: OptimizationTrial) -> None:
        """The record as it is from now on. It is written once a look, or before anything depends on it."""
        before = self.trials[trial.number]
        if trial == before:
            return
        self.trials[trial.number] = trial
        self._unwritten.add(trial.number)
        if trial.status.state is not before.status.state:
            self._left(before, trial)

    def _write_records(self) -> None:
        for number in sorted(self._unwritten):
            trial = self.trials[number]
            written = self.api.replace(
                TRIALS,
                {
                    "apiVersion": trial.api_version,
                    "kind": trial.kind,
                    "metadata": {
                        "namespace": trial.metadata.namespace,
                        "name": trial.metadata.name,
                        "uid": trial.metadata.uid,
                        "resourceVersion": self.children.versions[number],
                    },
                    # The server keeps the spec as it is, whatever is sent with a status.
                    "spec": trial.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
                    "status": trial.status.model_dump(mode="json", by_alias=True, exclude_defaults=True),
                },
                "status",
            )
            record = self._owner.cache.seen(TRIALS, written)
            self.trials[number], self.children.versions[number] = record.trial, record.version
            self._unwritten.discard(number)
        for job in self._done:
            self._delete(job)
        self._done = []

    def _left(self, before: OptimizationTrial, after: OptimizationTrial) -> None:
        started = jobs.moment(before.status.started) or self.now
        self._owner.left(before.status.state.value, max(0.0, (self.now - started).total_seconds()))
        if after.status.state.value == "Failed":
            self._event(
                "Warning",
                "TrialFailed",
                f"Trial {after.number}: {after.status.reason}: {after.status.message}",
            )

    def _delete(self, job: jobs.JobSeen) -> None:
        metadata = self.study.metadata
        self.api.delete(JOBS, metadata.namespace, job.name, job.uid)
        self._owner.cache.deleted(JOBS, metadata.namespace or "", metadata.name, job.uid)

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._owner.events.emit(self.document, kind, reason, message)

    def _write(self, facts: tuple[status.Fact, ...]) -> None:
        """The status, once, and numbers that can wait not more often than the configuration says."""
        generation = self.document["metadata"]["generation"]
        after = status.with_conditions(self.status, facts, generation, jobs.text_of(self.now))
        change = status.changed(self.before, after)
        if change == "no":
            return
        last = self.known.written
        if (
            change == "progress"
            and last is not None
            and (self.now - last).total_seconds() < self.config.reconcile.status_seconds
        ):
            self.again = min(self.again, self.config.reconcile.status_seconds)
            self._put_off = True
            return
        plain = after.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        self.document = self.api.replace(STUDIES, {**self.document, "status": plain}, "status")
        self.status = self.before = after
        self.known.written = self.now
        self._adopt()

    # --- the end ------------------------------------------------------------------------------------------

    def delete(self) -> None:
        """End what runs, have the artifacts removed, and let the study go."""
        metadata = self.document["metadata"]
        if names.FINALIZER not in metadata.get("finalizers", []):
            return
        for job in observe.jobs_of(self.api, self._owner.cache, self.study, self.now):
            self._delete(job)
        if self.status.seed is not None:
            self._purge()
            self._owner.tracking.deleted(self.study)
        _let_go(self.api, self.document)
        self._owner.forget((metadata["namespace"], metadata["name"]), metadata["uid"])

    def _purge(self) -> None:
        metadata = self.study.metadata
        assert metadata.uid is not None
        secrets = tasks.secrets_of_upload(tasks.secrets(self.study.spec, "purge"), self.store)
        job = manifests.store_job(
            self.config,
            namespace=metadata.namespace or "",
            name=names.fitting(f"{metadata.name}-purge-{metadata.uid[:8]}", names.JOB_LIMIT),
            labels=names.work_labels(metadata.name, metadata.uid, Work(names.ON_STUDY, "purge"), 0),
            owner=None,
            task=tasks.purge_task(self.store),
            image=self.status.images.get("benchmark", self.config.images.benchmark),
            access=manifests.Access(upload=secrets, store=tasks.store_claim(self.study.spec)),
        )
        try:
            self.api.create(JOBS, job)
        except AlreadyExists:
            pass
        except Forbidden as error:
            # A namespace that is being deleted takes no new objects; the study must not hold it.
            log.warning("%s/%s: artifacts stay in the store: %s", metadata.namespace, metadata.name, error)


def _let_go(api: Api, document: Json) -> None:
    """Take the finalizer away."""
    metadata = document["metadata"]
    finalizers = [f for f in metadata["finalizers"] if f != names.FINALIZER]
    change = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
    api.patch(STUDIES, metadata["namespace"], metadata["name"], change)


def _less(capacity: Capacity, work: Work) -> Capacity:
    """The capacity that is left beside a stage that was just started."""
    places = dict(capacity.places)
    if capacity.place_of(work) in places:
        places[capacity.place_of(work)] -= 1
    starts = capacity.starts if capacity.starts == UNLIMITED else capacity.starts - 1
    return replace(capacity, places=places, starts=starts)


def _state(finish: Finish | None) -> str:
    if finish is None:
        return "Running"
    if finish.reason == "Suspended":
        return "Suspended"
    return "Failed" if finish.failed else "Complete"


def cores(quantity: str) -> float:
    """Cores of a CPU quantity: `500m` is 0.5."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def sampler_version() -> str:
    """`optuna 5.0.0`."""
    return f"optuna {version('optuna')}"
