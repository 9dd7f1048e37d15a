"""Prepared arrays that have travelled: are they still what the digest says?"""

import hashlib
from pathlib import Path

from paretune_contract.dataset import ArrayInfo, DataInfo

from .faults import DataFault
from .npy import read_header
from .prepare import digest_of

_CHUNK = 1 << 20


def digest_found(info: DataInfo) -> str:
    """The digest (sha256, hex) of the arrays in the folder of a prepared split; reads them once.

    Raises:
        DataFault: when a file is no .npy file.
        OSError: when it cannot be read.
    """
    arrays = [*info.inputs.items(), *([("y", info.labels)] if info.labels is not None else [])]
    return digest_of((name, array, _sha256(Path(info.folder) / array.file, array)) for name, array in arrays)


def _sha256(path: Path, array: ArrayInfo) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        header = read_header(file, array.file)
        if header.fortran or header.dtype.name != array.dtype or not header.dtype.isnative:
            raise DataFault(
                f"{path}: {header.dtype} (Fortran order: {header.fortran}), expected {array.dtype}"
            )
        left = header.total_bytes
        while left and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
