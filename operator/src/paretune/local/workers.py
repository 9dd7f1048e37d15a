"""Stage processes: started once, fed with JSON lines, replaced when they die."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paretune_contract.failure import Reason
from paretune_contract.serving import PARENT, QUIET, died, result_of
from paretune_contract.stages import (
    BENCHMARK,
    COMPRESS,
    EVALUATE,
    INTAKE,
    Result,
)
from pydantic import BaseModel

MODULES = {
    INTAKE: "paretune_compress",
    COMPRESS: "paretune_compress",
    EVALUATE: "paretune_compress",
    BENCHMARK: "paretune_benchmark",
}


@dataclass(frozen=True)
class Call:
    """One request to a stage."""

    key: Any
    stage: str
    request: BaseModel
    log: Path
    cpus: tuple[int, ...]
    timeout: float


class Stages(Protocol):
    """Where stages run. `WorkerPool` runs them as processes; tests simulate them."""

    def submit(self, call: Call) -> None:
        """Start a stage. The caller sees to it that its CPUs are free."""

    def wait(self, seconds: float) -> list[tuple[Call, Result]]:
        """Results that are there within `seconds`."""

    @property
    def busy_cpus(self) -> set[int]:
        """CPUs of the running stages."""

    def close(self) -> None:
        """End whatever runs."""


class Worker:
    """One stage process. It answers one call at a time."""

    def __init__(self, module: str, log: Path) -> None:
        self.module = module
        self.call: Call | None = None
        self._deadline = 0.0
        self._buffer = b""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **QUIET, PARENT: str(os.getpid())},
                start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def fileno(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, call: Call) -> None:
        line = json.dumps(
            {
                "id": 0,
                "stage": call.stage,
                "request": call.request.model_dump(mode="json", by_alias=True),
                "log": str(call.log),
                "cpus": list(call.cpus),
            }
        )
        self.call, self._deadline = call, time.monotonic() + call.timeout
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died before it read: `reply` says so

    def reply(self) -> Result | None:
        """The answer, once it is there; a dead or overdue process answers with a reason."""
        assert self.call is not None
        assert self._process.stdout is not None
        chunk = self._process.stdout.read()
        self._buffer += chunk or b""
        if b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            plain = json.loads(line)["result"]
            stage, self.call = self.call.stage, None
            return result_of(stage, plain)
        code = self._process.poll()
        if code is not None:
            self.call = None
            return died(code)
        if time.monotonic() > self._deadline:
            timeout = self.call.timeout
            self.kill()
            self.call = None
            return Result(
                reason=Reason.TIMED_OUT, message=f"The stage took more than {timeout:.0f} s and was ended"
            )
        return None

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and whatever it started."""
        if self.alive:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class WorkerPool:
    """Idle and busy workers. A worker that ran is used again, so that imports are paid once."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []

    def submit(self, call: Call) -> None:
        module = MODULES[call.stage]
        worker = next((w for w in self._idle if w.module == module and w.alive), None)
        if worker is None:
            worker = Worker(module, self._logs / "workers.log")
        else:
            self._idle.remove(worker)
        self._busy.append(worker)
        worker.send(call)

    def wait(self, seconds: float) -> list[tuple[Call, Result]]:
        """Replies that are there within `seconds`; an empty list is no error."""
        with selectors.DefaultSelector() as selector:
            for worker in self._busy:
                selector.register(worker.fileno, selectors.EVENT_READ)
            if self._busy:
                selector.select(seconds)
            else:
                time.sleep(min(seconds, 0.05))
        answered = []
        for worker in tuple(self._busy):
            call = worker.call
            result = worker.reply()
            if result is None or call is None:
                continue
            answered.append((call, result))
            self._busy.remove(worker)
            if worker.alive:
                self._idle.append(worker)
            else:
                worker.kill()
        return answered

    @property
    def busy_cpus(self) -> set[int]:
        return {cpu for w in self._busy if w.call for cpu in w.call.cpus}

    def close(self) -> None:
        """End all processes now."""
        for worker in (*self._busy, *self._idle):
            worker.kill()
        self._busy, self._idle = [], []


def run_alone(call: Call, logs: Path) -> Result:
    """One stage in a process of its own, which ends with it."""
    workers = WorkerPool(logs)
    try:
        workers.submit(call)
        while not (answers := workers.wait(1.0)):
            pass
    finally:
        workers.close()
    return answers[0][1]
