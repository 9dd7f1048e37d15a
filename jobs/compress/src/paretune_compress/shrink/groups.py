"""Channels as what structured pruning chooses among: groups, scores, masks.

A group holds channels that the same kernels compute (the branches of a residual block together); they
compete with each other. A mask sets all weights of a channel to zero, those that compute it and those that
read it; a trainer holds them there, and `shrink` removes the channel afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import flatbuffer as fb
from ..graph.description import layer_name
from .links import link
from .node import Node
from .structure import Flags, Ids, Role, Structure

Scores = NDArray[np.float64]
MOST = 0.9
"""Largest share of a group that goes."""
LEAST = 2
"""Channels of a group that stay at least: with a single one, the next convolution takes a slower kernel."""


@dataclass(frozen=True)
class Member:
    """A constant with slices that belong to the channels of a group.

    channels: for each index along `axis` the channel's place in the group, -1 for those of other groups. A
        channel has several indices where a kernel reads it at several places (behind a flatten).
    """

    operator: int
    tensor: int
    axis: int
    role: Role
    channels: Ids


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are computed together and can be removed one by one.

    layers: names of the operators whose kernels compute them.
    channels: their numbers in the model's structure, ascending.
    members: all constants that go with them.
    """

    layers: tuple[str, ...]
    channels: Ids
    members: tuple[Member, ...]


def channel_groups(model: fb.Model) -> list[ChannelGroup]:
    """The groups of a model's removable channels, in the order of the graph.

    Channels that must stay (the model's ends, operators without a rule) are in none.
    """
    structure = link(model)
    rows = [o for o in structure.operands if o.role is Role.ROW]
    group = np.arange(structure.count, dtype=np.int64)  # the least channel that it is computed together with
    found = True
    while found:
        before = group.copy()
        for operand in rows:
            group[operand.channels] = group[operand.channels].min()
        group = group[group]
        found = not np.array_equal(before, group)
    computed = np.zeros(structure.count, np.bool_)
    for operand in rows:
        computed[operand.channels] = True
    free = computed & ~structure.frozen
    return [_group(structure, np.flatnonzero(free & (group == g))) for g in np.unique(group[free])]


def channel_scores(
    model: fb.Model, groups: Sequence[ChannelGroup], roles: Sequence[Role] = (Role.COLUMN,)
) -> list[Scores]:
    """How much each channel matters, one array for each group.

    The L2 norm over the weights that read the channel, as a share of the group's root mean square, so that
    groups of larger weights do not outlive others. Each kernel counts alike: its part is first divided by its
    own mean, else the many columns behind a flatten would be all that is heard.

    Args:
        model: the one that the groups are of, with any weights.
        groups: from `channel_groups`.
        roles: which weights count. Those that compute a channel (`Role.ROW`) mislead where batch norm was
            folded into them: their size tells how small the channel's input was. With half of the channels
            of a depthwise-separable network gone, fine-tuning came back to 87-89% when readers alone had
            chosen and to 83% when all weights had, from 92%.
    """
    scores = []
    for group in groups:
        counted = [m for m in group.members if m.role in roles] or group.members
        total = np.zeros(len(group.channels))
        for member in counted:
            squares = _squares(model, member, len(group.channels))
            total += squares / (squares.mean() or 1.0)
        scores.append(np.sqrt(total / (total.mean() or 1.0)))
    return scores


def choose_channels(
    groups: Sequence[ChannelGroup],
    scores: Sequence[Scores],
    level: float,
    *,
    even: bool = True,
    multiple: int = 1,
) -> list[Flags]:
    """Which channels stay, one array for each group, True for those that do; the lowest scores go.

    Args:
        groups: from `channel_groups`.
        scores: from `channel_scores`, or any others where more is better.
        level: share (0..1) of the channels that goes. At most a share `MOST` of a group does, and each kernel
            keeps `LEAST` of the channels that it computes.
        even: the same share of every group. Else the lowest of all scores go, wherever they are, which can
            leave a thin layer in the middle of the network.
        multiple: the number that stays in a group is rounded to a multiple of this, or is all of them.
            Kernels work on blocks of channels: with 15/16 of its channels ResNet8 was slower than with all,
            with 8/16 twice as fast, and with 9/16 only 1.4 times (LiteRT 2.3, x86).
    """
    sizes = [len(s) for s in scores]
    limits = [max(0, min(int(MOST * n), n - LEAST)) for n in sizes]
    wanted = [round(level * n) for n in sizes] if even else _lowest_of_all(scores, level, limits)
    kept = []
    for group, score, limit, going in zip(groups, scores, limits, wanted, strict=True):
        stays = len(score) - min(going, limit)
        if multiple > 1 and stays < len(score):
            stays = min(max(1, (2 * stays + multiple) // (2 * multiple)) * multiple, len(score))
        best = np.argsort(-score, kind="stable")
        flags = np.zeros(len(score), np.bool_)
        for own in _computed_together(group):  # of a concatenation, say, a part each
            flags[best[np.isin(best, own)][:LEAST]] = True
        rest = best[~flags[best]]
        flags[rest[: max(0, stays - int(np.count_nonzero(flags)))]] = True
        kept.append(flags)
    return kept


def _computed_together(group: ChannelGroup) -> list[Ids]:
    """For each kernel the places of the channels that it computes."""
    return [np.unique(m.channels[m.channels >= 0]) for m in group.members if m.role is Role.ROW]


def _lowest_of_all(scores: Sequence[Scores], level: float, limits: Sequence[int]) -> list[int]:
    """How many go in each group when all compete; what one may not lose, others do."""
    left = round(level * sum(len(s) for s in scores))
    going = [0] * len(scores)
    owners = [g for g, score in enumerate(scores) for _ in score]
    for i in np.argsort(np.concatenate([*scores, np.zeros(0)]), kind="stable"):
        group = owners[int(i)]
        if left > 0 and going[group] < limits[group]:
            going[group] += 1
            left -= 1
    return going


def channel_masks(model: fb.Model, groups: Sequence[ChannelGroup], kept: Sequence[Flags]) -> dict[int, Flags]:
    """Masks over kernels and biases by tensor, True for what stays; only of tensors that lose something.

    A bias that other operators read too is masked where all of them lose the channel.
    """
    kernels: dict[int, Flags] = {}
    biases: dict[int, dict[int, Flags]] = {}
    for group, own in zip(groups, kept, strict=True):
        for member in group.members:
            along = np.where(member.channels >= 0, own[member.channels], True)
            shape = fb.shape(model.subgraphs[0].tensors[member.tensor])
            if member.role in (Role.ROW, Role.COLUMN) and not along.all():
                dims = [-1 if axis == member.axis else 1 for axis in range(len(shape))]
                mask = kernels.get(member.tensor, np.ones(shape, np.bool_))
                kernels[member.tensor] = mask & along.reshape(dims)
            elif member.role is Role.BIAS:
                of_operators = biases.setdefault(member.tensor, {})
                of_operators[member.operator] = of_operators.get(member.operator, True) & along
    for tensor, of_operators in biases.items():
        readers = {node.index for node in Node(model, 0).readers(tensor)}
        stays = np.any(list(of_operators.values()), axis=0)
        if readers == set(of_operators) and not stays.all():
            kernels[tensor] = stays
    return kernels


def mask_for_channels(
    model: fb.Model, groups: Sequence[ChannelGroup], level: float, *, multiple: int = 1
) -> dict[int, Flags]:
    """The masks of `channel_masks` at a level (0..1), by the present weights."""
    kept = choose_channels(groups, channel_scores(model, groups), level, multiple=multiple)
    return channel_masks(model, groups, kept)


def _group(structure: Structure, channels: Ids) -> ChannelGroup:
    place = np.full(structure.count, -1, np.int64)
    place[channels] = np.arange(len(channels))
    members, makers = [], []
    seen = set()
    for o in structure.operands:
        own = place[o.channels]
        shared = (o.tensor, o.axis) in seen and o.role in (Role.ROW, Role.COLUMN)
        if not (own >= 0).any() or shared:
            continue
        seen.add((o.tensor, o.axis))
        members.append(Member(o.operator, o.tensor, o.axis, o.role, own))
        if o.role is Role.ROW:
            makers.append(layer_name(structure.model, o.operator))
    return ChannelGroup(tuple(makers), channels, tuple(members))


def _squares(model: fb.Model, member: Member, count: int) -> Scores:
    """Sum of squares of each channel's weights in the member."""
    value = np.asarray(fb.constant(model, member.tensor), np.float64)
    other = tuple(axis for axis in range(value.ndim) if axis != member.axis)
    own = member.channels >= 0
    sums = np.zeros(count)
    np.add.at(sums, member.channels[own], np.square(value).sum(axis=other)[own])
    return sums
