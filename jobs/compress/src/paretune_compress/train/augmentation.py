"""Samples changed a little each time they are seen: shifts, mirror images, noise, mixtures.

The float model, as the teacher, sees the changed sample too, so that even a change that alters the label
teaches what the float model makes of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from paretune_contract.training import Augment

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mixture:
    """Averages of the samples of a batch, two by two (mixup, Zhang et al. 2018).

    With the float model's answers to the mixtures as the target, a few thousand samples teach as many pairs
    (Beyer et al. 2022).

    partners: index of the second sample of each pair.
    shares: weight of the first one, 0 to 1.
    """

    partners: NDArray[np.int64]
    shares: Floats

    def __call__(self, values: Floats) -> Floats:
        """Mixtures of [batch, ...]."""
        shares = self.shares.reshape(-1, *(1,) * (values.ndim - 1))
        mixed: Floats = shares * values + (1 - shares) * values[self.partners]
        return mixed


@dataclass(frozen=True)
class Augmentation:
    """Changes inputs of shape [batch, height, width, channels]; others take noise alone.

    settings: what may be changed.
    rng: draws are taken from it.
    """

    settings: Augment
    rng: np.random.Generator

    @classmethod
    def of(cls, settings: Augment, rng: np.random.Generator) -> "Augmentation | None":
        """None where nothing is to be changed, so that the teacher can remember its answers."""
        return cls(settings, rng) if settings != Augment() else None

    def __call__(self, inputs: Sequence[Floats]) -> list[Floats]:
        """A changed copy of each input."""
        return [self._changed(x) for x in inputs]

    def mixture(self, samples: int) -> Mixture | None:
        """How the samples of a batch are mixed; None when they are to stay apart."""
        alpha = self.settings.mixup
        if not alpha:
            return None
        shares = self.rng.beta(alpha, alpha, samples).astype(np.float32)
        return Mixture(self.rng.permutation(samples), shares)

    def _changed(self, x: Floats) -> Floats:
        if x.ndim == 4:
            x = self._flipped(self._shifted(x))
        if self.settings.noise:
            noise = self.rng.standard_normal(x.shape, np.float32) * np.float32(self.settings.noise)
            # A share of the noise, drawn for each sample: clean samples stay among them.
            x = x + noise * self.rng.random((len(x), *(1,) * (x.ndim - 1)), np.float32)
        return x

    def _shifted(self, x: Floats) -> Floats:
        """Each sample moved by up to so many rows and columns; edges are repeated."""
        rows, columns = self.settings.shift_rows, self.settings.shift_columns
        if not rows and not columns:
            return x
        n, height, width, _ = x.shape
        padded = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge")
        down = self.rng.integers(0, 2 * rows + 1, (n,))
        across = self.rng.integers(0, 2 * columns + 1, (n,))
        moved = np.empty_like(x)
        for i in range(n):
            r, c = down[i], across[i]
            moved[i] = padded[i, r : r + height, c : c + width]
        return moved

    def _flipped(self, x: Floats) -> Floats:
        """Half of the samples, mirrored left to right."""
        if not self.settings.flip:
            return x
        mirrored = self.rng.random(len(x)) < 0.5
        return np.where(mirrored[:, None, None, None], np.flip(x, axis=2), x)
