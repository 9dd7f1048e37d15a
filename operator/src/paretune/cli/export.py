"""`paretune export`: a model to take along."""

import shutil
from pathlib import Path

import click
import yaml
from paretune_codec import pack
from paretune_contract.model import ModelInfo
from paretune_store.files import atomic_write

from ..api import OptimizationTrial
from ..local.workdir import WorkDirectory
from .console import show_value
from .errors import BadInput
from .workdir_option import existing, number_of, workdir_option


@click.command()
@click.argument("trial")
@workdir_option
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Default: NAME-NNNN.")
@click.option(
    "--labels", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="One class name a line."
)
@click.option("--ptz", is_flag=True, help="Also write model.ptz, the container that downloadSize measures.")
def export(trial: str, workdir: Path | None, output: Path | None, labels: Path | None, ptz: bool) -> None:
    """Write a trial's model into a folder, with its labels and a README of how to run it.

    TRIAL is a number, `knee` or `best-METRIC` (as `best-accuracy`).
    """
    work, _ = existing(workdir)
    record = work.read_trials()[number_of(trial, work)]
    artifact = record.status.artifact
    if artifact is None:
        raise BadInput(f"trial {trial}: made no model ({record.status.state.value}: {record.status.message})")
    source = work.root / artifact.uri
    if not source.exists():
        raise BadInput(
            f"trial {trial}: its file was cleaned up, as it is not on the front. Keep all with "
            "`spec.artifacts.retain: all`."
        )
    intake = work.read_intake()
    assert intake is not None
    assert intake.model is not None
    names = labels.read_text().splitlines() if labels else _class_names(work)
    folder = output or Path(record.metadata.name)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / "model.tflite")
    written = [f"model.tflite ({artifact.bytes:,} bytes)"]
    if ptz:
        container = pack(source.read_bytes())
        atomic_write(folder / "model.ptz", container)
        written.append(f"model.ptz ({len(container):,} bytes)")
    if names:
        atomic_write(folder / "labels.txt", "\n".join(names) + "\n")
        written.append("labels.txt")
    plain = record.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    atomic_write(folder / "trial.yaml", yaml.safe_dump(plain, sort_keys=False))
    study = work.read_study()
    scaling = (study.spec.dataset.scale, study.spec.dataset.offset)
    atomic_write(folder / "README.md", _readme(record, intake.model, scaling, bool(names), ptz))
    click.echo(f"{folder}: {', '.join([*written, 'trial.yaml', 'README.md'])}")


def _class_names(work: WorkDirectory) -> list[str]:
    intake = work.read_intake()
    infos = intake.data.values() if intake else ()
    return next((list(info.class_names) for info in infos if info.class_names), [])


def _readme(
    record: OptimizationTrial, model: ModelInfo, scaling: tuple[object, object], labels: bool, ptz: bool
) -> str:
    status = record.status
    assert status.artifact is not None
    metrics = {**status.metrics, **(status.final.metrics if status.final else {})}
    rows = "\n".join(f"| {n} | {show_value(n, m.value)} |" for n, m in sorted(metrics.items()))
    tests = (status.final.test if status.final else {}) or {}
    rows += "".join(f"\n| {n} (test) | {show_value(n, m.value)} |" for n, m in sorted(tests.items()))
    inputs = "\n".join(f"- `{t.name}`: {list(t.shape)}" for t in model.inputs)
    label = (
        '\nprint(open("labels.txt").read().splitlines()[int(y.argmax())])'
        if labels
        else "\nprint(int(y.argmax()))"
    )
    container = (
        """
`model.ptz` holds the same file in fewer bytes: `paretune unpack model.ptz` gives it back, bit for bit.
"""
        if ptz
        else ""
    )
    return f"""# {record.metadata.name}: {record.settings.sentence()}

Made from `{model.uri}` (sha256 {model.source_sha256[:16]}...). The file's sha256 is
`{status.artifact.sha256}`.
{container}
| metric | value |
|---|---|
{rows}

## Inputs
{inputs}

The model takes float32(x) * {scaling[0]} + {scaling[1]}, where x is the data that it was measured on.

## Run it
```
pip install ai-edge-litert numpy
```
```python
import numpy as np
from ai_edge_litert.interpreter import Interpreter

model = Interpreter("model.tflite")
model.allocate_tensors()
i, o = model.get_input_details()[0], model.get_output_details()[0]


def to_model(x):  # x: float32, scaled as above, with a batch axis of 1
    if i["dtype"] == np.float32:
        return x.astype(np.float32)
    scale, zero = i["quantization"]
    limits = np.iinfo(i["dtype"])
    return np.clip(np.round(x / scale + zero), limits.min, limits.max).astype(i["dtype"])


def from_model(y):
    if o["dtype"] == np.float32:
        return y
    scale, zero = o["quantization"]
    return (y.astype(np.float32) - zero) * scale


x = np.zeros(i["shape"], np.float32)  # your sample here
model.set_tensor(i["index"], to_model(x))
model.invoke()
y = from_model(model.get_tensor(o["index"]))[0]{label}
```
"""
