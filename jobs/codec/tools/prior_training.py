"""What the slots and mixers should begin with, so that the files of a corpus become short.

For each slot the bits are collected that it sees from the beginning of each file (or matrix). Of all states
(probability, number of uses) the one is wanted with which these bits cost least, the slot being alone. So
slots that see the same in every file begin sure and stay so, and those that differ from file to file learn as
fast as fresh ones. Sixteen states are chosen that serve all slots together; a slot then takes half a byte.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_codec import static
from paretune_codec.constants import Constants
from paretune_codec.initial import SLOTS, Initial, Part
from paretune_codec.logistic import END, HIGHEST, LOWEST, RATE, SQUASH
from paretune_codec.mixing import Coder, Slots
from paretune_codec.numbers import Numbers
from paretune_codec.scales import Scales
from paretune_codec.structure import Walk
from paretune_codec.view import graphs

LEVELS = [SQUASH[round((i - 15.5) * 132) + END] for i in range(32)]
USES = (1, 2, 4, 8, 16, 30)
"""Candidates: every level with every number of uses."""
STATES = 16
MOST_BITS = 16
"""Of the bits that a slot sees in one file: later ones depend little on its beginning."""
LEAST_NETWORKS = 2
"""A slot that only one network uses says nothing of others."""
LEAN, NAMED, CONSTANTS = 1.0, 0.15, 0.1
"""Weights of files without names, of those with names, and of the constants of the former."""
EFFORT = 36_000
"""Decisions for the constants of one file."""
TRAINED_MIXERS = (4, 5, 16, 17, 18, 19)
"""Of `Numbers`: those of tables, of what is present, of lengths, digits, text, and ranks."""

Costs = NDArray[np.float64]


@dataclass(frozen=True)
class File:
    """A file of the corpus: the network that it is made from, its kind, and its bytes."""

    network: int
    kind: str
    data: bytes

    @property
    def has_names(self) -> bool:
        return self.kind.startswith(("named", "converter"))

    @property
    def has_integers(self) -> bool:
        """Whether its constants count: integers of small files."""
        return self.kind.startswith("trained") or (self.kind.startswith("lean") and "int" in self.kind)


@dataclass
class Knowledge:
    """What is learned: the state of each class, the class of each slot of the table, weights of mixers."""

    states: list[tuple[int, int]]
    classes: NDArray[np.int64]
    weights: list[list[int]] = field(default_factory=list)

    @property
    def initial(self) -> Initial:
        p, uses = zip(*self.states, strict=True)
        return Initial([p[c] for c in self.classes], bytes(uses[c] for c in self.classes), self.weights)


class _Seen(Initial):
    """Notes which slots of a bank are those of the table; begins with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.banks: dict[int, tuple[Slots, list[int]]] = {}

    def fill(self, bank: Slots, at: int, part: Part) -> None:
        _, places = self.banks.setdefault(id(bank), (bank, [-1] * len(bank.p)))
        places[at : at + part.count] = range(part.first, part.first + part.count)


class _Recorder(Coder):
    """A coder that notes the bits of each slot, from the beginning of each bank and since `begin`."""

    __slots__ = ("seen", "sequences")

    def __init__(self, data: bytes | None = None) -> None:
        super().__init__(data)
        self.seen = _Seen()
        self.sequences: dict[tuple[int, int], list[int]] = {}

    def begin(self) -> dict[tuple[int, int], list[int]]:
        """Begin anew; returns what was noted: for each slot of a bank its bits behind a leading 1."""
        noted, self.sequences = self.sequences, {}
        return noted

    def bit(
        self, bank: Slots, contexts: Sequence[int], weights: list[int], value: int,
        direct: Sequence[int] = (), learning: int = 3,
    ) -> int:  # fmt: skip
        value = super().bit(bank, contexts, weights, value, direct, learning)
        if id(bank) in self.seen.banks:
            number, (_, places) = id(bank), self.seen.banks[id(bank)]
            for slot in contexts:
                if places[slot] >= 0:
                    noted = self.sequences.setdefault((number, places[slot]), [1])
                    if noted[0] < 1 << MOST_BITS:
                        noted[0] = noted[0] << 1 | value
        return value


Counts = dict[int, dict[int, float]]
"""For each slot of the table how often (by weight) it saw each sequence of bits, behind a leading 1."""


def learn(files: Iterable[File]) -> Knowledge:
    """Slots from all files, then the mixers that go with them."""
    files = list(files)
    states, classes = _states(*_counted(files))
    knowledge = Knowledge(states, classes)
    knowledge.weights = _mixers(files, knowledge)
    return knowledge


def _counted(files: Sequence[File]) -> tuple[Counts, dict[int, set[int]]]:
    counts: Counts = defaultdict(lambda: defaultdict(float))
    networks: dict[int, set[int]] = defaultdict(set)
    for file in files:
        weight = NAMED if file.has_names else LEAN
        parts = _sequences(file)
        for noted, share in zip(parts, (weight, CONSTANTS), strict=False):
            for (_, slot), (bits,) in noted.items():
                counts[slot][bits] += share
                networks[slot].add(file.network)
    return counts, networks


def _sequences(file: File) -> list[dict[tuple[int, int], list[int]]]:
    """What the slots see in all but the constants, and in the constants where these count."""
    stream = None
    side = static.Side()
    if file.has_integers:
        coder = Coder()
        _code(Numbers(coder), side, bytearray(file.data), constants=True)
        stream, side = coder.finish(), static.Side(side.content)
    recorder = _Recorder(stream)
    data = bytearray(file.data if stream is None else len(file.data))
    return _code(Numbers(recorder, recorder.seen), side, data, constants=file.has_integers)


def _code(numbers: Numbers, side: static.Side, data: bytearray, constants: bool) -> list[Any]:
    coder = numbers.coder
    parts = []
    found = Walk(numbers, data).run()
    subgraphs = graphs(data)
    Scales(numbers, data).run(subgraphs)
    if isinstance(coder, _Recorder):
        parts.append(coder.begin())
    if constants:
        Constants(numbers, side, data, EFFORT).run(subgraphs, found)
        if isinstance(coder, _Recorder):
            parts.append(coder.begin())
    return parts


def _states(counts: Counts, networks: dict[int, set[int]]) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """The states, of which the first is that of unused slots, and the class of each slot."""
    p = np.tile(np.array(LEVELS), len(USES))
    uses = np.repeat(np.array(USES), len(LEVELS))
    known: dict[int, Costs] = {}
    slots = sorted(slot for slot in counts if len(networks[slot]) >= LEAST_NETWORKS)
    costs = np.zeros((len(slots), len(p)))
    for row, slot in enumerate(slots):
        for bits, weight in sorted(counts[slot].items()):
            if bits not in known:
                known[bits] = _costs(bits, p, uses)
            costs[row] += weight * known[bits]
    chosen = sorted(_chosen(costs, STATES - 1), key=lambda j: (int(uses[j]), int(p[j])))
    classes = np.zeros(SLOTS, np.int64)
    classes[slots] = 1 + costs[:, chosen].argmin(1)
    return [(32768, 0), *((int(p[j]), int(uses[j])) for j in chosen)], classes


def _costs(bits: int, p: NDArray[np.int64], uses: NDArray[np.int64]) -> Costs:
    """Bits that the sequence costs a slot that begins with each of the states."""
    rates, cost = np.array(RATE), np.zeros(len(p))
    for place in range(bits.bit_length() - 2, -1, -1):
        likely = np.clip(p, LOWEST, HIGHEST) / 65536
        bit = bits >> place & 1
        cost -= np.log2(likely if bit else 1 - likely)
        p = p + ((65535 - p if bit else -p) * rates[uses] >> 16)
        uses = uses + 1
    return cost


def _chosen(costs: Costs, count: int) -> list[int]:
    """Columns of which each row takes its cheapest: one after the other, then each once more."""
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(_best_beside(costs, chosen))
    before: list[int] = []
    while chosen != before:
        before = list(chosen)
        for i in range(count):
            chosen[i] = _best_beside(costs, chosen[:i] + chosen[i + 1 :])
    return chosen


def _best_beside(costs: Costs, others: Sequence[int]) -> int:
    rest = costs[:, list(others)].min(1, initial=np.inf)
    return int(np.minimum(rest[:, None], costs).sum(0).argmin())


def _mixers(files: Sequence[File], knowledge: Knowledge) -> list[list[int]]:
    """The mean of the weights at the ends of all files, which the mixers go through one after the other."""
    numbers = Numbers(Coder())
    fresh = [list(m) for m in numbers.mixers]
    sums, total = [np.zeros(len(m)) for m in fresh], 0.0
    present = fresh
    for i in np.random.default_rng(0).permutation(len(files)):
        file = files[i]
        initial = knowledge.initial
        initial.weights = present
        numbers = Numbers(Coder(), initial)
        _code(numbers, static.Side(), bytearray(file.data), constants=False)
        present = [list(m) for m in numbers.mixers]
        weight = NAMED if file.has_names else LEAN
        total += weight
        for k, mixer in enumerate(present):
            sums[k] += weight * np.array(mixer)
    return [
        [round(w) for w in (sums[k] / total).tolist()] if k in TRAINED_MIXERS else fresh[k]
        for k in range(len(fresh))
    ]
