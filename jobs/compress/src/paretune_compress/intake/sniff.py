"""What a file is, by its content; names lie."""

import zipfile
from pathlib import Path

from paretune_contract.failure import Reason, StageError
from paretune_contract.model import SourceFormat

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_TFLITE = b"TFL3"


def source_format(path: Path, uri: str) -> SourceFormat:
    """The format of a model.

    Raises:
        StageError: MODEL_UNREADABLE when it is none that intake reads.
    """
    expected = "expected a Keras .keras or .h5 file, a SavedModel folder or a float .tflite"
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return SourceFormat.SAVED_MODEL
        raise StageError(Reason.MODEL_UNREADABLE, f"{uri}: a folder without saved_model.pb; {expected}")
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_HDF5):
        return SourceFormat.H5
    if head[4:8] == _TFLITE:
        return SourceFormat.TFLITE
    if head.startswith(_ZIP):
        _check_archive(path, uri, expected)
        return SourceFormat.KERAS
    size = path.stat().st_size
    cause = "an empty file" if not size else f"{size:,} bytes that begin with {head[:8]!r}"
    raise StageError(Reason.MODEL_UNREADABLE, f"{uri}: {cause}; {expected}")


def _check_archive(path: Path, uri: str, expected: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:100]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{uri}: a truncated or damaged archive ({error}); {expected}"
        ) from error
    if "config.json" not in names:
        raise StageError(
            Reason.MODEL_UNREADABLE,
            f"{uri}: a zip archive without config.json, so no .keras file; {expected}",
        )
