"""A stage in a process of its own: whatever becomes of it, there is a result."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from paretune_contract.failure import Reason
from paretune_contract.serving import PARENT, QUIET, died
from paretune_contract.stages import Result
from paretune_contract.task import TASK

from ..files import atomic_write
from .results import LIMIT, parsed

LINES, LINE_BYTES = 200, 4000
"""What is kept of a stage's output: its last lines, each cut."""
_PATIENCE = 5.0


def perform(module: str, stage: str, request: Mapping[str, Any], log: Path, threads: int) -> Result:
    """Let `python -m MODULE` perform one request (`paretune_contract.serving`).

    Its output goes to this process's standard error, and the last lines of it to the file `log`.

    Args:
        module: of the stage.
        stage: its name.
        request: as plain data.
        log: file for the last LINES lines.
        threads: of the libraries that read environment variables for it.
    """
    call = {"id": 0, "stage": stage, "request": request, "log": None, "cpus": None}
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(threads),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    tail: deque[bytes] = deque(maxlen=LINES)
    copying = threading.Thread(target=_copy, args=(process.stderr, tail), daemon=True)
    copying.start()
    try:
        _first_to_go(process.pid)
        with contextlib.suppress(BrokenPipeError):  # it died before it read; its exit code says so
            process.stdin.write(json.dumps(call).encode() + b"\n")
            process.stdin.close()
        reply = process.stdout.readline(LIMIT)
        if reply.endswith(b"\n"):
            result = _understood(stage, reply)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
        elif len(reply) >= LIMIT:
            result = Result(
                reason=Reason.CRASHED, message=f"The stage's answer is longer than {LIMIT:,} bytes"
            )
        else:
            result = died(process.wait())
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        copying.join(_PATIENCE)
        atomic_write(log, b"".join(tuple(tail)))
    return result


def _understood(stage: str, reply: bytes) -> Result:
    try:
        return parsed(stage, json.loads(reply)["result"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = " ".join(str(error).split())[:500]
        return Result(reason=Reason.CRASHED, message=f"The stage's answer is not understood: {text}")


def _copy(output: IO[bytes], tail: deque[bytes]) -> None:
    while line := output.readline(LINE_BYTES):
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        tail.append(line if line.endswith(b"\n") else line + b"\n")


def _environment(threads: int) -> dict[str, str]:
    """Quiet, with few threads, and writing to the temporary folder alone: all else may be read-only."""
    environment = {**os.environ, **QUIET, PARENT: str(os.getpid())}
    environment.pop(TASK, None)
    home = environment.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        home = environment["HOME"] = tempfile.gettempdir()
        environment.setdefault("XDG_CACHE_HOME", f"{home}/.cache")
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ):
        environment[name] = str(threads)
    return environment


def _first_to_go(pid: int) -> None:
    """Where memory runs out, the kernel shall end the stage and not the one who reports it."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
