"""Is every suggestion what the sampler says it is, given what it knew?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paretune_contract.settings import Settings

from ..api import OptimizationTrial, State
from .choices import SearchSpace
from .objectives import ResolvedObjective
from .records import parse_ranges
from .sampler import SpaceExhausted, suggest


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
    ordered = sorted(trials, key=lambda t: t.number)
    for position, trial in enumerate(ordered):
        outcome = _recompute(space, objectives, seed, sampler, ordered[:position], position, trial)
        yield outcome
        if isinstance(outcome, Difference):
            return


def _recompute(
    space: SearchSpace,
    objectives: Sequence[ResolvedObjective],
    seed: int,
    sampler: str,
    earlier: Sequence[OptimizationTrial],
    expected: int,
    trial: OptimizationTrial,
) -> Match | Difference:
    number, recorded, ask = trial.number, trial.settings, trial.spec.ask

    def differs(why: str, settings: Settings | None = None) -> Difference:
        return Difference(number, recorded, settings, why)

    if number != expected:
        return differs(f"the record of trial {expected} is missing")
    try:
        seen = parse_ranges(ask.seen)
    except ValueError as error:
        return differs(f"ask.seen: {error}")
    unknown = sorted(seen - {t.number for t in earlier if t.final})
    if unknown:
        return differs(f"ask.seen = {ask.seen!r}, but trial {unknown[0]} is no earlier trial with a result")
    then = [t if t.number in seen else _running(t) for t in earlier]
    try:
        suggestion = suggest(space, objectives, seed, sampler, number, then)
    except SpaceExhausted as error:
        return differs(f"the record has {_words(recorded)}, but nothing was left to suggest: {error}")
    if suggestion.settings != recorded:
        return differs(
            f"the record has {_words(recorded)}, the sampler suggests {_words(suggestion.settings)}",
            suggestion.settings,
        )
    if suggestion.ask != ask:
        return differs(f"the record was asked with {ask!r}, recomputed it is {suggestion.ask!r}", recorded)
    return Match(number)


def _running(trial: OptimizationTrial) -> OptimizationTrial:
    return trial.model_copy(update={"status": trial.status.model_copy(update={"state": State.PENDING})})


def _words(settings: Settings) -> str:
    return f"{settings.sentence()} ({settings.digest()[:8]})"
