"""`kubectl paretune explain`: what happened to a trial."""

from collections.abc import Iterator

import click
from paretune_contract.failure import StageError
from paretune_contract.stages import BENCHMARK, COMPRESS, EVALUATE
from paretune_contract.task import log_name
from paretune_store.errors import NotThere, Refused, TooLarge
from paretune_store.retries import Patience
from rich.console import Console
from rich.text import Text

from ...api import OptimizationTrial, State
from ...cluster.api import Json
from ...cluster.manifests import FETCH, RUN, UPLOAD
from ...cluster.names import task_name
from ...cluster.reading import LOG_BYTES, Cluster, Denied
from ...plan.observed import Work
from ..console import result_console
from ..errors import BadInput, Failed
from ..explain import describe
from .artifacts import TRACKING, opened, store_of_study
from .options import as_text, in_cluster, output_option
from .study import ReadStudy, read_study

PATIENCE = Patience(attempts=1, first_pause=0.0, timeout=10.0)


@click.command(short_help="A trial: settings, measurements, why it ended so, logs.")
@click.argument("study")
@click.argument("trial")
@click.option(
    "--lines", default=30, show_default=True, type=click.IntRange(0, 200), help="Lines of log; 0: none."
)
@click.option(
    "--tracking-uri",
    envvar=TRACKING,
    metavar="URI",
    help="The study's MLflow server as it is reached from here, for logs whose pods are gone.",
)
@output_option("table", "json", "yaml")
@in_cluster
def explain(
    cluster: Cluster, study: str, trial: str, lines: int, tracking_uri: str | None, form: str
) -> None:
    """Show settings, measurements and steps of a TRIAL of STUDY, why it ended as it did, and its logs.

    TRIAL is a number, a name, `knee` or `best-METRIC` (as `best-accuracy`). Logs come from the trial's pods
    while there are any, else from the copies in the study's store, for which your own credentials are used
    (see `kubectl paretune fetch --help`).
    """
    read = read_study(cluster, study)
    record = read.trial(trial)
    if form != "table":
        plain = record.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        click.echo(as_text({"apiVersion": record.api_version, "kind": record.kind, **plain}, form))
        return
    out = result_console()
    describe(record, out)
    pods = cluster.pods(read.raw, record.number)
    for pod in pods:
        out.print(Text(pod_line(pod)), soft_wrap=True)
    if lines:
        told = list(_from_pods(cluster, pods, lines, out))
        _from_store(read, record, lines, tracking_uri, out, {t for t in told if t})


def pod_line(pod: Json) -> str:
    """`pod kws-0017-compress-0-x7k2p: Running on node-3`, with what it waits for."""
    status = pod.get("status", {})
    node = pod["spec"].get("nodeName")
    text = f"pod {pod['metadata']['name']}: {status.get('phase', 'Unknown')}{f' on {node}' if node else ''}"
    reasons = [
        f"{state['waiting']['reason']}: {state['waiting'].get('message', '')}".rstrip(": ")
        for container in _containers(status)
        if (state := container.get("state", {})).get("waiting", {}).get("reason")
        not in (None, "PodInitializing", "ContainerCreating")
    ]
    reasons += [
        f"{c['reason']}: {c.get('message', '')}".rstrip(": ")
        for c in status.get("conditions", ())
        if c["type"] in ("PodScheduled", "DisruptionTarget") and c.get("reason")
        and (c["status"] == "False") == (c["type"] == "PodScheduled")
    ]  # fmt: skip
    return f"{text}, {'; '.join(reasons)}" if reasons else text


def _containers(status: Json) -> list[Json]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _from_pods(cluster: Cluster, pods: list[Json], lines: int, out: Console) -> Iterator[str]:
    """Shows the logs of pods; yields the stage of each that had one."""
    for pod in pods:
        for container in (FETCH, RUN, UPLOAD):
            try:
                text = cluster.log(pod, container, lines)
            except Denied as denied:
                out.print(Text(f"\nNo logs of pods: {denied}"), soft_wrap=True)
                return
            if text and (container == RUN or _failed(pod, container)):
                _show(f"pod {pod['metadata']['name']}, container {container}", text, lines, out)
                if container == RUN:
                    yield pod["metadata"]["labels"].get("paretune.dev/stage", "")


def _failed(pod: Json, container: str) -> bool:
    for status in _containers(pod.get("status", {})):
        ended = status.get("state", {}).get("terminated")
        if status["name"] == container and ended:
            return bool(ended.get("exitCode"))
    return False


def _from_store(
    read: ReadStudy, record: OptimizationTrial, lines: int, tracking: str | None, out: Console, told: set[str]
) -> None:
    works = [work for work in _works(read, record) if work.stage not in told]
    if not works:
        return
    try:
        store = store_of_study(read, tracking)
        objects = opened(read, store, PATIENCE)
        found = 0
        for work in works:
            name = log_name(store, task_name(work))
            try:
                text = objects.get_bytes(name, LOG_BYTES).decode(errors="replace")
            except (NotThere, TooLarge):
                continue
            found += 1
            _show(f"{objects.uri}: {name}", text, lines, out)
        if not found and not told and record.status.state is State.FAILED:
            out.print(Text(f"\nNo logs of trial {record.number}: neither pods nor copies in {objects.uri}."))
    except (BadInput, Failed, Refused, StageError) as error:
        first = str(error).splitlines()[0]
        out.print(
            Text(f"\nNo logs from the store: {first}; --tracking-uri names another way to it."),
            soft_wrap=True,
        )


def _works(read: ReadStudy, record: OptimizationTrial) -> Iterator[Work]:
    """The stages that the trial may have gone through."""
    if record.status.state is State.PENDING and not record.status.attempts:
        return
    yield Work(record.number, COMPRESS)
    devices = dict.fromkeys([*read.study.status.devices, *record.status.pools])
    for device in devices:
        yield Work(record.number, BENCHMARK, device)
    if record.status.final is not None:
        yield from (Work(record.number, BENCHMARK, device, final=True) for device in devices)
        yield Work(record.number, EVALUATE, final=True)


def _show(title: str, text: str, lines: int, out: Console) -> None:
    tail = text.splitlines()[-lines:]
    if tail:
        out.print(f"\n[bold]{title}[/]", soft_wrap=True)
        out.print("\n".join(tail), markup=False, style="dim", soft_wrap=True)
