"""What `paretune apply` says: what it would do, what came out, and how the bytes compare."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from paretune_contract.dataset import Split
from paretune_contract.measurement import MODEL_SIZE, Measurement, Metrics
from rich.console import Console
from rich.table import Table

from ..local.applying import Applied
from ..local.recipes import Recipe
from ..local.sameness import NOTHING_KNOWN, differences
from ..local.sources import needed
from ..tracking.redact import redact
from .apply_sources import Chosen
from .console import show_value, show_with_ratio

# --- before -----------------------------------------------------------------------------------------------


def plan_rows(recipe: Recipe, chosen: Chosen, file: Path) -> dict[str, str]:
    """What would be read, done and written, by a word for each."""
    needs, sources = needed(recipe.settings), chosen.sources
    rows = {"model": redact(chosen.model) + (" (the study's own)" if chosen.own_model else "")}
    for split, one in sources.data.items():
        rows[split.value] = f"{redact(one.uri)} (for {needs.get(split) or ', '.join(sources.metrics)})"
    if sources.data:
        rows["input"] = f"x * {sources.scaling.scale} + {sources.scaling.offset}"
    rows["stages"] = "intake, compress" + (" with fine-tuning" if Split.TRAIN in needs else "")
    rows["stages"] += ", evaluation beside the float model" if Split.EVALUATION in sources.data else ""
    rows["output"] = str(file)
    return rows


def plan_text(recipe: Recipe, rows: dict[str, str]) -> str:
    """The recipe as a file that --from takes, with what would be done as comments."""
    of = f" of {recipe.study.name}" if recipe.study else ""
    width = max(map(len, rows))
    comments = [f"{recipe.name}{of}: {recipe.settings.sentence()}"]
    comments += [f"{name:<{width}}  {words}" for name, words in rows.items()]
    if recipe.note:
        comments.append(recipe.note)
    text = yaml.safe_dump(recipe.document(), sort_keys=False, allow_unicode=True, width=110)
    return "\n".join([*(f"# {line}" for line in comments), text.rstrip()])


# --- after ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """A recipe that was followed, and the file that came of it."""

    recipe: Recipe
    applied: Applied
    file: Path

    @property
    def same_bytes(self) -> bool | None:
        """Whether the bytes are the recorded ones; None where there is nothing to compare with."""
        if not self.recipe.sha256 or self.applied.same_model is False:
            return None
        return self.applied.artifact.sha256 == self.recipe.sha256

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is different now, where the bytes are."""
        then = self.recipe.made_with
        if then is None or self.same_bytes is not False:
            return ()
        return differences(then, self.applied.made_with, needed(self.recipe.settings))

    @property
    def verdict(self) -> str:
        """How the bytes compare with the recorded ones; empty where none are recorded."""
        name = self.recipe.name
        if self.same_bytes:
            return f"The same bytes as {name}."
        if self.same_bytes is None:
            return (
                f"Another model than that of {name}: no bytes to compare with." if self.recipe.sha256 else ""
            )
        why = "; ".join(self.reasons) or NOTHING_KNOWN
        if self.applied.same_model is None:
            why = "from which model and with what those were made is not recorded"
        return (
            f"not the bytes of {name}: sha256 {self.applied.artifact.sha256[:16]}..., recorded is "
            f"{self.recipe.sha256[:16]}...: {why}"
        )

    @property
    def float_metrics(self) -> Metrics:
        """Metrics of the untouched model; its size alone where nothing was evaluated."""
        if self.applied.float_model is not None:
            return self.applied.float_model.metrics
        return {MODEL_SIZE: Measurement.exact(float(self.applied.model.bytes))}

    def show(self, out: Console) -> None:
        """The metrics beside the float model's, and what else there is to know."""
        result = self.applied.result
        out.print(f"{self.file}: {self.recipe.settings.sentence()}", markup=False, soft_wrap=True)
        table = Table(header_style="bold")
        table.add_column("metric")
        table.add_column("value", justify="right")
        table.add_column("float model", justify="right")
        for name, measured in result.metrics.items():
            base = self.float_metrics.get(name)
            other = show_value(name, base.value) if base else "-"
            table.add_row(name, show_with_ratio(name, measured, base), other)
        out.print(table)
        seen = result.evaluation
        if seen is not None and not seen.complete:
            out.print(f"evaluated on {seen.samples:,} of {seen.of:,} samples (time limit)")
        cached = [step.name for step in result.steps if step.cached]
        for line in (
            *self.applied.notes,
            *(f"{step.name}: {step.note}" for step in result.steps if step.note),
            *([f"from the cache: {', '.join(cached)}"] if cached else []),
        ):
            out.print(line, markup=False, soft_wrap=True)

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        applied = self.applied
        evaluation = applied.result.evaluation
        return {
            "file": str(self.file),
            "sha256": applied.artifact.sha256,
            "bytes": applied.artifact.bytes,
            "trial": self.recipe.trial,
            "settings": self.recipe.settings.canonical(),
            "metrics": _plain(applied.result.metrics),
            "coder": applied.result.coder,
            "floatModel": _plain(self.float_metrics),
            "evaluation": evaluation.model_dump(mode="json", by_alias=True) if evaluation else None,
            "sameModel": applied.same_model,
            "sameBytes": self.same_bytes,
            "differences": list(self.reasons),
            "madeWith": applied.made_with.model_dump(mode="json", by_alias=True, exclude_none=True),
            "notes": list(applied.notes),
        }


def _plain(metrics: Metrics) -> dict[str, Any]:
    return {name: measured.model_dump(mode="json") for name, measured in metrics.items()}
