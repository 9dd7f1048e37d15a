"""How much of a probe is done, so that it takes about a minute whatever the model.

Counted in multiply-accumulates and never in seconds: every machine decides alike, and equal requests give
equal files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from paretune_contract.model import LayerInfo

from .treatments import ALL, FEWER, FEWEST, Amounts, treatments

EFFORT = 10**12
"""Multiply-accumulates of a probe: 25 s on a core with AVX-512, some 100 s on one with AVX2 alone."""
INFERENCE = 10**6
"""What an inference costs beside its own, in the time of as many: a call of the interpreter."""
MOST_SAMPLES = 256
ENOUGH_SAMPLES = 64
"""With fewer, leaving out options and putting lines through the others loses less."""
FEWEST_SAMPLES, PATIENCE = 4, 4
"""A probe of the fewest options may take this many times the effort before it does without the model."""


@dataclass(frozen=True)
class Plan:
    """What is tried, on how many samples; with none, weights alone are compared."""

    amounts: Amounts
    samples: int

    @property
    def complete(self) -> bool:
        """Every option is tried."""
        return self.amounts is ALL


def plan(macs: int, layers: Sequence[LayerInfo], available: int) -> Plan:
    """The most that fits.

    Args:
        macs: multiply-accumulates of one inference of the model.
        layers: that are probed.
        available: samples that there are.
    """
    most = min(MOST_SAMPLES, available)
    for amounts in (ALL, FEWER, FEWEST):
        tried = sum(1 for layer in layers for _ in treatments(layer, amounts))
        each = (macs + INFERENCE) * max(1, tried)
        samples = min(most, EFFORT // each)
        if samples >= min(ENOUGH_SAMPLES, most):
            return Plan(amounts, samples)
    samples = max(samples, min(FEWEST_SAMPLES, most))
    return Plan(FEWEST, samples) if samples * each <= EFFORT * PATIENCE else Plan(ALL, 0)
