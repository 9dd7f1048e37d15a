"""Kill the operator with SIGKILL at random points of a study, on a control plane of our own.

    python tests/soak/kill_operator.py --parallelism 1
    python tests/soak/kill_operator.py --parallelism 4 --times 30

Stages are simulated. After each kill every trial must be the one it was, and every finished one unchanged.
At the end a last operator finishes the study: its trials are numbered without gaps, no settings and no stage
are there twice, the search replays; and with --parallelism 1 it has asked for the very trials of a run
without kills.
`make controlplane` must have been run before.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.api_server import ApiServer
from support.controlplane import ControlPlane, install_definitions
from support.killed_operator import Kill, KilledStudy, killed_study, moments

NAMESPACE = "default"


def line(number: int, kill: Kill) -> str:
    """One kill in a line."""
    states = Counter(kill.unfinished.values())
    busy = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none between"
    faults = f"; FAULTS: {'; '.join(kill.faults)}" if kill.faults else ""
    return (
        f"kill {number:2d}: after {kill.seconds:4.2f} s, {kill.known:3d} trials, {kill.finished:3d} finished"
        f", {busy}{faults}"
    )


def under_fire(study: KilledStudy, args: argparse.Namespace) -> bool:
    """Kill, finish and judge; whether all is well."""
    kills: list[Kill] = []
    for seconds in islice(moments(args.parallelism, args.shortest, args.longest), args.times):
        kills.append(study.kill_after(seconds))
        print(line(len(kills), kills[-1]), flush=True)
        if study.complete():
            print(
                f"the study was complete after {len(kills)} kills: more --trials leave room for all",
                flush=True,
            )
            break
    faults = [fault for kill in kills for fault in kill.faults]
    at_the_end = study.run_to_the_end()
    print(
        f"end: {len(kills)} kills, {len(kills) + 1} starts, {args.trials} trials, {len(study.ran)} stages ran"
    )
    replay = [fault for fault in at_the_end if fault.startswith("replay")]
    other = [*faults, *(fault for fault in at_the_end if fault not in replay)]
    print(f"lost, repeated, renumbered or changed: {'; '.join(other) or 'nothing'}")
    print(f"replay: {'; '.join(replay) or 'every suggestion matches'}")
    differs: tuple[str, ...] = ()
    if args.parallelism == 1:
        differs = study.differences()
        print(f"compared with a run without kills: {'; '.join(differs) or 'the very same trials'}")
    return not other and not replay and not differs and len(kills) == args.times


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=30, help="kills (default: 30)")
    parser.add_argument("--parallelism", type=int, default=1, help="of the study (default: 1)")
    parser.add_argument("--trials", type=int, help="of the study (default: enough for all kills)")
    parser.add_argument("--seed", type=int, default=7, help="of the search (default: 7)")
    parser.add_argument("--shortest", type=float, default=0.2, help="seconds to the earliest kill (0.2)")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds to the latest kill (3.0)")
    args = parser.parse_args()
    args.trials = args.trials or args.times * (2 if args.parallelism == 1 else 4)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="paretune-kill-operator-") as folder,
        ControlPlane(Path(folder) / "controlplane") as plane,
        ApiServer(plane.kubeconfig) as api,
    ):
        install_definitions(plane.kubeconfig)
        options = {"parallelism": args.parallelism, "count": args.trials, "seed": args.seed}
        with killed_study(api, NAMESPACE, Path(folder) / "study", **options) as study:
            well = under_fire(study, args)
    print(f"{'well' if well else 'NOT WELL'} after {time.monotonic() - began:.0f} s")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
