"""What each layer costs when it alone is treated, and budgets divided among the layers by that."""

from .probe import probe, probed_split
from .shares import shares
from .table import Sensitivity

__all__ = ["Sensitivity", "probe", "probed_split", "shares"]
