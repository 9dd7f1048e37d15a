"""Where a trial's time goes, and what the cache is worth.

Makes a small convolutional model on scikit-learn's digits (or takes --study), runs a study, and runs it
again with the same seed and a cache that the first one filled. Prints seconds by step, the ratio of the two
runs, and that of the first one's compute to what its trials would have cost without the steps they share.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import yaml
from paretune.local.workdir import WorkDirectory

ON_DEVICE = ("first run", "rounds")
"""Steps of the benchmark, which measures equal bytes once in a study, but knows of no other study."""
DEMO = Path(__file__).parents[2] / "docs" / "examples" / "digits"


def run(study: Path, workdir: Path, cache: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "paretune.cli", "run", str(study), "-w", str(workdir),
         "--cache", str(cache), "--no-mlflow"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def steps(workdir: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for trial in WorkDirectory(workdir).read_trials():
        for step in trial.status.steps:
            found[f"{step.name}{' (cached)' if step.cached else ''}"].append(step.seconds)
    return found


def compute(workdir: Path) -> float:
    return sum(sum(v) for name, v in steps(workdir).items() if name not in ON_DEVICE)


def spared(workdir: Path) -> float:
    """Seconds that trials would have needed had each been the first of its study."""
    return sum(step.spared for trial in WorkDirectory(workdir).read_trials() for step in trial.status.steps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, help="a manifest; default: the digits example, which is made")
    parser.add_argument("--trials", type=int, help="instead of those in the manifest")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paretune-bench-") as scratch:
        folder = Path(scratch)
        study = args.study
        if study is None:
            subprocess.run([sys.executable, str(DEMO / "train.py"), str(folder)], check=True)
            # One trial at a time: with more, what is tried depends on the order in which results arrive.
            text = (DEMO / "study.yaml").read_text().replace("parallelism: 2", "parallelism: 1")
            study = folder / "study.yaml"
            study.write_text(text)
        if args.trials:
            manifest = yaml.safe_load(study.read_text())
            manifest["spec"]["budget"]["trials"] = args.trials
            study = study.with_name(f"{args.trials}-trials.yaml")
            study.write_text(yaml.safe_dump(manifest))
        cold = run(study, folder / "cold", folder / "cache")
        warm = run(study, folder / "warm", folder / "cache")
        print(f"\n{'step':40s} {'times':>6s} {'median s':>9s} {'total s':>9s}")
        for name, seconds in sorted(steps(folder / "cold").items(), key=lambda item: -sum(item[1])):
            middle = sorted(seconds)[len(seconds) // 2]
            print(f"{name:40s} {len(seconds):6d} {middle:9.3f} {sum(seconds):9.2f}")
        print(f"\nwhole study: {cold:.1f} s; with the steps cached {warm:.1f} s: ratio {warm / cold:.2f}")
        a, b = compute(folder / "cold"), compute(folder / "warm")
        alone = a + spared(folder / "cold")
        print(f"compute of its trials: {a:.1f} s; each by itself {alone:.1f} s: ratio {a / alone:.2f}")
        print(f"its compute without the benchmarks: {a:.1f} s; cached {b:.1f} s: ratio {b / a:.2f}")


if __name__ == "__main__":
    main()
