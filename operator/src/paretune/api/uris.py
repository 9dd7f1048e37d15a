"""Which URIs a study may name, and where the local ones are."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TRACKING = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")

DATA = "a path, file, https, s3, gs or pvc"
MODEL = "a path, file, https, s3, gs, pvc or models:/"


def scheme(uri: str) -> str:
    """The scheme in lower case; empty for a path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_local(uri: str) -> bool:
    """Whether it is a path or a file URI."""
    return scheme(uri) in ("", "file")


def local_path(uri: str, base: Path) -> Path | None:
    """Where a path or file URI points to, relative to the folder `base`; None for any other URI."""
    if not is_local(uri):
        return None
    path = unquote(urlsplit(uri).path) if scheme(uri) else uri
    return base / path


def source_complaint(uri: str, *, model: bool) -> str:
    """What is wrong with the URI of a model or a data set; empty when nothing is."""
    kind = scheme(uri)
    if any(ord(c) < 32 for c in uri):
        return "it holds a control character"
    complaints: dict[str, Callable[[], str]] = {
        "": lambda: "",
        "file": lambda: _file_complaint(uri),
        "http": lambda: "http can be altered on its way; expected https",
        "https": lambda: _web_complaint(uri),
        **{bucket: lambda: _bucket_complaint(uri) for bucket in ("s3", "gs", "pvc")},
        **({"models": lambda: _models_complaint(uri)} if model else {}),
    }
    if kind not in complaints:
        return f"the scheme {kind} is not supported; expected {MODEL if model else DATA}"
    return complaints[kind]()


def store_complaint(uri: str) -> str:
    """What is wrong with `artifacts.uri`; empty when nothing is."""
    kind = scheme(uri)
    if kind in ("", "file"):
        return ""
    if kind in ("s3", "gs", "pvc"):
        return _bucket_complaint(uri, key=False)
    return f"the scheme {kind} is not supported; expected a folder, s3, gs or pvc, or nothing"


def tracking_complaint(uri: str) -> str:
    """What is wrong with `tracking.uri`; empty when nothing is."""
    kind = scheme(uri)
    if uri in ("", "databricks"):
        return ""
    if kind in ("", "file"):
        return "MLflow keeps no files any more; expected http(s)://SERVER, sqlite:///PATH.db, or nothing"
    if kind in ("http", "https"):
        return _web_complaint(uri)
    if kind.partition("+")[0] not in _TRACKING:
        return f"the scheme {kind} is not supported; expected http(s)://SERVER, sqlite:///PATH.db, or nothing"
    return ""


def without_password(uri: str) -> str:
    """The URI with its user name and password blotted out, for messages."""
    return re.sub(r"//[^/@]*@", "//***@", uri)


def _web_complaint(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    if not host:
        return "it names no host"
    if parts.username is not None or parts.password is not None:
        return "it holds a user name or password, which everyone can read who reads the study; leave it out"
    return ""


def _file_complaint(uri: str) -> str:
    host = urlsplit(uri).netloc
    return (
        "" if host in ("", "localhost") else f"the host {host!r} is not this machine; expected file:///PATH"
    )


def _models_complaint(uri: str) -> str:
    known = re.fullmatch(r"models:/[^/]+.*", uri)
    return "" if known else "expected models:/NAME/VERSION, models:/NAME@ALIAS or models:/ID"


def _bucket_complaint(uri: str, *, key: bool = True) -> str:
    kind, _, rest = uri.partition(":")
    container, _, path = rest.removeprefix("//").partition("/")
    form = "pvc://CLAIM/PATH" if kind == "pvc" else f"{kind}://BUCKET/KEY"
    if not rest.startswith("//") or not _BUCKET.fullmatch(container) or (key and not path.strip("/")):
        return f"expected {form}"
    if ".." in path.split("/"):
        return f"a path with '..' is not accepted; expected {form}"
    return ""
