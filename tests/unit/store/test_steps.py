"""The step cache: done once, whole or not at all, never handed out damaged."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.steps import StepCache, step_key


def write(text: str):
    def produce(folder: Path) -> None:
        (folder / "out.txt").write_text(text)

    return produce


def never(folder: Path) -> None:
    raise AssertionError("the step ran again")


def test_a_step_runs_once(tmp_path: Path) -> None:
    first = StepCache(tmp_path).run("square", 1, {"of": [1, 2.5, "x", None]}, write("9"))
    again = StepCache(tmp_path).run("square", 1, {"of": [1, 2.5, "x", None]}, never)
    assert (first.cached, again.cached) == (False, True)
    assert first.spared == 0 < again.spared
    assert again.folder == first.folder == tmp_path / "steps" / first.key[:2] / first.key
    assert (again.folder / "out.txt").read_text() == "9"


def test_the_order_of_inputs_does_not_matter_but_name_version_and_values_do() -> None:
    key = step_key("a", 1, {"x": 1, "y": 2})
    assert key == step_key("a", 1, {"y": 2, "x": 1})
    others = [
        step_key("b", 1, {"x": 1, "y": 2}),
        step_key("a", 2, {"x": 1, "y": 2}),
        step_key("a", 1, {"x": 1}),
    ]
    assert len({key, *others}) == 4


def test_an_input_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        StepCache(tmp_path).run("a", 1, {"x": float("nan")}, never)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "out.txt").write_text("8"),
        lambda folder: (folder / "out.txt").unlink(),
        lambda folder: (folder / "more.txt").write_text("x"),
        lambda folder: (folder / "entry.json").write_text("{"),
        lambda folder: (folder / "entry.json").write_text("[]"),
        lambda folder: (folder / "entry.json").unlink(),
    ],
)
def test_a_damaged_entry_is_thrown_away_and_made_again(tmp_path: Path, damage) -> None:
    damage(StepCache(tmp_path).run("a", 1, {}, write("9")).folder)
    again = StepCache(tmp_path).run("a", 1, {}, write("9"))
    assert not again.cached
    assert sorted(p.name for p in again.folder.iterdir()) == ["entry.json", "out.txt"]
    assert StepCache(tmp_path).run("a", 1, {}, never).cached


def test_a_step_may_write_subfolders(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "a.bin").write_bytes(b"1")

    StepCache(tmp_path).run("a", 1, {}, produce)
    assert (StepCache(tmp_path).run("a", 1, {}, never).folder / "deep" / "er" / "a.bin").read_bytes() == b"1"


def test_a_failure_that_follows_from_the_inputs_is_cached_with_its_cause(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise StageError(Reason.STEP_FAILED, "the quantizer refused CONV_2D")

    for attempt in (produce, never):
        with pytest.raises(StageError, match="the quantizer refused CONV_2D") as caught:
            StepCache(tmp_path).run("a", 1, {}, attempt)
        assert caught.value.reason is Reason.STEP_FAILED


@pytest.mark.parametrize(
    "error",
    [
        StageError(Reason.STORE_UNAVAILABLE, "down"),
        StageError(Reason.TIMED_OUT, "slow today"),
        StageError(Reason.OUT_OF_MEMORY, "full today"),
        RuntimeError("a bug"),
    ],
)
def test_other_failures_leave_nothing_behind(tmp_path: Path, error: Exception) -> None:
    def produce(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(type(error)):
        StepCache(tmp_path).run("a", 1, {}, produce)
    assert not list((tmp_path / "tmp").iterdir())
    assert not StepCache(tmp_path).run("a", 1, {}, write("9")).cached


def test_a_full_disk_is_the_worlds_fault(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StageError, match="no space left for step 'a'") as caught:
        StepCache(tmp_path).run("a", 1, {}, produce)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def _append_and_wait(root: Path, log: Path) -> None:
    def produce(folder: Path) -> None:
        with log.open("a") as file:
            file.write("ran\n")
        time.sleep(0.2)
        (folder / "out.txt").write_text("9")

    StepCache(root).run("slow", 1, {}, produce)


def test_equal_steps_of_several_processes_run_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_and_wait, args=(tmp_path / "c", log)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "ran\n"


def _killed_in_the_middle(root: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "half").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)

    StepCache(root).run("a", 1, {}, produce)


def test_a_killed_writer_leaves_no_entry_and_gc_cleans_up_after_it(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed_in_the_middle, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    cache = StepCache(tmp_path)
    assert cache.size() == 0
    cache.gc(10**9)
    assert not list((tmp_path / "tmp").iterdir())
    assert not cache.run("a", 1, {}, write("9")).cached


def test_the_next_writer_also_cleans_up_after_a_killed_one(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed_in_the_middle, args=(tmp_path,))
    process.start()
    process.join()
    StepCache(tmp_path).run("a", 1, {}, write("9"))
    assert not list((tmp_path / "tmp").iterdir())


def test_gc_leaves_a_step_that_is_being_made(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "out.txt").write_text("9")
        StepCache(tmp_path).gc(0)

    assert (StepCache(tmp_path).run("a", 1, {}, produce).folder / "out.txt").exists()


def test_gc_removes_what_was_not_used_for_the_longest_time(tmp_path: Path) -> None:
    steps = {}
    for age, name in ((30, "old"), (20, "used"), (10, "new")):
        steps[name] = StepCache(tmp_path).run(name, 1, {}, write("x" * 1000))
        os.utime(steps[name].folder / "entry.json", (time.time() - age,) * 2)
    StepCache(tmp_path).run("used", 1, {}, never)
    cache = StepCache(tmp_path)
    before = cache.size()
    report = cache.gc(before - 1)
    assert (report.removed, report.kept_bytes) == (1, cache.size())
    assert report.freed == before - cache.size() > 1000
    assert not steps["old"].folder.exists()
    cache.gc(cache.size() - 1)
    assert [name for name in steps if steps[name].folder.exists()] == ["used"]


def test_gc_removes_neither_steps_in_use_nor_those_to_keep(tmp_path: Path) -> None:
    user = StepCache(tmp_path)
    used = user.run("used", 1, {}, write("u"))
    kept = StepCache(tmp_path).run("kept", 1, {}, write("k"))
    gone = StepCache(tmp_path).run("gone", 1, {}, write("g"))
    assert StepCache(tmp_path).gc(0, {kept.key}).removed == 1
    assert (used.folder.exists(), kept.folder.exists(), gone.folder.exists()) == (True, True, False)
    user.close()
    assert StepCache(tmp_path).gc(0).removed == 2
    assert not list((tmp_path / "locks").glob("*/*"))


def test_the_keys_of_paths_are_those_of_the_entries_they_lie_in(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    step = cache.run("a", 1, {}, write("9"))
    assert cache.keys_of([step.folder, step.folder / "out.txt", tmp_path, "/elsewhere"]) == {step.key}
