"""What is wrong with a data set, before its URI is put to it."""

from paretune_contract.failure import Reason


class DataFault(Exception):
    """The data set cannot be used.

    Args:
        message: what was found and what would be right.
        reason: DATA_UNREADABLE when its bytes are at fault, DATA_MISMATCH when it does not fit the model.
    """

    def __init__(self, message: str, reason: Reason = Reason.DATA_UNREADABLE) -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


def mismatch(message: str) -> DataFault:
    """The data set is whole, but does not fit the model."""
    return DataFault(message, Reason.DATA_MISMATCH)
