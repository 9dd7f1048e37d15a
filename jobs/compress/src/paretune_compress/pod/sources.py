"""What a study's owner names by URI, brought to the work folder with the owner's credentials."""

import errno
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from paretune_contract.failure import Reason, StageError
from paretune_contract.task import Source
from paretune_store.credentials import credentials_of
from paretune_store.errors import Refused
from paretune_store.fetch import fetch, free_bytes
from paretune_store.pod.place import Place

from ..data.prepare import BUILT_IN


def read_by_plugin(source: Source) -> bool:
    """The URI is the affair of an installed package, which opens it in the stage."""
    return source.format is not None and source.format not in BUILT_IN


def bring(
    source: Source, folder: Path, place: Place, *, reason: Reason, limit_bytes: int | None = None
) -> Path:
    """The path below `folder` of what a source names.

    Args:
        source: URI and credentials.
        folder: empty or not there yet.
        place: where Secrets and claims are mounted.
        reason: of what the owner has to cure.
        limit_bytes: most bytes; None: what the disk has free.

    Raises:
        StageError: `reason`, naming URI and cause; STORE_UNAVAILABLE when the network fails.
    """
    uri = source.uri
    if urlsplit(uri).scheme.lower() in ("", "file"):
        raise StageError(
            reason,
            f"{uri}: a path is read on one machine only; use s3://, gs://, https://, models:/ or pvc://CLAIM/PATH",
        )
    limit = limit_bytes if limit_bytes is not None else free_bytes(folder)
    try:
        credentials = credentials_of(source.credentials, place.secrets)
    except Refused as error:
        raise StageError(reason, f"{uri}: {error}") from error
    found = fetch(uri, folder, limit_bytes=limit, reason=reason, credentials=credentials, claims=place.claims)
    if found.is_relative_to(folder):
        return found
    return _copied(uri, found, folder, reason)


def _copied(uri: str, found: Path, folder: Path, reason: Reason) -> Path:
    """A copy of what lies on a claim: the stage has no claims, and others may change what is there."""
    target = folder / found.name
    try:
        for path in found.rglob("*") if found.is_dir() else ():
            if path.is_symlink() and path.is_dir():
                name = path.relative_to(found)
                raise StageError(reason, f"{uri}: {name} in it is a link to a folder; put the folder there")
        folder.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(found, target)
        else:
            shutil.copyfile(found, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StageError(reason, f"{uri}: {error.strerror or error}") from error
    return target
