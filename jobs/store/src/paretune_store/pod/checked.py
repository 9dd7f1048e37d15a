"""Files that another process made: looked at before they are trusted.

The stage loads what strangers made, and shares its folder with `upload`, which has credentials. A link that
the stage left must not lead out of the folder, and a file may be anything.
"""

import stat
from pathlib import Path

from ..files import sha256_file


class Unusable(Exception):
    """A file is not what it should be; says what was found."""


def plain_file(folder: Path, relative: str | Path, limit_bytes: int | None = None) -> Path:
    """The path of a regular file below `folder`, with no link on the way.

    Raises:
        Unusable: when it is none, lies elsewhere, or is larger than the limit.
    """
    path = folder / relative
    inner = Path(relative)
    if inner.is_absolute():
        if not inner.is_relative_to(folder):
            raise Unusable(f"{relative} does not lie below {folder}")
        inner = inner.relative_to(folder)
    if not inner.parts or ".." in inner.parts:
        raise Unusable(f"{relative} does not lie below {folder}")
    at = folder
    try:
        for part in inner.parts:
            at = at / part
            mode = at.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise Unusable(f"{at} is a link; expected a file")
        size = at.lstat().st_size
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: {error}") from error
    if not stat.S_ISREG(mode):
        raise Unusable(f"{at} is no file")
    if limit_bytes is not None and size > limit_bytes:
        raise Unusable(f"{at} has {size:,} bytes; the limit is {limit_bytes:,}")
    return at


def file_of_digest(folder: Path, relative: str | Path, sha256: str) -> Path:
    """As `plain_file`, of a file with this sha256 (hex).

    Raises:
        Unusable: when it is none, or has another digest.
    """
    path = plain_file(folder, relative)
    found = sha256_file(path)
    if found != sha256:
        raise Unusable(f"{path} has sha256 {found}, expected {sha256}")
    return path
