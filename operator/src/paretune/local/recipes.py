"""Recipes: the settings of a trial, with what is known of how its file was made."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from paretune_contract.base import TolerantDocument
from paretune_contract.measurement import DOWNLOAD_SIZE, MODEL_SIZE, SIZE_METRICS, Metrics
from paretune_contract.settings import Settings
from pydantic import Field

from ..search.front import FrontDocument, FrontStudy, aliases
from ..search.made_with import MadeWith
from .sources import Sources


class NoRecipe(Exception):
    """There is no recipe, or none is meant; each line says what was found and what would be right."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))


class RecipeArtifact(TolerantDocument):
    """The file that the settings gave."""

    sha256: str
    bytes: int = 0


class RecipeDocument(TolerantDocument):
    """A recipe as a file. Only `settings` must be there; the rest is as it stands in front.json."""

    settings: Settings
    trial: int | None = None
    study: FrontStudy | None = None
    metrics: tuple[str, ...] = Field((), description="Quality metrics to evaluate.")
    artifact: RecipeArtifact | None = None


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Attributes:
        settings: what is done to the model.
        trial: number of the trial; None for settings that are no trial's.
        study: the study that the trial belongs to, where it is known.
        sha256: of the file that was made by it (hex); empty where no file is known.
        bytes: of that file.
        metrics: quality metrics of the study.
        measured: what the study reports of the file.
        sources: where the study's model and data are, as far as that is known.
        note: what there is to know before it is followed; mostly nothing.
    """

    settings: Settings
    trial: int | None = None
    study: FrontStudy | None = None
    sha256: str = ""
    bytes: int = 0
    metrics: tuple[str, ...] = ()
    measured: Metrics = field(default_factory=dict)
    sources: Sources = field(default_factory=Sources)
    note: str = ""

    @property
    def name(self) -> str:
        """For sentences: `trial 7`, or `the recipe`."""
        return "the recipe" if self.trial is None else f"trial {self.trial}"

    @property
    def made_with(self) -> MadeWith | None:
        """What its file was made from and with, where that is known."""
        return self.study.made_with if self.study else None

    def document(self) -> dict[str, Any]:
        """The recipe as plain data, which can be read back from a file."""
        document = RecipeDocument(
            settings=self.settings,
            trial=self.trial,
            study=self.study,
            metrics=self.metrics,
            artifact=RecipeArtifact(sha256=self.sha256, bytes=self.bytes) if self.sha256 else None,
        )
        plain = document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"settings"})
        return {
            "settings": self.settings.canonical(),
            **{k: v for k, v in plain.items() if v not in ([], {})},
        }


@dataclass(frozen=True)
class Recipes:
    """The recipes of one place.

    Attributes:
        place: as the user named it.
        found: in number order where they are trials.
        front: the front that the place has, where it has one.
        partial: only trials of the front are here; a work directory would have the others.
    """

    place: str
    found: tuple[Recipe, ...]
    front: FrontDocument | None = None
    partial: bool = False

    def choose(self, text: str | None) -> Recipe:
        """The one that is meant.

        Args:
            text: `7`, `0007`, `NAME-0007`, `knee` or `best-METRIC`; None: the only one.

        Raises:
            NoRecipe: when it is not there, or several are and none is named.
        """
        if text is None:
            return self._only()
        names = aliases(self.front) if self.front else {}
        tail = text.rpartition("-")[2]
        number = names.get(text, int(tail) if tail.isdecimal() else None)
        if number is None:
            known = f"a number, {', '.join(names)}" if names else "a number"
            raise NoRecipe(f"--trial {text}: expected {known}")
        for recipe in self.found:
            if recipe.trial == number:
                return recipe
        raise NoRecipe(self._not_there(text))

    def _only(self) -> Recipe:
        front = {m.trial for m in self.front.front} if self.front else None
        candidates = [r for r in self.found if front is None or r.trial in front]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise NoRecipe(f"--trial is needed: {self.place} has none on a front; it has {self._numbers()}")
        what = "its front has" if self.front else "it has"
        rows = [_row(recipe) for recipe in candidates]
        raise NoRecipe([f"--trial is needed: {self.place} has several trials; {what}", *_aligned(rows)])

    def _not_there(self, text: str) -> str:
        others = "; --from WORKDIR takes every trial of a run" if self.partial else ""
        where = "on the front of " if self.partial else "in "
        return f"--trial {text}: not {where}{self.place}, which has {self._numbers()}{others}"

    def _numbers(self) -> str:
        numbers = sorted(r.trial for r in self.found if r.trial is not None)
        if not numbers:
            return "one recipe without a number; leave --trial out"
        if len(numbers) > 8 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"trials {numbers[0]} to {numbers[-1]}"
        return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


# --- for people -------------------------------------------------------------------------------------------


def _row(recipe: Recipe) -> tuple[str, str, str]:
    """Number, settings and headline figures of a trial."""
    shown_metrics = [n for n in (*recipe.metrics, DOWNLOAD_SIZE, MODEL_SIZE) if n in recipe.measured]
    figures = [
        f"{name} {recipe.measured[name].value:,.0f} bytes"
        if name in SIZE_METRICS
        else f"{name} {recipe.measured[name].value:.4g}"
        for name in shown_metrics[: len(recipe.metrics) + 1]
    ]
    if not figures and recipe.bytes:
        figures = [f"{recipe.bytes:,} bytes"]
    return str(recipe.trial), recipe.settings.sentence(), ", ".join(figures)


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    numbers, words = (max(len(row[i]) for row in rows) for i in (0, 1))
    return [f"  {n:>{numbers}}  {w:<{words}}  {f}".rstrip() for n, w, f in rows]
