"""The table that coders begin with is learned from files, and makes other files shorter."""

import sys
from pathlib import Path

import pytest
from paretune_codec import prior_table
from paretune_codec.initial import NUMBERS, PARTS, SLOTS, Initial
from paretune_codec.mixing import Coder, Slots
from paretune_codec.numbers import Numbers
from paretune_codec.prior import primed
from paretune_codec.scales import Scales
from paretune_codec.structure import Walk
from paretune_codec.view import graphs
from support.made_int8 import int8_network

sys.path.append(str(Path(__file__).parents[3] / "jobs/codec/tools"))

import prior_training


def structure(file: bytes, numbers: Numbers) -> int:
    """Bytes of all but the constants."""
    data = bytearray(file)
    Walk(numbers, data).run()
    Scales(numbers, data).run(graphs(data))
    return len(numbers.coder.finish())


@pytest.mark.parametrize("names", [False, True])
def test_the_table_makes_the_structure_of_a_file_shorter(names: bool) -> None:
    file = int8_network(0, "zero", names)

    assert structure(file, primed(Coder())) < structure(file, Numbers(Coder())) - 50


def test_what_is_learned_from_two_networks_makes_a_third_shorter() -> None:
    files = [
        prior_training.File(i, "trained-int8", int8_network(i, kind, names=False))
        for i, kind in enumerate(("dead", "sparse"))
    ]
    found = prior_training.learn(files)
    other = int8_network(7, "zero", names=False)

    assert len(found.classes) == SLOTS
    assert len(found.states) == prior_training.STATES
    assert structure(other, Numbers(Coder(), found.initial)) < 0.6 * structure(other, Numbers(Coder()))


def test_a_slot_of_a_single_network_is_not_learned() -> None:
    file = prior_training.File(0, "lean-float", int8_network(0, "zero", names=False))

    assert not prior_training.learn([file, file]).classes.any()


def test_a_slot_begins_in_the_state_that_is_cheapest_for_its_bits() -> None:
    """A slot that sees only ones begins sure of them, one that sees either begins undecided."""
    ones, mixed = 0b1_1111, {0b1_0000: 1.0, 0b1_1111: 1.0}
    counts = {0: {ones: 5.0}, 1: mixed}
    states, classes = prior_training._states(counts, {0: {0, 1}, 1: {0, 1}})

    assert states[classes[0]][0] > 65000
    assert 20000 < states[classes[1]][0] < 45000
    assert states[classes[1]][1] == 1
    assert not classes[2:].any()


def test_parts_of_the_table_stand_in_a_row_and_fill_only_their_slots() -> None:
    bank = Slots(10)
    given = Initial(range(100, 100 + SLOTS), bytes([7]) * SLOTS)
    given.fill(bank, 4, PARTS[5])

    assert bank.p == [32768] * 4 + [100 + PARTS[5].first] + [32768] * 5
    assert bytes(bank.uses) == bytes(4) + b"\x07" + bytes(5)
    assert [part.first for part in PARTS] == [sum(p.count for p in PARTS[:i]) for i in range(len(PARTS))]
    assert NUMBERS.count == len(Numbers(Coder()).bank.p)


def test_slots_without_uses_are_those_of_the_first_state() -> None:
    assert prior_table.STATES[0] == (32768, 0)
    assert all(0 < uses <= 30 and 0 < p < 65536 for p, uses in prior_table.STATES[1:])
