"""Files that a command is told to write: never over another one, unless it is told so."""

from pathlib import Path

from .errors import BadInput


def free_file(file: Path, force: bool) -> Path:
    """The file itself, when it may be written.

    Raises:
        BadInput: when it exists and `force` is not set, or its folder does not exist.
    """
    if file.exists() and not force:
        raise BadInput(f"{file}: exists already; give another --output, or --force")
    if not file.parent.is_dir():
        raise BadInput(f"{file.parent}: no such folder; create it, or give another --output")
    return file
