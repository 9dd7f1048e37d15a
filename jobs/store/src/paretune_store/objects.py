"""The port to a store of objects: files by name, each there whole or not at all.

All implementations raise the same errors:

- `NotThere` and `TooLarge`: see the methods.
- `BadName`: no name at all, see `check_name`.
- `Refused`: access denied, or something is set wrong; names the store's URI and the cure.
- `StageError` with `Reason.STORE_UNAVAILABLE`: it did not answer, or is full, for as long as `Patience` says.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import BadName

LONGEST_NAME = 1000
LONGEST_PART = 200
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=,~-]*")


@dataclass(frozen=True)
class ObjectInfo:
    """An object without its content.

    Attributes:
        name: relative to the store's root.
        size: in bytes.
    """

    name: str
    size: int


class ObjectStore(Protocol):
    """Objects by name. Safe to use from several threads and processes at once."""

    @property
    def uri(self) -> str:
        """Where it is, for messages; holds no secret."""

    def put(self, name: str, path: Path) -> None:
        """Upload a file. Readers see the object that was there before, or the new one whole."""

    def put_bytes(self, name: str, data: bytes) -> None:
        """As `put`, from memory."""

    def get(self, name: str, target: Path, limit_bytes: int) -> None:
        """Download to the file `target`, which is there whole or not at all; its folder is made.

        Raises:
            NotThere: there is no such object.
            TooLarge: it has more than `limit_bytes`.
        """

    def get_bytes(self, name: str, limit_bytes: int) -> bytes:
        """As `get`, into memory."""

    def exists(self, name: str) -> bool:
        """Whether there is such an object; a prefix of others is none."""

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        """All objects below a prefix at any depth, by name. A prefix is a folder: `a/b` is none of `a/bc`.

        Args:
            prefix: name of a folder, with or without a slash at the end; empty: all objects.
        """

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is fine, and a prefix of others is left alone."""

    def delete_prefix(self, prefix: str) -> int:
        """Remove all objects below a prefix, and return how many there were.

        Raises:
            BadName: for an empty prefix: nobody empties a whole store.
        """


def check_name(name: str) -> str:
    """The name of an object, when it is one that all stores can hold.

    Parts between slashes are letters, digits and `._@+=,~-`, do not begin with one of the signs but `_`, and
    have at most 200 characters; the whole has at most 1,000.

    Raises:
        BadName: what is wrong with it.
    """
    if len(name) > LONGEST_NAME:
        raise BadName(
            f"the object name {name[:60]!r}... has {len(name)} characters; at most {LONGEST_NAME} are"
        )
    for part in name.split("/"):
        if not _PART.fullmatch(part) or len(part) > LONGEST_PART:
            raise BadName(
                f"the object name {name!r} has the part {part[:60]!r}; expected letters, digits, ._@+=,~-, "
                f"a letter, digit or _ first, at most {LONGEST_PART} of them"
            )
    return name


def check_prefix(prefix: str, *, empty: bool = False) -> str:
    """A folder's name without the slash at its end.

    Raises:
        BadName: it is no name, or is empty and must not be.
    """
    prefix = prefix.removesuffix("/")
    if not prefix and empty:
        return ""
    if not prefix:
        raise BadName("the prefix is empty, which would mean the whole store; name a folder")
    return check_name(prefix)
