"""How each operator hands channels on: one rule for each.

An operator without a rule, or a variant that its rule does not cover, is a barrier: the channels at its
inputs and outputs stay. So a missing rule costs size, never correctness.
"""

from collections.abc import Callable

import numpy as np

from .. import flatbuffer as fb
from .node import Node, NotUnderstoodError, expect, has_border, reduced_axes
from .structure import Channels, Role, Structure

Rule = Callable[[Node, Channels], None]
RULES: dict[str, Rule] = {}


def link(model: fb.Model) -> Structure:
    """The channels of the model's first subgraph."""
    graph, channels = model.subgraphs[0], Channels(model)
    for tensor in graph.inputs:
        channels.of(int(tensor))
    understood = set()
    for index in range(len(graph.operators)):
        node = Node(model, index)
        try:
            RULES.get(node.name, _unknown)(node, channels)
            understood.add(index)
        except NotUnderstoodError:
            _barrier(node, channels)
    for tensor in graph.outputs:
        channels.freeze(channels.of(int(tensor)))
        if fb.is_constant(model, int(tensor)):
            channels.freeze_kernel(int(tensor))
    return channels.settled(frozenset(understood))


def _unknown(node: Node, channels: Channels) -> None:  # noqa: ARG001 - the signature of a rule
    raise NotUnderstoodError


def _barrier(node: Node, channels: Channels) -> None:
    for tensor in node.inputs:
        if fb.is_constant(node.model, tensor):
            channels.freeze_kernel(tensor)
        elif tensor >= 0:
            channels.freeze(channels.of(tensor))
    for tensor in node.outputs:
        channels.freeze(channels.of(tensor))


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        return rule

    return register


# --- with weights -------------------------------------------------------------------------------------------


@_rule("CONV_2D")
def convolution(node: Node, channels: Channels) -> None:
    """Kernel [out, height, width, in]; with groups it has fewer columns than the image has channels."""
    kernel = node.floats(1)
    expect(kernel.ndim == 4 and kernel.shape[3] == len(channels.of(node.inputs[0])))
    channels.read(node, node.inputs[0], has_border(node, kernel.shape[1:3]))


@_rule("FULLY_CONNECTED")
def fully_connected(node: Node, channels: Channels) -> None:
    """Kernel [out, in]; an input of higher rank is flattened by the operator itself."""
    expect(node.floats(1).ndim == 2 and node.options.weightsFormat == 0)
    channels.read(node, node.inputs[0], border=False)


@_rule("TRANSPOSE_CONV")
def transposed_convolution(node: Node, channels: Channels) -> None:
    """Kernel [out, height, width, in]; how many weights an output sees depends on its place."""
    kernel = node.floats(1)
    expect(kernel.ndim == 4 and kernel.shape[3] == len(channels.of(node.inputs[2])))
    sizes = _sizes(node, 0)
    channels.read(node, node.inputs[2], border=True)
    _note_sizes(node, channels, sizes)


@_rule("DEPTHWISE_CONV_2D")
def depthwise_convolution(node: Node, channels: Channels) -> None:
    """Kernel [1, height, width, in * multiplier]: output `o` reads the input channel `o // multiplier`.

    The outputs of a single input channel (a gray image) are independent of each other: their number is the
    multiplier.
    """
    kernel, ids = node.floats(1), channels.of(node.inputs[0])
    expect(kernel.ndim == 4 and kernel.shape[0] == 1 and len(ids) > 0 and kernel.shape[3] % len(ids) == 0)
    rows = channels.computed(node, 3)
    if len(ids) == 1:
        channels.freeze(ids)
        channels.size(node, "depthMultiplier", node.outputs[0])
    else:
        channels.merge(rows, np.repeat(ids, len(rows) // len(ids)))


# --- channel by channel -------------------------------------------------------------------------------------


@_rule(
    "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC", "LEAKY_RELU", "ELU", "GELU",
    "HARD_SWISH", "ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "SIN", "COS",
)  # fmt: skip
def same_channels(node: Node, channels: Channels) -> None:
    channels.give(node.outputs[0], channels.of(node.inputs[0]))


@_rule("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
def reduction(node: Node, channels: Channels) -> None:
    """Over any axes but the last."""
    expect(len(node.shape(node.inputs[0])) - 1 not in reduced_axes(node))
    same_channels(node, channels)


@_rule("PAD", "PADV2", "MIRROR_PAD")
def padding(node: Node, channels: Channels) -> None:
    """Of any axes but the last."""
    expect(node.integers(1)[-2:] == [0, 0])
    same_channels(node, channels)


@_rule("TILE")
def tile(node: Node, channels: Channels) -> None:
    """Along any axes but the last."""
    expect(node.integers(1)[-1] == 1)
    same_channels(node, channels)


@_rule("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU")
def element_wise(node: Node, channels: Channels) -> None:
    """Two operands, one of which may be constant; a last axis of one is spread over the other's."""
    varying = [slot for slot in (0, 1) if not fb.is_constant(node.model, node.inputs[slot])]
    expect(bool(varying))
    ids = [channels.of(node.inputs[slot]) for slot in varying]
    widest = max(ids, key=len)
    for slot in (0, 1):
        if slot not in varying:
            dims = node.floats(slot).shape
            expect(not dims or dims[-1] in (1, len(widest)))
    channels.give(node.outputs[0], widest)
    for own in ids:
        if len(own) == len(widest):
            channels.merge(own, widest)
        else:
            channels.freeze(own)
    for slot in (0, 1):
        dims = node.shape(node.inputs[slot])
        if slot not in varying and dims and dims[-1] > 1:
            channels.operand(node, slot, len(dims) - 1, Role.VECTOR, widest)


@_rule("CONCATENATION")
def concatenation(node: Node, channels: Channels) -> None:
    """One after another along the last axis, else position by position."""
    expect(not any(fb.is_constant(node.model, tensor) for tensor in node.inputs))
    parts = [channels.of(tensor) for tensor in node.inputs]
    rank = len(node.shape(node.outputs[0]))
    if node.options.axis % rank == rank - 1:
        channels.give(node.outputs[0], np.concatenate(parts))
        return
    channels.give(node.outputs[0], parts[0])
    for part in parts[1:]:
        channels.merge(parts[0], part)


# --- shapes -------------------------------------------------------------------------------------------------


@_rule("RESHAPE")
def reshape(node: Node, channels: Channels) -> None:
    sizes = _sizes(node, 1)
    _refold(node, channels)
    _note_sizes(node, channels, sizes)


@_rule("SQUEEZE")
def squeeze(node: Node, channels: Channels) -> None:
    """Of named axes: without names it would take the last one too, once that has a single channel left."""
    named = node.options.squeezeDims
    expect(named is not None and len(named) > 0)
    _refold(node, channels)


@_rule("EXPAND_DIMS")
def expand_dims(node: Node, channels: Channels) -> None:
    _refold(node, channels)


@_rule("SHAPE")
def shape_of(node: Node, channels: Channels) -> None:
    """Harmless while only other axes than the last are looked up (the batch, for a RESHAPE behind it)."""
    channels.of(node.inputs[0])
    rank = len(node.shape(node.inputs[0]))
    expect(node.outputs[0] not in [int(t) for t in node.model.subgraphs[0].outputs])
    for reader in node.readers(node.outputs[0]):
        expect(reader.name == "STRIDED_SLICE" and reader.inputs[0] == node.outputs[0])
        begin, end, step, o = reader.integers(1), reader.integers(2), reader.integers(3), reader.options
        expect(not (o.beginMask | o.endMask | o.ellipsisMask | o.newAxisMask) and step == [1])
        expect(0 <= begin[0] < end[0] < rank)


def _refold(node: Node, channels: Channels) -> None:
    """The same numbers in the same order, in rows of another length.

    Position `p` of the longer row holds what stands at `p % length` of the shorter one, as long as one length
    divides the other.
    """
    ids, target = channels.of(node.inputs[0]), node.outputs[0]
    before, after = node.shape(node.inputs[0]), node.shape(target)
    expect(bool(before) and bool(after) and int(np.prod(before)) == int(np.prod(after)) > 0)
    if after[-1] % before[-1] == 0:
        channels.give(target, np.tile(ids, after[-1] // before[-1]))
        return
    expect(before[-1] % after[-1] == 0)
    rows = ids.reshape(-1, after[-1])
    channels.give(target, rows[0])
    for row in rows[1:]:
        channels.merge(rows[0], row)


def _sizes(node: Node, slot: int) -> list[tuple[Node, int | str]]:
    """Where the shape of the operator's output is written: operator and input, or field of its options.

    Raises:
        NotUnderstoodError: when it stands nowhere as a constant, or does not say what the file says.
    """
    dims = node.shape(node.outputs[0])
    found: list[tuple[Node, int | str]] = []
    if node.has(slot) and (value := node.constant(slot)) is not None:
        expect(value.ndim == 1 and len(value) == len(dims) and int(value[-1]) in (-1, dims[-1]))
        found.append((node, slot))
    elif node.has(slot):
        # Computed from the batch: PACK(batch, 5, 5, channels), read by this operator alone.
        pack = node.maker(node.inputs[slot])
        expect(pack is not None and pack.name == "PACK" and len(pack.inputs) == len(dims))
        expect(len(node.readers(node.inputs[slot])) == 1)
        if pack is not None:
            last = pack.integers(len(dims) - 1)
            expect(len(last) == 1 and last[0] in (-1, dims[-1]))
            found.append((pack, len(dims) - 1))
    listed = node.option("newShape", None)
    if listed is not None and len(listed) == len(dims) and int(listed[-1]) in (-1, dims[-1]):
        found.append((node, "newShape"))
    expect(bool(found))
    return found


def _note_sizes(node: Node, channels: Channels, sizes: list[tuple[Node, int | str]]) -> None:
    for owner, where in sizes:
        channels.size(owner, where, node.outputs[0])
