"""Where a URI points to, decided from its text alone."""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SUPPORTED = "a path, file://, https://, s3://, gs://, pvc://CLAIM/PATH or models:/NAME/VERSION"
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")


class Place(StrEnum):
    """Kinds of places that are read."""

    LOCAL = "local"
    HTTP = "http"
    BUCKET = "bucket"
    CLAIM = "claim"
    REGISTRY = "registry"


@dataclass(frozen=True)
class Location:
    """A URI taken apart.

    Attributes:
        place: which reader it takes.
        uri: as it was given.
        path: of the local file; empty elsewhere.
        bucket: `s3://NAME` or `gs://NAME`, a claim's name, or a registered model's; empty elsewhere.
        key: object or prefix inside the bucket, path inside the claim, `VERSION` or `@ALIAS`; empty
            elsewhere.
    """

    place: Place
    uri: str
    path: str = ""
    bucket: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        """A file name for it, safe to use below any folder."""
        last = self.key or self.path or urllib.parse.unquote(urllib.parse.urlsplit(self.uri).path)
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", last.rstrip("/").rsplit("/", 1)[-1])[-128:].lstrip(".")
        return safe or "download"


def locate(uri: str) -> Location:
    """Take a URI apart.

    Raises:
        ValueError: when the scheme is unknown or unsafe, with the cure.
    """
    if "\0" in uri:
        raise ValueError("it holds a NUL character")
    match = _SCHEME.match(uri)
    if match is None:
        return Location(Place.LOCAL, uri, path=uri)
    scheme = match[1].lower()
    if scheme == "file":
        return Location(Place.LOCAL, uri, path=_file_path(uri))
    if scheme in ("http", "https"):
        _check_http(uri)
        return Location(Place.HTTP, uri)
    if scheme in ("s3", "gs"):
        bucket, _, key = uri[len(scheme) + 3 :].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
            raise ValueError(f"{bucket!r} is no bucket name; expected {scheme}://BUCKET/KEY")
        if not key.strip("/"):
            raise ValueError(f"it names no object; expected {scheme}://BUCKET/KEY")
        return Location(Place.BUCKET, uri, bucket=f"{scheme}://{bucket}", key=key)
    if scheme == "pvc":
        return _claim(uri)
    if scheme == "models":
        return _registered(uri)
    raise ValueError(f"the scheme {scheme}:// is not read here; use {SUPPORTED}")


def _claim(uri: str) -> Location:
    claim, _, path = uri[len("pvc://") :].partition("/")
    if not _CLAIM.fullmatch(claim) or len(claim) > 253:
        raise ValueError(f"{claim[:60]!r} is no name of a PersistentVolumeClaim; expected pvc://CLAIM/PATH")
    parts = path.strip("/").split("/") if path.strip("/") else []
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("its path has an empty part, `.` or `..`; expected pvc://CLAIM/PATH")
    return Location(Place.CLAIM, uri, bucket=claim, key="/".join(parts))


def _registered(uri: str) -> Location:
    expected = "expected models:/NAME/VERSION or models:/NAME@ALIAS"
    name, separator, version = uri[len("models:") :].lstrip("/").partition("/")
    if separator:
        if not version.isdecimal():
            raise ValueError(f"{version[:60]!r} is no version of a registered model; {expected}")
    else:
        name, separator, alias = name.rpartition("@")
        version = f"@{alias}"
        if not separator or not alias:
            raise ValueError(f"it names no version; {expected}")
    if not name or any(character in name for character in "/:@"):
        raise ValueError(f"{name[:60]!r} is no name of a registered model; {expected}")
    return Location(Place.REGISTRY, uri, bucket=name, key=version)


def _file_path(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"file:// with the host {parts.netloc!r}; expected file:///PATH")
    path = urllib.parse.unquote(parts.path)
    if not Path(path).is_absolute() or "\0" in path:
        raise ValueError("expected file:///ABSOLUTE/PATH")
    return path


def _check_http(uri: str) -> None:
    try:
        parts = urllib.parse.urlsplit(uri)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from None
    if not host:
        raise ValueError("it names no host")
    if parts.username or parts.password:
        raise ValueError(
            "it holds a user name or password, which would end up in records; use s3:// or gs://"
        )
    if parts.scheme.lower() == "http" and not is_loopback(host):
        raise ValueError("http:// can be altered on its way; use https://")


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
