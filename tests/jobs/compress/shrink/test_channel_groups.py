"""Groups of channels, which of them matter, and masks that make the others removable."""

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.shrink import (
    Role,
    channel_groups,
    channel_masks,
    channel_scores,
    choose_channels,
    keep_channels,
    mask_for_channels,
    shrink,
)
from support.made_networks import NONE, Network, assert_same_outputs, named


def residual_network(seed: int = 0) -> fb.Model:
    """stem 16 -> (a 12 -> b 16) + -> d depthwise -> p 20 -> flatten -> hidden 24 -> last 3."""
    net = Network(seed)
    stem = net.conv("stem", net.input("x", (1, 8, 8, 3)), 16, 3)
    b = net.conv("b", net.conv("a", stem, 12, 3), 16, 3, act=NONE)
    d = net.depthwise("d", net.add("sum", stem, b, act=1), stride=2)
    flat = net.flatten("flat", net.pool("pooled", net.conv("p", d, 20)))
    last = net.dense("last", net.dense("hidden", flat, 24), 3, act=NONE)
    return net.finish(net.softmax("scores", last))


def masked(model: fb.Model, masks: dict) -> fb.Model:
    copy = fb.load(fb.pack(model))
    for tensor, mask in masks.items():
        fb.set_constant(copy, tensor, fb.constant(copy, tensor) * mask.astype(np.float32))
    return copy


def tensor_names(model: fb.Model, members) -> set[tuple[str, int, Role]]:
    tensors = model.subgraphs[0].tensors
    return {(fb.tensor_name(tensors[m.tensor]), m.axis, m.role) for m in members}


def test_channels_that_are_added_or_convolved_one_by_one_are_one_group():
    model = residual_network()
    groups = channel_groups(model)
    assert [g.layers for g in groups] == [("stem", "b", "d"), ("a",), ("p",), ("hidden",)]
    assert [len(g.channels) for g in groups] == [16, 12, 20, 24]
    assert tensor_names(model, groups[0].members) == {
        ("stem/w", 0, Role.ROW), ("stem/b", 0, Role.BIAS), ("a/w", 3, Role.COLUMN),
        ("b/w", 0, Role.ROW), ("b/b", 0, Role.BIAS), ("d/w", 3, Role.ROW), ("d/b", 0, Role.BIAS),
        ("p/w", 3, Role.COLUMN),
    }  # fmt: skip


def test_members_say_which_index_belongs_to_which_channel():
    groups = channel_groups(residual_network())
    (columns,) = [m for m in groups[2].members if m.role is Role.COLUMN]
    assert columns.channels.tolist() == [i % 20 for i in range(80)]  # 2x2 places
    net = Network()
    x = net.input("x", (1, 4, 4, 3))
    both = net.concat("both", net.conv("left", x, 2), net.conv("right", x, 3))
    left, right = channel_groups(net.finish(net.conv("c", both, 2)))
    assert [m.channels.tolist() for m in left.members if m.role is Role.COLUMN] == [[0, 1, -1, -1, -1]]
    assert [m.channels.tolist() for m in right.members if m.role is Role.COLUMN] == [[-1, -1, 0, 1, 2]]


def test_channels_at_the_ends_and_at_operators_without_a_rule_are_in_no_group():
    net = Network()
    a = net.conv("a", net.input("x", (1, 4, 4, 3)), 4)
    b = net.conv("b", net.softmax("barrier", a), 5)
    groups = channel_groups(net.finish(net.conv("c", b, 2)))
    assert [g.layers for g in groups] == [("b",)]


def test_a_channel_that_little_depends_on_scores_low_whatever_the_size_of_its_layer():
    net = Network()
    a = net.dense("a", net.input("x", (1, 10)), 6)
    b = net.dense("b", a, 8)
    c = net.dense("c", b, 3, act=NONE)
    weak = net.get("b/w")
    weak[:, 2] *= 0.1
    net.set("b/w", weak)
    model = net.finish(c)
    scores = channel_scores(model, channel_groups(model))
    assert [len(s) for s in scores] == [6, 8]
    assert all(np.mean(s**2) == pytest.approx(1) for s in scores)
    assert np.argmin(scores[0]) == 2
    net.set("b/w", 100 * weak)
    larger = fb.load(fb.pack(net.model))
    again = channel_scores(larger, channel_groups(larger))
    np.testing.assert_allclose(again[0], scores[0])
    np.testing.assert_allclose(again[1], scores[1])


def test_each_kernel_that_reads_a_channel_counts_alike():
    model = residual_network()
    columns = named(model, "a/w"), named(model, "p/w")
    parts = [np.square(w, dtype=np.float64).sum(axis=(0, 1, 2)) for w in columns]
    expected = np.sqrt(sum(p / p.mean() for p in parts) / 2)
    np.testing.assert_allclose(channel_scores(model, channel_groups(model))[0], expected)


@pytest.mark.parametrize("even", [True, False])
def test_the_lowest_scores_go_up_to_the_level_and_some_always_stay(even):
    groups = channel_groups(residual_network())
    rng = np.random.default_rng(1)
    scores = [rng.random(len(g.channels)) for g in groups]
    for level, expected in ((0.0, 72), (0.25, 54), (0.5, 36)):
        kept = choose_channels(groups, scores, level, even=even)
        assert sum(int(k.sum()) for k in kept) == expected
        for flags, score in zip(kept, scores, strict=True):
            assert flags.all() or score[~flags].max() < score[flags].min()
    everything = choose_channels(groups, scores, 1.0, even=even)
    assert [int(k.sum()) for k in everything] == [2, 2, 2, 3]


def test_uneven_levels_follow_the_scores():
    groups = channel_groups(residual_network())
    scores = [np.full(len(g.channels), float(i)) for i, g in enumerate(groups)]
    kept = choose_channels(groups, scores, 0.25, even=False)
    assert [int(k.sum()) for k in kept] == [2, 8, 20, 24]


def test_what_stays_can_come_in_blocks():
    groups = channel_groups(residual_network())
    scores = channel_scores(residual_network(), groups)
    kept = choose_channels(groups, scores, 0.4, multiple=4)
    assert [int(k.sum()) for k in kept] == [12, 8, 12, 16]  # without: 10, 7, 12, 14
    few = choose_channels(groups, scores, 0.9, multiple=8)
    assert [int(k.sum()) for k in few] == [8, 8, 8, 8]


def test_each_part_of_a_concatenation_keeps_some_of_its_channels():
    net = Network()
    x = net.input("x", (1, 4, 4, 3))
    both = net.concat("both", net.conv("left", x, 6), net.conv("right", x, 6))
    other = net.conv("other", x, 12)
    model = net.finish(net.conv("c", net.add("sum", both, other), 2))
    (group,) = channel_groups(model)
    assert group.layers == ("left", "right", "other")
    kept = choose_channels([group], [np.arange(12.0)], 0.8)
    assert kept[0].tolist() == [False] * 4 + [True] * 2 + [False] * 4 + [True] * 2
    cut = keep_channels(model, [group], kept)
    assert named(cut.model, "left/w").shape[0] == named(cut.model, "right/w").shape[0] == 2


@pytest.mark.parametrize("level", [0.3, 0.6, 0.9])
def test_masks_leave_nothing_of_a_channel_and_shrinking_then_removes_it(tmp_path, level):
    model = residual_network()
    groups = channel_groups(model)
    kept = choose_channels(groups, channel_scores(model, groups), level)
    masks = mask_for_channels(model, groups, level)
    assert {t: m.tolist() for t, m in masks.items()} == {
        t: m.tolist() for t, m in channel_masks(model, groups, kept).items()
    }
    zeroed = masked(model, masks)
    shrunk = shrink(zeroed)
    assert shrunk.removed == sum(int(np.count_nonzero(~own)) for own in kept)
    stem, hidden = named(shrunk.model, "stem/w"), named(shrunk.model, "hidden/w")
    assert stem.shape[0] == kept[0].sum()
    assert hidden.shape == (kept[3].sum(), 4 * kept[2].sum())
    assert np.all(stem != 0)
    assert np.all(hidden != 0)
    assert shrunk.after.macs < (1 - level) * shrunk.before.macs
    assert_same_outputs(zeroed, shrunk.model, tmp_path)


def test_keeping_channels_gives_what_their_masks_give(tmp_path):
    model = residual_network()
    groups = channel_groups(model)
    kept = choose_channels(groups, channel_scores(model, groups), 0.5)
    cut = keep_channels(model, groups, kept)
    zeroed = masked(model, channel_masks(model, groups, kept))
    assert fb.pack(cut.model) == fb.pack(shrink(zeroed).model)
    assert_same_outputs(zeroed, cut.model, tmp_path)
    rows = cut.kept[int(model.subgraphs[0].operators[0].inputs[1])].rows
    assert rows.tolist() == np.flatnonzero(kept[0]).tolist()


def test_a_shared_bias_is_masked_only_where_all_that_read_it_lose_the_channel():
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 4)
    b = net.conv("b", a, 4)
    net.graph.operators[1].inputs[2] = net.graph.operators[0].inputs[2]
    model = net.finish(net.conv("c", b, 2))
    groups = channel_groups(model)
    kept = [np.array([True, False, True, False]), np.array([True, False, False, True])]
    masks = channel_masks(model, groups, kept)
    bias = int(model.subgraphs[0].operators[0].inputs[2])
    assert masks[bias].tolist() == [True, False, True, True]
    assert shrink(masked(model, masks)).removed == 4


def test_a_model_without_removable_channels_has_no_groups_and_no_masks():
    net = Network()
    model = net.finish(net.dense("a", net.input("x", (1, 10)), 3))
    assert channel_groups(model) == []
    assert mask_for_channels(model, [], 0.5) == {}
