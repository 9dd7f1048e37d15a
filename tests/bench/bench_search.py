"""Search overhead: what one suggestion costs with 100 and 1,000 trials on record.

Each suggestion rebuilds an Optuna study from the records, so the yardstick is Optuna's own ask of a study
that is already built, timed in the same run. Run: `python tests/bench/bench_search.py [COUNT ...]`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from paretune.search import sampler
from paretune.search.objectives import resolve
from paretune.search.space import available
from unit.search.toy_study import intake, search, spec

ROUNDS = 7


def seconds(step: Callable[[int], object]) -> float:
    """Median time of a step, which is given the round's number."""
    taken = []
    for i in range(ROUNDS):
        started = time.perf_counter()
        step(i)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(count: int) -> tuple[float, float, float, float]:
    """(suggest, rebuild, plain ask, retries) with this many trials on record; seconds."""
    manifest = spec()
    space, objectives = available(manifest, intake()), resolve(manifest)
    trials = search(manifest, count, sampler="random", space=space)
    built = sampler._rebuilt(space, objectives, trials)
    retries = []

    def suggested(i: int) -> None:
        retries.append(sampler.suggest(space, objectives, i, "auto", count, trials).ask.retry)

    def asked(i: int) -> None:
        built.sampler = sampler._sampler("auto", sampler.derive_seed(i, count, 0))
        space.ask(built.ask())

    whole = seconds(suggested)
    rebuild = seconds(lambda _: sampler._rebuilt(space, objectives, trials))
    return whole, rebuild, seconds(asked), statistics.mean(retries)


def main() -> None:
    counts = [int(a) for a in sys.argv[1:]] or [100, 1000]
    print(f"{'trials':>6} {'suggest':>10} {'rebuild':>10} {'plain ask':>10} {'ratio':>6} {'retries':>8}")
    for count in counts:
        whole, rebuild, ask, retries = measure(count)
        print(
            f"{count:>6} {whole * 1e3:>7.1f} ms {rebuild * 1e3:>7.1f} ms {ask * 1e3:>7.1f} ms "
            f"{whole / ask:>6.2f} {retries:>8.1f}"
        )


if __name__ == "__main__":
    main()
