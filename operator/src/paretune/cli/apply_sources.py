"""Model and data of `paretune apply`: by its options, else from the study, else as the recipe tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.measurement import ACCURACY, DEVICE_METRICS, QUALITY_METRICS, SIZE_METRICS
from paretune_store.uris import Place, locate

from ..api.manifest import ManifestError, load
from ..local.accept import absolute_uri
from ..local.recipes import Recipe
from ..local.sources import Sources, needed, of_study
from .errors import BadInput
from .validate import read_manifest

WORDS = {Split.TRAIN: "training", Split.CALIBRATION: "calibration", Split.EVALUATION: "evaluation"}
"""How people call the parts of the data set."""


@dataclass(frozen=True)
class Given:
    """What the options say. URIs are as they were typed."""

    model: str | None = None
    study: Path | None = None
    data: Mapping[Split, str] = field(default_factory=dict)
    scale: str | None = None
    offset: str | None = None
    metrics: tuple[str, ...] = ()
    evaluate: bool = True


@dataclass(frozen=True)
class Chosen:
    """Model and data that a recipe is followed with. URIs are absolute.

    Attributes:
        model: URI of the model.
        sources: the data that are read, and no others.
        own_model: no option names the model; it is the study's.
    """

    model: str
    sources: Sources
    own_model: bool


def chosen_sources(recipe: Recipe, place: str, given: Given) -> Chosen:
    """Model and data for a recipe.

    Args:
        recipe: what will be done.
        place: where the recipe was found, for messages.
        given: the options.

    Raises:
        BadInput: naming every part that is missing or is not there, and the option that gives it.
    """
    sources = _known(recipe, given)
    model = _uri(given.model, "--model") if given.model else sources.model
    faults = []
    if model is None:
        faults.append(
            f"--model is needed: {place} does not tell where it is; --model FILE, or --study STUDY.yaml"
        )
    else:
        faults += _absent(model, "the model", "--model")
    faults += [
        f"{why} needs {WORDS[split]} data: --{split.value} FILE, or --study STUDY.yaml"
        for split, why in needed(recipe.settings).items()
        if split not in sources.data
    ]
    used = sources.only(_used(recipe, sources, given))
    for split, one in used.data.items():
        faults += _absent(one.uri, f"the {WORDS[split]} data", f"--{split.value}")
    if faults:
        raise BadInput(faults)
    assert model is not None
    return Chosen(model, used, own_model=given.model is None)


def _known(recipe: Recipe, given: Given) -> Sources:
    """The study's sources, or what the recipe tells of them, under the options."""
    known = _study(given.study) if given.study else recipe.sources
    data = {split: DataRequest(uri=_uri(uri, f"--{split.value}")) for split, uri in given.data.items()}
    scaling = Scaling(
        scale=known.scaling.scale if given.scale is None else _numbers(given.scale, "--scale"),
        offset=known.scaling.offset if given.offset is None else _numbers(given.offset, "--offset"),
    )
    for name in given.metrics:
        if name in SIZE_METRICS | DEVICE_METRICS:
            raise BadInput(
                f"--metric {name}: expected {', '.join(sorted(QUALITY_METRICS))}, or a metric of your own; "
                "sizes are told in any case, and nothing is measured on devices"
            )
    asked = (
        Split.EVALUATION in given.data
    )  # nothing says by what to judge, and that is what most models are for
    metrics = given.metrics or known.metrics or ((ACCURACY,) if asked else ())
    return replace(known, data={**known.data, **data}, scaling=scaling, metrics=metrics)


def _study(file: Path) -> Sources:
    text, base = read_manifest(file)
    try:
        return of_study(load(text, str(file), base=base), base)
    except ManifestError as error:
        raise BadInput([f"{file}: {fault}" for fault in error.faults]) from error


def _used(recipe: Recipe, sources: Sources, given: Given) -> frozenset[Split]:
    evaluation = {Split.EVALUATION} if given.evaluate and sources.metrics else set()
    return frozenset({*needed(recipe.settings), *evaluation})


def _uri(text: str, option: str) -> str:
    """What was typed as an absolute path, or as the URI that it is."""
    try:
        location = locate(text)
    except ValueError as error:
        raise BadInput(f"{option} {text}: {error}") from error
    return absolute_uri(text, Path.cwd()) if location.place is Place.LOCAL else text


def _absent(uri: str, what: str, option: str) -> list[str]:
    location = locate(uri)
    if location.place is not Place.LOCAL or Path(location.path).exists():
        return []
    return [f"{uri}: no such file or folder, and {what} should be there; {option} FILE gives another place"]


def _numbers(text: str, option: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(
            f"{option} {text}: expected a number such as 0.00392, or one per channel: 0.017,0.017,0.018"
        ) from error
    return numbers[0] if len(numbers) == 1 else numbers
