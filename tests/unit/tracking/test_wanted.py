from dataclasses import replace
from pathlib import Path

from paretune.tracking.description import RUN_ID, study_note
from paretune.tracking.headline import headline
from paretune.tracking.ledger import Logged, LoggedModel, LoggedRun
from paretune.tracking.records import TAG_LIMIT, digest_of
from paretune.tracking.wanted import Detail, Parts, Wanted, missing, wanted
from support.made_study import made_view


def everything_logged(want: Wanted) -> Logged:
    models = want.models or {}
    return Logged(
        uid="uid-1",
        experiment_id="1",
        study=LoggedRun(run_id="s", digest=want.study.digest()),
        trials={n: LoggedRun(run_id=str(n), digest=r.digest()) for n, r in want.trials.items()},
        hypervolume=len(want.hypervolume),
        files=dict(want.files),
        models={
            sha: LoggedModel(model_id=sha[:8], ready=True, version="1", digest=m.digest())
            for sha, m in models.items()
        },
        aliases=digest_of(dict(want.aliases or {})),
    )


def kinds(want: Wanted, logged: Logged) -> list[str]:
    return [task.kind for task in missing(want, logged)]


def test_nothing_is_missing_from_a_store_that_has_everything(tmp_path: Path) -> None:
    want = wanted(made_view(tmp_path, 12))
    assert kinds(want, everything_logged(want)) == []


def test_the_studys_run_comes_first_and_its_end_last(tmp_path: Path) -> None:
    tasks = kinds(wanted(made_view(tmp_path, 12)), Logged())
    assert tasks[0] == "open"
    assert tasks[-1] == "study"
    assert tasks.index("model") > tasks.index("trial")
    assert tasks.index("aliases") > tasks.index("model")


def test_a_running_study_registers_nothing_and_moves_no_alias(tmp_path: Path) -> None:
    tasks = kinds(wanted(made_view(tmp_path, 12, state="Running")), Logged())
    assert "trial" in tasks
    assert "model" not in tasks
    assert "aliases" not in tasks


def test_a_half_written_run_is_written_again(tmp_path: Path) -> None:
    want = wanted(made_view(tmp_path, 12))
    logged = everything_logged(want)
    logged = logged.model_copy(update={"trials": {**logged.trials, 4: LoggedRun(run_id="4")}})
    assert [(t.kind, t.key) for t in missing(want, logged)] == [("trial", "4")]


def test_a_model_that_left_the_front_is_retired_once(tmp_path: Path) -> None:
    want = wanted(made_view(tmp_path, 12))
    logged = everything_logged(want)
    old = LoggedModel(model_id="m", ready=True, version="9", digest="x")
    logged = logged.model_copy(update={"models": {**logged.models, "ff" * 32: old}})
    assert kinds(want, logged) == ["retire"]
    retired = logged.models | {"ff" * 32: old.model_copy(update={"digest": "retired"})}
    assert kinds(want, logged.model_copy(update={"models": retired})) == []


def test_records_alone_draw_nothing(tmp_path: Path) -> None:
    view = made_view(tmp_path, 4)
    assert wanted(view, Detail.RECORDS).files == {}
    assert "report.html" not in wanted(view, Detail.PICTURE).files
    assert {"front.json", "front.png", "front-table.json", "front.html", "report.html"} <= set(
        wanted(view).files
    )


def test_the_hypervolume_is_not_told_beyond_a_trial_that_still_runs(tmp_path: Path) -> None:
    view = made_view(tmp_path, 6, state="Running")
    trials = list(view.trials)
    trials[3] = trials[3].model_copy(
        update={"status": trials[3].status.model_copy(update={"state": "Benchmarking"})}
    )
    points = wanted(replace(view, trials=tuple(trials), uid="running-at-3")).hypervolume
    assert [p.step for p in points] == [0, 1, 2]


def test_the_description_has_headline_picture_and_table(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    note = study_note(view)
    assert headline(view).split(",")[0] in note
    assert f"run_uuid={RUN_ID}" in note
    assert "| baseline" in note
    assert "knee" in note
    assert "hunter2" not in note


def test_a_large_front_is_cut_to_what_mlflow_takes_and_says_so(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    many = view.front.model_copy(update={"front": view.front.front * 60})
    note = study_note(replace(view, front=many))
    assert len(note) + 32 <= TAG_LIMIT
    assert "more rows are in front-table.json" in note


def test_each_outcome_has_a_headline(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    none = view.front.model_copy(update={"front": ()})
    assert "download size" in headline(view)
    assert headline(replace(view, front=none)) == "Nothing feasible was found"
    assert headline(replace(view, front=none, state="Running")) == "Nothing feasible found yet"


def test_the_operators_half_has_everything_but_models(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    want = wanted(replace(view, artifacts=None, source=None), parts=Parts.RUNS)
    tasks = kinds(want, Logged())
    assert {"open", "trial", "hypervolume", "file", "study"} == set(tasks)
    assert want.trials == wanted(view).trials
    assert want.study == wanted(view).study


def test_the_publishing_half_needs_the_records_of_the_front_alone(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    front = {0, *(e.trial for e in view.front.front)}
    few = replace(view, trials=tuple(t for t in view.trials if t.number in front))
    want = wanted(few, parts=Parts.MODELS)
    assert want.models == wanted(view).models
    assert want.aliases == wanted(view).aliases
    tasks = kinds(want, Logged())
    assert {"open", "trial", "model", "aliases"} == set(tasks)
    assert tasks.count("trial") == len(view.front.front)


def test_the_publishing_half_leaves_runs_alone_that_are_there(tmp_path: Path) -> None:
    view = made_view(tmp_path, 12)
    want = wanted(view, parts=Parts.MODELS)
    runs = {n: LoggedRun(run_id=str(n), digest="of the operator") for n in range(12)}
    there = Logged(study=LoggedRun(run_id="s"), trials=runs)
    assert {"model", "aliases"} == set(kinds(want, there))
    assert kinds(wanted(replace(view, state="Running"), parts=Parts.MODELS), there) == []
