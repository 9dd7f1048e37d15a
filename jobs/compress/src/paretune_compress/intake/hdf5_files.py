"""HDF5 files looked at before anything is loaded from them: a dataset can name other files as its storage."""

from pathlib import Path
from typing import Any, BinaryIO

from paretune_contract.failure import Reason, StageError

MAX_OBJECTS = 200_000


def check_hdf5(file: "Path | BinaryIO", uri: str, limit_bytes: int) -> None:
    """Refuse links to other files, storage outside of the file, and datasets of absurd size.

    Args:
        file: the HDF5 file.
        uri: for errors.
        limit_bytes: most bytes of all datasets together.

    Raises:
        StageError: MODEL_UNREADABLE when it is damaged or too large, MODEL_UNSAFE when it reaches outside.
    """
    import h5py

    try:
        with h5py.File(file, "r") as root:
            _walk(root, uri, limit_bytes)
    except StageError:
        raise
    except Exception as error:  # h5py raises what the C library's codes are mapped to
        raise StageError(
            Reason.MODEL_UNREADABLE,
            f"{uri}: the HDF5 content is truncated or damaged ({' '.join(str(error).split())[:200]})",
        ) from error


def _walk(root: Any, uri: str, limit_bytes: int) -> None:
    import h5py

    groups, seen, total, count = [root], set(), 0, 0
    while groups:
        group = groups.pop()
        for name in group:
            count += 1
            if count > MAX_OBJECTS:
                raise StageError(Reason.MODEL_UNREADABLE, f"{uri}: more than {MAX_OBJECTS:,} HDF5 objects")
            where = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise StageError(
                    Reason.MODEL_UNSAFE,
                    f"{uri}: {where!r} is a {type(link).__name__}; weights must be inside",
                )
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                total += _dataset_bytes(item, where, uri)
                if total > limit_bytes:
                    raise StageError(
                        Reason.MODEL_UNREADABLE,
                        f"{uri}: {where!r} has the absurd shape {list(item.shape)}; "
                        f"all datasets together may have {limit_bytes:,} bytes",
                    )


def _dataset_bytes(item: Any, where: str, uri: str) -> int:
    if item.is_virtual or item.external:
        raise StageError(
            Reason.MODEL_UNSAFE, f"{uri}: {where!r} is stored in another file; weights must be inside"
        )
    return int(item.dtype.itemsize) * int(item.size or 0)
