"""Objects of a bucket of S3, of a service like it, or of Google Cloud Storage.

Requests are repeated by obstore, a broken download goes on where it ended, and large uploads go in parts,
which become one object at the end.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paretune_contract.failure import Reason, StageError

from .bucket_client import UNTRUSTED_CURE, Cause, cause_of, first_line, open_bucket
from .credentials import Credentials
from .errors import NotThere, Refused, TooLarge
from .files import whole_file
from .objects import ObjectInfo, check_name, check_prefix
from .retries import PATIENCE, Patience

_PARTS_AT_ONCE = 4
_PART = 8 << 20
_LIST = 1000
_DELETE = 500


class BucketStore:
    """Objects below a prefix of a bucket.

    Args:
        uri: `s3://BUCKET[/PREFIX]` or `gs://BUCKET[/PREFIX]`.
        credentials: see `open_bucket`.
        patience: how long it may be away.

    Raises:
        Refused: the URI is none, or the credentials are not complete.
    """

    def __init__(
        self, uri: str, credentials: Credentials | None = None, patience: Patience = PATIENCE
    ) -> None:
        scheme, separator, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme not in ("s3", "gs") or not separator or not bucket:
            raise Refused(
                repr(uri[:200]), "it is no bucket", "expected s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
            )
        prefix = prefix.strip("/")
        self._uri = f"{scheme}://{bucket}/{prefix}".rstrip("/")
        try:
            check_prefix(prefix, empty=True)
        except ValueError as error:
            raise Refused(self._uri, f"its prefix is none: {error}", "name another prefix") from None
        self._credentials = credentials
        self._patience = patience
        self._store = open_bucket(f"{scheme}://{bucket}", credentials, patience, prefix=prefix)

    @property
    def uri(self) -> str:
        return self._uri

    def put(self, name: str, path: Path) -> None:
        import obstore

        check_name(name)
        with path.open("rb") as file, self._faults("", "write"):
            obstore.put(self._store, name, file, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)

    def put_bytes(self, name: str, data: bytes) -> None:
        import obstore

        check_name(name)
        with self._faults("", "write"):
            obstore.put(self._store, name, data, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)

    def get(self, name: str, target: Path, limit_bytes: int) -> None:
        with whole_file(target) as file, self._reading(name, limit_bytes) as chunks:
            for chunk in chunks:
                file.write(chunk)

    def get_bytes(self, name: str, limit_bytes: int) -> bytes:
        with self._reading(name, limit_bytes) as chunks:
            return b"".join(bytes(chunk) for chunk in chunks)

    def exists(self, name: str) -> bool:
        import obstore

        check_name(name)
        try:
            with self._faults(name, "read"):
                obstore.head(self._store, name)
        except NotThere:
            return False
        return True

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        import obstore

        prefix = check_prefix(prefix, empty=True)
        found: list[ObjectInfo] = []
        with self._faults("", "list"):
            for chunk in obstore.list(self._store, f"{prefix}/" if prefix else None, chunk_size=_LIST):
                found += [ObjectInfo(str(meta["path"]), int(meta["size"])) for meta in chunk]
        return tuple(sorted(found, key=lambda info: info.name))

    def delete(self, name: str) -> None:
        import obstore

        check_name(name)
        with contextlib.suppress(NotThere), self._faults(name, "delete"):
            obstore.delete(self._store, name)

    def delete_prefix(self, prefix: str) -> int:
        import obstore

        found = [info.name for info in self.list(check_prefix(prefix))]
        for start in range(0, len(found), _DELETE):
            with self._faults("", "delete"):
                obstore.delete(self._store, found[start : start + _DELETE])
        return len(found)

    # --- below ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self, name: str, limit_bytes: int) -> Iterator[Iterator[Any]]:
        import obstore

        check_name(name)
        with self._faults(name, "read"):
            answer = obstore.get(self._store, name)
            if (size := int(answer.meta["size"])) > limit_bytes:
                raise TooLarge(name, limit_bytes, size)
            yield _bounded(answer.stream(min_chunk_size=1 << 20), name, limit_bytes)

    @contextlib.contextmanager
    def _faults(self, name: str, what: str) -> Iterator[None]:
        """Turns obstore's exceptions into ours; `name` is that of the object that may be missing."""
        try:
            yield
        except Exception as error:
            if (cause := cause_of(error)) is None:
                raise
            raise self._explained(error, cause, name, what) from error

    def _explained(self, error: Exception, cause: Cause, name: str, what: str) -> Exception:
        text = first_line(error, self._credentials or {})
        source = "the environment" if self._credentials is None else "the Secret of the store"
        if cause is Cause.MISSING and name:
            return NotThere(name, self._uri)
        if cause is Cause.NETWORK:
            return StageError(Reason.STORE_UNAVAILABLE, f"{self._uri}: {text}")
        no_bucket = (
            f"there is no such bucket ({text})",
            "create it, or name another one (and its AWS_ENDPOINT_URL and AWS_REGION)",
        )
        found, cure = {
            Cause.MISSING: no_bucket,
            Cause.NO_BUCKET: no_bucket,
            Cause.NO_CREDENTIALS: (f"there are no credentials in {source}", "name a Secret that has them"),
            Cause.UNTRUSTED: ("the service's certificate is not trusted", UNTRUSTED_CURE),
            Cause.DENIED: (
                f"access denied ({text})",
                f"correct the credentials in {source}, or allow them to {what} here",
            ),
            Cause.WRONG: (text, f"correct the variables AWS_* or GOOGLE_* in {source}"),
        }[cause]
        return Refused(self._uri, found, cure)


def _bounded(chunks: Iterator[Any], name: str, limit_bytes: int) -> Iterator[Any]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > limit_bytes:
            raise TooLarge(name, limit_bytes)
        yield chunk
