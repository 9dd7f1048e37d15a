"""`paretune plan`: what a study would do, before it does it."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from paretune_contract.model import LayerInfo, ModelInfo
from paretune_contract.settings import SparsityPattern
from paretune_contract.stages import IntakeResult
from paretune_contract.summary import summarize
from paretune_contract.training import ResolvedTraining
from rich.console import Console
from rich.table import Table

from ..api.manifest import ManifestError, load
from ..local.accept import IntakeFailed, intake_request, run_intake, runtimes
from ..local.capacity import capacity, cores_here, free_memory
from ..local.pools import PoolNotHere, drop_devices, local_pools
from ..local.workdir import WorkDirectory
from ..plan.estimate import Estimate, estimate
from ..search.objectives import resolve
from ..search.space import SearchSpace, SpaceError, available
from .console import clock, result_console
from .errors import BadInput
from .validate import read_manifest


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--workdir",
    "-w",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="PARETUNE_WORKDIR",
    help="Keep the normalized model and data there, so that `run` finds them. Default: a temporary folder.",
)
@click.option("--without", multiple=True, metavar="DEVICE", help="As for `paretune run`.")
@click.option("--as-local", multiple=True, metavar="DEVICE", help="As for `paretune run`.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(
    study: Path, workdir: Path | None, without: tuple[str, ...], as_local: tuple[str, ...], as_json: bool
) -> None:  # fmt: skip
    """Show what STUDY would do, before it does it.

    Layers, the space that is left for this model, data and devices and why the rest is not, what training
    will do, and about how long it takes.
    """
    text, base = read_manifest(study)
    try:
        parsed = load(text, str(study), base=base)
        pools = local_pools(parsed.spec, cores=len(cores_here()), without=without, as_local=as_local)
        spec = drop_devices(parsed.spec, without)
        with tempfile.TemporaryDirectory(prefix="paretune-plan-") as scratch:
            work = WorkDirectory(workdir or Path(scratch))
            work.create()
            intake = run_intake(intake_request(parsed, base, work.cache), work)
        space = available(spec, summarize(intake), runtimes(pools))
    except ManifestError as error:
        raise BadInput([f"{study}: {fault}" for fault in error.faults]) from error
    except (IntakeFailed, PoolNotHere, SpaceError) as error:
        raise BadInput(str(error)) from error
    able, notices = capacity(
        spec.budget.parallelism, {p.name: p.threads for p in pools}, len(cores_here()), free_memory()
    )
    searched = {o.device for o in resolve(spec) if o.device}
    time = estimate(spec, summarize(intake), able, len(searched))
    if as_json:
        click.echo(json.dumps(_document(intake, space, time, notices), indent=2))
        return
    out = result_console()
    _show_model(out, intake)
    _show_space(out, space)
    _show_training(out, intake.training, intake)
    out.print("\n[bold]Time[/]")
    out.print(
        f"  about {clock(time.study)} for {spec.budget.trials} trials, {able.parallelism} at a time on "
        f"{able.cores} cores: a fine-tuning {clock(time.training)}, an evaluation {clock(time.evaluation)}, "
        f"the benchmarks of a candidate {clock(time.benchmark)}. A rough figure: it is not measured."
    )
    for notice in notices:
        out.print(f"  {notice}", markup=False)


def _show_model(out: Console, intake: IntakeResult) -> None:
    model = intake.model
    assert model is not None
    out.print(f"[bold]Model[/]  {model.uri} ({model.format.value})")
    out.print(
        f"  {model.parameters:,} parameters, {model.macs:,} multiply-accumulates, "
        f"{model.bytes:,} bytes as float .tflite"
    )
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        for t in tensors:
            out.print(f"  {kind} {t.name}: {t.dtype} {list(t.shape)}", markup=False)
    table = Table(
        "layer", "operator", "weights", "share", "MACs", "sparsity", "clusters", "int4", title_justify="left"
    )
    for layer in model.layers:
        table.add_row(*_layer_row(layer, model))
    out.print(table)
    out.print("[bold]Data[/]")
    for split, info in intake.data.items():
        shapes = ", ".join(f"{n} {list(a.shape[1:])} {a.dtype}" for n, a in info.inputs.items())
        labels = "with labels" if info.labels else "no labels"
        out.print(f"  {split.value}: {info.samples:,} samples of {shapes}, {labels}", markup=False)
    for note in intake.notes:
        out.print(f"  {note}", markup=False)


def _layer_row(layer: LayerInfo, model: ModelInfo) -> list[str]:
    def mark(flag: bool) -> str:
        return "yes" if flag else "-"

    share = layer.weights / max(1, sum(one.weights for one in model.layers))
    return [
        layer.name,
        layer.operator,
        f"{layer.weights:,} {'x'.join(map(str, layer.weight_shape))}",
        f"{share:.1%}",
        f"{layer.macs:,}",
        mark(layer.prunable),
        mark(layer.clusterable),
        mark(layer.int4),
    ]


def _show_space(out: Console, space: SearchSpace) -> None:
    size = f"{space.size:,} settings" if space.size is not None else "more than a million settings"
    out.print(f"\n[bold]Space[/]  {size}")
    for name, values in choices(space).items():
        out.print(f"  {name}: {', '.join(values) or '-'}", markup=False)
    if space.withheld:
        out.print("  left out:")
        for one in space.withheld:
            out.print(f"    {one.what}: {one.why}", markup=False)


def choices(space: SearchSpace) -> Mapping[str, list[str]]:
    """The options of each setting, in the words of the manifest; none where there is no such setting."""
    removes = SparsityPattern.CHANNEL in space.patterns
    return {
        "quantization.scheme": [v.value for v in space.schemes],
        "quantization.granularity": [v.value for v in space.granularities],
        "quantization.training": [v.value for v in space.trainings],
        "quantization.io": [v.value for v in space.ios],
        "quantization.algorithm": [v.value for v in space.algorithms],
        "quantization.calibrationSamples": [str(v) if v else "all" for v in space.calibration_samples],
        "quantization.biasCorrection": ["true" if v else "false" for v in space.bias_corrections],
        "sparsity.pattern": [v.value for v in space.patterns],
        "sparsity.level": [f"{v:g}" for v in space.levels],
        "sparsity.levelOf": [space.level_of.value] if removes else [],
        "sparsity.encoding": [v.value for v in space.encodings],
        "clustering.stage": [v.value for v in space.stages],
        "clustering.clusters": [str(v) for v in space.clusters],
        "allocation": [v.value for v in space.allocations],
        "quantization.bits": [f"{v:g}" for v in space.bits],
        "rate.stage": ["training" if v else "none" for v in space.rated],
        "rate.ratio": [f"{v:g}" for v in space.ratios],
    }


def _show_training(out: Console, training: ResolvedTraining | None, intake: IntakeResult) -> None:
    out.print("\n[bold]Training[/]")
    assert intake.model is not None
    if training is None:
        cause = (
            f"the file has operators that cannot be trained: {', '.join(intake.model.untrainable)}"
            if intake.model.untrainable
            else "there is no dataset.train"
        )
        out.print(f"  none: {cause}", markup=False)
        return
    for name, value in training.model_dump(mode="json", by_alias=True, exclude={"origin"}).items():
        origin = training.origin.get(name, "")
        out.print(f"  {name}: {value}{f'  ({origin})' if origin else ''}", markup=False)
    out.print("  keeps the epoch that is best on the held-out part of train; never sees evaluation or test")


def _document(
    intake: IntakeResult, space: SearchSpace, time: Estimate, notices: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "intake": intake.model_dump(mode="json", by_alias=True),
        "space": {
            "size": space.size,
            "choices": choices(space),
            "withheld": [{"what": w.what, "why": w.why} for w in space.withheld],
        },
        "estimate": asdict(time),
        "notices": list(notices),
    }
