"""How long a container waits for a store."""

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.pod.persistence import Persistence


class Time:
    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def persistence(self, seconds: float) -> Persistence:
        return Persistence(seconds, clock=lambda: self.now, pause=self.pause)


def away(until: float, time: Time, reason: Reason = Reason.STORE_UNAVAILABLE):
    def operation() -> str:
        if time.now < until:
            raise StageError(reason, "store: no answer")
        return "there"

    return operation


def test_a_store_that_comes_back_in_time_is_used(capsys) -> None:
    time = Time()
    assert time.persistence(1800)(away(600, time)) == "there"
    assert time.pauses[:3] == [2, 4, 8]
    assert max(time.pauses) == 60
    assert "store: no answer; trying again in 2 s, for 1800 s at most" in capsys.readouterr().err


def test_the_time_is_shared_by_all_operations() -> None:
    time = Time()
    persist = time.persistence(100)
    persist(away(90, time))
    with pytest.raises(StageError):
        persist(away(1000, time))
    assert time.now == 100


def test_what_another_attempt_cannot_cure_is_not_tried_again() -> None:
    time = Time()
    with pytest.raises(StageError):
        time.persistence(100)(away(10, time, Reason.INTERNAL))
    assert not time.pauses
