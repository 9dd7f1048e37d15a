"""From a URI to a local path."""

import contextlib
import http.client
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from paretune_contract.failure import Reason, StageError
from paretune_contract.task import CLAIMS

from .buckets import download as download_from_bucket
from .buckets import version as bucket_version
from .claims import inside_claim
from .credentials import Credentials
from .errors import NetworkFault, Refused, Unreadable
from .files import folder_bytes, sync_folder
from .registry import download as download_from_registry
from .steps import ENTRY, StepCache
from .uris import Location, Place, is_loopback, locate

ATTEMPTS = 4
_FIRST_PAUSE = 0.5
_TIMEOUT = 60.0
_CHUNK = 1 << 20
_HEADERS = {"User-Agent": "paretune", "Accept-Encoding": "identity"}

_T = TypeVar("_T")


def fetch(
    uri: str,
    folder: Path,
    *,
    limit_bytes: int,
    reason: Reason = Reason.MODEL_UNREADABLE,
    pause: Callable[[float], None] = time.sleep,
    credentials: Credentials | None = None,
    claims: Path = Path(CLAIMS),
) -> Path:
    """The local path of what a URI names; remote content is streamed to disk below `folder`.

    Local files and folders, those of claims too, are returned where they are. Prefixes of s3:// and gs://
    become folders. Of a registered model it is the one `.tflite`, `.keras` or `.h5` file, or SavedModel, that
    it has.

    Args:
        uri: a path, file://, https:// (http:// only for this machine), s3://, gs://, pvc://CLAIM/PATH,
            models:/NAME/VERSION or models:/NAME@ALIAS.
        folder: where downloads go; made when missing. Left alone for local URIs.
        limit_bytes: most bytes, over all files.
        reason: the reason of errors that the URI's owner has to cure.
        pause: waits between attempts; for tests.
        credentials: of buckets (AWS_*, GOOGLE_*) and of the registry (MLFLOW_*, MLFLOW_TRACKING_URI among
            them);
            None: from the environment of the same names.
        claims: where PersistentVolumeClaims are mounted, each in the folder of its name.

    Raises:
        StageError: `reason`, naming URI and cause; StoreUnavailable when the network fails several times.
    """
    with _named(uri, reason):
        location = locate(uri)
        if location.place is Place.LOCAL:
            return _local(Path(location.path), limit_bytes)
        if location.place is Place.CLAIM:
            return _local(inside_claim(claims, location.bucket, location.key), limit_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / location.name
        if location.place is Place.HTTP:
            _repeated(lambda: _download(location, target, limit_bytes), pause)
        elif location.place is Place.REGISTRY:
            target = _repeated(
                lambda: download_from_registry(location, folder, limit_bytes, credentials), pause
            )
        else:
            _repeated(lambda: download_from_bucket(location, target, limit_bytes, credentials), pause)
        sync_folder(folder)
        return target


def remote_version(uri: str, *, reason: Reason = Reason.MODEL_UNREADABLE) -> str | None:
    """What tells one version of a remote object from the next (entity tags, sizes, dates), or None.

    None means that the server does not say, or that the URI is local.

    Raises:
        StageError: `reason`, naming URI and cause; StoreUnavailable when the network fails several times.
    """
    with _named(uri, reason):
        location = locate(uri)
        if location.place is Place.HTTP:
            return _repeated(lambda: _http_version(location), time.sleep)
        if location.place is Place.BUCKET:
            return _repeated(lambda: bucket_version(location), time.sleep)
        return None


def fetch_cached(
    uri: str,
    cache: StepCache,
    *,
    limit_bytes: int | None = None,
    reason: Reason = Reason.MODEL_UNREADABLE,
) -> Path:
    """As `fetch`, with downloads kept as steps: the same version of a remote object is loaded once.

    Args:
        uri: see `fetch`.
        cache: where downloads are kept.
        limit_bytes: most bytes; None bounds downloads by the disk and local files not at all.
        reason: the reason of errors that the URI's owner has to cure.

    Raises:
        StageError: see `fetch`.
    """
    with _named(uri, reason):
        location = locate(uri)
        if location.place in (Place.LOCAL, Place.CLAIM):
            return fetch(uri, cache.root, limit_bytes=limit_bytes or sys.maxsize, reason=reason)
    version = remote_version(uri, reason=reason)
    inputs = {"uri": uri, "version": version if version is not None else f"unknown-{uuid.uuid4().hex}"}
    limit = limit_bytes if limit_bytes is not None else free_bytes(cache.root)

    def produce(folder: Path) -> None:
        fetch(uri, folder, limit_bytes=limit, reason=reason)

    step = cache.run("fetch", 1, inputs, produce)
    if location.place is Place.REGISTRY:  # the file's own name; it is alone there
        return next(path for path in step.folder.iterdir() if path.name != ENTRY)
    return step.folder / location.name


@contextlib.contextmanager
def _named(uri: str, reason: Reason) -> Iterator[None]:
    shown = uri if len(uri) <= 300 else uri[:300] + "..."
    try:
        yield
    except NetworkFault as error:
        raise StageError(Reason.STORE_UNAVAILABLE, f"{shown}: {error} (tried {ATTEMPTS} times)") from error
    except (Unreadable, Refused, ValueError) as error:
        raise StageError(reason, f"{shown}: {error}") from error


def _repeated(attempt: Callable[[], _T], pause: Callable[[float], None]) -> _T:
    for number in range(ATTEMPTS - 1):
        try:
            return attempt()
        except NetworkFault:
            pause(_FIRST_PAUSE * 4**number)
    return attempt()


def _local(path: Path, limit_bytes: int) -> Path:
    try:
        if path.is_dir():
            size = folder_bytes(path)
        elif path.is_file():
            size = path.stat().st_size
            path.open("rb").close()
        elif path.exists():
            raise Unreadable("it is neither a file nor a folder")
        else:
            raise Unreadable("no such file or folder")
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    if size > limit_bytes:
        raise Unreadable(f"it has {size:,} bytes; the limit is {limit_bytes:,}")
    return path.absolute()


# --- https --------------------------------------------------------------------------------------------------


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https (or to this machine, when that is where we came from) only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            locate(newurl)
        except ValueError as error:
            raise Unreadable(f"it redirects to {newurl[:200]}: {error}") from error
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme not in ("http", "https"):
            raise Unreadable(f"it redirects to {newurl[:200]}, which is not https://")
        if is_loopback(new.hostname or "") and not is_loopback(old.hostname or ""):
            raise Unreadable(f"it redirects to this machine ({newurl[:200]})")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _opened(location: Location, method: str) -> Iterator[http.client.HTTPResponse]:
    opener = urllib.request.build_opener(_SafeRedirects())
    request = urllib.request.Request(location.uri, method=method, headers=_HEADERS)  # noqa: S310 - https only
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            yield response
    except urllib.error.HTTPError as error:
        text = f"the server answered {error.code} {error.reason}"
        if error.code in (408, 425, 429) or error.code >= 500:
            raise NetworkFault(text) from error
        raise Unreadable(text) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Unreadable(f"the server's certificate is not trusted: {error.reason}") from error
        raise NetworkFault(f"not reached: {error.reason}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise NetworkFault(f"the connection broke: {error or type(error).__name__}") from error


def _download(location: Location, target: Path, limit_bytes: int) -> None:
    with _opened(location, "GET") as response:
        announced = response.headers.get("Content-Length", "")
        expected = int(announced) if announced.isdecimal() else None
        if expected is not None and expected > limit_bytes:
            raise Unreadable(f"it has {expected:,} bytes; the limit is {limit_bytes:,}")
        received = 0
        with target.open("wb") as file:
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                if received > limit_bytes:
                    raise Unreadable(f"it has more than the limit of {limit_bytes:,} bytes")
                file.write(chunk)
        if expected is not None and received != expected:
            raise NetworkFault(f"the connection ended after {received:,} of {expected:,} bytes")


def _http_version(location: Location) -> str | None:
    try:
        with _opened(location, "HEAD") as response:
            tag = response.headers.get("ETag", "")
            date = response.headers.get("Last-Modified", "")
            size = response.headers.get("Content-Length", "")
    except Unreadable:
        return None  # servers that know no HEAD; the download will tell what is wrong
    return f"{tag} {date} {size}" if tag or (date and size) else None


def free_bytes(folder: Path) -> int:
    """Bytes that a download below `folder` may take: what is free, less a tenth."""
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free * 9 // 10
