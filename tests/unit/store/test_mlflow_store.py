"""What a tracking server may answer, said by a server that says what the test wants."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.errors import BadName, NotThere, Refused
from paretune_store.mlflow_http import ARTIFACTS, MlflowServer, artifact_path
from paretune_store.mlflow_store import MlflowStore
from paretune_store.retries import Patience

LIMIT = 1_000_000
PATIENCE = Patience(attempts=3, first_pause=0.01, timeout=10)


class Tracking:
    """Answers by method; a list is used up from its beginning, and its last answer stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, bytes, dict[str, str]]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                kind = (
                    "LIST"
                    if self.command == "GET" and self.path.partition("?")[0] == ARTIFACTS
                    else self.command
                )
                outer.requests.append((kind, self.path))
                outer.headers.append(dict(self.headers.items()))
                answers = outer.answers.get(kind, [(200, b"{}", {})])
                status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
                if status == 0:  # refused before the body was read, as proxies do
                    self.close_connection = True
                    return
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, kind: str, *answers: tuple[int, bytes] | tuple[int, bytes, dict[str, str]]) -> None:
        self.answers[kind] = [
            (answer[0], answer[1], answer[2] if len(answer) > 2 else {}) for answer in answers
        ]

    def lists(self, *names: str) -> None:
        files = [{"path": name.rstrip("/"), "is_dir": name.endswith("/"), "file_size": "3"} for name in names]
        self.says("LIST", (200, json.dumps({"files": files}).encode()))

    def store(self, **credentials: str) -> MlflowStore:
        return MlflowStore(self.uri, credentials, PATIENCE)


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracking]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "of the environment")
    found = Tracking()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_credentials_go_along_and_into_no_message(tracking: Tracking) -> None:
    who = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "hunter2"}
    tracking.store(**who).list("")
    assert tracking.headers[-1]["Authorization"] == "Basic " + base64.b64encode(b"ada:hunter2").decode()
    tracking.store(**{"MLFLOW_TRACKING_TOKEN": "letmein"}).list("")
    assert tracking.headers[-1]["Authorization"] == "Bearer letmein"
    tracking.store().list("")
    assert "Authorization" not in tracking.headers[-1]
    tracking.says("GET", (401, b"no user ada with hunter2"))
    with pytest.raises(Refused, match=r"401.*MLFLOW_TRACKING_USERNAME") as caught:
        tracking.store(**who).get_bytes("a", LIMIT)
    assert "hunter2" not in str(caught.value)
    assert tracking.uri in str(caught.value)


def test_half_of_a_user_is_refused(tracking: Tracking) -> None:
    with pytest.raises(Refused, match="give both MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        tracking.store(**{"MLFLOW_TRACKING_USERNAME": "ada"})


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "--allowed-hosts 127.0.0.1:"),
        (403, b'{"error_code": "PERMISSION_DENIED"}', "of a user who may do this"),
        (
            503,
            b'{"detail": "Artifact serving is disabled. Run with `--serve-artifacts`"}',
            "keeps no artifacts",
        ),
        (503, b"disabled due to `--no-serve-artifacts`", "start it with --serve-artifacts"),
        (302, b"", "it redirects to 'https://login.example.org/'"),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid path"}', "Invalid path"),
    ],
)
def test_what_the_owner_has_to_cure_is_said_at_once(
    tracking: Tracking, status: int, body: bytes, cause: str
) -> None:
    headers = {"Location": "https://login.example.org/"} if status == 302 else {}
    for kind in ("GET", "PUT", "LIST"):
        tracking.says(kind, (status, body, headers))
    store = tracking.store()
    for method in (
        lambda: store.get_bytes("a", LIMIT),
        lambda: store.put_bytes("a", b"1"),
        lambda: store.list(""),
    ):
        before = len(tracking.requests)
        with pytest.raises(Refused) as caught:
            method()
        assert cause in str(caught.value)
        assert len(tracking.requests) - before == 1


def test_a_page_of_something_else_is_no_tracking_server(tracking: Tracking) -> None:
    tracking.says("LIST", (200, b"<html>Welcome</html>"))
    with pytest.raises(Refused, match="something else than MLflow's JSON"):
        tracking.store().list("")


def test_a_server_that_fails_for_a_moment_is_asked_again(tracking: Tracking) -> None:
    tracking.lists("a")
    tracking.says("GET", (503, b""), (200, b"half", {"Content-Length": "8"}), (200, b"complete"))
    assert tracking.store().get_bytes("a", LIMIT) == b"complete"
    tracking.says("PUT", (502, b""), (429, b""), (200, b""))
    tracking.store().put_bytes("a", b"1")
    tracking.says("PUT", (502, b"down"))
    with pytest.raises(StageError, match=r"502 Bad Gateway \(down\) \(tried 3 times\)") as caught:
        tracking.store().put_bytes("a", b"1")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def test_a_missing_file_may_be_a_500_when_a_bucket_is_behind_the_server(tracking: Tracking) -> None:
    tracking.says("GET", (500, b'{"error_code": "INTERNAL_ERROR", "message": "Not Found"}'))
    tracking.lists("other", "a/")
    with pytest.raises(NotThere):
        tracking.store().get_bytes("a", LIMIT)
    tracking.lists("a")
    with pytest.raises(StageError, match="Not Found") as caught:
        tracking.store().get_bytes("a", LIMIT)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def test_an_upload_that_is_cut_off_because_it_is_denied_says_so(tracking: Tracking, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"0" * (8 << 20))
    tracking.says("PUT", (0, b""))
    tracking.says("LIST", (401, b""))
    with pytest.raises(Refused, match="401"):
        tracking.store().put("a", tmp_path / "big")
    tracking.lists()
    with pytest.raises(StageError) as caught:
        tracking.store().put("a", tmp_path / "big")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def test_a_file_is_removed_and_a_folder_of_its_name_is_not(tracking: Tracking) -> None:
    tracking.lists("a/")
    tracking.store().delete("n/a")
    assert [kind for kind, _ in tracking.requests] == ["LIST"]
    tracking.lists("a")
    tracking.store().delete("n/a")
    assert tracking.requests[-1] == ("DELETE", f"{ARTIFACTS}/paretune/n/a")


def test_where_folders_cannot_be_removed_their_files_are(tracking: Tracking) -> None:
    tracking.lists("x", "y")
    assert tracking.store().delete_prefix("n/a") == 2
    assert [path for kind, path in tracking.requests if kind == "DELETE"] == [
        f"{ARTIFACTS}/paretune/n/a",
        f"{ARTIFACTS}/paretune/n/a/x",
        f"{ARTIFACTS}/paretune/n/a/y",
    ]


def test_all_artifacts_of_a_server_are_never_removed(tracking: Tracking) -> None:
    with pytest.raises(BadName):
        tracking.store().delete_prefix("")
    with pytest.raises(ValueError, match="all artifacts of the server"):
        MlflowServer(tracking.uri, {}).remove("", 10)
    assert tracking.requests == []


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("mlflow:5000", "expected http(s)://HOST"),
        ("ftp://mlflow", "expected http(s)://HOST"),
        ("http://", "it is no address"),
        ("http://mlflow:x", "it is no address"),
        ("http://mlflow/?a=b", "it is no address"),
        ("https://ada:hunter2@mlflow", "put them into a Secret"),
    ],
)
def test_an_address_that_is_none_is_refused(uri: str, cause: str) -> None:
    with pytest.raises(Refused) as caught:
        MlflowStore(uri, {})
    assert cause in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_ca_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    variable = "MLFLOW_TRACKING_SERVER_CERT_PATH"
    with pytest.raises(Refused, match="names no file"):
        MlflowStore("https://mlflow", {variable: str(tmp_path / "none")})
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(Refused, match="it holds no certificates"):
        MlflowStore("https://mlflow", {variable: str(tmp_path / "ca.pem")})


def test_the_path_on_the_proxy_of_an_artifact_uri() -> None:
    assert artifact_path("mlflow-artifacts:/1/models/m-1/artifacts") == "1/models/m-1/artifacts"
    assert artifact_path("mlflow-artifacts://host:5000/1/a") == "1/a"
    assert artifact_path("s3://bucket/1/a") is None
    with pytest.raises(BadName):
        artifact_path("mlflow-artifacts:/1/../../etc")
