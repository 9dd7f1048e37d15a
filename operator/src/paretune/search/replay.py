"""Is every suggestion what the sampler says it is, given what it knew?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from paretune_contract.settings import Settings

from ..api import OptimizationTrial, State
from .choices import SearchSpace
from .objectives import ResolvedObjective
from .records import parse_ranges
from .sampler import SpaceExhausted, Suggestion, suggest


@dataclass(frozen=True)
class Match:
    """The recomputed suggestion equals the record."""

    number: int


@dataclass(frozen=True)
class Difference:
    """The recomputed suggestion is another one.

    Args:
        number: number of the trial.
        recorded: settings in the record.
        recomputed: settings of the recomputed suggestion; None when there is none.
        why: a sentence for people.
    """

    number: int
    recorded: Settings
    recomputed: Settings | None
    why: str

    def __str__(self) -> str:
        return f"trial {self.number}: {self.why}"


def replay(
    space: SearchSpace,
    objectives: Sequence[ResolvedObjective],
    seed: int,
    sampler: str,
    trials: Sequence[OptimizationTrial],
) -> Iterator[Match | Difference]:
    """Recompute every suggestion, in number order, and end at the first difference.

    Each is recomputed from the results that its record says were known (`ask.seen`); the other trials with
    lower numbers ran at that time.
    """

    def ask_again(number: int, then: Sequence[OptimizationTrial]) -> Suggestion:
        return suggest(space, objectives, seed, sampler, number, then)

    ordered = sorted(trials, key=lambda t: t.number)
    for position, trial in enumerate(ordered):
        earlier = ordered[:position]
        why = _damage(trial, earlier)
        outcome = _compare(trial, earlier, ask_again) if not why else _damaged(trial, why)
        yield outcome
        if isinstance(outcome, Difference):
            return


def _damaged(trial: OptimizationTrial, why: str) -> Difference:
    return Difference(trial.number, trial.settings, None, why)


def _damage(trial: OptimizationTrial, earlier: Sequence[OptimizationTrial]) -> str:
    """Why nothing can be recomputed from these records; empty when it can."""
    if trial.number != len(earlier):
        return f"the record of trial {len(earlier)} is missing"
    try:
        seen = parse_ranges(trial.spec.ask.seen)
    except ValueError as error:
        return f"ask.seen: {error}"
    unknown = sorted(seen - {t.number for t in earlier if t.final})
    if unknown:
        return f"ask.seen = {trial.spec.ask.seen!r}, and trial {unknown[0]} is no earlier trial with a result"
    return ""


def _compare(
    trial: OptimizationTrial,
    earlier: Sequence[OptimizationTrial],
    ask_again: Callable[[int, Sequence[OptimizationTrial]], Suggestion],
) -> Match | Difference:
    number, recorded, ask = trial.number, trial.settings, trial.spec.ask
    seen = parse_ranges(ask.seen)
    try:
        again = ask_again(number, [t if t.number in seen else _running(t) for t in earlier])
    except SpaceExhausted as error:
        why = f"the record has {_words(recorded)}, and nothing was left to suggest: {error}"
        return Difference(number, recorded, None, why)
    if again.settings != recorded:
        why = f"the record has {_words(recorded)}, the sampler suggests {_words(again.settings)}"
        return Difference(number, recorded, again.settings, why)
    if again.ask != ask:
        why = f"the settings are equal, but the record has {ask!r} and the sampler {again.ask!r}"
        return Difference(number, recorded, again.settings, why)
    return Match(number)


def _running(trial: OptimizationTrial) -> OptimizationTrial:
    return trial.model_copy(update={"status": trial.status.model_copy(update={"state": State.PENDING})})


def _words(settings: Settings) -> str:
    return f"{settings.sentence()} ({settings.digest()[:8]})"
