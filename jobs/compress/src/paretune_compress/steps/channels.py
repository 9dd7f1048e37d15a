"""Structured pruning: the channels that matter least are removed before the rest is fine-tuned."""

from collections.abc import Callable

from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import LevelOf

from .. import flatbuffer as fb
from ..shrink import Shrunk, channel_groups, channel_scores, choose_channels, keep_channels

MULTIPLE = 4
"""Channels stay in multiples of this: kernels work on blocks of them, and 15 take longer than 16."""


STEPS = 8
"""Halvings of the interval in which the share of channels is looked for: an error of 0.4%."""


def narrow(model: fb.Model, level: float, level_of: LevelOf = LevelOf.CHANNELS) -> Shrunk:
    """Remove a share of the channels of each group, those whose weights matter least (Li et al. 2017).

    Args:
        model: float; left as it is.
        level: share (0..1) that goes.
        level_of: a share of the channels, or of the multiply-accumulates: then the smallest share of
            channels whose removal leaves no more MACs than asked, or the largest possible one.

    Raises:
        StageError: NO_EFFECT when no channel can be removed.
    """
    groups = channel_groups(model)
    scores = channel_scores(model, groups)

    def without(share: float) -> Shrunk:
        kept = choose_channels(groups, scores, share, multiple=MULTIPLE)
        return keep_channels(model, groups, kept)

    done = without(level) if level_of is LevelOf.CHANNELS else _for_macs(without, level)
    if not done.removed:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity.pattern channel at level {level:g} removes nothing: of the model's channels "
            f"{sum(len(g.channels) for g in groups)} could go, in {len(groups)} groups; take a higher level, "
            "or another pattern",
        )
    return done


def _for_macs(without: Callable[[float], Shrunk], level: float) -> Shrunk:
    """The result with the smallest share of channels removed that also removes so many MACs."""
    low, high, best = 0.0, 1.0, without(1.0)
    for _ in range(STEPS):
        middle = (low + high) / 2
        done = without(middle)
        if done.after.macs <= (1 - level) * done.before.macs:
            high, best = middle, done
        else:
            low = middle
    return best


def sentence(done: Shrunk) -> str:
    """What was removed, for people."""
    if not done.removed:
        return "no channel could be removed"
    return (
        f"{done.removed} channels removed: {done.before.parameters:,} -> {done.after.parameters:,} "
        f"parameters, {done.before.macs:,} -> {done.after.macs:,} MACs"
    )
