"""A stage process: requests come as JSON lines on standard input, replies leave as JSON lines.

The process outlives one request, so that imports are paid once. Whatever a stage or a native library
prints goes to the request's log file. The process ends when its parent does.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from .failure import Reason, StageError
from .stages import (
    BENCHMARK,
    COMPRESS,
    EVALUATE,
    INTAKE,
    BenchmarkResult,
    CompressResult,
    EvaluateResult,
    IntakeResult,
    Result,
)

StageFunction = Callable[[Any], Result]
PARENT = "PARETUNE_PARENT"
RESULTS: dict[str, type[Result]] = {
    INTAKE: IntakeResult,
    COMPRESS: CompressResult,
    EVALUATE: EvaluateResult,
    BENCHMARK: BenchmarkResult,
}
"""What each stage answers when it succeeds."""
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
}
"""Environment of a stage process: TensorFlow says what matters, and a crash says where."""
_PR_SET_PDEATHSIG = 1


class Stage:
    """A stage's name, its request type and the function that does it."""

    def __init__(self, name: str, request: type[BaseModel], run: StageFunction) -> None:
        self.name, self.request, self.run = name, request, run


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere stdin's end does it).

    A parent that names itself in PARETUNE_PARENT and is gone already ends the process here: nobody would.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)


def result_of(stage: str, plain: Mapping[str, Any]) -> Result:
    """A reply as a document: the stage's own where it succeeded, a plain Result where it did not.

    Raises:
        ValueError: when it is none.
    """
    kind = RESULTS.get(stage, Result) if plain.get("reason") is None else Result
    return kind.model_validate(plain)


def died(code: int) -> Result:
    """The result of a stage whose process ended without an answer.

    Args:
        code: as `subprocess.Popen.returncode` has it; negative for a signal.
    """
    if code == -signal.SIGKILL:
        return Result(
            reason=Reason.OUT_OF_MEMORY,
            message="The stage process was killed by the system, which does so when memory runs out",
        )
    try:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        name = f"signal {-code}"
    return Result(reason=Reason.CRASHED, message=f"The stage process ended with {name}")


def perform(stage: Stage, request: Mapping[str, Any]) -> Result:
    """Run one request. Never raises: what went wrong is in the result."""
    started = time.perf_counter()
    try:
        result = stage.run(stage.request.model_validate(request))
    except StageError as error:
        result = Result(reason=error.reason, message=error.message)
    except ValidationError as error:
        result = Result(reason=Reason.INTERNAL, message=f"{stage.name}: request not understood: {error}")
    except MemoryError:
        result = Result(reason=Reason.OUT_OF_MEMORY, message=f"{stage.name} ran out of memory")
    except Exception as error:  # the loop must outlive any fault of a candidate
        traceback.print_exc()
        result = Result(
            reason=Reason.INTERNAL, message=f"{stage.name}: {type(error).__name__}: {str(error)[:500]}"
        )
    return result.model_copy(update={"seconds": time.perf_counter() - started})


def serve(stages: Mapping[str, Stage]) -> None:
    """Answer requests until standard input ends.

    A request is one line: `{"id": ..., "stage": NAME, "request": {...}, "log": PATH, "cpus": [0]}`; its
    reply is `{"id": ..., "result": {...}}`.
    """
    end_with_parent()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        call = json.loads(line)
        _pin(call.get("cpus"))
        with _output_to(call.get("log")):
            result = perform(stages[call["stage"]], call["request"])
        reply = {"id": call["id"], "result": result.model_dump(mode="json", by_alias=True)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _pin(cpus: list[int] | None) -> None:
    if cpus and hasattr(os, "sched_setaffinity"):
        for task in Path("/proc/self/task").iterdir():  # threads of runtimes exist already
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), cpus)


@contextlib.contextmanager
def _output_to(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    saved = os.dup(1), os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for stream in (1, 2):
            os.dup2(file, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, original in zip((1, 2), saved, strict=True):
            os.dup2(original, stream)
            os.close(original)
        os.close(file)
