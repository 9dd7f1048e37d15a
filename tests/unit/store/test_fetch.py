"""From a URI to a local path: https, buckets, files, and everything that can go wrong on the way."""

import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.buckets import relative_name
from paretune_store.errors import Unreadable
from paretune_store.fetch import fetch, fetch_cached, remote_version
from paretune_store.steps import StepCache
from paretune_store.uris import locate

LIMIT = 10_000


class Server:
    """A web server and a minimal S3 at once: `files` by path, and a script of faults by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def log_message(self, *args: object) -> None:
                pass

            def answer(self, *, body: bool) -> None:
                parts = urllib.parse.urlsplit(self.path)
                path = urllib.parse.unquote(parts.path)
                outer.requests.append(f"{self.command} {path}")
                query = urllib.parse.parse_qs(parts.query)
                if fault := next(iter(outer.faults.get(path, [])), None):
                    outer.faults[path].pop(0)
                if fault and fault.isdecimal():
                    self.send_response(int(fault))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif path in outer.redirects:
                    self.send_response(302)
                    self.send_header("Location", outer.redirects[path])
                    self.end_headers()
                elif "list-type" in query:
                    self.send(outer.listing(path, query["prefix"][0]), body=body)
                elif path in outer.files:
                    self.send(outer.files[path], body=body, cut=fault == "cut")
                else:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def send(self, data: bytes, *, body: bool, cut: bool = False) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", f'"{hash(data):x}"')
                self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                self.end_headers()
                if body:
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def listing(self, bucket: str, prefix: str) -> bytes:
        start = bucket.rstrip("/") + "/"
        items = "".join(
            f"<Contents><Key>{escape(path[len(start) :])}</Key><Size>{len(data)}</Size><ETag>e</ETag>"
            "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
            for path, data in self.files.items()
            if path.startswith(start + prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_SKIP_SIGNATURE": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    server.server.shutdown()
    server.server.server_close()


def refused(uri: str, folder: Path, **more: object) -> StageError:
    with pytest.raises(StageError) as caught:
        fetch(uri, folder, limit_bytes=LIMIT, pause=lambda _: None, **more)  # type: ignore[arg-type]
    assert uri[:100] in caught.value.message
    return caught.value


def test_a_local_file_is_used_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a model.keras"
    file.write_bytes(b"12")
    downloads = tmp_path / "downloads"
    for uri in (
        str(file),
        f"file://{tmp_path}/a%20model.keras",
        f"file://localhost{tmp_path}/a%20model.keras",
    ):
        assert fetch(uri, downloads, limit_bytes=LIMIT) == file
    assert fetch(str(tmp_path), downloads, limit_bytes=LIMIT) == tmp_path
    assert not downloads.exists()


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("/nowhere/model.keras", "no such file"),
        ("/dev/null", "neither a file nor a folder"),
        ("http://example.org/m.keras", "use https://"),
        ("https://user:pass@example.org/m.keras", "user name or password"),
        ("https:///m.keras", "names no host"),
        ("ftp://example.org/m.keras", r"the scheme ftp:// is not read here; use a path, file://, https://"),
        ("file://server/share/m.keras", "with the host 'server'"),
        ("s3://bucket", "names no object"),
        ("s3://buc ket/key", "no bucket name"),
        ("a\0b", "NUL"),
    ],
)
def test_a_uri_that_cannot_be_read_is_refused_with_its_cause(tmp_path: Path, uri: str, cause: str) -> None:
    error = refused(uri, tmp_path, reason=Reason.DATA_UNREADABLE)
    assert error.reason is Reason.DATA_UNREADABLE
    assert cause in error.message


def test_too_large_a_local_file_or_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0" * (LIMIT + 1))
    assert "10,001 bytes; the limit is 10,000" in refused(str(tmp_path / "a"), tmp_path).message
    assert "10,001 bytes; the limit is 10,000" in refused(str(tmp_path), tmp_path).message


def test_a_web_file_is_downloaded(server: Server, tmp_path: Path) -> None:
    server.files["/x/m.keras"] = b"model"
    path = fetch(f"{server.url}/x/m.keras?v=1", tmp_path, limit_bytes=LIMIT)
    assert (path.name, path.parent, path.read_bytes()) == ("m.keras", tmp_path, b"model")


def test_a_server_that_fails_for_a_moment_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["/m"] = b"model" * 1000
    server.faults["/m"] = ["503", "cut"]
    path = fetch(f"{server.url}/m", tmp_path, limit_bytes=LIMIT, pause=lambda _: None)
    assert path.read_bytes() == b"model" * 1000
    assert len(server.requests) == 3


def test_a_server_that_stays_down_is_the_worlds_fault(server: Server, tmp_path: Path) -> None:
    server.faults["/m"] = ["500"] * 9
    error = refused(f"{server.url}/m", tmp_path)
    assert error.reason is Reason.STORE_UNAVAILABLE
    assert len(server.requests) == 4
    assert refused("http://127.0.0.1:9/m", tmp_path).reason is Reason.STORE_UNAVAILABLE


def test_a_missing_web_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    error = refused(f"{server.url}/none", tmp_path)
    assert (error.reason, len(server.requests)) == (Reason.MODEL_UNREADABLE, 1)
    assert "404" in error.message


def test_the_limit_holds_for_announced_and_for_received_bytes(server: Server, tmp_path: Path) -> None:
    server.files["/big"] = server.files["/b/big"] = b"0" * (LIMIT + 1)
    assert "10,001 bytes; the limit" in refused(f"{server.url}/big", tmp_path).message
    assert "10,001 bytes; the limit" in refused("s3://b/big", tmp_path).message
    server.files["/p/x/1"] = server.files["/p/x/2"] = b"0" * (LIMIT // 2 + 1)
    assert "more than the limit of 10,000 bytes" in refused("s3://p/x", tmp_path).message


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://example.org/m", "ftp://example.org/m"])
def test_a_redirect_to_an_unsafe_place_is_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.redirects["/m"] = target
    message = refused(f"{server.url}/m", tmp_path).message
    assert "edirect" in message
    assert target in message


def test_an_object_of_a_bucket_is_downloaded(server: Server, tmp_path: Path) -> None:
    server.files["/bucket/deep/m.tflite"] = b"model"
    path = fetch("s3://bucket/deep/m.tflite", tmp_path, limit_bytes=LIMIT)
    assert (path, path.read_bytes()) == (tmp_path / "m.tflite", b"model")


def test_a_prefix_of_a_bucket_becomes_a_folder(server: Server, tmp_path: Path) -> None:
    for name in ("saved_model.pb", "variables/variables.index"):
        server.files[f"/bucket/models/kws/{name}"] = name.encode()
    server.files["/bucket/models/kws_other/x"] = b"not ours"
    server.files["/bucket/models/kws/"] = server.files["/bucket/models/kws/variables/"] = b""
    for uri in ("s3://bucket/models/kws", "s3://bucket/models/kws/"):
        folder = fetch(uri, tmp_path / "d", limit_bytes=LIMIT)
        assert folder == tmp_path / "d" / "kws"
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
            "saved_model.pb",
            "variables/variables.index",
        }


def test_a_bucket_without_the_key_or_without_access_says_so(server: Server, tmp_path: Path) -> None:
    assert "neither an object nor a prefix" in refused("s3://bucket/none", tmp_path).message
    server.faults["/bucket/secret"] = ["403"] * 9
    error = refused("s3://bucket/secret", tmp_path)
    assert (error.reason, "credentials come from the environment" in error.message) == (
        Reason.MODEL_UNREADABLE,
        True,
    )


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a\\b", "a\0", "b" * 2000]
)
def test_an_object_name_that_would_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(Unreadable, match="no safe file name"):
        relative_name(f"p/{name}", "p/")


def test_the_version_of_a_remote_object_changes_with_it(server: Server, tmp_path: Path) -> None:
    server.files["/b/m"] = b"1"
    uris = (f"{server.url}/b/m", "s3://b/m")
    first = [remote_version(uri) for uri in uris]
    assert [remote_version(uri) for uri in uris] == first
    server.files["/b/m"] = b"22"
    assert all(a != b for a, b in zip(first, [remote_version(uri) for uri in uris], strict=True))
    assert remote_version(str(tmp_path)) is None


def test_the_same_version_of_a_remote_object_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    server.files["/b/m"] = b"1"
    uri = f"{server.url}/b/m"
    for text, downloads in ((b"1", 1), (b"1", 1), (b"22", 2)):
        server.files["/b/m"] = text
        assert fetch_cached(uri, StepCache(tmp_path)).read_bytes() == text
        assert server.requests.count("GET /b/m") == downloads


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://h/a/b.keras?x=/../y", "b.keras"),
        ("https://h/", "download"),
        ("https://h/%2e%2e", "download"),
        ("s3://b/..", "download"),
        ("s3://b/x y/é.npz", "_.npz"),
    ],
)
def test_the_name_of_a_download_is_a_safe_file_name(uri: str, name: str) -> None:
    assert locate(uri).name == name
