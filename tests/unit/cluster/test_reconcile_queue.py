"""Which key is due when, on a clock that the test turns; and that workers keep to it."""

import threading
from collections import Counter
from itertools import count

import pytest
from paretune.cluster.queue import Conflict, ReconcileQueue, Workers

LONG = 30.0
"""Seconds that a test waits for another thread before it fails."""


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> ReconcileQueue[str]:
    return ReconcileQueue(clock=clock, rng=lambda: 0.0)


def test_a_key_woken_often_is_taken_once(queue: ReconcileQueue[str]) -> None:
    for _ in range(5):
        queue.wake("a")

    assert queue.take(0) == "a"
    assert queue.take(0) is None


def test_the_key_that_is_due_for_longest_comes_first(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("late", delay=2)
    queue.wake("early", delay=1)
    clock.now += 5
    queue.wake("now")

    assert [queue.take(0) for _ in range(4)] == ["early", "late", "now", None]


def test_the_earliest_wake_wins(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("a", delay=10)
    queue.wake("a", delay=3)
    queue.wake("a", delay=7)

    clock.now += 2.9
    assert queue.take(0) is None
    clock.now += 0.1
    assert queue.take(0) == "a"
    clock.now += 100
    queue.done("a")
    assert queue.take(0) is None


def test_a_key_is_never_taken_twice_at_a_time(queue: ReconcileQueue[str]) -> None:
    queue.wake("a")
    assert queue.take(0) == "a"
    queue.wake("a")

    assert queue.take(0) is None
    queue.done("a")
    assert queue.take(0) == "a"


def test_a_delayed_wake_while_it_runs_is_kept(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("a")
    queue.take(0)
    queue.wake("a", delay=20)
    queue.wake("a", delay=5)
    clock.now += 1
    queue.done("a")

    assert queue.take(0) is None
    clock.now += 4
    assert queue.take(0) == "a"


def test_a_key_comes_again_after_the_time_it_asked_for(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("a")
    queue.take(0)
    queue.done("a", requeue_after=10)

    clock.now += 9
    assert queue.take(0) is None
    clock.now += 1
    assert queue.take(0) == "a"


def test_failures_in_a_row_wait_from_one_second_up_to_five_minutes(
    queue: ReconcileQueue[str], clock: Clock
) -> None:
    queue.wake("a")
    delays = []
    for _ in range(12):
        assert queue.take(0) == "a"
        delays.append(queue.failed("a"))
        clock.now += delays[-1]

    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_backoff_is_shortened_by_chance_so_that_keys_do_not_come_together(clock: Clock) -> None:
    chance = iter([0.0, 0.5, 0.999])
    queue: ReconcileQueue[str] = ReconcileQueue(clock=clock, rng=lambda: next(chance))

    delays = [queue.failed(key) for key in "abc"]

    assert delays == pytest.approx([1.0, 0.95, 0.9], abs=0.001)


def test_success_forgets_failures(queue: ReconcileQueue[str]) -> None:
    for _ in range(5):
        queue.failed("a")
    queue.done("a")

    assert queue.failed("a") == 1


def test_keys_fail_apart(queue: ReconcileQueue[str]) -> None:
    for _ in range(5):
        queue.failed("a")

    assert queue.failed("b") == 1


def test_a_wake_ends_a_long_backoff(queue: ReconcileQueue[str], clock: Clock) -> None:
    for _ in range(8):
        queue.failed("a")
    clock.now += 1.5
    queue.wake("a")

    assert queue.take(0) == "a"


def test_a_reconcile_that_fails_and_wakes_itself_does_not_spin(
    queue: ReconcileQueue[str], clock: Clock
) -> None:
    queue.wake("a")
    queue.take(0)
    queue.wake("a")
    queue.failed("a")
    queue.wake("a")

    assert queue.take(0) is None
    clock.now += 1
    assert queue.take(0) == "a"


def test_what_is_forgotten_is_not_taken(queue: ReconcileQueue[str]) -> None:
    queue.wake("waiting")
    queue.forget("waiting")
    queue.wake("running")
    assert queue.take(0) == "running"
    queue.wake("running")
    queue.forget("running")
    queue.done("running")

    assert queue.take(0) is None


def test_depth_counts_keys_that_are_due(queue: ReconcileQueue[str]) -> None:
    queue.wake("taken")
    queue.take(0)
    queue.wake("due")
    queue.wake("later", delay=5)

    assert queue.depth() == 1


def test_a_reconcile_that_runs_too_long_is_stuck(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("a")
    queue.take(0)
    clock.now += 60
    assert queue.stuck(60) is None
    clock.now += 1
    assert queue.stuck(60) == "a"

    queue.done("a")
    assert queue.stuck(60) is None


def test_a_standby_without_workers_is_not_stuck(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("a")
    clock.now += 3600
    assert queue.stuck(60) is None
    queue.begin()
    assert queue.stuck(60) is None
    clock.now += 61
    assert queue.stuck(60) == "a"


def test_keys_that_wait_while_others_are_taken_are_not_stuck(
    queue: ReconcileQueue[str], clock: Clock
) -> None:
    queue.begin()
    for key in "abcde":
        queue.wake(key)
    for _ in range(4):
        clock.now += 50
        queue.done(str(queue.take(0)))
        assert queue.stuck(60) is None
    clock.now += 61
    assert queue.stuck(60) is not None


def test_a_due_key_that_nobody_takes_is_stuck(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.begin()
    queue.wake("a", delay=100)
    clock.now += 150
    assert queue.stuck(60) is None
    clock.now += 11
    assert queue.stuck(60) == "a"


def test_waiting_for_its_time_is_not_stuck(queue: ReconcileQueue[str], clock: Clock) -> None:
    queue.wake("a", delay=3600)
    clock.now += 1800

    assert queue.stuck(60) is None


def test_nothing_is_taken_from_a_stopped_queue(queue: ReconcileQueue[str]) -> None:
    queue.wake("a")
    queue.stop()

    assert queue.take() is None


def test_workers_reconcile_every_key_and_never_one_twice_at_a_time() -> None:
    queue: ReconcileQueue[int] = ReconcileQueue()
    running: set[int] = set()
    runs: Counter[int] = Counter()
    twice: list[int] = []
    lock = threading.Lock()
    all_done = threading.Event()

    def reconcile(key: int) -> float | None:
        with lock:
            if key in running:
                twice.append(key)
            running.add(key)
            runs[key] += 1
            first = runs[key] == 1
        if first:
            queue.wake(key)  # something happens while it runs
        with lock:
            running.discard(key)
            if len(runs) == 50 and min(runs.values()) >= 2:
                all_done.set()
        return None

    workers = Workers(queue, reconcile, count=4)
    workers.start()
    for key in range(50):
        queue.wake(key)
    assert all_done.wait(LONG)
    assert workers.stop(LONG)

    assert twice == []
    assert set(runs.values()) == {2}


def test_a_worker_outlives_failures_and_tells_how_each_reconcile_ended() -> None:
    queue: ReconcileQueue[str] = ReconcileQueue(first=0.01)
    outcomes: list[tuple[str, str]] = []
    finished = threading.Event()
    number = count()

    def reconcile(key: str) -> float | None:
        match next(number):
            case 0:
                raise OSError("the API server is away")
            case 1:
                raise Conflict
            case 2:
                return 0.01
        return None

    def observe(key: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        outcomes.append((key, outcome))
        if len(outcomes) == 4:
            finished.set()

    workers = Workers(queue, reconcile, count=1, observe=observe)
    workers.start()
    queue.wake("a")
    assert finished.wait(LONG)
    assert workers.stop(LONG)

    assert outcomes == [("a", "error"), ("a", "conflict"), ("a", "ok"), ("a", "ok")]


def test_a_reconcile_that_does_not_end_is_told_at_the_stop() -> None:
    queue: ReconcileQueue[str] = ReconcileQueue()
    began, end = threading.Event(), threading.Event()

    def reconcile(key: str) -> None:
        began.set()
        end.wait(LONG)

    workers = Workers(queue, reconcile, count=2)
    workers.start()
    queue.wake("a")
    assert began.wait(LONG)

    assert not workers.stop(0.01)
    end.set()
    assert workers.stop(LONG)
