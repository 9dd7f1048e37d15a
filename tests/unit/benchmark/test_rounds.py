import math
import random
from collections.abc import Callable

from paretune_benchmark.rounds import ROUNDS_PER_LOAD, Rounds, measure
from paretune_benchmark.statistics import FIRST_LOOK, ratio_interval


class Machine:
    """A clock, and models that take time on it."""

    def __init__(self, seed: int = 0) -> None:
        self.now, self.random = 0.0, random.Random(seed)
        self.loads: list[str] = []
        self.runs: list[str] = []

    def clock(self) -> float:
        return self.now

    def model(
        self, name: str, seconds: float, noise: float = 0.0, load_seconds: float = 0.0
    ) -> Callable[[], Callable[[int], float]]:
        def load() -> Callable[[int], float]:
            self.loads.append(name)
            self.now += load_seconds

            def run(inferences: int) -> float:
                self.runs.append(name)
                took = inferences * seconds * self.random.lognormvariate(0, noise)
                self.now += took
                return took

            return run

        return load

    def measure(self, candidate: float, reference: float, noise: float, **changes: float) -> Rounds:
        return measure(
            self.model("candidate", candidate, noise),
            self.model("reference", reference, noise),
            half_width=changes.get("half_width", 0.03),
            max_seconds=changes.get("max_seconds", 20),
            seed=int(changes.get("seed", 0)),
            clock=self.clock,
        )


def test_quiet_models_are_measured_in_as_few_rounds_as_allowed() -> None:
    rounds = Machine().measure(1e-4, 2e-4, noise=0.001)
    assert len(rounds.candidate) == len(rounds.reference) == FIRST_LOOK
    assert not rounds.noisy
    assert abs(ratio_interval(rounds.candidate, rounds.reference).value - 0.5) < 0.005


def test_noise_is_answered_with_more_rounds_until_the_ratio_is_known() -> None:
    rounds = Machine().measure(1e-4, 2e-4, noise=0.15)
    ratio = ratio_interval(rounds.candidate, rounds.reference)
    assert len(rounds.candidate) > 4 * FIRST_LOOK
    assert not rounds.noisy
    assert (ratio.high - ratio.low) / 2 <= 0.03 * ratio.value


def test_when_the_time_is_up_first_the_result_is_noisy() -> None:
    machine = Machine()
    rounds = machine.measure(1e-4, 2e-4, noise=0.5, max_seconds=2)
    assert rounds.noisy
    assert 2 <= machine.now < 2.2


def test_an_inference_longer_than_the_time_allowed_is_still_measured_once() -> None:
    rounds = Machine().measure(30.0, 1.0, noise=0.0)
    assert rounds.candidate == (30.0,)
    assert rounds.reference == (1.0,)
    assert rounds.noisy


def test_rounds_of_both_models_last_alike_whatever_an_inference_takes() -> None:
    rounds = Machine().measure(1e-5, 5e-3, noise=0.0)
    assert rounds.candidate_inferences in range(990, 1010)
    assert rounds.reference_inferences == 2


def test_either_model_comes_first_in_about_half_of_the_rounds() -> None:
    machine = Machine()
    rounds = measure(
        machine.model("candidate", 1e-3, noise=0.2, load_seconds=1.0),  # too slow to be loaded again
        machine.model("reference", 1e-3, noise=0.2),
        half_width=0.01,
        max_seconds=10,
        seed=0,
        clock=machine.clock,
    )
    in_rounds = machine.runs[-2 * len(rounds.candidate) :]
    pairs = list(zip(in_rounds[::2], in_rounds[1::2], strict=True))
    assert {tuple(sorted(pair)) for pair in pairs} == {("candidate", "reference")}
    first = sum(pair[0] == "candidate" for pair in pairs) / len(pairs)
    assert len(pairs) > 100
    assert 0.4 < first < 0.6


def test_other_seeds_give_other_orders() -> None:
    one, other = Machine(), Machine()
    one.measure(1e-3, 1e-3, noise=0.0, seed=0)
    other.measure(1e-3, 1e-3, noise=0.0, seed=1)
    assert one.runs != other.runs


def test_equal_seeds_give_equal_orders() -> None:
    one, other = Machine(), Machine()
    one.measure(1e-3, 1e-3, noise=0.0, seed=5)
    other.measure(1e-3, 1e-3, noise=0.0, seed=5)
    assert one.runs == other.runs


def test_models_are_loaded_again_every_few_rounds() -> None:
    machine = Machine()
    rounds = machine.measure(1e-4, 1e-4, noise=0.0)
    assert machine.loads.count("candidate") == len(rounds.candidate) // ROUNDS_PER_LOAD
    assert machine.loads.count("reference") == machine.loads.count("candidate")


def test_models_that_load_slowly_are_loaded_once() -> None:
    machine = Machine()
    measure(
        machine.model("candidate", 1e-4, load_seconds=1.0),
        machine.model("reference", 1e-4),
        half_width=0.03,
        max_seconds=20,
        seed=0,
        clock=machine.clock,
    )
    assert sorted(machine.loads) == ["candidate", "reference"]


def test_stopping_as_soon_as_the_interval_is_narrow_keeps_its_coverage() -> None:
    runs, covered = 300, 0
    for seed in range(runs):
        rounds = Machine(seed).measure(5e-3, 1e-2, noise=0.06, seed=seed)
        ratio = ratio_interval(rounds.candidate, rounds.reference)
        covered += ratio.low <= 0.5 <= ratio.high
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
