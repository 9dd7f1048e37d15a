"""Failures cross process boundaries, and each reason has one owner."""

import pickle

from paretune_contract.base import Line
from paretune_contract.failure import CANDIDATE_REASONS, WORLD_REASONS, Reason, StageError
from paretune_contract.stages import Result, Step
from pydantic import TypeAdapter

SOURCE_REASONS = {r for r in Reason if r.value.startswith(("Model", "Data", "Layer"))}


def test_a_stage_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StageError(Reason.MODEL_UNSAFE, "a Lambda layer runs code")))  # noqa: S301

    assert isinstance(error, StageError)
    assert (error.reason, error.message, str(error)) == (
        Reason.MODEL_UNSAFE,
        "a Lambda layer runs code",
        "a Lambda layer runs code",
    )


def test_each_reason_is_caused_by_source_candidate_or_world() -> None:
    not_again = {Reason.UNSCHEDULABLE}  # the world's, and not worth another try
    assert set(Reason) == SOURCE_REASONS | CANDIDATE_REASONS | WORLD_REASONS | not_again
    assert not not_again & (SOURCE_REASONS | CANDIDATE_REASONS | WORLD_REASONS)
    assert not SOURCE_REASONS & CANDIDATE_REASONS
    assert not WORLD_REASONS & (CANDIDATE_REASONS | SOURCE_REASONS)


def test_reasons_are_words_of_a_kubernetes_condition() -> None:
    assert all(reason.value.isalpha() and reason.value[0].isupper() for reason in Reason)


def test_a_result_of_a_newer_writer_is_read() -> None:
    result = Result.model_validate({"schemaVersion": 2, "reason": "NoEffect", "message": "m", "later": 1})

    assert result.reason is Reason.NO_EFFECT


def test_what_a_machine_says_of_itself_is_clipped_not_refused() -> None:
    assert len(TypeAdapter(Line).validate_python("x" * 1000)) == 256
    assert Step(name="n", seconds=1, note="y" * 5000).note.endswith("y…")
