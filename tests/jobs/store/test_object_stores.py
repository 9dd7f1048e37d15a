"""One behavior of all stores: a folder, a bucket (a fake S3), and MLflow (a real server, started once)."""

import os
import socket
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_contract.task import Store, StoreKind
from paretune_store.errors import BadName, NotThere, Refused, TooLarge
from paretune_store.mlflow_http import ARTIFACTS, MlflowServer
from paretune_store.mlflow_store import MlflowStore
from paretune_store.objects import ObjectStore
from paretune_store.remote_steps import RemoteSteps
from paretune_store.retries import Patience
from paretune_store.steps import StepCache
from paretune_store.stores import open_store
from support.fake_s3 import FakeS3
from support.mlflow_server import closed_port

KINDS = [kind.value for kind in StoreKind]
PATIENCE = Patience(attempts=3, first_pause=0.01, timeout=20.0)
LIMIT = 100_000_000
PASSWORD = "hunter2"  # noqa: S105 - of a server that this test is itself


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    match request.param:
        case "folder":
            yield opened(StoreKind.FOLDER, str(tmp_path / "claim"), tmp_path)
        case "bucket":
            s3 = FakeS3("bucket")
            s3.key = "AKIA"
            secret(
                tmp_path, AWS_ENDPOINT_URL=s3.url, AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY=PASSWORD
            )
            yield opened(StoreKind.BUCKET, "s3://bucket/deep/prefix", tmp_path, "secret")
            s3.close()
        case _:
            uri, _ = request.getfixturevalue("tracking")
            yield MlflowStore(uri, {}, PATIENCE, root=f"paretune/{uuid.uuid4().hex}")


def secret(folder: Path, **values: str) -> None:
    """A Secret as kubelet mounts it: links through `..data`."""
    data = folder / "secrets" / "secret" / "..2026_11"
    data.mkdir(parents=True)
    (data.parent / "..data").symlink_to(data.name)
    for name, value in {"AWS_REGION": "us-east-1", **values}.items():
        (data / name).write_text(value + "\n")
        (data.parent / name).symlink_to(f"..data/{name}")


def opened(kind: StoreKind, uri: str, folder: Path, credentials: str = "") -> ObjectStore:
    store = Store(kind=kind, uri=uri, credentials=credentials, study="ns/uid", steps="ns/steps")
    return open_store(store, folder / "secrets", patience=PATIENCE)


def names(store: ObjectStore, prefix: str) -> list[str]:
    return [info.name for info in store.list(prefix)]


def test_what_was_put_is_got(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"model" * 1000)
    store.put("ns/uid/candidates/a.tflite", tmp_path / "source")
    store.put_bytes("ns/uid/results/0001-compress.json", b"{}")
    store.put_bytes("ns/uid/empty", b"")
    target = tmp_path / "deep" / "target"
    store.get("ns/uid/candidates/a.tflite", target, LIMIT)
    assert target.read_bytes() == b"model" * 1000
    assert list(target.parent.iterdir()) == [target]
    assert store.get_bytes("ns/uid/results/0001-compress.json", 2) == b"{}"
    assert store.get_bytes("ns/uid/empty", 0) == b""


def test_a_large_file_comes_back_unchanged(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(21 << 20)
    (tmp_path / "source").write_bytes(data)
    store.put("steps/large.tar", tmp_path / "source")
    store.get("steps/large.tar", tmp_path / "target", LIMIT)
    assert (tmp_path / "target").read_bytes() == data
    assert [info.size for info in store.list("steps")] == [len(data)]


def test_a_second_put_replaces_the_first(store: ObjectStore) -> None:
    store.put_bytes("a/b", b"one, and longer")
    store.put_bytes("a/b", b"two")
    assert store.get_bytes("a/b", 100) == b"two"
    assert names(store, "a") == ["a/b"]


def test_names_may_have_the_signs_that_are_allowed(store: ObjectStore) -> None:
    name = "ns/_u+i=d/a,b~c@d/x-y.z_0.npy"
    store.put_bytes(name, b"1")
    assert names(store, "ns") == [name]
    assert store.get_bytes(name, 1) == b"1"
    assert store.exists(name)
    store.delete(name)
    assert not store.exists(name)


def test_what_is_not_there_is_told_apart(store: ObjectStore, tmp_path: Path) -> None:
    for _ in ("an empty store", "one with objects"):
        for name in ("a/missing", "other/missing", "missing"):
            with pytest.raises(NotThere, match=f"there is no object '{name}'"):
                store.get(name, tmp_path / "target", LIMIT)
            with pytest.raises(NotThere):
                store.get_bytes(name, LIMIT)
            assert not store.exists(name)
            store.delete(name)
        assert store.list("nowhere") == ()
        assert store.delete_prefix("nowhere") == 0
        assert not (tmp_path / "target").exists()
        store.put_bytes("a/there", b"1")


def test_a_prefix_is_no_object(store: ObjectStore) -> None:
    store.put_bytes("a/b/c", b"1")
    assert not store.exists("a/b")
    store.delete("a/b")
    assert store.exists("a/b/c")
    assert not store.exists("a/b/c/d")


def test_the_limit_holds(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("a", b"12345")
    with pytest.raises(TooLarge, match="'a' has 5 bytes; the limit is 4"):
        store.get("a", tmp_path / "target", 4)
    with pytest.raises(TooLarge):
        store.get_bytes("a", 4)
    assert not (tmp_path / "target").exists()


def test_a_list_has_all_below_a_folder_and_nothing_beside_it(store: ObjectStore) -> None:
    inside = ["a/b/1", "a/b/2", "a/b/c/3", "a/b/c/d/4", "a/b/x"]
    for name in (*inside, "a/bc/1", "a/b.txt", "z"):
        store.put_bytes(name, name.encode())
    assert names(store, "a/b") == names(store, "a/b/") == inside
    assert [info.size for info in store.list("a/b")] == [len(name) for name in inside]
    assert names(store, "") == sorted([*inside, "a/bc/1", "a/b.txt", "z"])


def test_removing_a_folder_leaves_its_neighbors(store: ObjectStore) -> None:
    for name in ("a/b/1", "a/b/c/2", "a/bc/3", "a/b.txt", "d"):
        store.put_bytes(name, b"1")
    assert store.delete_prefix("a/b") == 2
    assert names(store, "") == ["a/b.txt", "a/bc/3", "d"]
    store.put_bytes("a/b/1", b"again")
    assert store.get_bytes("a/b/1", 9) == b"again"


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\0", "a b", "a#b", "a%2e",
     ".hidden", "a/.hidden", "a/" + "b" * 201, "a/" * 600 + "b", "a\nb", "é"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_by_all_methods(store: ObjectStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(b"1")
    for method in (
        lambda: store.put(name, tmp_path / "source"),
        lambda: store.put_bytes(name, b"1"),
        lambda: store.get(name, tmp_path / "target", LIMIT),
        lambda: store.get_bytes(name, LIMIT),
        lambda: store.exists(name),
        lambda: store.delete(name),
    ):
        with pytest.raises(BadName, match="object name"):
            method()
    with pytest.raises(BadName):
        store.delete_prefix("/" if name in ("a/", "") else name)
    assert names(store, "") == []


def test_readers_see_the_old_object_or_the_new_one(store: ObjectStore, tmp_path: Path) -> None:
    """While two versions are put in turn, every read gives one of them."""
    versions = [bytes([number]) * 300_000 for number in (1, 2)]
    store.put_bytes("a", versions[0])
    stop = threading.Event()
    errors: list[Exception] = []

    def write() -> None:
        try:
            while not stop.is_set():
                for version in versions:
                    store.put_bytes("a", version)
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            assert store.get_bytes("a", LIMIT) in versions
    finally:
        stop.set()
        writer.join()
    assert errors == []
    assert names(store, "") == ["a"]


def test_steps_travel_from_one_machine_to_another(store: ObjectStore, tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights.bin").write_bytes(b"w" * 1_000_000)
        (folder / "empty").write_bytes(b"")

    one, two = StepCache(tmp_path / "one"), StepCache(tmp_path / "two")
    key = one.run("train", 1, {"epochs": 3}, produce).key
    here, there = RemoteSteps(one, store, "ns/steps"), RemoteSteps(two, store, "ns/steps")
    assert not there.pull(key)
    assert (here.push(key), here.push(key)) == (True, False)
    assert there.keys_there() == here.keys_here() == {key}
    assert there.pull(key)
    assert names(store, "ns") == [f"ns/steps/{key}.tar"]

    def never(folder: Path) -> None:
        raise AssertionError("the step ran again")

    step = two.run("train", 1, {"epochs": 3}, never)
    assert step.cached
    assert (step.folder / "deep" / "weights.bin").read_bytes() == b"w" * 1_000_000
    assert not list((tmp_path / "one" / "tmp").iterdir())
    assert not list((tmp_path / "two" / "tmp").iterdir())


def test_a_store_that_is_down_is_unavailable_after_a_bounded_time(tmp_path: Path) -> None:
    port = closed_port()
    secret(
        tmp_path,
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="AKIA",
        AWS_SECRET_ACCESS_KEY=PASSWORD,
    )
    (tmp_path / "source").write_bytes(b"1" * 1_000_000)
    for kind, uri in (
        (StoreKind.BUCKET, "s3://bucket/prefix"),
        (StoreKind.MLFLOW, f"http://127.0.0.1:{port}"),
    ):
        down = opened(kind, uri, tmp_path, "secret")
        for method in (
            lambda: down.put("a", tmp_path / "source"),  # noqa: B023
            lambda: down.get("a", tmp_path / "target", LIMIT),  # noqa: B023
            lambda: down.exists("a"),  # noqa: B023
            lambda: down.list("a"),  # noqa: B023
            lambda: down.delete("a"),  # noqa: B023
            lambda: down.delete_prefix("a"),  # noqa: B023
        ):
            with pytest.raises(StageError) as caught:
                method()
            assert caught.value.reason is Reason.STORE_UNAVAILABLE
            assert uri in caught.value.message
            assert PASSWORD not in caught.value.message


@pytest.mark.parametrize("kind", [StoreKind.BUCKET, StoreKind.MLFLOW])
def test_a_server_that_accepts_and_says_nothing_is_given_up(tmp_path: Path, kind: StoreKind) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        secret(tmp_path, AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY=PASSWORD)
        uri = url if kind is StoreKind.MLFLOW else "s3://bucket"
        task = Store(kind=kind, uri=uri, credentials="secret", study="n/u", steps="n/s")
        store = open_store(task, tmp_path / "secrets", patience=Patience(2, 0.01, 0.2))
        started = time.monotonic()
        with pytest.raises(StageError) as caught:
            store.get_bytes("a", LIMIT)
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
        assert time.monotonic() - started < 15  # two attempts of 0.2 seconds, on a busy machine


@dataclass
class HalfUpload:
    """An upload whose sender dies in the middle."""

    uri: str
    path: str
    sent: bytes = field(default=b"half")

    def perform(self) -> None:
        parts = urllib.parse.urlsplit(self.uri)
        assert parts.hostname
        assert parts.port
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            head = [
                f"PUT {ARTIFACTS}/{self.path} HTTP/1.1",
                f"Host: {parts.netloc}",
                "Content-Length: 100000",
            ]
            connection.sendall("\r\n".join([*head, "", ""]).encode() + self.sent)
            time.sleep(0.5)


def test_an_upload_that_breaks_off_leaves_nothing_in_mlflow(tracking: tuple[str, Path]) -> None:
    uri, _ = tracking
    store = MlflowStore(uri, {}, PATIENCE, root=f"paretune/{uuid.uuid4().hex}")
    store.put_bytes("a/old", b"old and whole")
    root = store._root
    for name in ("a/new", "a/old"):
        HalfUpload(uri, f"{root}/{name}").perform()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(list((tracking[1] / root / "a").iterdir())) > 1:
        time.sleep(0.1)
    assert names(store, "a") == ["a/old"]
    assert store.get_bytes("a/old", 100) == b"old and whole"
    with pytest.raises(NotThere):
        store.get_bytes("a/new", 100_000)


def test_the_root_of_mlflow_is_beside_its_experiments(tracking: tuple[str, Path], tmp_path: Path) -> None:
    uri, served = tracking
    store = opened(StoreKind.MLFLOW, uri + "/", tmp_path)
    store.put_bytes("ns/uid/a", b"1")
    assert (served / "paretune" / "ns" / "uid" / "a").read_bytes() == b"1"
    assert store.delete_prefix("ns") == 1
    assert not (served / "paretune" / "ns").exists()
    assert store.uri == uri


def test_an_unknown_host_name_is_cured_by_allowed_hosts(tracking: tuple[str, Path]) -> None:
    server = MlflowServer(tracking[0], {})
    server._headers["Host"] = "mlflow.tracking.svc:5000"
    with pytest.raises(Refused, match="--allowed-hosts"):
        server.listing("a", 20)
