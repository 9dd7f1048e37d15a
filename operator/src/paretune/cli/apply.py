"""`paretune apply`: the settings of a trial once more, on the same or on another model."""

import json
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason
from paretune_store.files import atomic_copy
from paretune_store.uris import locate

from ..local.applying import Job, NotTheSame, follow
from ..local.calls import StageFailed, Watcher
from ..local.recipe_places import recipes_of
from ..local.recipes import NoRecipe, Recipe
from ..local.workdir import WorkDirectory
from .apply_shown import Outcome, plan_rows, plan_text
from .apply_sources import WORDS, Chosen, Given, chosen_sources
from .console import Progress, result_console
from .errors import BadInput, Failed
from .output_file import free_file

_DATA_OF = re.compile(r"dataset\.(train|calibration|evaluation)\b")
_NEEDED = re.compile(r"needs dataset\.(train|calibration)\b")
_GIVEN_AMISS = frozenset(
    {
        Reason.MODEL_UNREADABLE,
        Reason.MODEL_UNSAFE,
        Reason.MODEL_UNSUPPORTED,
        Reason.MODEL_QUANTIZED,
        Reason.DATA_UNREADABLE,
        Reason.DATA_MISMATCH,
        Reason.LAYER_NOT_FOUND,
        Reason.NO_EFFECT,
    }
)
"""Model, data and settings that do not go together: exit code 2. All else is no fault of the input."""


@click.command()
@click.option(
    "--from",
    "place",
    required=True,
    metavar="FRONT|WORKDIR|RECIPE",
    type=click.Path(path_type=Path, exists=True),
    help="A front.json, a run's work directory, an exported trial, or a file with `settings:` at its top.",
)
@click.option("--trial", help="Number, knee, or best-METRIC. Default: the front's only one.")
@click.option(
    "--model", metavar="URI", help=".keras, .h5, SavedModel or float .tflite. Default: the study's."
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Default: MODEL-trialN.tflite."
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
@click.option(
    "--study", type=click.Path(path_type=Path, dir_okay=False), help="A manifest: its data, scaling, metrics."
)
@click.option("--train", metavar="URI", help="Training data, for settings that fine-tune.")
@click.option("--calibration", metavar="URI", help="Calibration data, for int8, int16x8 and int4.")
@click.option("--evaluation", metavar="URI", help="Evaluation data; without it nothing is evaluated.")
@click.option("--no-evaluation", is_flag=True, help="Do not evaluate, though there are data for it.")
@click.option("--metric", multiple=True, help="Quality metric; may be repeated. Default: the study's.")
@click.option("--scale", help="Model input = x * scale + offset: a number, or one per channel: 0.1,0.1,0.2")
@click.option("--offset", help="As --scale.")
@click.option("--threads", type=click.IntRange(1, 256), help="Default: those of the study on its own model.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take steps that are done from there, and leave new ones. Default: all is made anew.",
)
@click.option("--expect-same", is_flag=True, help="Exit code 1 unless the bytes are the recorded ones.")
@click.option("--dry-run", is_flag=True, help="Print the recipe and what would be done; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON; no progress.")
def apply(
    place: Path, trial: str | None, model: str | None, output: Path | None, force: bool, study: Path | None,
    train: str | None, calibration: str | None, evaluation: str | None, no_evaluation: bool,
    metric: tuple[str, ...], scale: str | None, offset: str | None, threads: int | None, cache: Path | None,
    expect_same: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Apply the settings of a trial again: to the model of its study, or to another one.

    On the same model the file comes out bit for bit, as far as libraries, threads and processor are the same;
    the command says whether it did. Data come from the study where it is known (--from a work directory, or
    --study), else from the options.

    \b
    paretune apply --from runs/kws --trial knee
    paretune apply --from runs/kws --trial 7 --model retrained.keras -o kws.tflite
    paretune apply --from runs/kws --trial 7 --dry-run > recipe.yaml
    paretune apply --from recipe.yaml --model other.tflite --calibration calibration.npz
    """
    if no_evaluation and evaluation:
        raise BadInput("--no-evaluation: --evaluation gives data to evaluate on; leave one of them out")
    if expect_same and cache:
        raise BadInput("--expect-same: steps from --cache would prove nothing; leave one of them out")
    data = {Split.TRAIN: train, Split.CALIBRATION: calibration, Split.EVALUATION: evaluation}
    given = Given(
        model=model,
        study=study,
        data={split: uri for split, uri in data.items() if uri},
        scale=scale,
        offset=offset,
        metrics=metric,
        evaluate=not no_evaluation,
    )
    recipe = _recipe(place, trial)
    if expect_same and not recipe.sha256:
        raise BadInput(f"--expect-same: {place} records no file of {recipe.name} to compare with")
    chosen = chosen_sources(recipe, str(place), given)
    file = output or _default_output(chosen.model, recipe, place)
    if dry_run:
        rows = plan_rows(recipe, chosen, file)
        click.echo(
            json.dumps({"recipe": recipe.document(), **rows}, indent=2)
            if as_json
            else plan_text(recipe, rows)
        )
        return
    free_file(file, force)
    with Progress(quiet=as_json) as progress, _ended_by_sigterm():
        if recipe.note:
            progress.say(recipe.note)
        outcome = _followed(recipe, chosen, cache, threads, expect_same, _Told(progress), file)
    if as_json:
        click.echo(json.dumps(outcome.document(), indent=2))
    else:
        outcome.show(result_console())
    _judge(outcome, expect_same, as_json)


def _judge(outcome: Outcome, expect_same: bool, quiet: bool) -> None:
    """Say how the bytes compare with the recorded ones.

    Raises:
        Failed: when they differ and the same were expected.
    """
    if outcome.same_bytes is False:
        if expect_same:
            raise Failed(f"--expect-same: {outcome.verdict}")
        click.echo(f"warning: {outcome.verdict}", err=True)
    elif outcome.verdict and not quiet:
        click.echo(outcome.verdict)


def _recipe(place: Path, trial: str | None) -> Recipe:
    try:
        return recipes_of(place).choose(trial)
    except NoRecipe as error:
        raise BadInput(error.lines) from error


def _default_output(model: str, recipe: Recipe, place: Path) -> Path:
    tail = f"trial{recipe.trial}" if recipe.trial is not None else place.stem
    return Path(f"{Path(locate(model).name).stem}-{tail}.tflite")


# --- doing ------------------------------------------------------------------------------------------------


class _Told(Watcher):
    """Progress as `paretune run` shows it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, sentence: str) -> None:
        self._progress.say(sentence)

    def working(self, what: str, seconds: float) -> None:
        self._progress.working(what, seconds)


def _followed(
    recipe: Recipe, chosen: Chosen, cache: Path | None, threads: int | None, same_only: bool,
    watcher: Watcher, file: Path,
) -> Outcome:  # fmt: skip
    """Follow the recipe in a scratch folder, and put the finished file in its place, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="paretune-apply-") as scratch:
        work = WorkDirectory(Path(scratch))
        work.create()
        job = Job(recipe, chosen.model, chosen.sources, work, cache or work.cache, threads, same_only)
        try:
            applied = follow(job, watcher)
        except NotTheSame as error:
            raise BadInput(f"--expect-same: {error}") from error
        except StageFailed as error:
            lines = [error.message, *(f"  {line}" for line in error.tail), *_cure(error)]
            amiss = error.reason in _GIVEN_AMISS or _NEEDED.search(error.message)
            raise (BadInput if amiss else Failed)(lines) from error
        try:
            atomic_copy(Path(applied.artifact.path), file)
        except OSError as error:
            raise Failed(f"{file}: cannot be written: {error.strerror or error}") from error
    return Outcome(recipe, applied, file)


def _cure(error: StageFailed) -> list[str]:
    """Which option gives the data that are missing, or others where data are at fault."""
    if missing := _NEEDED.search(error.message):
        return [f"--{missing[1]} FILE gives them"]
    found = _DATA_OF.match(error.message)
    if error.reason not in (Reason.DATA_MISMATCH, Reason.DATA_UNREADABLE) or not found:
        return []
    split = Split(found[1])
    other = "; --metric another metric; --no-evaluation leaves it out" if split is Split.EVALUATION else ""
    return [f"--{split.value} FILE gives other {WORDS[split]} data{other}"]


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends stages and scratch folder in good order, as Ctrl-C does."""

    def handle(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
