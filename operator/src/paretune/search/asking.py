"""The record of the next trial."""

from collections.abc import Sequence

from ..api import OptimizationStudy, OptimizationTrial
from ..api.meta import Metadata
from ..api.naming import trial_name
from ..api.trial import State, TrialSpec, TrialStatus
from .choices import SearchSpace
from .objectives import ResolvedObjective
from .sampler import suggest


def next_trial(
    study: OptimizationStudy,
    space: SearchSpace,
    objectives: Sequence[ResolvedObjective],
    seed: int,
    trials: Sequence[OptimizationTrial],
    number: int,
) -> OptimizationTrial:
    """A new record, Pending, with the settings that the search suggests for this number.

    Raises:
        SpaceExhausted: when every setting has been tried or runs.
    """
    suggestion = suggest(
        space, objectives, seed=seed, sampler=study.spec.search.sampler, number=number, trials=trials
    )
    name = study.metadata.name
    return OptimizationTrial(
        metadata=Metadata(name=trial_name(name, number)),
        spec=TrialSpec(study_name=name, number=number, settings=suggestion.settings, ask=suggestion.ask),
        status=TrialStatus(state=State.PENDING),
    )
