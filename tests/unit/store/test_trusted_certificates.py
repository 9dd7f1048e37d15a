"""Servers with a certificate of one's own authority, as clusters have them."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from paretune_store.bucket_store import BucketStore
from paretune_store.errors import Refused
from paretune_store.mlflow_store import MlflowStore
from paretune_store.retries import Patience
from support.certificates import Authority

PATIENCE = Patience(attempts=2, first_pause=0.01, timeout=10)
VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


class Secure(BaseHTTPRequestHandler):
    """A store that is empty, whoever asks."""

    def do_GET(self) -> None:
        body = (
            b"{}"
            if "mlflow" in self.path
            else b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return Authority(tmp_path / "ca")


@pytest.fixture
def secure(authority: Authority) -> Iterator[str]:
    certificate, key = authority.server("store", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Secure)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def bucket(url: str, **more: str) -> BucketStore:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    return BucketStore("s3://bucket", {**keys, "AWS_ENDPOINT_URL": url, **more}, PATIENCE)


def test_an_unknown_authority_is_not_trusted(secure: str) -> None:
    with pytest.raises(Refused, match=r"certificate is not trusted.*let SSL_CERT_FILE name"):
        MlflowStore(secure, {}, PATIENCE).list("")
    with pytest.raises(Refused, match=r"certificate is not trusted; let SSL_CERT_FILE or AWS_CA_BUNDLE name"):
        bucket(secure).list("")


def test_an_authority_of_the_environment_is_trusted(
    secure: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    assert MlflowStore(secure, {}, PATIENCE).list("") == ()
    assert bucket(secure).list("") == ()


def test_an_authority_of_the_secret_is_trusted(secure: str, authority: Authority) -> None:
    file = str(authority.certificate)
    assert MlflowStore(secure, {"MLFLOW_TRACKING_SERVER_CERT_PATH": file}, PATIENCE).list("") == ()
    assert bucket(secure, AWS_CA_BUNDLE=file).list("") == ()
