"""What each pod is told. Pure: a study and its records in, task documents out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from paretune_contract.dataset import Scaling, Split
from paretune_contract.stages import BENCHMARK, COMPRESS, EVALUATE, INTAKE
from paretune_contract.task import (
    CLAIMS,
    BenchmarkTask,
    CompressTask,
    EvaluateTask,
    IntakeTask,
    PurgeTask,
    RetainTask,
    Source,
    Store,
    StoreKind,
    Task,
)

from ..api import OptimizationStudy, OptimizationTrial
from ..api.study import DataSource, Model, SecretRef, StudySpec
from ..plan.observed import Work
from ..search import gates
from ..search.objectives import ResolvedObjective, quality_metrics
from .names import task_name

STORE_SECRET, TRACKING_SECRET = "store", "tracking"
PUBLISH = "publish"
SHARED_STEPS = "shared/steps"
EVALUATION_PATIENCE = 10
"""The test part is measured once and may take this much longer than a candidate's evaluation."""


class Claim(NamedTuple):
    """A PersistentVolumeClaim and a path on it."""

    name: str
    path: str


def claim_of(uri: str) -> Claim | None:
    """The claim that a `pvc://CLAIM/PATH` names; None for any other URI."""
    if not uri.startswith("pvc://"):
        return None
    name, _, path = uri.removeprefix("pvc://").partition("/")
    return Claim(name, path.strip("/"))


def store_of(study: OptimizationStudy, tracking: str, share_steps: bool) -> Store:
    """The store of a study.

    Args:
        study: with namespace and uid.
        tracking: the study's MLflow server, whose artifact proxy is the store where the study names none.
        share_steps: cached steps are shared between namespaces.
    """
    spec, namespace = study.spec, study.metadata.namespace
    claim = claim_of(spec.artifacts.uri)
    if claim is not None:
        kind, uri, secret = StoreKind.FOLDER, f"{CLAIMS}/{claim.name}/{claim.path}".rstrip("/"), ""
    elif spec.artifacts.uri:
        kind, uri = StoreKind.BUCKET, spec.artifacts.uri
        secret = STORE_SECRET if spec.artifacts.secret_ref else ""
    else:
        kind, uri = StoreKind.MLFLOW, tracking
        secret = TRACKING_SECRET if spec.tracking.secret_ref else ""
    return Store(
        kind=kind,
        uri=uri,
        credentials=secret,
        study=f"{namespace}/{study.metadata.uid}",
        steps=SHARED_STEPS if share_steps else f"{namespace}/steps",
    )


def sources(spec: StudySpec) -> dict[str, Model | DataSource]:
    """Everything that intake reads, by the name of its credentials' folder."""
    parts: dict[str, Model | DataSource | None] = {
        "model": spec.model,
        Split.TRAIN.value: spec.dataset.train,
        Split.CALIBRATION.value: spec.dataset.calibration,
        Split.EVALUATION.value: spec.dataset.evaluation,
        Split.TEST.value: spec.dataset.test,
    }
    return {name: part for name, part in parts.items() if part is not None}


def secrets(spec: StudySpec, stage: str) -> dict[str, str]:
    """Secrets that the `fetch` container of a stage mounts, folder to name: those that it has a use for."""
    uri = spec.artifacts.uri
    wanted: dict[str, SecretRef | None] = {}
    if uri and claim_of(uri) is None:
        wanted[STORE_SECRET] = spec.artifacts.secret_ref
    if not uri or stage == PUBLISH:
        wanted[TRACKING_SECRET] = spec.tracking.secret_ref
    if stage == INTAKE:
        wanted |= {name: source.secret_ref for name, source in sources(spec).items()}
    return {folder: ref.name for folder, ref in wanted.items() if ref is not None}


def claims(spec: StudySpec, stage: str) -> tuple[str, ...]:
    """Claims that `fetch` reads: the store's, and those of model and data for intake."""
    uris = [spec.artifacts.uri]
    if stage == INTAKE:
        uris += [source.uri for source in sources(spec).values()]
    return tuple(sorted({claim.name for uri in uris if (claim := claim_of(uri))}))


def store_claim(spec: StudySpec) -> str | None:
    """The claim that the store is on."""
    claim = claim_of(spec.artifacts.uri)
    return claim.name if claim else None


class Tasks:
    """The tasks of one study.

    Args:
        study: as accepted, with its status.
        objectives: the study's, resolved.
        store: where its artifacts are.
        seed: of its search.
        threads: of a compress stage.
    """

    def __init__(
        self,
        study: OptimizationStudy,
        objectives: Sequence[ResolvedObjective],
        store: Store,
        seed: int,
        threads: int,
    ) -> None:
        self._study, self._objectives, self._store = study, objectives, store
        self._seed, self._threads = seed, threads

    def of(self, work: Work, trials: Sequence[OptimizationTrial]) -> Task:
        """The task of a stage of a trial, or of the study's intake."""
        parts = {INTAKE: self._intake, COMPRESS: self._compress, EVALUATE: self._evaluate}
        if work.stage == BENCHMARK:
            return self._task(work, benchmark=self._benchmark(work, trials))
        return self._task(work, **{work.stage: parts[work.stage](work, trials)})

    def retain(self, candidates: Sequence[str]) -> Task:
        """Keep these candidates alone."""
        return Task(store=self._store, name="retain", retain=RetainTask(candidates=tuple(candidates)))

    def _task(self, work: Work, **part: object) -> Task:
        return Task.model_validate({"store": self._store, "name": task_name(work), **part})

    def _intake(self, _work: Work, _trials: Sequence[OptimizationTrial]) -> IntakeTask:
        spec = self._study.spec
        found = {
            name: Source(
                uri=source.uri,
                format=source.format if isinstance(source, DataSource) else None,
                credentials=name if source.secret_ref else "",
            )
            for name, source in sources(spec).items()
        }
        return IntakeTask(
            model=found.pop("model"),
            dataset={Split(name): source for name, source in found.items()},
            scaling=Scaling(scale=spec.dataset.scale, offset=spec.dataset.offset),
            training=spec.training,
            metrics=quality_metrics(self._objectives),
            layers=tuple(layer.match for layer in spec.space.layers),
            threads=self._threads,
        )

    def _compress(self, work: Work, trials: Sequence[OptimizationTrial]) -> CompressTask:
        baseline = trials[0]
        known = baseline.final and baseline.status.artifact is not None
        return CompressTask(
            settings=trials[work.number].settings,
            intake=self._study.status.intake_digest or None,
            metrics=quality_metrics(self._objectives),
            size_limits=gates.size_limits(self._objectives, baseline.status.metrics) if known else {},
            evaluation_seconds=self._study.spec.evaluation.seconds,
            reference=_sha256(baseline) if known else None,
            threads=self._threads,
        )

    def _evaluate(self, work: Work, trials: Sequence[OptimizationTrial]) -> EvaluateTask:
        return EvaluateTask(
            candidate=_sha256(trials[work.number]),
            reference=_sha256(trials[0]),
            intake=self._study.status.intake_digest or None,
            metrics=quality_metrics(self._objectives),
            evaluation_seconds=self._study.spec.evaluation.seconds * EVALUATION_PATIENCE,
            threads=self._threads,
        )

    def _benchmark(self, work: Work, trials: Sequence[OptimizationTrial]) -> BenchmarkTask:
        spec, device = self._study.spec, self._study.status.devices[work.pool]
        return BenchmarkTask(
            candidate=_sha256(trials[work.number]),
            reference=_sha256(trials[0]),
            device=work.pool,
            runtime=device.runtime.value,
            threads=device.threads,
            half_width=spec.benchmark.half_width,
            max_seconds=spec.benchmark.seconds,
            seed=(self._seed + 2 * work.number + work.final) % 2**31,
        )


def purge_task(store: Store) -> Task:
    """Remove all that a deleted study left in the store."""
    return Task(store=store, name="purge", purge=PurgeTask())


def _sha256(trial: OptimizationTrial) -> str:
    assert trial.status.artifact is not None
    return trial.status.artifact.sha256


def secrets_of_upload(found: Mapping[str, str], store: Store) -> dict[str, str]:
    """What `upload` mounts of it: the store's alone."""
    return {folder: name for folder, name in found.items() if folder == store.credentials}
