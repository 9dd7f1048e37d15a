"""Requests to an MLflow tracking server, without its client.

https://mlflow.org/docs/latest/rest-api.html and, for artifacts, the proxy that `mlflow server
--serve-artifacts` is.
"""

import base64
import contextlib
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from .credentials import Credentials, ca_file, environment, hidden
from .credentials import tls as tls_of
from .errors import NetworkFault, Refused, TooLarge
from .objects import check_name

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
WORKSPACE = "X-MLFLOW-WORKSPACE"
_ANSWER_LIMIT = 256 << 20
_TEMPORARY = (408, 425, 429)
_TLS_VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH",)


class Missing(Exception):
    """The server says 404."""


class ServerFault(NetworkFault):
    """The server says 500, which some artifact stores behind MLflow also do for a missing file."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows none: credentials would travel along, and an upload would not."""

    def redirect_request(self, *_: object) -> None:
        return None


class MlflowServer:
    """A tracking server.

    Args:
        uri: its address, http:// or https://, with the path below which it is served, if any.
        credentials: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD; MLFLOW_WORKSPACE;
            MLFLOW_TRACKING_SERVER_CERT_PATH. None: from the environment.

    Raises:
        Refused: the address is none, or credentials are not complete.
    """

    def __init__(self, uri: str, credentials: Credentials | None) -> None:
        self.uri = checked_address(uri)
        self._credentials = environment("MLFLOW_") if credentials is None else credentials
        self._headers = {"User-Agent": "paretune", "Accept-Encoding": "identity", **self._authorization()}
        if workspace := self._credentials.get("MLFLOW_WORKSPACE"):
            self._headers[WORKSPACE] = workspace
        handlers: list[urllib.request.BaseHandler] = [_Redirects()]
        if self.uri.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=tls_of(self._credentials, *_TLS_VARIABLES)))
        self._opener = urllib.request.build_opener(*handlers)

    def _authorization(self) -> dict[str, str]:
        token = self._credentials.get("MLFLOW_TRACKING_TOKEN", "")
        name = self._credentials.get("MLFLOW_TRACKING_USERNAME", "")
        password = self._credentials.get("MLFLOW_TRACKING_PASSWORD", "")
        if bool(name) != bool(password):
            cure = "give both MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            raise Refused(self.uri, "one of user name and password is missing", cure)
        if name:  # as MLflow's client: a user comes before a token
            return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
        if token:
            if "\n" in token or "\r" in token:
                raise Refused(
                    self.uri, "MLFLOW_TRACKING_TOKEN has more than one line", "store the token alone"
                )
            return {"Authorization": f"Bearer {token}"}
        return {}

    # --- artifacts ------------------------------------------------------------------------------------------

    def upload(self, path: str, body: BinaryIO | bytes, size: int, timeout: float) -> None:
        """PUT a file of `size` bytes; the server answers when it is stored whole.

        Raises:
            NetworkFault, Refused: see `opened`.
        """
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self.opened("PUT", self._artifact(path), timeout, body=body, headers=headers) as response:
            response.read(_ANSWER_LIMIT)

    @contextlib.contextmanager
    def download(self, path: str, timeout: float) -> Iterator[http.client.HTTPResponse]:
        """The response with a file as its body.

        Raises:
            Missing, NetworkFault, Refused: see `opened`.
        """
        with self.opened("GET", self._artifact(path), timeout) as response:
            yield response

    def listing(self, path: str, timeout: float) -> list[tuple[str, bool, int]]:
        """What lies directly in a folder: names, whether they are folders, sizes; nothing for a missing one.

        Raises:
            NetworkFault, Refused: see `opened`.
        """
        try:
            answer = self.json("GET", ARTIFACTS, {"path": path} if path else {}, timeout)
        except Missing:
            return []
        found = []
        for file in answer.get("files", []):
            name, is_folder = str(file["path"]).rsplit("/", 1)[-1], bool(file.get("is_dir", False))
            found.append((name, is_folder, int(file.get("file_size") or 0)))
        return found

    def remove(self, path: str, timeout: float) -> None:
        """DELETE a file, or a folder with all that is in it.

        Raises:
            ValueError: for an empty path, which MLflow would take for everything.
            NetworkFault, Refused: see `opened`.
        """
        if not path:
            raise ValueError("an empty path would remove all artifacts of the server")
        with (
            contextlib.suppress(Missing),
            self.opened("DELETE", self._artifact(path), timeout) as response,
        ):
            response.read(_ANSWER_LIMIT)

    @staticmethod
    def _artifact(path: str) -> str:
        return f"{ARTIFACTS}/{urllib.parse.quote(path)}"

    # --- requests -------------------------------------------------------------------------------------------

    def json(self, method: str, route: str, query: Mapping[str, str], timeout: float) -> dict[str, Any]:
        """The answer of a route as JSON.

        Raises:
            Missing, NetworkFault, Refused: see `opened`.
        """
        if query:
            route += "?" + urllib.parse.urlencode(query)
        with self.opened(method, route, timeout) as response:
            text = response.read(_ANSWER_LIMIT)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            cure = "name the address of the tracking server itself, not of a page before it"
            raise Refused(self.uri, "it answers with something else than MLflow's JSON", cure)
        return answer

    @contextlib.contextmanager
    def opened(
        self,
        method: str,
        route: str,
        timeout: float,
        *,
        body: BinaryIO | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The response to a request.

        Args:
            method: of HTTP.
            route: path and query below the server's address.
            timeout: seconds that the server may be silent.
            body: what is sent.
            headers: beside those of every request.

        Raises:
            Missing: 404.
            NetworkFault: it was not reached, the connection broke, or it asks to try again.
            Refused: anything else that is no success.
        """
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.uri + route, data=body, method=method, headers={**self._headers, **(headers or {})}
        )
        try:
            with self._opener.open(request, timeout=timeout) as response:
                yield response
        except urllib.error.HTTPError as error:
            with error:
                self._explain(error, route)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise self._untrusted(error.reason) from error
            raise NetworkFault(f"not reached: {error.reason}") from error
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise NetworkFault(f"the connection broke: {error or type(error).__name__}") from error

    def _explain(self, error: urllib.error.HTTPError, route: str) -> None:
        text = self._text_of(error)
        said = f"the server answered {error.code} {error.reason}" + (f" ({text})" if text else "")
        if error.code == 503 and "serve-artifacts" in text:
            cure = "start it with --serve-artifacts, or choose another store"
            raise Refused(self.uri, "the tracking server keeps no artifacts", cure) from error
        if error.code == 404 and (route.startswith(ARTIFACTS) or "RESOURCE_DOES_NOT_EXIST" in text):
            raise Missing(said) from error
        if error.code == 500:
            raise ServerFault(said) from error
        if error.code in _TEMPORARY or error.code > 500:
            raise NetworkFault(said) from error
        if 300 <= error.code < 400:
            to = str(error.headers.get("Location", ""))[:200]
            raise Refused(
                self.uri, f"it redirects to {to!r}", "name the address that it redirects to"
            ) from error
        if error.code == 403 and "invalid host" in text.lower():
            host = urllib.parse.urlsplit(self.uri).netloc
            cure = f"start the server with --allowed-hosts {host}, or * inside a cluster"
            raise Refused(self.uri, "the server does not know itself by this host name", cure) from error
        if error.code in (401, 403, 407):
            cure = (
                "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of a "
                "user who may do this, in the store's Secret (MLflow's basic auth goes for artifacts outside "
                "of experiments by default_permission, and lets administrators do everything)"
            )
            raise Refused(self.uri, said, cure) from error
        raise Refused(self.uri, said, "check that this is the address of an MLflow server") from error

    def _text_of(self, error: urllib.error.HTTPError) -> str:
        try:
            text = error.read(4000).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return ""
        with contextlib.suppress(ValueError, AttributeError):
            answer = json.loads(text)
            text = " ".join(
                str(answer[key]) for key in ("error_code", "message", "detail") if answer.get(key)
            )
        return hidden(" ".join(text.split())[:300], self._credentials)

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> Refused:
        trusted = ca_file(self._credentials, *_TLS_VARIABLES)
        beside = f", beside the system's those of {trusted} are" if trusted else ""
        cure = "let SSL_CERT_FILE name the file of your CA's certificates"
        return Refused(self.uri, f"its certificate is not trusted ({error.verify_message}{beside})", cure)


def checked_address(uri: str) -> str:
    """The address of a server without a slash at its end.

    Raises:
        Refused: it is none.
    """
    cure = "expected http(s)://HOST[:PORT][/PATH] of an MLflow tracking server"
    try:
        parts = urllib.parse.urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Refused(repr(uri[:200]), f"it is no address: {error}", cure) from None
    if parts.username is not None or parts.password is not None:
        at = f"{parts.scheme}://...@{host}"
        raise Refused(at, "it holds credentials, which would end up in records", "put them into a Secret")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or " " in uri:
        raise Refused(repr(uri[:200]), "it is no address", cure)
    return uri.rstrip("/")


def artifact_path(uri: str) -> str | None:
    """The path on the proxy of an `mlflow-artifacts:` URI, or None for another URI.

    Raises:
        BadName: when the path is no safe one.
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme != "mlflow-artifacts":
        return None
    return check_name(urllib.parse.unquote(parts.path).strip("/"))


def save(response: http.client.HTTPResponse, file: BinaryIO, name: str, limit_bytes: int) -> None:
    """Write a response's body to `file`, in pieces.

    Raises:
        TooLarge: it has more than `limit_bytes`.
        NetworkFault: it ended before its announced length.
    """
    announced = response.headers.get("Content-Length", "")
    expected = int(announced) if announced.isdecimal() else None
    if expected is not None and expected > limit_bytes:
        raise TooLarge(name, limit_bytes, expected)
    received = 0
    while chunk := response.read(1 << 20):
        received += len(chunk)
        if received > limit_bytes:
            raise TooLarge(name, limit_bytes)
        file.write(chunk)
    if expected is not None and received != expected:
        raise NetworkFault(f"the connection ended after {received:,} of {expected:,} bytes")
