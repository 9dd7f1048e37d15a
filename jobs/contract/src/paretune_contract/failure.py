"""Why something did not work: a machine reason, a sentence for people, and who caused it."""

from enum import StrEnum


class Reason(StrEnum):
    """Machine-readable reasons, as they stand in conditions and trial records."""

    # Caused by the source model or the data: the study cannot start.
    MODEL_UNREADABLE = "ModelUnreadable"
    MODEL_UNSAFE = "ModelUnsafe"
    MODEL_UNSUPPORTED = "ModelUnsupported"
    MODEL_QUANTIZED = "ModelQuantized"
    DATA_UNREADABLE = "DataUnreadable"
    DATA_MISMATCH = "DataMismatch"
    LAYER_NOT_FOUND = "LayerNotFound"
    # Caused by a candidate: a result of the search.
    STEP_FAILED = "StepFailed"
    NO_EFFECT = "NoEffect"
    NOT_RUNNABLE = "NotRunnable"
    TIMED_OUT = "TimedOut"
    CRASHED = "Crashed"
    OUT_OF_MEMORY = "OutOfMemory"
    # Caused by the world: tried again, never counted against the search.
    STORE_UNAVAILABLE = "StoreUnavailable"
    INTERRUPTED = "Interrupted"
    # Caused by the world, and not worth another try: it waited long enough.
    UNSCHEDULABLE = "Unschedulable"
    # A fault of Paretune itself.
    INTERNAL = "Internal"


CANDIDATE_REASONS = frozenset(
    {
        Reason.STEP_FAILED,
        Reason.NO_EFFECT,
        Reason.NOT_RUNNABLE,
        Reason.TIMED_OUT,
        Reason.CRASHED,
        Reason.OUT_OF_MEMORY,
        Reason.INTERNAL,
    }
)
"""Failures that end a trial as Failed and count towards `budget.maxFailures`."""

WORLD_REASONS = frozenset({Reason.STORE_UNAVAILABLE, Reason.INTERRUPTED})
"""Failures that are tried again under the same trial number."""


class StageError(Exception):
    """A stage cannot go on.

    Args:
        reason: machine-readable cause.
        message: one sentence that names the field, file or setting, what was found and what would be right.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["StageError"], tuple[Reason, str]]:
        return (StageError, (self.reason, self.message))
