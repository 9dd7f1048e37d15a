"""Paths inside a mounted PersistentVolumeClaim."""

import os
from pathlib import Path

from .errors import Unreadable


def inside_claim(claims: Path, claim: str, path: str) -> Path:
    """The path of a file or folder in a claim.

    Links that lead to another place in the claim are followed. All that is below a folder is looked at: a
    link in it must not lead out of the claim either, since those who read the folder would follow it.

    Args:
        claims: where claims are mounted, each in the folder of its name.
        claim: name of the claim.
        path: below it; empty for all of it.

    Raises:
        Unreadable: nothing is there, or a link leads out of the claim.
    """
    root = claims / claim
    if not root.is_dir():
        raise Unreadable(f"the claim {claim!r} is not mounted at {claims}")
    root = root.resolve()
    try:
        found = (root / path).resolve(strict=True)
    except FileNotFoundError:
        raise Unreadable("no such file or folder in the claim") from None
    except (OSError, RuntimeError) as error:
        raise Unreadable(f"it can't be followed: {error}") from error
    if not found.is_relative_to(root):
        raise Unreadable("a link on its path leads out of the claim")
    for base, folders, names in os.walk(found, followlinks=False):
        for name in (*folders, *names):
            inner = Path(base) / name
            if inner.is_symlink() and not inner.resolve().is_relative_to(root):
                raise Unreadable(f"the link {inner.relative_to(root)} in it leads out of the claim")
    return found
