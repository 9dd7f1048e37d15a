import signal

import pytest
from paretune_benchmark.first_run import outcome
from paretune_contract.failure import Reason, StageError


def test_a_run_that_succeeded_tells_peak_and_time() -> None:
    run = outcome("m.tflite", 0, '{"peak": 1024, "seconds": 0.5}')
    assert (run.peak, run.seconds) == (1024, 0.5)


@pytest.mark.parametrize(
    ("status", "output", "reason", "words"),
    [
        (3, '{"error": "m.tflite does not run: unknown op"}', Reason.NOT_RUNNABLE, "unknown op"),
        (-signal.SIGSEGV, "", Reason.CRASHED, "SIGSEGV"),
        (-signal.SIGFPE, "", Reason.CRASHED, "SIGFPE"),
        (-signal.SIGKILL, "", Reason.OUT_OF_MEMORY, "memory"),
        (1, "", Reason.CRASHED, "exit status 1"),
    ],
)
def test_every_other_end_has_its_reason(status: int, output: str, reason: Reason, words: str) -> None:
    with pytest.raises(StageError, match=words) as raised:
        outcome("m.tflite", status, output)
    assert raised.value.reason is reason
    assert "m.tflite" in raised.value.message
