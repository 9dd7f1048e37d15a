"""A candidate's first run, in a process of its own: what crashes or hangs there harms nobody else."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from paretune_contract.failure import Reason, StageError

from .probe import REFUSED


@dataclass(frozen=True)
class FirstRun:
    """What the first run told.

    Attributes:
        peak: peak resident set of the process in bytes, Python and the runtime included.
        seconds: the first inference, loading excluded.
    """

    peak: int
    seconds: float


def first_run(path: Path, threads: int, timeout: float) -> FirstRun:
    """Load and run a .tflite once in a fresh process.

    Args:
        path: the file.
        threads: threads of the kernels.
        timeout: seconds after which the process is killed.

    Raises:
        StageError: NotRunnable with the runtime's message, Crashed, OutOfMemory or TimedOut.
    """
    command = [sys.executable, "-m", "paretune_benchmark.probe", str(path), str(threads)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise StageError(
            Reason.TIMED_OUT, f"{path.name}: loading and one inference did not end within {timeout:g} s"
        ) from None
    return outcome(path.name, done.returncode, done.stdout.decode(errors="replace"))


def outcome(name: str, status: int, output: str) -> FirstRun:
    """What the probe's exit status and output mean.

    Raises:
        StageError: when the run did not succeed.
    """
    if status == 0:
        reply = json.loads(output)
        return FirstRun(peak=int(reply["peak"]), seconds=float(reply["seconds"]))
    if status == REFUSED and output:
        raise StageError(Reason.NOT_RUNNABLE, json.loads(output)["error"])
    if status == -signal.SIGKILL:  # nobody but the kernel's out-of-memory killer sends it
        raise StageError(
            Reason.OUT_OF_MEMORY, f"{name}: the first run was killed (SIGKILL), most likely for its memory"
        )
    cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    raise StageError(Reason.CRASHED, f"{name}: the first run ended in {cause}; the log has what it printed")
