"""Packed steps: whole, of their key, and without a way out of their folder."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.errors import NotThere, TooLarge
from paretune_store.folder_store import FolderStore
from paretune_store.remote_steps import RemoteSteps, pack
from paretune_store.steps import StepCache, step_key

KEY = step_key("a", 1, {})


def produce(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "b.bin").write_bytes(b"2" * 700)
    (folder / "a.txt").write_text("1")


def never(folder: Path) -> None:
    raise AssertionError("the step ran again")


class Two:
    """A cache on each of two machines, and the store between them."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "store")
        self.here, self.there = StepCache(folder / "here"), StepCache(folder / "there")
        self.reports: list[str] = []
        self.push = RemoteSteps(self.here, self.store, "ns/steps", **options).push
        self.remote = RemoteSteps(self.there, self.store, "ns/steps", report=self.reports.append, **options)
        self.pull = self.remote.pull

    def offer(self, data: bytes, key: str = KEY) -> None:
        self.store.put_bytes(f"ns/steps/{key}.tar", data)

    def leftovers(self) -> list[Path]:
        return [
            path
            for path in (self.folder / "there").rglob("*")
            if path.is_file() and path.parts[-3] != "locks"
        ]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def entry(files: dict[str, bytes], **changes: object) -> bytes:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    document = {
        "key": KEY,
        "name": "a",
        "version": 1,
        "inputs": {},
        "files": digests,
        "seconds": 1,
        **changes,
    }
    return json.dumps(document).encode()


def member(name: str, data: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in changes.items():
        setattr(info, attribute, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def one(name: str = "0", *, form: int = tarfile.USTAR_FORMAT, **changes: object) -> bytes:
    """A step of one empty file, whose header has the given changes."""
    return tar(member("entry.json", entry({"a": b""})), member(name, **changes), form=form)


def packed(files: dict[str, bytes], **changes: object) -> bytes:
    return tar(
        member("entry.json", entry(files, **changes)),
        *(member(str(number), files[name]) for number, name in enumerate(sorted(files))),
    )


def test_a_step_comes_back_as_it_was(two: Two) -> None:
    two.here.run("a", 1, {}, produce)
    assert two.push(KEY)
    assert two.pull(KEY)
    step = two.there.run("a", 1, {}, never)
    assert (step.cached, (step.folder / "deep" / "b.bin").read_bytes()) == (True, b"2" * 700)
    assert two.reports == []
    assert two.pull(KEY)


def test_the_same_entry_gives_the_same_bytes(two: Two, tmp_path: Path) -> None:
    folder = two.here.run("a", 1, {}, produce).folder
    texts = []
    for _ in range(2):
        buffer = io.BytesIO()
        pack(folder, buffer)
        texts.append(buffer.getvalue())
        (folder / "a.txt").touch()
        (folder / "a.txt").chmod(0o600)
    assert texts[0] == texts[1]
    with tarfile.open(fileobj=io.BytesIO(texts[0])) as file:
        assert file.getnames() == ["entry.json", "0", "1"]


def test_a_failure_that_is_kept_travels_too(two: Two) -> None:
    def fail(folder: Path) -> None:
        raise StageError(Reason.STEP_FAILED, "the quantizer refused CONV_2D")

    with pytest.raises(StageError):
        two.here.run("a", 1, {}, fail)
    assert two.push(KEY)
    assert two.pull(KEY)
    with pytest.raises(StageError, match="the quantizer refused CONV_2D"):
        two.there.run("a", 1, {}, never)


GOOD = {"a.txt": b"1", "deep/b": b"22"}


def test_a_step_that_somebody_else_packed_is_taken(two: Two) -> None:
    two.offer(packed(GOOD))
    assert two.pull(KEY)
    assert (two.there.run("a", 1, {}, never).folder / "deep" / "b").read_bytes() == b"22"


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: b"", "no header"),
        (lambda: b"no tar at all" * 100, "no header"),
        (lambda: packed(GOOD)[:1500], "no header|in the middle"),
        (lambda: tar(member("entry.json", b"{")), "entry.json is damaged"),
        (lambda: tar(member("entry.json", b"[]")), "entry.json is damaged"),
        (lambda: tar(member("entry.json", b"[" * 100_000)), "entry.json is damaged"),
        (lambda: tar(member("0", b"1")), "in place of the plain file 'entry.json'"),
        (lambda: packed(GOOD)[:3072] + tar(member("2", b"more")), "more files"),
        (lambda: tar(member("entry.json", entry({}))) [:1024] + tar(member("x", b"1")), "more files"),
        (lambda: tar(member("entry.json", entry({"a": b"1"})), member("0", b"2")), "not whole"),
        (lambda: packed(GOOD, key="0" * 64), "another step's"),
        (lambda: packed(GOOD, name="b"), "another step's"),
        (lambda: packed(GOOD, inputs={"x": 1}), "another step's"),
        (lambda: packed({}, failure={"reason": "TimedOut", "message": "x"}), "a kind that is not kept"),
        (lambda: packed({}, failure={"reason": "Nonsense", "message": "x"}), "not whole"),
        (lambda: packed({}, failure={"reason": "StepFailed"}), "damaged"),
        (lambda: packed({"../../escaped": b"1"}), "names the file '../../escaped'"),
        (lambda: packed({"/tmp/escaped": b"1"}), "names the file '/tmp/escaped'"),  # noqa: S108
        (lambda: packed({"a//b": b"1"}), "names the file"),
        (lambda: packed({"a\0b": b"1"}), "names the file"),
        (lambda: packed({"x" * 300: b"1"}), "names the file"),
        (lambda: packed({"entry.json": b"1"}), "names the file 'entry.json'"),
        (lambda: packed({"a": b"1", "a/b": b"2"}), "share the name"),
        (lambda: one(type=tarfile.SYMTYPE, linkname="/etc"), "of type b'2' in place of the plain file"),
        (lambda: one(type=tarfile.LNKTYPE, linkname="/etc/x"), "of type b'1'"),
        (lambda: one(type=tarfile.DIRTYPE), "of type b'5'"),
        (lambda: one(type=tarfile.CHRTYPE), "of type b'3'"),
        (lambda: one(mtime=0.5, form=tarfile.PAX_FORMAT), "of type b'x'"),
        (lambda: one("../0"), "'../0'"),
    ],
)  # fmt: skip
def test_what_is_no_whole_step_of_this_key_counts_as_not_there(
    two: Two, tmp_path: Path, make: Callable[[], bytes], cause: str
) -> None:
    two.offer(make())
    assert two.pull(KEY) is False
    (report,) = two.reports
    assert report.startswith(f"{two.store.uri}: ns/steps/{KEY}.tar counts as not there: ")
    assert any(text in report for text in cause.split("|")), report
    assert two.leftovers() == []
    assert not list(tmp_path.rglob("escaped"))
    assert two.there.keys() == set()
    assert not two.there.run("a", 1, {}, produce).cached


def test_a_step_that_is_not_there_is_no_damage(two: Two) -> None:
    assert two.pull(KEY) is False
    assert two.reports == []
    assert two.leftovers() == []
    with pytest.raises(NotThere):
        two.push(KEY)


def test_a_step_above_the_limit_travels_in_neither_direction(tmp_path: Path) -> None:
    two = Two(tmp_path, limit_bytes=5000)
    two.here.run("a", 1, {}, lambda folder: (folder / "x").write_bytes(b"1" * 5000) and None)
    with pytest.raises(TooLarge):
        two.push(KEY)
    two.offer(b"0" * 5001)
    assert two.pull(KEY) is False
    assert "the limit is 5,000" in two.reports[0]


def test_a_step_of_the_cache_is_not_replaced(two: Two) -> None:
    two.there.run("a", 1, {}, produce)
    two.offer(packed({"other": b"1"}))
    assert two.pull(KEY)
    assert (two.there.run("a", 1, {}, never).folder / "a.txt").exists()


def test_what_is_no_key_is_refused(two: Two) -> None:
    for key in ("", "../x", "A" * 64, "0" * 63):
        for method in (two.pull, two.push):
            with pytest.raises(ValueError, match="64 hexadecimal digits"):
                method(key)


def test_keys_of_the_store_are_those_of_packed_steps(two: Two) -> None:
    two.offer(b"1")
    two.store.put_bytes("ns/steps/note.txt", b"1")
    assert two.remote.keys_there() == {KEY}
    assert two.remote.keys_here() == set()
