"""When masks move, when clusters and integers begin, and which samples are held out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

RAMP = 0.5
"""Share of the steps over which pruning grows to its level; less where clusters or integers must follow."""
RAMP_BEFORE_MORE = 0.35
CLUSTERS_ALONE = 0.15
"""Share of the steps between the placing of centroids and the rounding of all weights."""
UPDATES = 40


@dataclass(frozen=True)
class Schedule:
    """Numbers of steps; an event at step n happens before step n is taken.

    steps: in all.
    ramp: pruning reaches its level at this step, and masks are fixed from then on (0: nothing is pruned).
    cluster_at: centroids are placed at this step; None without clustering.
    quantize_at: weights are integers from this step on, at least half of all; None where they stay floats.
    settled: from here on the weights have their final form, and epochs count.
    """

    steps: int
    ramp: int
    cluster_at: int | None
    quantize_at: int | None
    settled: int

    @classmethod
    def plan(
        cls, *, epochs: int, steps_per_epoch: int, prunes: bool, clusters: bool, quantizes: bool = False
    ) -> "Schedule":
        """Pruning first, then clusters, then integers, then a rest in which accuracy recovers."""
        steps = epochs * steps_per_epoch
        ramp = int(steps * (RAMP_BEFORE_MORE if clusters or quantizes else RAMP)) if prunes else 0
        settled = ramp + int(steps * CLUSTERS_ALONE) if clusters and quantizes else ramp
        return cls(
            steps=steps,
            ramp=ramp,
            cluster_at=ramp if clusters else None,
            quantize_at=settled if quantizes else None,
            settled=settled,
        )

    def mask_update(self, step: int) -> float | None:
        """Progress of the ramp (0..1) when masks are to be chosen anew before this step, else None."""
        if step > self.ramp:
            return None
        if step == self.ramp:
            return 1.0
        every = max(1, self.ramp // UPDATES)
        return step / self.ramp if step % every == 0 else None


def hold_out(samples: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and indices held out; the same for the same seed.

    Raises:
        StageError: DATA_MISMATCH when there are not two samples to divide.
    """
    if samples < 2:
        raise StageError(
            Reason.DATA_MISMATCH,
            f"dataset.train has {samples} sample(s); fine-tuning needs two, one of them held out",
        )
    order = np.random.default_rng([seed, 1]).permutation(samples)
    held = min(samples - 1, max(1, round(samples * share)))
    return np.sort(order[held:]), np.sort(order[:held])
