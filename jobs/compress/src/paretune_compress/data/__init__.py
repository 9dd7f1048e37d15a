"""Data sets behind one port: opened by URI, normalised once, streamed in batches."""

from .plugins import Dataset, Sliceable
from .prepare import prepare, prepare_noted
from .split import Batch, PreparedSplit

__all__ = ["Batch", "Dataset", "PreparedSplit", "Sliceable", "prepare", "prepare_noted"]
