"""Acceptance: from a manifest to a study that can run here. What is wrong is said before anything starts."""

import platform
import secrets
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.failure import Reason
from paretune_contract.measurement import CODER
from paretune_contract.stages import INTAKE, IntakeRequest, IntakeResult
from paretune_contract.summary import summarize

from ..api import OptimizationStudy, Runtime
from ..api.manifest import Fault, ManifestError, immutable_difference, load
from ..search.objectives import quality_metrics, resolve
from ..search.space import SpaceError, available
from .capacity import cores_here
from .pools import PoolNotHere, drop_devices, local_pools
from .workdir import LocalPool, StudyState, WorkDirectory
from .workers import Call, run_alone

INTAKE_SECONDS = 1800.0


class Refused(Exception):
    """The study cannot run as it is written; each line names the field, the value and what would be right."""

    def __init__(self, lines: Collection[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class IntakeFailed(Exception):
    """Model or data cannot be used."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Accepted:
    """A study that runs here. `study.spec` is already without the devices that were left out."""

    study: OptimizationStudy
    state: StudyState
    intake: IntakeResult
    resumed: bool


def accept(
    text: str,
    source: Path,
    work: WorkDirectory,
    *,
    without: Collection[str] = (),
    as_local: Collection[str] = (),
    say: Callable[[str], None] = lambda _: None,
    cache: Path | None = None,
) -> Accepted:
    """Check the manifest against this machine and an earlier run, read model and data, fix what stays fixed.

    Raises:
        ManifestError: when the manifest has faults.
        Refused: when it differs from the study in the work directory where it may not, or a pool is not here.
        IntakeFailed: when the model or the data cannot be used.
    """
    study = load(text, str(source), base=source.parent)
    state = work.read_state()
    if state is not None:
        _same_study(work, study, state, without, as_local)
        without, as_local = state.without, [p.name for p in state.pools if p.proxy]
    try:
        pools = local_pools(study.spec, cores=len(cores_here()), without=without, as_local=as_local)
        spec = drop_devices(study.spec, without)
    except PoolNotHere as error:
        raise Refused([str(error)]) from error
    work.create()
    request = intake_request(study, source.parent, cache or work.cache)
    sources = _fingerprints(request)
    intake = work.read_intake()
    if intake is None or state is None or state.sources != sources:
        say("Reading model and data")
        earlier, intake = intake, run_intake(request, work)
        if earlier is not None and state is not None:
            _same_content(earlier, intake, work)
        work.write_intake(request, intake)
    try:
        available(spec, summarize(intake), runtimes(pools))
    except SpaceError as error:
        raise Refused([str(error)]) from error
    if state is None:
        seed = study.spec.search.seed
        state = StudyState(
            uid=str(uuid.uuid4()),
            seed=seed if seed is not None else secrets.randbits(32),
            coder=CODER,
            sampler=f"{study.spec.search.sampler} optuna {version('optuna')}",
            versions=versions_here(),
            accepted=datetime.now(UTC).isoformat(timespec="seconds"),
            pools=pools,
            without=tuple(sorted(without)),
            notices=tuple(_notices(study, without)),
        )
    resumed = work.read_state() is not None
    state = state.model_copy(update={"state": "Running", "reason": "", "message": "", "sources": sources})
    work.write_study(text)
    work.write_state(state)
    return Accepted(study.model_copy(update={"spec": spec}), state, intake, resumed)


def runtimes(pools: Iterable[LocalPool]) -> dict[str, Runtime]:
    """What candidates run on here: LiteRT, also where it stands in for something else."""
    return {p.name: Runtime.LITERT for p in pools}


def run_intake(request: IntakeRequest, work: WorkDirectory) -> IntakeResult:
    """Intake in a process of its own, which a hostile file may take down without harm.

    Raises:
        IntakeFailed: when the model or the data cannot be used.
    """
    call = Call(None, INTAKE, request, work.logs / "intake.log", cores_here(), INTAKE_SECONDS)
    result = run_alone(call, work.logs)
    if result.reason is not None:
        message = result.message
        if result.reason in (Reason.CRASHED, Reason.OUT_OF_MEMORY, Reason.TIMED_OUT):
            message = f"{request.model_uri}: reading it failed: {message} (log: {work.logs / 'intake.log'})"
        raise IntakeFailed(result.reason, message)
    assert isinstance(result, IntakeResult)
    return result


def intake_request(study: OptimizationStudy, base: Path, cache: Path) -> IntakeRequest:
    """What intake is asked; relative URIs are relative to the manifest's folder `base`."""
    spec = study.spec
    sources = {
        Split.TRAIN: spec.dataset.train,
        Split.CALIBRATION: spec.dataset.calibration,
        Split.EVALUATION: spec.dataset.evaluation,
        Split.TEST: spec.dataset.test,
    }
    return IntakeRequest(
        model_uri=absolute_uri(spec.model.uri, base),
        dataset={
            split: DataRequest(uri=absolute_uri(s.uri, base), format=s.format)
            for split, s in sources.items()
            if s
        },
        scaling=Scaling(scale=spec.dataset.scale, offset=spec.dataset.offset),
        training=spec.training,
        metrics=quality_metrics(resolve(study.spec)),
        layers=tuple(layer.match for layer in spec.space.layers),
        cache=str(cache.absolute()),
    )


def absolute_uri(uri: str, base: Path) -> str:
    """A path or file URI as an absolute path; any other URI as it is."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return unquote(parts.path)
    return uri if "://" in uri else str((base / uri).absolute())


def _same_study(
    work: WorkDirectory,
    study: OptimizationStudy,
    state: StudyState,
    without: Collection[str],
    as_local: Collection[str],
) -> None:
    earlier = work.read_study()
    faults = immutable_difference(earlier, study)
    if faults:
        raise Refused(
            [*(str(f) for f in faults), f"{work.root} holds the study as it was; --restart begins a new one."]
        )
    for option, asked, kept in (
        ("--without", set(without), set(state.without)),
        ("--as-local", set(as_local), {p.name for p in state.pools if p.proxy}),
    ):
        if asked and asked != kept:
            raise Refused(
                [
                    f"{option} {' '.join(sorted(asked))}: the study in {work.root} began with "
                    f"{', '.join(sorted(kept)) or 'none'}"
                ]
            )
    if state.coder not in ("", CODER):
        raise Refused(
            [
                f"downloadSize: the study in {work.root} has sizes by the coder {state.coder}, this version "
                f"makes {CODER}, and sizes of two coders do not compare. Go on with the version of Paretune "
                "that began it, or begin a new study with --restart."
            ]
        )


def _same_content(earlier: IntakeResult, now: IntakeResult, work: WorkDirectory) -> None:
    assert earlier.model is not None
    assert now.model is not None
    lines = []
    if earlier.model.sha256 != now.model.sha256:
        lines.append(f"spec.model.uri: {now.model.uri} is not the model that this study began with")
    lines += [
        f"spec.dataset.{split.value}.uri: {info.uri} is not the data that this study began with"
        for split, info in now.data.items()
        if split in earlier.data and earlier.data[split].digest != info.digest
    ]
    if lines:
        raise Refused([*lines, f"{work.root} holds the study as it was; --restart begins a new one."])


def _fingerprints(request: IntakeRequest) -> dict[str, str]:
    """Size and time of local sources: cheap to look at on every start."""
    found = {}
    for uri in (request.model_uri, *(d.uri for d in request.dataset.values())):
        path = Path(uri)
        files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
        stats = [f.stat() for f in files if f.is_file()]
        found[uri] = (
            f"{len(stats)} {sum(s.st_size for s in stats)} {max((s.st_mtime_ns for s in stats), default=0)}"
        )
    return found


def _notices(study: OptimizationStudy, without: Collection[str]) -> list[str]:
    notices = []
    if without:
        notices.append(f"Left out on this machine, with their objectives: {', '.join(sorted(without))}.")
    cluster = [d.name for d in study.spec.devices if d.pool is not None]
    if cluster or study.spec.compress.queue != "default":
        notices.append(
            "Queues, tolerations and node selectors have no meaning on one machine and were ignored."
        )
    return notices


def versions_here() -> dict[str, str]:
    """Versions of Python and of the libraries that make candidates or record them, by distribution."""
    names = (
        "paretune",
        "optuna",
        "tensorflow-cpu",
        "tensorflow",
        "tensorflow-model-optimization",
        "ai-edge-litert",
        "litert-quantizer",
        "mlflow",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["Accepted", "Fault", "IntakeFailed", "ManifestError", "Refused", "accept", "run_intake"]
