"""Rounds of two models in one process, interleaved in random order, until the ratio is known well enough."""

import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .statistics import inferences_per_round, is_narrow, next_look

ROUND_SECONDS = 0.01
"""Length of one side of a round: a thousand times the timer's noise, and several scheduler ticks."""
ROUNDS_PER_LOAD = 4

Run = Callable[[int], float]
"""Does so many inferences and returns the seconds they took."""
Load = Callable[[], Run]
"""Loads a model afresh."""


@dataclass(frozen=True)
class Rounds:
    """What was timed: seconds per inference, one number for each round and side.

    Attributes:
        candidate: seconds per inference of the candidate, by round.
        reference: the same of the reference.
        candidate_inferences: inferences of the candidate in one round.
        reference_inferences: inferences of the reference in one round.
        noisy: the time was up before the ratio's half-width was small enough.
        seconds: time from the first load to the last round.
    """

    candidate: tuple[float, ...]
    reference: tuple[float, ...]
    candidate_inferences: int
    reference_inferences: int
    noisy: bool
    seconds: float


def measure(
    candidate: Load,
    reference: Load,
    *,
    half_width: float,
    max_seconds: float,
    seed: int,
    round_seconds: float = ROUND_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Rounds:
    """Time two models until the 95% half-width of their ratio is at most `half_width`.

    Both models are loaded again every few rounds, in random order, where loading is cheap: where their
    buffers happen to lie in memory shifts the time of one loaded copy by half a percent to one percent
    (Mytkowicz et al., Producing wrong data without doing anything obviously wrong, 2009), and an interval
    over the rounds of one copy would not show it.

    Args:
        candidate: loads the candidate.
        reference: loads the reference.
        half_width: relative, e.g. 0.03.
        max_seconds: no round begins after this; the first one always does.
        seed: of the order within rounds.
        round_seconds: aimed-at length of one side of a round.
        clock: seconds, for the deadline.
    """
    order = random.Random(seed)  # noqa: S311 - an order, not a secret
    started = clock()
    times: tuple[list[float], list[float]] = ([], [])
    noisy = True
    with _no_collector():
        runs, load_seconds = _loaded((candidate, reference), order, clock)
        counts = tuple(_calibrated(run, round_seconds) for run in runs)
        look = next_look(0)
        while noisy and (not times[0] or clock() - started < max_seconds):
            if (
                len(times[0]) % ROUNDS_PER_LOAD == 0
                and times[0]
                and load_seconds < ROUNDS_PER_LOAD * (times[0][-1] * counts[0] + times[1][-1] * counts[1])
            ):
                del runs
                runs, load_seconds = _loaded((candidate, reference), order, clock)
                for run, count in zip(runs, counts, strict=True):
                    run(max(1, count // 4))
            for side in _shuffled(order):
                times[side].append(runs[side](counts[side]) / counts[side])
            if len(times[0]) == look:
                noisy, look = not is_narrow(*times, half_width), next_look(look)
    return Rounds(
        candidate=tuple(times[0]),
        reference=tuple(times[1]),
        candidate_inferences=counts[0],
        reference_inferences=counts[1],
        noisy=noisy and not is_narrow(*times, half_width),
        seconds=clock() - started,
    )


def _loaded(
    loads: tuple[Load, Load], order: random.Random, clock: Callable[[], float]
) -> tuple[tuple[Run, Run], float]:
    started = clock()
    runs: dict[int, Run] = {side: loads[side]() for side in _shuffled(order)}
    return (runs[0], runs[1]), clock() - started


def _shuffled(order: random.Random) -> tuple[int, int]:
    return (0, 1) if order.random() < 0.5 else (1, 0)


def _calibrated(run: Run, round_seconds: float) -> int:
    """Warm up and find how many inferences fill a round: twice as many until they do."""
    run(1)
    count, seconds = 1, run(1)
    while seconds < round_seconds:
        count *= 2
        seconds = run(count)
    return inferences_per_round(seconds / count, round_seconds)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """The garbage collector's pauses are not the model's."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
