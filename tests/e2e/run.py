"""What every run has: its options, its folders, and its course once there is a cluster."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import results, sandbox, scenario
from .needs import OUT, ROOT
from .progress import Progress
from .tools import BIN, Failed, Tools

SCALE = 0.0625
"""Of the digits' pixels, as study.yaml has it."""


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
        arm64: candidates are also measured on arm64.
        trials: of the study; 0: as in study.yaml.
        keep: leave the cluster until Ctrl-C.
        bare: only bring the node up, with the images, and leave it until Ctrl-C.
        values: more values for the chart, as `helm --set` takes them.
        registry: where the images are already; empty: they are built.
        tag: of the images there.
        builder: program that builds, for a given cluster.
        base: base image, for a given cluster.
        mlflow_image: image of MLflow, for a given cluster.
    """

    arm64: bool = True
    trials: int = 0
    keep: bool = False
    bare: bool = False
    values: tuple[str, ...] = ()
    registry: str = ""
    tag: str = ""
    builder: str = ""
    base: str = ""
    mlflow_image: str = ""


@dataclass(frozen=True)
class Folders:
    """Where a run keeps what; all below build/e2e, which `make clean` removes.

    Attributes:
        out: everything.
    """

    out: Path = OUT

    @property
    def logs(self) -> Path:
        """Logs of all that ran."""
        return self.out / "logs"

    @property
    def results(self) -> Path:
        """What the run found."""
        return self.out / "results"

    @property
    def work(self) -> Path:
        """The node's own; gone after the run."""
        return self.out / "work"

    @property
    def storage(self) -> Path:
        """Buildah's store, with the layers of earlier runs."""
        return self.out / "storage"

    @property
    def archives(self) -> Path:
        """Images as files."""
        return self.out / "archives"

    @property
    def digits(self) -> Path:
        """Model and data."""
        return self.out / "digits"

    def fresh(self) -> None:
        """Forget what the last run said."""
        for folder in (self.logs, self.results):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)


def digits(folders: Folders, progress: Progress) -> None:
    """Train the example's model, unless an earlier run did.

    Raises:
        Failed: when the training fails.
    """
    script = ROOT / "docs/examples/digits/train.py"
    model = folders.digits / "model.keras"
    if model.exists() and model.stat().st_mtime > script.stat().st_mtime:
        return
    with progress.phase("model and data of docs/examples/digits"):
        log = folders.logs / "train.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, str(script), str(folders.digits)], check=False, stdout=output, stderr=output
            )
        if done.returncode:
            raise Failed(f"{script.name} ended with {done.returncode}, see {log}")


def carry_out(
    tools: Tools, setting: scenario.Setting, options: Options, folders: Folders, progress: Progress
) -> int:
    """Install, run the study, look at its front, remove everything; returns the exit code.

    Raises:
        Failed: when something does not come out as it must; the logs then tell more.
    """
    try:
        with progress.phase("helm install"):
            scenario.install(tools, setting, folders.logs / "values.yaml")
        with progress.phase("helm test"):
            tools.helm("test", scenario.RELEASE, "--namespace", scenario.SYSTEM, "--timeout", "180s")
        with progress.phase("model and data on a claim"):
            scenario.bring_data(tools, setting, folders.digits)
        with progress.phase("study, from apply to its front in MLflow"):
            study = scenario.run_study(tools, setting, progress)
        with progress.phase("front read back from MLflow"):
            text = _examine(tools, setting, study, folders, progress)
        (folders.results / "overview.txt").write_text(text)
        sys.stdout.write(f"\n{text}\n")
        if options.keep:
            wait(tools, folders, progress)
        else:
            with progress.phase("study deleted, chart uninstalled"):
                scenario.diagnose(tools, folders.logs / "cluster")
                scenario.remove(tools)
    except BaseException:
        progress.say(f"collecting what the cluster says in {folders.logs / 'cluster'}")
        scenario.diagnose(tools, folders.logs / "cluster")
        raise
    return 0


def _examine(
    tools: Tools, setting: scenario.Setting, study: dict[str, object], folders: Folders, progress: Progress
) -> str:
    manifest, uid = scenario.study(setting), str(_path(study, "metadata", "uid"))
    tracking = manifest["spec"]["tracking"]
    trials = tools.items("optimizationtrials", scenario.NAMESPACE)
    found = scenario.trial_faults(trials, setting.arm64)
    service = tools.get("service", f"{scenario.RELEASE}-mlflow", scenario.SYSTEM)
    port = int(service["spec"]["ports"][0]["port"])
    with tools.forwarded(scenario.SYSTEM, f"{scenario.RELEASE}-mlflow", port) as local:
        url = f"http://127.0.0.1:{local}"
        front = results.read(
            url, uid, tracking["experiment"], tracking["registeredModel"], folders.results / "mlflow"
        )
        found += results.faults(front, len(trials))
        _pictures(front, url, tracking["registeredModel"], folders, progress)
    if found:
        raise Failed("the study ended, but not as it must:\n" + "\n".join(f"- {each}" for each in found))
    knee = results.check_knee(front, folders.digits / "test.npz", SCALE)
    lines = [
        scenario.overview(tools),
        f"Front in MLflow: {len(front.document['front'])} of {len(trials)} trials",
        results.table(front),
        "",
        f"Registered model {tracking['registeredModel']}: {len(front.versions)} versions, aliases "
        + ", ".join(f"{name}={version}" for name, version in sorted(front.aliases.items())),
        f"Taken from the registry and run: {knee}",
    ]
    return "\n".join(lines)


def _pictures(front: results.Front, url: str, registered: str, folders: Folders, progress: Progress) -> None:
    program = results.browser()
    if program is None:
        progress.say("  no chromium: no pictures of MLflow's pages")
        return
    for name, page in results.pages(front, url, registered).items():
        file = folders.results / f"mlflow-{name}.png"
        made = results.screenshot(program, page, file)
        progress.say(f"  {file}" if made else f"  no picture of {page}: the browser made none")


def _path(document: dict[str, object], *names: str) -> object:
    found: object = document
    for name in names:
        assert isinstance(found, dict)
        found = found[name]
    return found


def wait(tools: Tools, folders: Folders, progress: Progress) -> None:
    """Leave the cluster as it is until Ctrl-C, and say how to look at it."""
    pid = folders.work / sandbox.PID
    enter = f"nsenter --net=/proc/{pid.read_text()}/ns/net " if pid.exists() else ""
    progress.say("the cluster stays until Ctrl-C; to look at it:")
    progress.say(f"  {enter}{BIN / 'kubectl'} --kubeconfig {tools.kubeconfig} get pods -A")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        progress.say("ending")
