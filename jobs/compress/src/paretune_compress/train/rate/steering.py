"""How hard bits weigh in the loss, steered so that a budget is met."""

import math
from dataclasses import dataclass

RAMP = 0.5
"""Share of the training over which the budget shrinks, geometrically, to what was asked."""
FREEZE = 0.78
"""From this share on zeros stay zeros, and the rest recovers under a weaker pull."""
WEAKER = 0.1
START, CAP = 0.5, 8.0
"""First and largest price of a bit: so much loss if every bit of the budget were paid."""
LARGEST = 6e-5
DRIFT = 0.1
"""Largest change of the price in one update."""
GAIN, REACH = 8.0, 2.0
"""An error answers at once by this factor in the exponent, and by at most so much."""


@dataclass
class Steering:
    """The price of a bit in units of the loss, from the bits at present.

    A slow part integrates the error between the bits and a path that falls from what they were at the start
    to the target; a quick part answers the error itself. Without the cap the slow part overshoots: weights
    need some hundred steps to follow.

    Args:
        first: bits at the start.
        target: bits asked for.
    """

    first: float
    target: float

    def __post_init__(self) -> None:
        self._price = START / self.target
        self._cap = min(LARGEST, CAP / self.target)

    def price(self, bits: float, progress: float) -> float:
        """The price until the next update.

        Args:
            bits: at present.
            progress: share of the training that is done, 0 to 1.
        """
        if frozen(progress):
            return self._price * WEAKER
        path = math.log(self.first) + math.log(self.target / self.first) * min(1.0, progress / RAMP)
        error = math.log(max(bits, 1.0)) - path
        self._price = min(self._price * math.exp(max(-DRIFT, min(DRIFT, error))), self._cap)
        return self._price * math.exp(max(-REACH, min(REACH, GAIN * error)))


def frozen(progress: float) -> bool:
    """Zeros are fixed from here on."""
    return progress >= FREEZE
