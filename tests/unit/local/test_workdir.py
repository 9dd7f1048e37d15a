"""The work directory: records survive, one run at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paretune.api import Ask, OptimizationTrial, State
from paretune.api.meta import Metadata
from paretune.api.trial import TrialSpec, TrialStatus
from paretune.local.workdir import DamagedRecord, Locked, StudyState, WorkDirectory
from paretune_contract.measurement import Measurement, wilson
from paretune_contract.settings import Quantization, Scheme, Settings


def record(number: int) -> OptimizationTrial:
    return OptimizationTrial(
        metadata=Metadata(name=f"s-{number:04d}"),
        spec=TrialSpec(
            study_name="s",
            number=number,
            settings=Settings(quantization=Quantization(scheme=Scheme.INT8)),
            ask=Ask(seed=1, seen="0"),
        ),
        status=TrialStatus(
            state=State.COMPLETE,
            metrics={"accuracy": wilson(9, 10), "latency/cpu": Measurement.exact(0.00123)},
        ),
    )


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    work = WorkDirectory(tmp_path)
    work.create()
    return work


def test_a_record_is_read_as_it_was_written(work: WorkDirectory) -> None:
    for number in range(3):
        work.write_trial(record(number))
    assert work.read_trials() == (record(0), record(1), record(2))


def test_a_half_written_file_of_a_killed_run_is_not_a_record(work: WorkDirectory) -> None:
    work.write_trial(record(0))
    (work.trials_folder / ".0001.yaml.abc").write_text("kind: Opt")
    assert len(work.read_trials()) == 1


def test_a_damaged_record_is_named(work: WorkDirectory) -> None:
    work.write_trial(record(0))
    (work.trials_folder / "0001.yaml").write_text("kind: [")
    with pytest.raises(DamagedRecord, match=r"0001\.yaml"):
        work.read_trials()


def test_a_missing_number_is_named(work: WorkDirectory) -> None:
    work.write_trial(record(0))
    work.write_trial(record(2))
    with pytest.raises(DamagedRecord, match=r"0001\.yaml is missing"):
        work.read_trials()


def test_a_record_cannot_run_code(work: WorkDirectory, tmp_path: Path) -> None:
    (work.trials_folder / "0000.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(DamagedRecord):
        work.read_trials()
    assert not (tmp_path / "made").exists()


def test_a_second_run_is_refused_and_told_who_holds_the_folder(work: WorkDirectory) -> None:
    with work.locked():
        code = (
            "import sys; from pathlib import Path; from paretune.local.workdir import *\n"
            "try:\n    WorkDirectory(Path(sys.argv[1])).locked().__enter__()\n"
            "except Locked as e: print(e)"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, str(work.root)], capture_output=True, text=True, check=True
        )
    assert f"process {os.getpid()}" in out.stdout
    with work.locked():
        pass  # and it is free again


def test_the_lock_is_refused_within_one_process_too(work: WorkDirectory) -> None:
    with work.locked(), pytest.raises(Locked), work.locked():
        pass


def test_state_is_read_as_it_was_written(work: WorkDirectory) -> None:
    state = StudyState(uid="u", seed=3, notices=("a",), active_seconds=1.5)
    work.write_state(state)
    assert work.read_state() == state
