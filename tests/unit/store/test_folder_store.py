"""A folder that others may write to: nothing outside of it is read, written or removed."""

import errno
import os
from pathlib import Path

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.errors import NotThere, Refused
from paretune_store.folder_store import TEMPORARY, FolderStore
from paretune_store.retries import Patience

LIMIT = 1000


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("hunter2")
    (tmp_path / "root").mkdir()
    return FolderStore(tmp_path / "root", Patience(attempts=2, first_pause=0))


@pytest.mark.parametrize("target", ["../outside", "../outside/secret"])
def test_a_link_on_the_way_or_at_the_end_is_refused(store: FolderStore, tmp_path: Path, target: str) -> None:
    (tmp_path / "root" / "link").symlink_to(target)
    before = (tmp_path / "outside" / "secret").read_text()
    names = ["link/secret"] if target.endswith("outside") else ["link"]
    for name in names:
        for read in (lambda: store.get_bytes(name, LIMIT), lambda: store.get(name, tmp_path / "got", LIMIT)):  # noqa: B023
            with pytest.raises(Refused, match="the store follows no links") as caught:
                read()
            assert str(tmp_path / "root") in str(caught.value)
    if target.endswith("outside"):
        with pytest.raises(Refused):
            store.put_bytes("link/new", b"1")
        with pytest.raises(Refused):
            store.exists("link/secret")
        with pytest.raises(Refused):
            store.delete("link/secret")
        with pytest.raises(Refused):
            store.list("link")
    assert not (tmp_path / "got").exists()
    assert store.list("") == ()
    with pytest.raises(Refused):
        store.delete_prefix("link")
    assert [p.name for p in (tmp_path / "outside").iterdir()] == ["secret"]
    assert (tmp_path / "outside" / "secret").read_text() == before


def test_removing_a_folder_removes_links_in_it_and_not_what_they_lead_to(
    store: FolderStore, tmp_path: Path
) -> None:
    store.put_bytes("a/x", b"1")
    (tmp_path / "root" / "a" / "link").symlink_to("../../outside")
    assert store.delete_prefix("a") == 1
    assert not (tmp_path / "root" / "a").exists()
    assert (tmp_path / "outside" / "secret").exists()


def test_a_link_in_an_objects_place_is_replaced_and_not_written_through(
    store: FolderStore, tmp_path: Path
) -> None:
    (tmp_path / "root" / "a").symlink_to("../outside/secret")
    assert not store.exists("a")
    store.put_bytes("a", b"1")
    assert store.get_bytes("a", LIMIT) == b"1"
    assert (tmp_path / "outside" / "secret").read_text() == "hunter2"


def test_a_pipe_in_an_objects_place_is_no_object(store: FolderStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root" / "pipe")
    with pytest.raises(NotThere):
        store.get_bytes("pipe", LIMIT)
    assert store.list("") == ()


def test_the_root_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    FolderStore(tmp_path / "link").put_bytes("a", b"1")
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


def test_what_is_half_written_is_no_object(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer's file, and one whose writer died."""
    store.put_bytes("a/there", b"1")
    (tmp_path / "root" / "a" / f"{TEMPORARY}0123").write_bytes(b"half")
    assert [info.name for info in store.list("")] == ["a/there"]
    seen: list[list[str]] = []
    real = os.fsync

    def look(handle: int) -> None:
        seen.append([info.name for info in store.list("")])
        real(handle)

    monkeypatch.setattr("os.fsync", look)
    store.put_bytes("a/new", b"2")
    assert seen == [["a/there"], ["a/new", "a/there"]]


def test_a_full_claim_is_the_worlds_fault_and_leaves_the_old_object(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_bytes("a", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StageError, match="no space left for 'a'; enlarge the claim") as caught:
        store.put_bytes("a", b"new")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert store.get_bytes("a", LIMIT) == b"old"
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["a"]


def test_a_network_file_system_that_hangs_up_is_asked_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = os.fsync, [errno.ESTALE]

    def stale(handle: int) -> None:
        if faults:
            raise OSError(faults.pop(), "Stale file handle")
        real(handle)

    monkeypatch.setattr("os.fsync", stale)
    store.put_bytes("a", b"1")
    assert store.get_bytes("a", LIMIT) == b"1"


def test_a_claim_that_may_not_be_written_says_how_to_cure_it(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(handle: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.fsync", denied)
    with pytest.raises(Refused, match=r"is denied \(Read-only file system\); mount the claim writable"):
        store.put_bytes("a", b"1")


def test_an_object_below_an_object_is_not_there(store: FolderStore) -> None:
    store.put_bytes("a", b"1")
    assert not store.exists("a/b")
    assert store.list("a") == ()
    with pytest.raises(Refused, match="a file in place of a folder"):
        store.put_bytes("a/b", b"1")


def test_a_relative_root_is_refused() -> None:
    with pytest.raises(Refused, match="no absolute path"):
        FolderStore(Path("claim"))
