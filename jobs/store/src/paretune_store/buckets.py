"""Objects and prefixes of s3:// and gs://."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .bucket_client import UNTRUSTED_CURE, Cause, cause_of, first_line, open_bucket
from .credentials import Credentials
from .errors import NetworkFault, Refused, Unreadable
from .retries import Patience
from .uris import Location

MAX_OBJECTS = 1_000_000
NOTHING_THERE = "nothing is there, neither an object nor a prefix"
_LONGEST_NAME = 1024
_PATIENCE = Patience(attempts=3, first_pause=0.1, total=30.0)


def download(
    location: Location, target: Path, limit_bytes: int, credentials: Credentials | None = None
) -> None:
    """Stream an object to the file `target`, or all objects below a prefix into the folder `target`.

    Args:
        location: of the object or prefix.
        target: file or folder.
        limit_bytes: most bytes, over all objects.
        credentials: see `open_bucket`; None: from the environment.

    Raises:
        Unreadable: nothing is there, access is denied, names are unsafe, or it exceeds the limit.
        NetworkFault: the service did not answer.
    """
    with _faults(location, credentials):
        store = open_bucket(location.bucket, credentials, _PATIENCE)
        if (single := _head(store, location.key)) is not None:
            if single["size"] > limit_bytes:
                raise Unreadable(f"it has {single['size']:,} bytes; the limit is {limit_bytes:,}")
            _stream(store, location.key, target, limit_bytes)
            return
        total = 0
        for key, relative, size in _below(store, location):
            total += size
            if total > limit_bytes:
                raise Unreadable(f"its objects have more than the limit of {limit_bytes:,} bytes")
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            _stream(store, key, path, limit_bytes)


def version(location: Location, credentials: Credentials | None = None) -> str | None:
    """A digest of entity tags and sizes of the object, or of all objects below the prefix.

    Args:
        location: of the object or prefix.
        credentials: see `open_bucket`; None: from the environment.

    Raises:
        Unreadable: nothing is there or access is denied.
        NetworkFault: the service did not answer.
    """
    with _faults(location, credentials):
        store = open_bucket(location.bucket, credentials, _PATIENCE)
        if (single := _head(store, location.key)) is not None:
            return _tag(single)
        digest = hashlib.sha256()
        for meta in _listed(store, location):
            digest.update(f"{meta['path']}\0{_tag(meta)}\n".encode())
        return digest.hexdigest()


def relative_name(key: str, prefix: str) -> str | None:
    """The path of an object below a prefix, or None for the markers of empty folders.

    Raises:
        Unreadable: when the name would leave the folder or is no file name.
    """
    name = key[len(prefix) :]
    if key == prefix.rstrip("/"):  # the marker, after obstore has taken its slash away
        return None
    if not key.startswith(prefix):
        raise Unreadable(f"the service listed {key!r}, which is not below {prefix!r}")
    if name.endswith("/") or not name:
        return None
    parts = name.split("/")
    if (
        PurePosixPath(name).is_absolute()
        or any(part in ("", ".", "..") for part in parts)
        or any(c in name for c in "\\\0\r\n")
        or len(name) > _LONGEST_NAME
    ):
        raise Unreadable(f"the object name {key!r} is no safe file name")
    return name


class _faults:  # noqa: N801 - used as a function
    """Turns obstore's exceptions into ours."""

    def __init__(self, location: Location, credentials: Credentials | None) -> None:
        self._location = location
        self._source = "the environment (AWS_*, GOOGLE_*)" if credentials is None else "the Secret"
        self._credentials = credentials or {}

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        if isinstance(error, Refused):
            raise Unreadable(str(error)) from error
        text = first_line(error, self._credentials)
        match cause_of(error):
            case Cause.MISSING | Cause.NO_BUCKET:
                raise Unreadable(f"{NOTHING_THERE}: {text}") from error
            case Cause.DENIED:
                raise Unreadable(f"access denied; credentials come from {self._source}: {text}") from error
            case Cause.NO_CREDENTIALS:
                raise Unreadable(f"there are no credentials in {self._source}") from error
            case Cause.UNTRUSTED:
                raise Unreadable(f"the service's certificate is not trusted; {UNTRUSTED_CURE}") from error
            case Cause.WRONG:
                raise Unreadable(text) from error
            case Cause.NETWORK:
                raise NetworkFault(text) from error


def _head(store: Any, key: str) -> Mapping[str, Any] | None:
    import obstore

    if key.endswith("/"):
        return None
    try:
        found: Mapping[str, Any] = obstore.head(store, key)
    except FileNotFoundError:
        return None
    return found


def _listed(store: Any, location: Location) -> Iterator[Mapping[str, Any]]:
    import obstore

    prefix = location.key.rstrip("/") + "/"
    count = 0
    chunks: Iterable[Any] = obstore.list(store, prefix, chunk_size=1000)
    metas = sorted((meta for chunk in chunks for meta in chunk), key=lambda meta: str(meta["path"]))
    for meta in metas:
        count += 1
        if count > MAX_OBJECTS:
            raise Unreadable(f"more than {MAX_OBJECTS:,} objects are below it")
        yield meta
    if count == 0:
        raise Unreadable(NOTHING_THERE)


def _below(store: Any, location: Location) -> Iterator[tuple[str, str, int]]:
    prefix = location.key.rstrip("/") + "/"
    metas = list(_listed(store, location))
    folders = {parent.as_posix() for meta in metas for parent in PurePosixPath(meta["path"]).parents}
    for meta in metas:
        if meta["path"] in folders and not meta["size"]:
            continue  # the marker of a folder inside
        if (relative := relative_name(meta["path"], prefix)) is not None:
            yield meta["path"], relative, int(meta["size"])


def _tag(meta: Mapping[str, Any]) -> str:
    return f"{meta.get('e_tag')} {meta['size']} {meta.get('last_modified')}"


def _stream(store: Any, key: str, target: Path, limit_bytes: int) -> None:
    import obstore

    received = 0
    with target.open("wb") as file:
        for chunk in obstore.get(store, key).stream(min_chunk_size=1 << 20):
            received += len(chunk)
            if received > limit_bytes:
                raise Unreadable(f"{key} has more than the limit of {limit_bytes:,} bytes")
            file.write(chunk)
