"""The front as MLflow has it, read the way a user reads it: by MLflow's own client, and by a browser."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .tools import Failed

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGE = "2000,1500"
"""Width and height of a screenshot in pixels."""
PAGE_MILLISECONDS = 30_000
"""How long a page may load, on the browser's own clock."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Front:
    """What MLflow has of one study.

    Attributes:
        experiment: id.
        run: id of the study's run.
        document: front.json.
        versions: of the registered model, each with its number, description and the sha256 of its file.
        aliases: version by alias.
        runs: number of child runs by status.
    """

    experiment: str
    run: str
    document: Mapping[str, Any]
    versions: Sequence[Mapping[str, str]]
    aliases: Mapping[str, str]
    runs: int


def read(url: str, uid: str, experiment: str, registered: str, folder: Path) -> Front:
    """The front of a study, with all that its run promises; front.json and the models are kept in the folder.

    Args:
        url: of the MLflow server.
        uid: metadata.uid of the study.
        experiment: its name.
        registered: name of the registered model.
        folder: where files go.

    Raises:
        Failed: naming what is not there, or does not agree.
    """
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow

    mlflow.set_tracking_uri(url)
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise Failed(f"MLflow has no experiment {experiment}")
    runs = client.search_runs([found.experiment_id], f"tags.`paretune.study.uid` = '{uid}'", max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    if len(parents) != 1:
        raise Failed(f"MLflow has {len(parents)} runs of the study itself, expected 1")
    run = parents[0].info.run_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    client.download_artifacts(run, "front.json", str(folder))
    client.download_artifacts(run, "front.png", str(folder))
    versions = []
    for version in sorted(client.search_model_versions(f"name='{registered}'"), key=lambda v: int(v.version)):
        local = mlflow.artifacts.download_artifacts(
            f"models:/{registered}/{version.version}", dst_path=str(folder / f"version-{version.version}")
        )
        sha256 = hashlib.sha256(Path(local, "model.tflite").read_bytes()).hexdigest()
        text = version.description or ""
        versions.append(
            {"version": str(version.version), "description": text, "sha256": sha256, "folder": local}
        )
    return Front(
        experiment=found.experiment_id,
        run=run,
        document=json.loads((folder / "front.json").read_text()),
        versions=versions,
        aliases={k: str(v) for k, v in client.get_registered_model(registered).aliases.items()}
        if versions
        else {},
        runs=len(runs) - 1,
    )


def faults(front: Front, trials: int) -> list[str]:
    """What does not agree in MLflow, one sentence each.

    Args:
        front: as read.
        trials: of the study.
    """
    found = []
    members = front.document["front"]
    if not members:
        found.append("front.json has an empty front")
    if front.runs != trials:
        found.append(f"{front.runs} runs of trials, but the study has {trials}")
    counts = front.document["counts"]
    counted = sum(counts[state] for state in ("complete", "infeasible", "pruned", "failed"))
    if counted != trials:
        found.append(f"front.json counts {counted} trials, but the study has {trials}")
    promised = sorted(member["artifact"]["sha256"] for member in members)
    registered = sorted(version["sha256"] for version in front.versions)
    if promised != registered:
        found.append(f"the registered files are not the front's: {registered}, expected {promised}")
    wrong = [alias for alias in ("knee", "best-accuracy", "best-downloadSize") if alias not in front.aliases]
    if wrong:
        found.append(f"no alias {', '.join(wrong)}; there are {', '.join(front.aliases) or 'none'}")
    return found


def accuracy(file: Path, data: Path, scale: float) -> float:
    """Share of a data set's images that a .tflite with float inputs or int8 inputs classes rightly."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    with np.load(data) as parts:
        images, labels = parts["x"].astype(np.float32) * scale, parts["y"]
    step, zero = source["quantization"]
    right = 0
    for image, label in zip(images, labels, strict=True):
        given = image[np.newaxis]
        if source["dtype"] == np.int8:
            given = np.clip(np.round(given / step) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], given)
        interpreter.invoke()
        right += int(np.argmax(interpreter.get_tensor(target["index"])) == label)
    return right / len(labels)


def check_knee(front: Front, data: Path, scale: float) -> str:
    """Run the model that people would take, on the test images; the sentence says what came out.

    Raises:
        Failed: when its accuracy is not the one that front.json tells.
    """
    number = front.aliases["knee"]
    version = next(each for each in front.versions if each["version"] == number)
    member = next(m for m in front.document["front"] if m["artifact"]["sha256"] == version["sha256"])
    promised = member["test"]["accuracy"]["value"]
    measured = accuracy(Path(version["folder"], "model.tflite"), data, scale)
    if abs(measured - promised) > TOLERANCE:
        raise Failed(
            f"version {number} has accuracy {measured:.4f} on test.npz, and front.json says {promised:.4f}"
        )
    return (
        f"version {number} (knee, trial {member['trial']}) has accuracy {measured:.4f} on test.npz, as told"
    )


def table(front: Front) -> str:
    """The front, a line for each member."""
    names = [_metric(each) for each in front.document["objectives"]]
    registered = {version["sha256"]: version["version"] for version in front.versions}
    rows = [["trial", *names, "bytes", "version", "settings"]]
    for member in sorted(front.document["front"], key=lambda each: int(each["trial"])):
        numbers = [_short(member["metrics"].get(name, {}).get("value")) for name in names]
        settings = json.dumps(member["settings"], separators=(",", ":")).replace('"', "")
        artifact = member["artifact"]
        version = registered.get(artifact["sha256"], "-")
        rows.append([str(member["trial"]), *numbers, str(artifact["bytes"]), version, settings])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)) for row in rows
    )


def browser() -> str | None:
    """A browser that takes screenshots, if the machine has one."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def screenshot(program: str, url: str, file: Path) -> bool:
    """A picture of a page; False when the browser made none."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--hide-scrollbars", "--no-first-run", f"--user-data-dir={profile}", f"--window-size={PAGE}",
            f"--virtual-time-budget={PAGE_MILLISECONDS}", f"--screenshot={file}", url,
        ]  # fmt: skip
        try:
            subprocess.run(command, check=False, capture_output=True, timeout=120)
        except subprocess.TimeoutExpired:
            return False
    return file.exists()


def pages(front: Front, url: str, registered: str) -> dict[str, str]:
    """Pages worth looking at, by the name of their picture."""
    return {
        "run": f"{url}/#/experiments/{front.experiment}/runs/{front.run}",
        "runs": f"{url}/#/experiments/{front.experiment}/runs",
        "model": f"{url}/#/models/{registered}",
    }


def _metric(objective: Mapping[str, Any]) -> str:
    device = objective.get("device")
    return f"{objective['metric']}/{device}" if device else str(objective["metric"])


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.4g}"
