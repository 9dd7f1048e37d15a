"""Files that are there whole or not at all."""

import hashlib
from pathlib import Path

import pytest
from paretune_store.files import atomic_copy, atomic_write, folder_bytes, sha256_file, sha256_folder


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.json"
    atomic_write(file, "one")
    atomic_write(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x"
    atomic_write(file, "one")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write(file, "two")
    assert (file.read_text(), list(tmp_path.iterdir())) == ("one", [file])


def test_a_copy_has_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    atomic_copy(tmp_path / "a", tmp_path / "b" / "c")
    assert sha256_file(tmp_path / "b" / "c") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_the_digest_of_a_folder_changes_with_names_and_bytes(tmp_path: Path) -> None:
    digests = set()
    for name, files in {"a": {"x": "1"}, "b": {"x": "2"}, "c": {"y": "1"}, "d": {"x": "1", "y": ""}}.items():
        for file, text in files.items():
            atomic_write(tmp_path / name / file, text)
        digests.add(sha256_folder(tmp_path / name))
    assert len(digests) == 4
    assert folder_bytes(tmp_path) == 4


def test_a_linked_file_counts_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").symlink_to(tmp_path / "elsewhere")
    before = sha256_folder(tmp_path / "folder")
    (tmp_path / "elsewhere").write_text("2")
    assert sha256_folder(tmp_path / "folder") != before
