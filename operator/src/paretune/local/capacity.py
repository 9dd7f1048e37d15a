"""What this machine can do at once."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..plan.observed import Capacity

WORKER_MEMORY = 2 * 2**30
"""A compress worker that trains holds TensorFlow (0.6 GiB), the model and batches: 1.6 GiB seen."""


def capacity(
    parallelism: int, threads: Mapping[str, int], cores: int, memory: int
) -> tuple[Capacity, tuple[str, ...]]:
    """Hold the study's parallelism to cores and memory.

    Args:
        parallelism: what the study asks for.
        threads: threads of each pool.
        cores: cores of this process.
        memory: bytes that are free now.

    Returns:
        The capacity, and a sentence for each thing that had to give way.
    """
    notices: list[str] = []
    by_memory = max(1, memory // WORKER_MEMORY)
    held = max(1, min(parallelism, cores, by_memory))
    if held < parallelism:
        why = f"{cores} cores" if cores <= by_memory else f"{memory / 2**30:.1f} GiB of free memory"
        notices.append(f"budget.parallelism {parallelism} is held to {held}: this machine has {why}.")
    return Capacity(held, cores, max(1, cores // held), dict(threads)), tuple(notices)


def cores_here() -> tuple[int, ...]:
    """CPUs that this process may use, less what a container's quota takes away."""
    allowed = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )
    quota = _cgroup_cpus()
    return tuple(allowed[: max(1, int(quota))] if quota else allowed)


def free_memory() -> int:
    """Bytes that can be had without swapping (Linux MemAvailable); elsewhere all of it."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))


def _cgroup_cpus() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None
