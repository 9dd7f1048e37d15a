"""The calls to MLflow: asking what a store has, and writing one task at a time."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search.records import reported
from .connection import artifact_root
from .description import RUN_ID
from .figures import front_html
from .flavor import FLAVOR, write_model
from .ledger import Logged, LoggedModel, LoggedRun
from .picture import front_png
from .records import (
    ALIASES,
    DIGEST,
    FILES,
    FRONT,
    NOTE,
    PARENT,
    REMEASURED,
    RUN_NAME,
    SHA256,
    STUDY_KEY,
    STUDY_UID,
    TRIAL,
    Point,
    RunRecord,
    digest_of,
    metric_points,
)
from .report import report_html
from .table import front_table
from .view import StudyView
from .wanted import (
    FRONT_HTML,
    FRONT_JSON,
    FRONT_PNG,
    FRONT_SMALL,
    FRONT_TABLE,
    REPORT_HTML,
    RETIRED,
    ModelRecord,
    Parts,
    Task,
    Wanted,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PARAMS_PER_CALL, _METRICS_PER_CALL, _TAGS_PER_CALL = 100, 1000, 100
_PAGE = 500
_LOG_LINES = 200
_KIND, _TRAINING = "mlflow.experimentKind", "custom_model_development"  # opens the UI on runs, not chats
_ORIGIN = {"mlflow.source.name": "paretune", "mlflow.source.type": "LOCAL"}
_SMALL_DPI = 88  # 880 pixels: MLflow shows pictures in descriptions as large as they are


class StoreRefusesError(Exception):
    """The store answers, but cannot take this study; the message names the cure."""


def observe(
    client: "MlflowClient", view: StudyView, experiment: str, registered: str, parts: Parts = Parts.ALL
) -> Logged:
    """What a store has of a study, by its tags.

    Where two writers made the same run at the same moment, all of them settle on one: the one that is fully
    written, else the one with the smallest id.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return Logged(uid=view.uid)
    if found.lifecycle_stage != "active":
        raise StoreRefusesError(
            f"experiment {experiment!r} was deleted there; restore it, or name another in "
            "spec.tracking.experiment"
        )
    ours = f"tags.`{STUDY_UID}` = '{quoted(view.uid)}'"
    experiments = [found.experiment_id]
    study: Run | None = None
    trials: dict[int, LoggedRun] = {}
    for run in sorted(_runs(client, experiments, ours), key=_preference):
        tags = run.data.tags
        if TRIAL in tags:
            known = LoggedRun(run_id=run.info.run_id, digest=tags.get(DIGEST, ""))
            trials.setdefault(int(tags[TRIAL]), known)
        else:
            study = study or run
    logged = Logged(
        uid=view.uid,
        experiment_id=found.experiment_id,
        trials=trials,
        models=_observed_models(client, experiments, ours, registered) if Parts.MODELS in parts else {},
    )
    if study is None:
        return logged
    run_id, tags = study.info.run_id, study.data.tags
    steps = client.get_metric_history(run_id, "hypervolume") if Parts.RUNS in parts else ()
    return logged.model_copy(
        update={
            "study": LoggedRun(run_id=run_id, digest=tags.get(DIGEST, "")),
            "hypervolume": len({m.step for m in steps}),
            "files": json.loads(tags.get(FILES, "{}")),
            "aliases": tags.get(ALIASES, ""),
        }
    )


def _runs(client: "MlflowClient", experiments: list[str], where: str) -> "Iterator[Run]":
    yield from pages(
        lambda token: client.search_runs(experiments, where, max_results=_PAGE, page_token=token)
    )


def _preference(run: "Run") -> tuple[bool, str]:
    return not run.data.tags.get(DIGEST), run.info.run_id


def _observed_models(
    client: "MlflowClient", experiments: list[str], ours: str, registered: str
) -> dict[str, LoggedModel]:
    """Models by the tag of their file; a version belongs to the model that it was made from."""
    models: dict[str, LoggedModel] = {}
    for model in pages(
        lambda token: client.search_logged_models(experiments, ours, max_results=50, page_token=token)
    ):
        sha, ready = model.tags.get(SHA256, ""), str(model.status) == "READY"
        if sha and not (sha in models and models[sha].ready):
            digest = model.tags.get(DIGEST, "")
            models[sha] = LoggedModel(model_id=model.model_id, ready=ready, digest=digest)
    sources = {f"models:/{model.model_id}": sha for sha, model in models.items()}
    if not models:
        return models
    name = f"name = '{quoted(registered)}'"
    for version in pages(
        lambda token: client.search_model_versions(name, max_results=_PAGE, page_token=token)
    ):
        if sha := sources.get(version.source, ""):
            models[sha] = models[sha].model_copy(update={"version": str(version.version)})
    return models


def pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Everything that a search finds, page by page; it is called with the token of the next one."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def quoted(text: str) -> str:
    """Text as MLflow's filters take it between single quotes.

    Raises:
        StoreRefusesError: when they cannot.
    """
    if "'" in text or "\\" in text:
        raise StoreRefusesError(f"{text!r} has characters that MLflow cannot search for")
    return text


class Writer:
    """Writes tasks to one store and keeps `logged` in step with them."""

    def __init__(
        self,
        *,
        client: "MlflowClient",
        uri: str,
        view: StudyView,
        want: Wanted,
        logged: Logged,
        experiment: str,
        registered: str,
    ) -> None:
        self._client, self._uri = client, uri
        self._view, self._want = view, want
        self._experiment, self._registered = experiment, registered
        self.logged = logged

    def write(self, task: Task) -> None:
        """Write one task."""
        match task.kind:
            case "open":
                self._open()
            case "trial":
                self._trial(int(task.key))
            case "hypervolume":
                self._hypervolume()
            case "file":
                self._file(task.key)
            case "model":
                self._model(task.key)
            case "retire":
                self._retire(task.key)
            case "aliases":
                self._aliases()
            case "study":
                self._study()

    def _update(self, **changes: Any) -> None:
        self.logged = self.logged.model_copy(update=changes)

    @property
    def _study_run(self) -> str:
        if self.logged.study is None:
            raise StoreRefusesError("the study's run is not there yet")
        return self.logged.study.run_id

    # --- runs ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        experiment = self.logged.experiment_id or self._experiment_id()
        self._update(experiment_id=experiment)
        record = self._want.study
        tags = {k: v for k, v in record.tags.items() if k != NOTE}
        self._update(study=self._run(record, tags))

    def _run(self, record: RunRecord, tags: Mapping[str, str]) -> LoggedRun:
        """A new run, or the one that another process made since we looked.

        While a study runs it has one writer. At its end runs and models may be written by two, which agree as
        far as MLflow allows: each looks again right before it creates a run, and the one that writes models
        gives way to a run that came up meanwhile.
        """
        shared = self._view.ended and self._want.parts is not Parts.ALL
        if shared and (found := self._found(record.key)):
            return found[0]
        run = self._client.create_run(
            self.logged.experiment_id, start_time=record.start, run_name=record.name, tags={**tags, **_ORIGIN}
        )
        mine = LoggedRun(run_id=run.info.run_id)
        if not shared or Parts.RUNS in self._want.parts:
            return mine
        others = [other for other in self._found(record.key) if other.run_id != mine.run_id]
        if not others:
            return mine
        self._client.delete_run(mine.run_id)
        return others[0]

    def _found(self, key: str) -> list[LoggedRun]:
        where = f"tags.`{STUDY_UID}` = '{quoted(self._view.uid)}'"
        if key != STUDY_KEY:
            where += f" AND tags.`{TRIAL}` = '{key}'"
        runs = [
            run
            for run in _runs(self._client, [self.logged.experiment_id], where)
            if key != STUDY_KEY or TRIAL not in run.data.tags
        ]
        return [
            LoggedRun(run_id=run.info.run_id, digest=run.data.tags.get(DIGEST, ""))
            for run in sorted(runs, key=_preference)
        ]

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(
                    self._client.create_experiment(
                        self._experiment, artifact_location=artifact_root(self._uri), tags={_KIND: _TRAINING}
                    )
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(self._experiment)
        return str(found.experiment_id)

    def _study(self) -> None:
        record, run_id = self._want.study, self._study_run
        tags = {**record.tags, NOTE: record.tags[NOTE].replace(RUN_ID, run_id)}
        self._log(run_id, record, tags)
        if record.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, status=record.status, end_time=record.end)
        self._update(study=LoggedRun(run_id=run_id, digest=record.digest()))

    def _trial(self, number: int) -> None:
        record = self._want.trials[number]
        known = self.logged.trials.get(number)
        if known is None:
            known = self._run(record, {**record.tags, PARENT: self._study_run})
            self._update(trials={**self.logged.trials, number: known})
        self._log(known.run_id, record, record.tags)
        if record.status == "FAILED":
            self._failure_log(number, known.run_id)
        self._client.set_terminated(known.run_id, status=record.status, end_time=record.end)
        done = LoggedRun(run_id=known.run_id, digest=record.digest())
        self._update(trials={**self.logged.trials, number: done})

    def _log(self, run_id: str, record: RunRecord, tags: Any) -> None:
        """Parameters, metrics and tags; the digest comes last, and only then the run counts as written."""
        from mlflow.entities import Param, RunTag

        params = [Param(k, v) for k, v in record.params.items()]
        for part in _chunks(params, _PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=part)
        self._metrics(run_id, record.points)
        plain = [RunTag(k, v) for k, v in {**tags, RUN_NAME: record.name}.items()]
        for part in _chunks(plain, _TAGS_PER_CALL):
            self._client.log_batch(run_id, tags=part)
        self._client.set_tag(run_id, DIGEST, record.digest())

    def _metrics(self, run_id: str, points: tuple[Point, ...], model_id: str | None = None) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(p.name, p.value, p.time, p.step, model_id=model_id) for p in points]
        for part in _chunks(metrics, _METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=part)

    def _failure_log(self, number: int, run_id: str) -> None:
        for path in self._view.artifacts.logs(number) if self._view.artifacts else ():
            lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            self._client.log_text(run_id, "\n".join(lines) + "\n", f"logs/{path.name}")

    def _hypervolume(self) -> None:
        points = self._want.hypervolume
        self._metrics(self._study_run, points[self.logged.hypervolume :])
        self._update(hypervolume=len(points))

    # --- files --------------------------------------------------------------------------------------------

    def _file(self, name: str) -> None:
        view, run_id = self._view, self._study_run
        content: dict[str, Callable[[], str | bytes]] = {
            FRONT_JSON: lambda: view.front.model_dump_json(by_alias=True, exclude_none=True, indent=2),
            FRONT_TABLE: lambda: json.dumps(front_table(view)),
            FRONT_PNG: lambda: front_png(view),
            FRONT_SMALL: lambda: front_png(view, dpi=_SMALL_DPI),
            FRONT_HTML: lambda: front_html(view),
            REPORT_HTML: lambda: report_html(view),
        }
        data = content[name]()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data.encode() if isinstance(data, str) else data)
            self._client.log_artifact(run_id, str(path))
        files = {**self.logged.files, name: self._want.files[name]}
        if name == FRONT_TABLE:  # what MlflowClient.log_table would note, but that appends to an older table
            self._client.set_tag(
                run_id, "mlflow.loggedArtifacts", json.dumps([{"path": FRONT_TABLE, "type": "table"}])
            )
        self._client.set_tag(run_id, FILES, json.dumps(files))
        self._update(files=files)

    # --- models -------------------------------------------------------------------------------------------

    def _model(self, sha: str) -> None:
        record = (self._want.models or {})[sha]
        run_id = self.logged.trials[record.trial.number].run_id
        known = self.logged.models.get(sha, LoggedModel())
        if not known.model_id:
            model = self._client.create_logged_model(
                self.logged.experiment_id,
                name=record.name,
                source_run_id=run_id,
                tags=dict(record.tags),
                params=dict(record.params),
                model_type=FLAVOR,
            )
            known = self._remember(sha, LoggedModel(model_id=model.model_id))
        if not known.ready:
            with tempfile.TemporaryDirectory() as folder:
                write_model(self._view, record.trial, known.model_id, run_id, Path(folder) / "model")
                self._client.log_model_artifacts(known.model_id, str(Path(folder) / "model"))
            self._client.finalize_logged_model(known.model_id, "READY")
            known = self._remember(sha, known.model_copy(update={"ready": True}))
        self._link(run_id, known.model_id, record)
        if not known.version:
            known = self._remember(
                sha, known.model_copy(update={"version": self._version(run_id, known, record)})
            )
        self._describe(known, record)
        self._remember(sha, known.model_copy(update={"digest": record.digest()}))

    def _remember(self, sha: str, model: LoggedModel) -> LoggedModel:
        self._update(models={**self.logged.models, sha: model})
        return model

    def _link(self, run_id: str, model_id: str, record: ModelRecord) -> None:
        """Metrics of the model, and the model among the outputs of its trial's run and the study's."""
        from mlflow.entities import LoggedModelOutput

        trial = record.trial
        step_time = self._want.trials[trial.number].end or 0
        points = tuple(metric_points(reported(trial), REMEASURED, step_time))
        if trial.status.final:
            points += tuple(metric_points(trial.status.final.test, REMEASURED, step_time, prefix="test/"))
        self._metrics(run_id, points, model_id)
        for run in (run_id, self._study_run):
            outputs = self._client.get_run(run).outputs
            if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
                self._client.log_outputs(run, [LoggedModelOutput(model_id, REMEASURED)])

    def _version(self, run_id: str, known: LoggedModel, record: ModelRecord) -> str:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(
                self._registered,
                description=f"The Pareto front of the study {self._view.name}: one version for each model.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self._client.create_model_version(
            self._registered,
            source=f"models:/{known.model_id}",
            run_id=run_id,
            tags=dict(record.version_tags),
            description=record.description,
            model_id=known.model_id,
        )
        return str(version.version)

    def _describe(self, known: LoggedModel, record: ModelRecord) -> None:
        name, version = self._registered, known.version
        self._client.update_model_version(name, version, description=record.description)
        for key, value in record.version_tags.items():
            self._client.set_model_version_tag(name, version, key, value)
        self._client.set_logged_model_tags(known.model_id, {DIGEST: record.digest()})

    def _retire(self, sha: str) -> None:
        """A model that a continued study has beaten stays registered, and says so."""
        known = self.logged.models[sha]
        self._client.set_model_version_tag(self._registered, known.version, FRONT, "false")
        self._client.set_logged_model_tags(known.model_id, {DIGEST: RETIRED})
        self._remember(sha, known.model_copy(update={"digest": RETIRED}))

    def _aliases(self) -> None:
        """Once for each outcome: an alias that somebody moved by hand afterwards stays where it is."""
        wanted = self._want.aliases or {}
        for alias, sha in wanted.items():
            version = self.logged.models[sha].version
            self._client.set_registered_model_alias(self._registered, alias, version)
        digest = digest_of(dict(wanted))
        self._client.set_tag(self._study_run, ALIASES, digest)
        self._update(aliases=digest)


def _chunks(items: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
