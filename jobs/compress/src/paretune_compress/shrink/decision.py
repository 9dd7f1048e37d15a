"""Which channels go: those that nothing reads, and constants that a bias can stand for."""

import numpy as np

from .constants import Known, column_values, weights_of
from .structure import Flags, Structure


def needed_channels(structure: Structure, known: Known) -> Flags:
    """True for the channels that stay.

    A channel is needed when it is frozen, or when a needed output channel has weights for it and it is no
    constant there that could be added to the bias. Found backwards from what is frozen, so that channels
    that only read each other (in a residual stream) are not needed either.
    """
    needed = structure.frozen.copy()
    links = []
    for reader in reversed(structure.readers):
        varies = np.isnan(column_values(reader, known))
        links.append((reader, weights_of(structure.model, reader).present & varies))
    found = True
    while found:
        before = int(np.count_nonzero(needed))
        for reader, reads in links:
            needed[reader.columns[np.any(reads[needed[reader.rows]], axis=0)]] = True
        found = int(np.count_nonzero(needed)) > before
    return at_least_one(structure, needed)


def at_least_one(structure: Structure, needed: Flags) -> Flags:
    """The same with a channel more wherever a tensor would have lost all: its first."""
    kept = needed.copy()
    for _, ids in sorted(structure.activations.items()):
        if len(ids) and not kept[ids].any():
            kept[ids[0]] = True
    return kept
