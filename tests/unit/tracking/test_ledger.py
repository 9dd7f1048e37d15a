from pathlib import Path

from paretune.tracking.ledger import Ledger, Logged, LoggedRun, read_ledger, write_ledger


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    logged = Logged(uid="u", experiment_id="1", trials={3: LoggedRun(run_id="r", digest="d")}, hypervolume=4)
    write_ledger(tmp_path / "tracking.json", "store", logged)
    assert read_ledger(tmp_path / "tracking.json").stores == {"store": logged}


def test_stores_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    write_ledger(path, "one", Logged(uid="a"))
    write_ledger(path, "two", Logged(uid="b"))
    assert {k: v.uid for k, v in read_ledger(path).stores.items()} == {"one": "a", "two": "b"}


def test_a_missing_or_damaged_ledger_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    assert read_ledger(path) == Ledger()
    path.write_text('{"stores": {"a"')
    assert read_ledger(path) == Ledger()
