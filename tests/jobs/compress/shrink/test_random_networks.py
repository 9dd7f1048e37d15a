"""Random networks with random channels set to zero: whatever goes, the outputs stay."""

from collections.abc import Callable

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.shrink import (
    channel_groups,
    channel_masks,
    channel_scores,
    choose_channels,
    keep_channels,
    shrink,
)
from support.made_networks import NONE, RELU, RELU6, SAME, VALID, Network, assert_same_outputs
from support.made_tflite import options

SEEDS = range(40)
Block = Callable[[Network, str, int], int]


def width(net: Network) -> int:
    return int(net.rng.integers(2, 8))


def fused(net: Network) -> int:
    return int(net.rng.choice([NONE, RELU, RELU6]))


def convolution(net: Network, n: str, x: int) -> int:
    k, padding = int(net.rng.choice([1, 2, 3])), int(net.rng.choice([SAME, VALID]))
    stride = int(net.rng.choice([1, 1, 2]))
    return net.conv(n, x, width(net), k, padding=padding, stride=stride, act=fused(net))


def separable(net: Network, n: str, x: int) -> int:
    d = net.depthwise(f"{n}d", x, multiplier=int(net.rng.choice([1, 1, 2])), act=fused(net))
    return net.conv(f"{n}p", d, width(net), act=fused(net))


def residual(net: Network, n: str, x: int) -> int:
    inner = net.conv(f"{n}i", x, width(net), 3, act=fused(net))
    return net.add(n, x, net.conv(f"{n}o", inner, net.shape(x)[-1], 3, act=NONE), act=fused(net))


def gate(net: Network, n: str, x: int) -> int:
    squeezed = net.conv(f"{n}s", net.mean(f"{n}m", x, keep=True), width(net))
    excited = net.conv(f"{n}e", squeezed, net.shape(x)[-1], act=NONE)
    return net.multiply(n, x, net.apply("LOGISTIC", f"{n}g", excited))


def branches(net: Network, n: str, x: int) -> int:
    return net.concat(n, net.conv(f"{n}l", x, width(net), 1), net.conv(f"{n}r", x, width(net), 3), x)


def normalized(net: Network, n: str, x: int) -> int:
    size = net.shape(x)[-1]
    scale = net.rng.normal(0, 1, size) * (net.rng.random(size) < 0.8)
    scaled = net.multiply(f"{n}s", x, net.constant(f"{n}scale", scale))
    return net.add(n, scaled, net.constant(f"{n}shift", net.rng.normal(0, 1, (1, 1, 1, size))))


def activation(net: Network, n: str, x: int) -> int:
    kind = str(net.rng.choice(["TANH", "LOGISTIC", "HARD_SWISH", "ABS", "LEAKY_RELU"]))
    given = options("LeakyReluOptions", alpha=0.1) if kind == "LEAKY_RELU" else None
    return net.apply(kind, n, x, given=given)


def pooled(net: Network, n: str, x: int) -> int:
    kind = str(net.rng.choice(["MAX_POOL_2D", "AVERAGE_POOL_2D"]))
    return net.pool(n, x, kind, padding=SAME)


def padded(net: Network, n: str, x: int) -> int:
    return net.pad(n, x)


def upsampled(net: Network, n: str, x: int) -> int:
    return net.transposed(n, x, width(net))


def barrier(net: Network, n: str, x: int) -> int:
    return net.apply("L2_NORMALIZATION", n, x, given=options("L2NormOptions"))


BLOCKS: tuple[Block, ...] = (
    convolution, convolution, separable, residual, gate, branches, normalized, activation, pooled, padded,
    upsampled, barrier,
)  # fmt: skip


def random_network(seed: int) -> tuple[Network, list[int]]:
    """A network of up to seven blocks, and the tensors that shall be its outputs."""
    net = Network(seed)
    x = net.conv("stem", net.input("x", (1, 9, 10, 3)), 6, 3, act=fused(net))
    outputs = []
    for i in range(int(net.rng.integers(3, 8))):
        block = BLOCKS[int(net.rng.integers(len(BLOCKS)))]
        if min(net.shape(x)[1:3]) < 4:
            block = upsampled
        x = block(net, f"n{i}", x)
        if net.rng.random() < 0.15:
            outputs.append(net.conv(f"side{i}", x, 2))
    x = net.flatten("flat", x) if net.rng.random() < 0.5 else net.mean("mean", x)
    x = net.dense("hidden", x, 7, bias=bool(net.rng.random() < 0.7))
    return net, [*outputs, net.softmax("scores", net.dense("last", x, 4, act=NONE))]


def set_to_zero(net: Network) -> None:
    """Rows and columns of every kernel, here and there, and some biases."""
    for tensor in list(net.graph.tensors):
        layer, _, part = tensor.name.partition("/")
        if part != "w":
            continue
        shape, bias = tuple(tensor.shape), any(t.name == f"{layer}/b" for t in net.graph.tensors)
        depthwise = len(shape) == 4 and shape[0] == 1 and shape[1] == 3
        w = net.get(f"{layer}/w")
        rows = net.rng.random(shape[-1 if depthwise else 0]) < 0.25
        w[(..., rows) if depthwise else rows] = 0
        if not depthwise:
            w[..., net.rng.random(shape[-1]) < 0.25] = 0
        net.set(f"{layer}/w", w)
        if bias:
            net.set(f"{layer}/b", net.get(f"{layer}/b") * (net.rng.random(len(rows)) < 0.5))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_outputs_of_a_random_network_stay_and_nothing_more_can_go(tmp_path, seed):
    net, ends = random_network(seed)
    set_to_zero(net)
    model = net.finish(*ends)
    shrunk = shrink(model)
    assert shrunk.after.macs <= shrunk.before.macs
    assert_same_outputs(model, shrunk.model, tmp_path)
    assert shrink(shrunk.model).removed == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_masked_channels_all_go_and_leave_the_same_file_as_cutting_them_out(tmp_path, seed):
    net, ends = random_network(seed)
    model = net.finish(*ends)
    groups = channel_groups(model)
    kept = choose_channels(groups, channel_scores(model, groups), 0.6, even=seed % 2 == 0)
    masked = fb.load(fb.pack(model))
    for tensor, mask in channel_masks(model, groups, kept).items():
        fb.set_constant(masked, tensor, fb.constant(masked, tensor) * mask.astype(np.float32))
    shrunk, cut = shrink(masked), keep_channels(model, groups, kept)
    assert shrunk.removed >= cut.removed == sum(int(np.count_nonzero(~own)) for own in kept)
    assert_same_outputs(masked, shrunk.model, tmp_path)
    assert_same_outputs(masked, cut.model, tmp_path)
