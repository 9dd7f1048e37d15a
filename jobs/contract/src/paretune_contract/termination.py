"""A stage's result as the termination message of its pod (at most 4,096 bytes).

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import json
from collections.abc import Iterator

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
    intake: str = Field(
        "", max_length=64, description="sha256 (hex) of intake.json in the store; empty when it failed."
    )


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
    """The result as JSON that fits; what does not is cut from the least important end.

    Raises:
        ValueError: when it does not fit even so.
    """
    for shorter in _ever_shorter(result):
        text = shorter.model_dump_json(by_alias=True, exclude_defaults=True)
        if len(text.encode()) <= LIMIT:
            return text
    raise ValueError(f"a result of {len(text.encode())} bytes does not fit into a termination message")


def _ever_shorter(result: Result) -> Iterator[Result]:
    """Without the table of tensors, then without notes, steps, most of the message, explanations."""
    kept: Result = result
    if isinstance(kept, CompressResult) and kept.inspection is not None:
        inspection = kept.inspection.model_copy(update={"tensors": ()})
        kept = kept.model_copy(update={"inspection": inspection})
    yield kept
    if isinstance(kept, IntakeReport) and kept.summary is not None:
        kept = kept.model_copy(update={"summary": _brief(kept.summary)})
        yield kept
    yield kept.model_copy(update={"steps": tuple(s.model_copy(update={"note": ""}) for s in kept.steps)})
    kept = kept.model_copy(update={"steps": ()})
    yield kept
    kept = kept.model_copy(update={"message": kept.message[:800]})
    yield kept
    if isinstance(kept, CompressResult):
        kept = kept.model_copy(update={"inspection": None})
        yield kept
    while kept.message:  # characters that JSON spells out, or four bytes each
        kept = kept.model_copy(update={"message": kept.message[: len(kept.message) // 2]})
        yield kept


def _brief(summary: IntakeSummary) -> IntakeSummary:
    """Without what is for people; names are cut, and at least one untrainable operator stays."""
    model = summary.model.model_copy(
        update={
            "operators": tuple(name[:48] for name in summary.model.operators),
            "untrainable": tuple(name[:48] for name in summary.model.untrainable),
        }
    )
    training = summary.training and summary.training.model_copy(update={"origin": {}})
    notes = tuple(note[:200] for note in summary.notes[:3])
    return summary.model_copy(update={"model": model, "training": training, "notes": notes})


def from_message(text: str, stage: str) -> Result:
    """The result that a pod of this stage left.

    Raises:
        NoMessage: when the text is none, such as the log's tail of a container that crashed.
    """
    try:
        plain = json.loads(text)
        kind = REPORTS.get(stage, Result) if plain.get("reason") is None else Result
        return kind.model_validate(plain, extra="ignore")  # a newer image may say more, at any depth
    except (ValueError, AttributeError, RecursionError, ValidationError) as error:
        raise NoMessage(f"no result of {stage}: {text[:200]!r}") from error


def failed(reason: Reason, message: str) -> str:
    """The message of a container that could not do its part."""
    text = message[:2000].encode(errors="replace").decode()  # a file's name may hold what is no Unicode
    return to_message(Result(reason=reason, message=text))
