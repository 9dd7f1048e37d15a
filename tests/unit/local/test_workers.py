"""Stage processes: what they answer, and what is said when they die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paretune.local import workers
from paretune.local.workers import Call, WorkerPool
from paretune_contract.failure import Reason
from paretune_contract.stages import Result
from pydantic import BaseModel

STAGE = """
import os, signal, sys, time
from pydantic import BaseModel
from paretune_contract.failure import Reason, StageError
from paretune_contract.serving import Stage, serve
from paretune_contract.stages import Result


class Request(BaseModel):
    do: str


def run(request):
    print("printed by the stage", request.do, flush=True)
    if request.do == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if request.do == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.do == "hang":
        time.sleep(60)
    if request.do == "refuse":
        raise StageError(Reason.NO_EFFECT, "no trace of int4")
    if request.do == "fault":
        raise KeyError("surprise")
    return Result(message=f"{os.getpid()}")


serve({"test": Stage("test", Request, run)})
"""


class Request(BaseModel):
    do: str


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    (tmp_path / "paretune_test_stage.py").write_text(STAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(workers.MODULES, "test", "paretune_test_stage")
    pool = WorkerPool(tmp_path)
    yield pool
    pool.close()


def ask(pool: WorkerPool, tmp_path: Path, do: str, timeout: float = 30) -> Result:
    pool.submit(Call(do, "test", Request(do=do), tmp_path / "trial.log", (), timeout))
    while not (answers := pool.wait(0.2)):
        pass
    return answers[0][1]


def test_a_worker_answers_and_is_used_again(pool: WorkerPool, tmp_path: Path) -> None:
    first, second = ask(pool, tmp_path, "a"), ask(pool, tmp_path, "b")
    assert first.reason is None
    assert first.message == second.message  # one process id
    assert "printed by the stage a" in (tmp_path / "trial.log").read_text()


def test_a_refusal_keeps_its_reason_and_sentence(pool: WorkerPool, tmp_path: Path) -> None:
    result = ask(pool, tmp_path, "refuse")
    assert (result.reason, result.message) == (Reason.NO_EFFECT, "no trace of int4")


def test_an_unexpected_fault_is_a_result_and_its_traceback_is_in_the_log(
    pool: WorkerPool, tmp_path: Path
) -> None:
    result = ask(pool, tmp_path, "fault")
    assert result.reason is Reason.INTERNAL
    assert "Traceback" in (tmp_path / "trial.log").read_text()


@pytest.mark.parametrize(
    ("do", "reason", "word"),
    [("segfault", Reason.CRASHED, "SIGSEGV"), ("killed", Reason.OUT_OF_MEMORY, "memory")],
)
def test_a_process_that_dies_gives_the_cause_and_is_replaced(
    pool: WorkerPool, tmp_path: Path, do: str, reason: Reason, word: str
) -> None:
    result = ask(pool, tmp_path, do)
    assert result.reason is reason
    assert word in result.message
    assert ask(pool, tmp_path, "a").reason is None


def test_a_stage_that_hangs_is_ended_at_its_time(pool: WorkerPool, tmp_path: Path) -> None:
    assert ask(pool, tmp_path, "hang", timeout=1.0).reason is Reason.TIMED_OUT


def test_stage_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "paretune_test_stage.py").write_text(STAGE)
    script = f"""
import sys
from pathlib import Path
from paretune.local import workers
workers.MODULES["test"] = "paretune_test_stage"
pool = workers.WorkerPool(Path({str(tmp_path)!r}))
from pydantic import BaseModel
class Request(BaseModel):
    do: str
pool.submit(workers.Call(1, "test", Request(do="hang"), Path({str(tmp_path / "log")!r}), (), 60))
print(pool._busy[0].pid, flush=True)
pool.wait(60)
"""
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    deadline = time.monotonic() + 20
    while "hang" not in _text(tmp_path / "log") and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
