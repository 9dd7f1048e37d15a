"""A stage's result as the termination message of its pod (at most 4,096 bytes).

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import json

from pydantic import Field, ValidationError

from .failure import Reason
from .stages import (
    BENCHMARK,
    COMPRESS,
    EVALUATE,
    INTAKE,
    BenchmarkResult,
    CompressResult,
    EvaluateResult,
    Result,
)
from .summary import IntakeSummary

LIMIT = 4096
PATH = "/dev/termination-log"


class IntakeReport(Result):
    """An intake as its pod reports it."""

    summary: IntakeSummary | None = Field(None, description="There when the intake succeeded.")


REPORTS: dict[str, type[Result]] = {
    INTAKE: IntakeReport,
    COMPRESS: CompressResult,
    EVALUATE: EvaluateResult,
    BENCHMARK: BenchmarkResult,
}
"""What each stage's pod reports; other stages report a plain Result."""


class NoMessage(Exception):
    """The text is no result of a stage."""


def to_message(result: Result) -> str:
    """The result as JSON that fits; what does not is cut from the least important end: notes, steps, message.

    Raises:
        ValueError: when it does not fit even so.
    """
    kept: Result = result
    if isinstance(kept, CompressResult) and kept.inspection is not None:
        inspection = kept.inspection.model_copy(update={"tensors": ()})
        kept = kept.model_copy(update={"inspection": inspection})
    for shorter in (
        kept,
        kept.model_copy(update={"steps": tuple(s.model_copy(update={"note": ""}) for s in kept.steps)}),
        kept.model_copy(update={"steps": ()}),
        kept.model_copy(update={"steps": (), "message": kept.message[:800]}),
    ):
        text = shorter.model_dump_json(by_alias=True, exclude_defaults=True)
        if len(text.encode()) <= LIMIT:
            return text
    raise ValueError(f"a result of {len(text.encode())} bytes does not fit into a termination message")


def from_message(text: str, stage: str) -> Result:
    """The result that a pod of this stage left.

    Raises:
        NoMessage: when the text is none, such as the log's tail of a container that crashed.
    """
    try:
        plain = json.loads(text)
        kind = REPORTS.get(stage, Result) if plain.get("reason") is None else Result
        return kind.model_validate(plain)
    except (ValueError, AttributeError, ValidationError) as error:
        raise NoMessage(f"no result of {stage}: {text[:200]!r}") from error


def failed(reason: Reason, message: str) -> str:
    """The message of a container that could not do its part."""
    return to_message(Result(reason=reason, message=message[:2000]))
