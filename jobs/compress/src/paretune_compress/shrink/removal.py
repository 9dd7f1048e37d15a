"""Removing channels from a float .tflite for good: smaller kernels, smaller activations, fewer sums.

What can go without a trace is found in three steps: which slices of which tensors are one channel
(`links`), which channels hold a constant (`constants`), which ones nobody needs (`decision`). Then the
flatbuffer is cut (`rewrite`) and both versions are compared in the runtime (`verification`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import flatbuffer as fb
from ..graph.description import describe_model
from .constants import Known, constant_channels
from .decision import at_least_one, needed_channels
from .groups import ChannelGroup
from .links import link
from .rewrite import cut, positions
from .structure import Flags, Ids, Role, Structure
from .verification import Sample, must_agree, random_samples


@dataclass(frozen=True)
class Kept:
    """Indices along a kernel's axes that stayed, in the layout of the file before.

    rows: output channels: the last axis of depthwise kernels [1, height, width, channels], else the first.
    columns: input channels: the last axis; all of them for depthwise kernels, which have one each.
    """

    rows: Ids
    columns: Ids


@dataclass(frozen=True)
class Cost:
    """Float constants, and multiply-accumulates of one inference."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Shrunk:
    """A model with channels removed.

    model: the smaller one, or the very one that was given when nothing could go. Operators and tensors keep
        their numbers.
    removed: how many channels went.
    kept: by the tensor of each kernel that lost something or could have.
    before, after: what it costs.
    difference: largest difference of the outputs, as a share of their size; 0 when nothing was removed, NaN
        when it was not looked for.
    """

    model: fb.Model
    removed: int
    kept: Mapping[int, Kept]
    before: Cost
    after: Cost
    difference: float


def shrink(model: fb.Model, samples: Sequence[Sample] | None = None) -> Shrunk:
    """Remove every channel that the outputs do not depend on, and check that they do not.

    Gone are channels for which all weights that read them are zero, and channels that are constant because
    the weights that compute them are zero, wherever the constant can be added to the biases of their
    readers (not through a convolution that reads zeros beside its image, unless the constant is zero).
    Model inputs and outputs and one channel of every tensor stay, and so do channels at operators that
    `links` has no rule for. The model itself is left as it is.

    Args:
        model: float.
        samples: inputs for the comparison; random ones when None.

    Raises:
        StageError: INTERNAL when the outputs differ; NOT_RUNNABLE when the runtime refuses the model.
    """
    smaller = copy.deepcopy(model)
    passes: list[_Cut] = []
    # One pass finds all that is dead. With less of the network left, a rule may cover more than before: the
    # outputs of a depthwise kernel are independent of each other once it has a single input channel.
    while not passes or passes[-1].removed:
        structure = link(smaller)
        known = constant_channels(structure)
        passes.append(_cut(structure, needed_channels(structure, known), known))
    done = _composed(passes)
    if not done.removed:
        return Shrunk(model, 0, done.kept, _cost(model), _cost(model), 0.0)
    difference = must_agree(model, smaller, random_samples(model) if samples is None else samples)
    return Shrunk(smaller, done.removed, done.kept, _cost(model), _cost(smaller), difference)


def keep_channels(model: fb.Model, groups: Sequence[ChannelGroup], kept: Sequence[Flags]) -> Shrunk:
    """Remove chosen channels, whatever their weights: as if those that read them were zero.

    One channel of every tensor stays. Outputs change, so nothing is compared.

    Args:
        model: left as it is.
        groups: from `channel_groups` of this model.
        kept: for each group which of its channels stay.
    """
    smaller = copy.deepcopy(model)
    structure = link(smaller)
    stays = np.ones(structure.count, np.bool_)
    for group, own in zip(groups, kept, strict=True):
        stays[group.channels] = own
    done = _cut(structure, at_least_one(structure, stays), {})
    return Shrunk(smaller, done.removed, done.kept, _cost(model), _cost(smaller), float("nan"))


@dataclass(frozen=True)
class _Cut:
    removed: int
    kept: Mapping[int, Kept]


def _cut(structure: Structure, kept: Flags, known: Known) -> _Cut:
    """Cut the structure's model in place."""
    if not kept.all():
        cut(structure, kept, known)
    return _Cut(int(np.count_nonzero(~kept)), _kept(structure, kept))


def _composed(passes: Sequence[_Cut]) -> _Cut:
    """Several cuts, one after the other, as one."""
    first, *others = passes
    kept = dict(first.kept)
    for other in others:
        for tensor, own in other.kept.items():
            before = kept.get(tensor)
            composed = before and Kept(before.rows[own.rows], before.columns[own.columns])
            kept[tensor] = composed or own
    return _Cut(sum(p.removed for p in passes), kept)


def _cost(model: fb.Model) -> Cost:
    description = describe_model(model)
    return Cost(description.parameters, description.macs)


def _kept(structure: Structure, kept: Flags) -> dict[int, Kept]:
    found = {}
    columns = {o.tensor: o.channels for o in structure.operands if o.role is Role.COLUMN}
    for operand in structure.operands:
        if operand.role is Role.ROW:
            reads = columns.get(operand.tensor, operand.channels)
            found[operand.tensor] = Kept(positions(kept, operand.channels), positions(kept, reads))
    return found
