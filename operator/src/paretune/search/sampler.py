"""Suggestions: an Optuna study is rebuilt from the trial records, asked once, and thrown away.

Nothing is kept between two asks, so that a suggestion is a function of the records, the seed and the number:
a study continues after any interruption as if nothing had happened, and every suggestion can be recomputed.
"""

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from paretune_contract.failure import CANDIDATE_REASONS
from paretune_contract.settings import Settings

from ..api import Ask, OptimizationTrial, State
from . import objectives as goals
from . import pareto
from .choices import SearchSpace
from .objectives import MetricValues, ResolvedObjective
from .prior import first_trials
from .records import baseline as baseline_of
from .records import format_ranges, searched

RETRIES = 1
"""So often the sampler is asked again for what was not tried; then the nearest to its suggestion is taken."""
MODELED = 300
"""Finished trials that TPE looks at, at most."""
STARTUP_TRIALS = 10
"""Finished trials before TPE models anything: as many as the prior usually has."""
POPULATION = 20
"""NSGA-II's generation; studies of this kind have some hundred trials at most."""
FAILED_VIOLATION = 1e3
"""A candidate that fails is farther from feasible than any that runs."""
_GENERATION = "NSGAIISampler:generation"

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _Known(FrozenTrial):
    """A trial that never changes: storage need not take it apart to keep it, nor a sampler to read it."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> "_Known":
        known = cls.__new__(cls)
        known.__dict__.update(trial.__dict__)
        return known

    def __deepcopy__(self, _memo: dict[int, object]) -> "_Known":
        return copy.copy(self)

    @cached_property
    def constraints(self) -> dict[str, float]:
        """As in the base class, which works them out anew for each look; TPE takes eight looks an ask."""
        return super().constraints


class SpaceExhausted(Exception):  # an end of the search rather than an error
    """All settings of the space have been tried; the study is over."""


@dataclass(frozen=True)
class Suggestion:
    """Settings of the next trial, and how they were found."""

    settings: Settings
    ask: Ask


def derive_seed(study_seed: int, number: int, retry: int) -> int:
    """Seed of one ask: the first 32 bits of sha256 over study seed, trial number and retry."""
    text = f"{study_seed}/{number}/{retry}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def suggest(
    space: SearchSpace,
    objectives: Sequence[ResolvedObjective],
    seed: int,
    sampler: str,
    number: int,
    trials: Sequence[OptimizationTrial],
) -> Suggestion:
    """Settings for trial `number`.

    Args:
        space: what may be chosen.
        objectives: what is optimized, with constraints.
        seed: the study's seed.
        sampler: `auto`, `tpe`, `nsgaii` or `random`.
        number: number of the new trial; records with this number or a higher one are not looked at.
        trials: records; those in a final state are known, the others run.

    Raises:
        SpaceExhausted: when every setting has been tried or runs.
    """
    earlier = sorted((t for t in trials if t.number < number), key=lambda t: t.number)
    known = format_ranges(t.number for t in earlier if t.final)
    taken = frozenset(t.settings for t in earlier)

    first = first_trials(space)
    if number < len(first):
        settings, origin = first[number]
        if settings not in taken:
            ask = Ask(seed=derive_seed(seed, number, 0), seen=known, origin=origin)
            return Suggestion(settings, ask)

    if space.size is not None and len(taken) >= space.size:
        raise SpaceExhausted(f"all {space.size} settings of the space have been tried")
    study = _rebuilt(space, objectives, earlier if sampler == "nsgaii" else _modeled(objectives, earlier))
    for retry in range(RETRIES + 1):
        derived = derive_seed(seed, number, retry)
        study.sampler = _sampler(sampler, derived)
        trial = study.ask()
        settings = space.ask(trial)
        if settings not in taken:
            return Suggestion(settings, Ask(seed=derived, seen=known, retry=retry))
        # The rejected one stays RUNNING: the constant liar then keeps the next retry away from it.

    derived = derive_seed(seed, number, RETRIES + 1)
    for near in space.around(settings, order=derived):
        if near not in taken:
            return Suggestion(near, Ask(seed=derived, seen=known, retry=RETRIES + 1))
    raise SpaceExhausted(f"all that can be suggested for trial {number} has been tried")


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "nsgaii":
        return NSGAIISampler(seed=seed, population_size=POPULATION)
    if name not in ("auto", "tpe"):
        raise ValueError(f"sampler {name!r} is none of auto, tpe, nsgaii, random")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            seed=seed,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=STARTUP_TRIALS,
        )


def _modeled(
    objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]
) -> Sequence[OptimizationTrial]:
    """What TPE models: all trials, or of very many the front, the latest, and those that run.

    TPE compares the best few with the rest. Beyond some hundreds the rest adds time and no knowledge.
    """
    finished = [t for t in trials if t.final]
    if len(finished) <= MODELED:
        return trials
    front = set(pareto.nondominated(pareto.candidates(objectives, trials, fresh=False)))
    kept = {t.number for t in finished if t.number in front or t.number == 0}
    for trial in reversed(finished):
        if len(kept) >= MODELED:
            break
        kept.add(trial.number)
    return [t for t in trials if not t.final or t.number in kept]


def _rebuilt(
    space: SearchSpace, objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]
) -> optuna.Study:
    study = optuna.create_study(directions=["minimize"] * len(objectives))
    study.add_trials(frozen_trials(space, objectives, trials))
    return study


def frozen_trials(
    space: SearchSpace, objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]
) -> list[FrozenTrial]:
    """Records as trials of Optuna, in number order; all objectives are losses, to be minimized.

    - A finished trial is COMPLETE, with its constraints. What a gate left unmeasured is taken to be as bad as
      the worst that is known; such a trial is infeasible, and the sampler looks at its constraints alone.
    - A failure that the candidate caused is an infeasible trial, so that the sampler leaves the region; one
      that the world caused says nothing about the settings and is FAIL.
    - A trial that is not finished is RUNNING: TPE then avoids its neighborhood (constant liar).
    """
    baseline = baseline_of(trials)
    worst = _worst_losses(objectives, trials)
    finished = 0
    result: list[FrozenTrial] = []
    for trial in trials:
        params = space.params_of(trial.settings)
        distributions: dict[str, BaseDistribution] = {name: space.distributions[name] for name in params}
        if not trial.final or _blameless(trial):
            state = TrialState.FAIL if trial.final else TrialState.RUNNING
            running = create_trial(state=state, params=params, distributions=distributions)
            result.append(_Known.of(running))
            continue
        metrics = searched(trial)
        losses = [o.loss(metrics[o.name].value) if o.name in metrics else worst[o.name] for o in objectives]
        complete = create_trial(
            state=TrialState.COMPLETE,
            params=params,
            distributions=distributions,
            values=losses,
            constraints=_constraints(objectives, trial, metrics, baseline),
            system_attrs={_GENERATION: finished // POPULATION},
        )
        result.append(_Known.of(complete))
        finished += 1
    return result


def _blameless(trial: OptimizationTrial) -> bool:
    return trial.status.state is State.FAILED and trial.status.reason not in CANDIDATE_REASONS


def _constraints(
    objectives: Sequence[ResolvedObjective],
    trial: OptimizationTrial,
    metrics: MetricValues,
    baseline: MetricValues | None,
) -> dict[str, float]:
    if trial.status.state is State.FAILED:
        return {"failed": FAILED_VIOLATION}
    return goals.violations(objectives, metrics, baseline)


def _worst_losses(
    objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]
) -> dict[str, float]:
    """The highest known loss of each objective; 1.0 while nothing is known."""
    finished = [searched(t) for t in trials if t.final]
    return {
        o.name: max((o.loss(m[o.name].value) for m in finished if o.name in m), default=1.0)
        for o in objectives
    }
