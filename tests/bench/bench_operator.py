"""What the operator costs on a real API server: writes, their bytes, delays, memory.

A control plane of our own runs with an audit log; nodes are played, and what a stage answers is a function of
its settings. All times are those of the API server's audit log, so that no clock of ours stands between.
The yardstick for delays is the time of one empty write to the same API server in the same run.

    python tests/bench/bench_operator.py trials 50 200          # writes a trial, bytes, delays
    python tests/bench/bench_operator.py trials 1000 --last 40  # 960 made records, then 40 trials
    python tests/bench/bench_operator.py studies 100 100        # memory and etcd: 100 studies of 100 trials
    python tests/bench/bench_operator.py quiet                  # nothing is written when nothing changes

Without arguments: `trials 50` and `quiet`. `make controlplane` must have been run before.
"""

import contextlib
import copy
import hashlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from paretune.api import OptimizationStudy
from paretune.search.space import available
from paretune_contract.settings import Settings
from support.api_server import ApiServer, Document
from support.cluster_study import GROUP, condition, path, pool, study, trials
from support.controlplane import ControlPlane, install_definitions
from support.operator_process import OperatorProcess, operator
from support.simulated_answers import function_of_settings
from support.simulated_node import Answers, Later, PodRun, SimulatedNodes

OPERATOR = "bench-operator"
STAGE_SECONDS = 0.3
"""How long each played stage takes."""
WRITES = ("create", "update", "patch")
OURS = {"optimizationstudies", "optimizationtrials", "jobs"}
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [
        {"level": "Request", "users": [OPERATOR], "verbs": [*WRITES, "delete"]},
        {
            "level": "Request",
            "verbs": ["update", "patch"],
            "resources": [{"group": "batch", "resources": ["jobs/status"]}],
        },
        {
            "level": "Metadata",
            "verbs": ["create"],
            "resources": [{"group": "paretune.dev", "resources": ["optimizationstudies"]}],
        },
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Bench:
    """A control plane with a node and a pool, and room for operators."""

    api: ApiServer
    plane: ControlPlane
    folder: Path

    @contextlib.contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """An operator whose writes the audit log can tell from others'."""
        name = f"operator-{time.monotonic_ns()}"
        with operator(
            self.plane.kubeconfig_of_user(OPERATOR, ["system:masters"]),
            self.folder / name,
            lease={"name": name, "namespace": "default"},
            reconcile={"workers": 4, "statusSeconds": 10},
        ) as running:
            yield running

    def audit(self, since: float) -> list[dict[str, Any]]:
        """Requests that were answered since then."""
        time.sleep(1.0)  # the log is written behind
        found = map(json.loads, (self.plane.logs / "audit.log").read_text().splitlines())
        return [event for event in found if _moment(event) >= since]


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="paretune-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        policy = folder / "policy.yaml"
        policy.write_text(yaml.safe_dump(POLICY))
        flags = [f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'plane/logs/audit.log'}"]
        with (
            ControlPlane(folder / "plane", arguments={"kube-apiserver": flags}) as plane,
            ApiServer(plane.kubeconfig) as api,
            SimulatedNodes(api, Answers(_answer)) as nodes,
        ):
            install_definitions(plane.kubeconfig)
            nodes.add("work-1", resources={"cpu": "400", "memory": "400Gi"})
            for number in range(8):
                nodes.add(f"bench-{number}", labels={"pool": "bench"})
            api.apply(pool("bench", maxConcurrent=8))
            yield Bench(api, plane, folder)


def _answer(run: PodRun) -> Later:
    # A benchmark with this name waits until the bench has seen that nothing is written.
    seconds = 75.0 if run.labels.get("paretune.dev/study") == "slow" else STAGE_SECONDS
    return Later(seconds, function_of_settings(run))


def manifest(name: str, count: int, parallelism: int) -> Document:
    """A study of one pool."""
    document = study(name, devices=[{"name": "cpu", "pool": "bench"}])
    document["spec"]["budget"] = {"trials": count, "parallelism": parallelism, "maxFailures": 1000}
    return document


def finished(api: ApiServer, namespace: str, name: str, seconds: float) -> Document:
    """The study, once it is complete."""
    end, shown = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        found = api.get(path(namespace, name))
        if condition(found, "Complete").get("status") == "True":
            return found
        progress = str(found.get("status", {}).get("progress", ""))
        if progress != shown and sys.stderr.isatty():
            print(f"\r{name} {progress} ", end="", file=sys.stderr)
        shown = progress
        time.sleep(0.25)
    raise SystemExit(f"{name} is not complete after {seconds:.0f} s: {found.get('status')}")


# --- records that nobody ran ------------------------------------------------------------------------------


def made_records(accepted: Document, known: Sequence[Document], until: int) -> list[Document]:
    """Finished records from the first unused number up to `until`, with settings that were not tried."""
    parsed = OptimizationStudy.model_validate(accepted)
    assert parsed.status.intake is not None
    runtimes = {name: device.runtime for name, device in parsed.status.devices.items()}
    space = available(parsed.spec, parsed.status.intake, runtimes)
    tried = {Settings.model_validate(t["spec"].get("settings", {})).digest() for t in known}
    cells = [cell for cell in itertools.islice(space.cells(), 200_000) if cell.digest() not in tried]
    if len(cells) < until - len(known):
        raise SystemExit(f"the space has only {len(cells)} settings that are left")
    random.Random(0).shuffle(cells)
    pattern = next(t for t in known if t["status"].get("state") == "Complete" and t["spec"]["number"] > 0)
    return [_record(pattern, number, cells.pop()) for number in range(len(known), until)]


def _record(pattern: Document, number: int, settings: Settings) -> Document:
    status = copy.deepcopy(pattern["status"])
    sha = hashlib.sha256(str(number).encode()).hexdigest()
    status["artifact"] |= {"sha256": sha, "uri": f"candidates/{sha}.tflite"}
    # Worse than the pattern in everything: a front is a few dozen of a thousand trials, as in real studies.
    loss = random.Random(number).uniform(0.0, 0.2)
    for name, measured in status["metrics"].items():
        factor = 1 - loss / 10 if name == "accuracy" else 1 + loss
        measured |= {key: measured[key] * factor for key in ("value", "low", "high")}
    status.pop("final", None)
    study_name = pattern["spec"]["studyName"]
    metadata = {k: pattern["metadata"][k] for k in ("labels", "ownerReferences")}
    return {
        **{key: pattern[key] for key in ("apiVersion", "kind")},
        "metadata": {
            **metadata,
            "name": f"{study_name}-{number:04d}",
            "labels": {**metadata["labels"], "paretune.dev/trial": str(number)},
        },
        "spec": {**pattern["spec"], "number": number, "settings": settings.canonical()},
        "status": status,
    }


def put(api: ApiServer, namespace: str, records: Sequence[Document]) -> None:
    """Create records with their status."""

    def one(record: Document) -> None:
        created = api.create(record, namespace)
        at = f"{GROUP}/namespaces/{namespace}/optimizationtrials/{created['metadata']['name']}/status"
        api.call("PUT", at, {**created, "status": record["status"]})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, records))


# --- trials -----------------------------------------------------------------------------------------------


def measure_trials(found: Bench, count: int, last: int, parallelism: int) -> None:
    """Run a study to `count` trials; only its last ones are looked at."""
    api, name, namespace = found.api, f"kws{count}-{parallelism}", "default"
    skipped = max(0, count - last)
    if skipped:
        first = min(12, skipped)
        with found.operator():
            api.create(manifest(name, first, parallelism), namespace)
            accepted = finished(api, namespace, name, 600)
        known = [t for t in trials(api, namespace) if t["spec"]["studyName"] == name]
        put(api, namespace, made_records(accepted, known, skipped))
    with found.operator() as running:
        time.sleep(3.0)
        empty = statistics.median(_empty_write(api) for _ in range(20))
        since = time.time()
        if skipped:
            api.patch(path(namespace, name), {"spec": {"budget": {"trials": count}}})
        else:
            api.create(manifest(name, count, parallelism), namespace)
        searched = _until_searched(api, namespace, name, count, 60 + 30 * last)
        memory = _resident(running.process.pid)
    events = [event for event in found.audit(since) if _moment(event) <= searched]
    _report_writes(events, name, count, count - skipped)
    _report_delays(events, name, since, empty, parallelism)
    print(f"  operator: {memory / 2**20:.0f} MiB resident")


def _until_searched(api: ApiServer, namespace: str, name: str, count: int, seconds: float) -> float:
    """Wait until the last trial has ended; the time of it."""
    last = f"{GROUP}/namespaces/{namespace}/optimizationtrials/{name}-{count - 1:04d}"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = api.find(last)
        if found and found["status"].get("finished"):
            return time.time()
        time.sleep(0.2)
    raise SystemExit(f"{name} has not come to its last trial in {seconds:.0f} s")


def _report_writes(events: Sequence[dict[str, Any]], name: str, count: int, ran: int) -> None:
    """Writes until the search ended; fresh rounds, publishing and retaining come after it, once a study."""
    mine = [e for e in events if _of(e) == name and e["user"]["username"] == OPERATOR]
    writes = [
        e
        for e in mine
        if e["verb"] in WRITES and e["objectRef"]["resource"] in OURS and not _after_the_search(e)
    ]
    kinds = Counter((e["verb"], _resource(e)) for e in writes)
    size = sum(len(json.dumps(e.get("requestObject", {}))) for e in writes)
    each = f"{len(writes) / ran:.2f} writes and {size / ran / 1e3:.1f} kB a trial"
    print(f"{count} trials, {ran} of them run: {each}")
    for (verb, resource), number in sorted(kinds.items()):
        part = sum(
            len(json.dumps(e.get("requestObject", {})))
            for e in writes
            if (e["verb"], _resource(e)) == (verb, resource)
        )
        print(f"  {verb:7} {resource:28} {number / ran:6.2f}  {part / ran / 1e3:6.2f} kB")
    refused = Counter(e["responseStatus"]["code"] for e in writes if e["responseStatus"]["code"] >= 400)
    if refused:
        print(f"  refused: {dict(refused)}")


def _after_the_search(event: dict[str, Any]) -> bool:
    labels = event.get("requestObject", {}).get("metadata", {}).get("labels", {})
    if event["objectRef"]["resource"] == "jobs":
        return labels.get("paretune.dev/final") == "true" or "paretune.dev/trial" not in labels
    if event["objectRef"]["resource"] == "optimizationtrials":
        return "final" in event.get("requestObject", {}).get("status", {})
    return False


def _report_delays(
    events: Sequence[dict[str, Any]], name: str, since: float, empty: float, parallelism: int
) -> None:
    created = sorted(
        (_moment(e), e["requestObject"]["metadata"]["labels"])
        for e in events
        if e["verb"] == "create" and e["objectRef"]["resource"] == "jobs" and _of(e) == name
        if e["responseStatus"]["code"] < 300
    )
    completed: dict[str, float] = {}
    for event in events:
        conditions = (event.get("requestObject") or {}).get("status", {}).get("conditions") or ()
        if event["objectRef"]["resource"] == "jobs" and any(c["type"] == "Complete" for c in conditions):
            completed.setdefault(event["objectRef"]["name"], _moment(event))
    if created:
        print(f"  apply to the first Job: {created[0][0] - since:.2f} s")
    if parallelism != 1:
        return
    # One Job at a time: each is created because the one before it was complete.
    ends = sorted(completed.values())
    starts = [
        at for at, labels in created if "paretune.dev/trial" in labels and "paretune.dev/final" not in labels
    ]
    delays = []
    for at in starts:
        before = [end for end in ends if end < at]
        if before:
            delays.append(at - before[-1])
    if len(delays) > 1:
        cuts = statistics.quantiles(delays, n=20)
        p50, p95 = statistics.median(delays), cuts[-1]
        ratios = f"{p50 / empty:.0f} and {p95 / empty:.0f} times an empty write, {empty * 1e3:.1f} ms"
        print(f"  Job complete to the next Job: p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms ({ratios})")


def _empty_write(api: ApiServer) -> float:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "empty-"}}
    began = time.perf_counter()
    api.create(body, "default")
    return time.perf_counter() - began


def _of(event: dict[str, Any]) -> str:
    """The study that a request is about."""
    reference = event["objectRef"]
    if reference["resource"] == "optimizationstudies":
        return str(reference.get("name") or event.get("requestObject", {}).get("metadata", {}).get("name"))
    body = event.get("requestObject") or {}
    label = body.get("metadata", {}).get("labels", {}).get("paretune.dev/study")
    if label:
        return str(label)
    name = str(reference.get("name", ""))
    return name.rpartition("-")[0] if reference["resource"] == "optimizationtrials" else name


def _resource(event: dict[str, Any]) -> str:
    reference = event["objectRef"]
    return "/".join(filter(None, (reference["resource"], reference.get("subresource"))))


def _moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["stageTimestamp"].replace("Z", "+00:00")).timestamp()


def _resident(pid: int) -> int:
    """The most that a process had in memory, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM in /proc: this bench runs on Linux")


# --- many studies -----------------------------------------------------------------------------------------


def measure_studies(found: Bench, studies: int, count: int) -> None:
    """Memory of an operator that comes to a cluster with so many studies, each with one trial left to run."""
    api, namespace = found.api, "default"
    with found.operator():
        api.create(manifest("first", 12, 4), namespace)
        accepted = finished(api, namespace, "first", 600)
    known = trials(api, namespace)
    base = _etcd_bytes(found)
    records = made_records(accepted, known, count - 1)
    pattern = {
        k: v for k, v in accepted["status"].items() if k not in ("finished", "front", "best", "published")
    }
    for number in range(studies):
        name = f"many-{number:03d}"
        created = api.create(manifest(name, count, 1), namespace)
        created["metadata"]["finalizers"] = ["paretune.dev/purge"]
        created = api.call("PUT", path(namespace, name), created)
        progress = {**pattern, "conditions": [], "progress": f"{count - 1}/{count}"}
        created = api.call("PUT", path(namespace, name) + "/status", {**created, "status": progress})
        put(api, namespace, [_moved(r, created) for r in (*known, *records)])
        print(f"\r{number + 1} studies made", end="", file=sys.stderr)
    print(file=sys.stderr)
    grown = _etcd_bytes(found) - base
    each = grown / studies / count / 1e3
    print(f"{studies} studies of {count} trials: etcd {grown / 2**20:.0f} MiB, {each:.1f} kB a trial")
    with found.operator() as running:
        idle = _resident(running.process.pid)
        began = time.monotonic()
        while time.monotonic() - began < 60 + 6 * studies:
            done = [s for s in api.items(path(namespace)) if condition(s, "Complete").get("status") == "True"]
            print(f"\r{len(done)} complete ", end="", file=sys.stderr)
            if len(done) > studies:
                break
            time.sleep(3)
        print(file=sys.stderr)
        most = _resident(running.process.pid)
        print(
            f"  operator: {idle / 2**20:.0f} MiB when it led, at most {most / 2**20:.0f} MiB until all were "
            f"complete ({time.monotonic() - began:.0f} s)"
        )


def _moved(record: Document, owner: Document) -> Document:
    """The same record of another study."""
    name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    labels = {**record["metadata"]["labels"], "paretune.dev/study": name, "paretune.dev/study-uid": uid}
    reference = {**record["metadata"]["ownerReferences"][0], "name": name, "uid": uid}
    number = record["spec"]["number"]
    return {
        **{key: record[key] for key in ("apiVersion", "kind", "status")},
        "metadata": {"name": f"{name}-{number:04d}", "labels": labels, "ownerReferences": [reference]},
        "spec": {**record["spec"], "studyName": name},
    }


def _etcd_bytes(found: Bench) -> int:
    """Bytes of etcd's database, with the history of its objects."""
    return sum(f.stat().st_size for f in (found.plane.folder / "etcd").rglob("db"))


# --- quiet ------------------------------------------------------------------------------------------------


def measure_quiet(found: Bench) -> None:
    """Writes of an operator that has nothing to say."""
    api, namespace = found.api, "default"
    with found.operator():
        api.create(manifest("done", 3, 2), namespace)
        finished(api, namespace, "done", 300)
        api.create(manifest("slow", 2, 1), namespace)
        _until(lambda: any(t["spec"]["studyName"] == "slow" for t in trials(api, namespace)), 200)
        time.sleep(12)  # the last numbers may come ten seconds late
        since = time.time()
        for number in range(10):  # changes that change nothing
            api.patch(path(namespace, "done"), {"metadata": {"annotations": {"touched": str(number)}}})
            api.patch(path(namespace, "slow"), {"metadata": {"annotations": {"touched": str(number)}}})
            time.sleep(5)
        until = time.time()
        writes = [
            e
            for e in found.audit(since)
            if e["user"]["username"] == OPERATOR and e["verb"] in (*WRITES, "delete") and _moment(e) < until
            if e["objectRef"]["resource"] != "leases"
        ]
        seconds = until - since
        print(f"quiet: {len(writes)} writes in {seconds:.0f} s in which only annotations changed, 20 times")
        for event in writes:
            print(f"  {event['verb']} {_resource(event)} {event['objectRef'].get('name')}")


def _until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("it does not come to the point where the measurement begins")
        time.sleep(0.5)


# --- command line -----------------------------------------------------------------------------------------


@click.group(invoke_without_command=True, help=__doc__.split("\n\n")[0])
@click.pass_context
def main(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        with bench() as found:
            measure_trials(found, 50, 50, 1)
            measure_quiet(found)


@main.command("trials")
@click.argument("counts", nargs=-1, type=int, required=True)
@click.option("--last", default=10**6, help="Trials that are run; the records of those before are made up.")
@click.option("--parallelism", default=1, show_default=True)
def _trials(counts: tuple[int, ...], last: int, parallelism: int) -> None:
    """Writes, bytes and delays."""
    with bench() as found:
        for count in counts:
            measure_trials(found, count, min(last, count), parallelism)


@main.command("studies")
@click.argument("studies", type=int)
@click.argument("count", type=int)
def _studies(studies: int, count: int) -> None:
    """Memory and etcd."""
    with bench() as found:
        measure_studies(found, studies, count)


@main.command("quiet")
def _quiet() -> None:
    """Writes when nothing changes."""
    with bench() as found:
        measure_quiet(found)


if __name__ == "__main__":
    main()
