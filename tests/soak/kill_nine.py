"""Kill a study with SIGKILL at random points and see that nothing is lost, repeated or different.

    uv run python tests/soak/kill_nine.py STUDY.yaml --workdir DIR --times 10

Between kills it checks that every finished trial is as it was, and that no stage process outlives its parent.
At the end the study runs to its end and is replayed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from paretune.api import OptimizationTrial
from paretune.local.workdir import WorkDirectory


def finished(work: WorkDirectory) -> dict[int, OptimizationTrial]:
    trials = work.read_trials() if work.trials_folder.exists() else ()
    return {t.number: t for t in trials if t.final}


def as_searched(trial: OptimizationTrial) -> OptimizationTrial:
    """The record without the rounds after the search, which alone may join a final trial."""
    return trial.model_copy(update={"status": trial.status.model_copy(update={"final": None})})


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shortest", type=float, default=1.0, help="seconds until the earliest kill")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds until the latest kill")
    args = parser.parse_args()
    work, draw = WorkDirectory(args.workdir), random.Random(args.seed)
    command = [sys.executable, "-m", "paretune.cli", "run", str(args.study), "--workdir", str(args.workdir)]
    before: dict[int, OptimizationTrial] = {}
    for kill in range(args.times):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not finished(work) and process.poll() is None:
            time.sleep(0.2)  # the first kill comes when there is something to lose
        wait = draw.uniform(args.shortest, args.longest)
        try:
            code = process.wait(wait)
            print(f"kill {kill + 1}: the study ended by itself with {code} before {wait:.1f} s")
            break
        except subprocess.TimeoutExpired:
            children = descendants(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
        deadline = time.monotonic() + 10
        while any(alive(p) for p in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [p for p in children if alive(p)]
        now = finished(work)
        changed = [n for n, trial in before.items() if now.get(n) != trial]
        print(
            f"kill {kill + 1}: after {wait:4.1f} s, {len(now):3d} trials finished, "
            f"{len(children)} processes ended"
            f"{f', STILL ALIVE {left}' if left else ''}{f', LOST OR CHANGED {changed}' if changed else ''}",
            flush=True,
        )
        if left or changed:
            return 1
        before = now
    code = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    ).returncode
    trials = work.read_trials()
    changed = [n for n, trial in before.items() if as_searched(trial) != as_searched(trials[n])]
    digests = [t.settings.digest() for t in trials]
    print(
        f"end: exit {code}, {len(trials)} trials, {len(set(digests))} distinct settings, "
        f"changed: {changed or 'none'}"
    )
    replay = subprocess.run([sys.executable, "-m", "paretune.cli", "replay", str(args.workdir)], check=False)
    return int(
        bool(changed) or len(set(digests)) != len(trials) or replay.returncode != 0 or code not in (0, 3)
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
