"""What slots and mixers begin with: nothing, or what a table says."""

from collections.abc import Sequence
from dataclasses import dataclass

from paretune_codec.mixing import Slots


@dataclass(frozen=True, slots=True)
class Part:
    """Slots of the table that stand side by side in a bank, too."""

    first: int
    count: int


def _in_a_row(*counts: int) -> list[Part]:
    return [Part(sum(counts[:i]), count) for i, count in enumerate(counts)]


NUMBERS, DENSITIES, ZEROS, ZERO_CLASSES, ZERO_SIZES, SIGNS, MAGNITUDES, LENGTHS, DIGITS = PARTS = _in_a_row(
    8192, 2289, 17, 126, 25, 1, 120, 170, 480
)
"""The parts of the table, in its order. `Numbers` takes the first, `Matrix` the others."""
SLOTS = sum(part.count for part in PARTS)


class Initial:
    """Slots of the table, by which banks are filled part by part, and weights of the mixers of `Numbers`.

    Without any, everything begins unused.
    """

    def __init__(
        self, p: Sequence[int] = (), uses: bytes = b"", weights: Sequence[Sequence[int]] = ()
    ) -> None:
        self._p = list(p)
        self._uses = uses
        self.weights = weights

    def fill(self, bank: Slots, at: int, part: Part) -> None:
        """Let the slots of `bank` from `at` on begin as those of `part`."""
        if self._p:
            bank.p[at : at + part.count] = self._p[part.first : part.first + part.count]
            bank.uses[at : at + part.count] = self._uses[part.first : part.first + part.count]


NOTHING = Initial()
