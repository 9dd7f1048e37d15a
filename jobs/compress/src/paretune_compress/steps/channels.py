"""Structured pruning: the channels that matter least are removed before the rest is fine-tuned."""

from paretune_contract.failure import Reason, StageError

from .. import flatbuffer as fb
from ..shrink import Shrunk, channel_groups, channel_scores, choose_channels, keep_channels

MULTIPLE = 4
"""Channels stay in multiples of this: kernels work on blocks of them, and 15 take longer than 16."""


def narrow(model: fb.Model, level: float) -> Shrunk:
    """Remove a share of the channels of each group, those whose weights matter least (Li et al. 2017).

    Args:
        model: float; left as it is.
        level: share (0..1) of the channels that goes.

    Raises:
        StageError: NO_EFFECT when no channel can be removed.
    """
    groups = channel_groups(model)
    kept = choose_channels(groups, channel_scores(model, groups), level, multiple=MULTIPLE)
    done = keep_channels(model, groups, kept)
    if not done.removed:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity.pattern channel at level {level:g} removes nothing: of the model's channels "
            f"{sum(len(g.channels) for g in groups)} could go, in {len(groups)} groups; take a higher level, "
            "or another pattern",
        )
    return done


def sentence(done: Shrunk) -> str:
    """What was removed, for people."""
    if not done.removed:
        return "no channel could be removed"
    return (
        f"{done.removed} channels removed: {done.before.parameters:,} -> {done.after.parameters:,} "
        f"parameters, {done.before.macs:,} -> {done.after.macs:,} MACs"
    )
