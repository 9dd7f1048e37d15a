"""From a data set's URI to memory-mapped arrays that fit the model, once."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paretune_contract.dataset import ArrayInfo, DataInfo, DataRequest, Scaling, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import TensorInfo
from paretune_store.fetch import fetch_cached
from paretune_store.files import atomic_write, sha256_file
from paretune_store.steps import JSON, StepCache

from . import images, npy, npz, plugins
from .faults import DataFault, mismatch
from .matching import Match, check_scaling, match
from .scan import Scan
from .sources import ArraySource, Source, looks_like_npz

BUILT_IN = frozenset({"npz", "npy", "images"})
VERSION = 1
LABELS_FILE = "labels.npy"
_META = "arrays.json"


def prepare(
    request: DataRequest,
    split: Split,
    inputs: tuple[TensorInfo, ...],
    cache: StepCache,
    *,
    scaling: Scaling = Scaling(),  # noqa: B008 - frozen
    classes: int | None = None,
) -> DataInfo:
    """A split as .npy files that fit the model; see `prepare_noted`."""
    return prepare_noted(request, split, inputs, cache, scaling=scaling, classes=classes)[0]


def prepare_noted(
    request: DataRequest,
    split: Split,
    inputs: tuple[TensorInfo, ...],
    cache: StepCache,
    *,
    scaling: Scaling = Scaling(),  # noqa: B008 - frozen
    classes: int | None = None,
) -> tuple[DataInfo, tuple[str, ...]]:
    """A split as .npy files that fit the model, and sentences for people on what was done to it.

    Everything is read once and kept in the cache; a folder of .npy files is looked through once and then
    used where it is.

    Args:
        request: URI and format; without a format the content decides.
        split: which part of the data set it is.
        inputs: the model's inputs, shapes with batch 1 in front.
        cache: the step cache.
        scaling: how values become the model's inputs; only its lengths are checked here.
        classes: number of classes when the labels are class indices (for accuracy), else None.

    Raises:
        StageError: DATA_UNREADABLE or DATA_MISMATCH, naming split, URI and cause.
    """
    with _named(request, split):
        source = _open(request, inputs, cache)
        matched = match(source, inputs)
        check_scaling(scaling, inputs)
        if classes is not None and matched.labels is not None:
            _check_label_form(matched, classes)
        folder, meta = _settled(request, source, matched, cache)
        info = _info(request, split, matched, folder, meta).model_copy(
            update={"class_names": source.class_names}
        )
        if classes is not None and info.labels is not None:
            check_label_range(meta[LABELS_FILE], classes)
        return info, tuple(f"dataset.{split.value}: {note}" for note in (*source.notes, *matched.notes))


@contextmanager
def _named(request: DataRequest, split: Split) -> Iterator[None]:
    where = f"dataset.{split.value} ({request.uri})"
    try:
        yield
    except DataFault as fault:
        raise StageError(fault.reason, f"{where}: {fault.message}") from fault
    except StageError as error:
        raise StageError(error.reason, f"dataset.{split.value}: {error.message}") from error
    except OSError as error:
        raise StageError(Reason.DATA_UNREADABLE, f"{where}: {error.strerror or error}") from error


def _open(request: DataRequest, inputs: tuple[TensorInfo, ...], cache: StepCache) -> Source:
    if request.format is not None and request.format not in BUILT_IN:
        return plugins.open_plugin(request.format, request.uri)
    path = fetch_cached(request.uri, cache, reason=Reason.DATA_UNREADABLE)
    kind = request.format or guess_format(path)
    if kind == "npz":
        if not path.is_file():
            raise DataFault("it is a folder; expected an .npz file (or set format: npy or images)")
        return npz.open_npz(path, _file_digest(path, cache))
    if kind == "npy":
        return npy.open_folder(path)
    if not path.is_dir():
        raise DataFault("it is a file; expected a folder of CLASS/FILE images")
    if len(inputs) != 1:
        raise mismatch(f"a folder of images feeds one input; the model has {len(inputs)}")
    return images.open_images(path, inputs[0].shape)


def guess_format(path: Path) -> str:
    """`npz`, `npy` or `images`, by content.

    Raises:
        DataFault: when it is none of them.
    """
    if path.is_dir():
        if any(path.glob("*.npy")):
            return "npy"
        if images.holds_images(path):
            return "images"
        raise DataFault("the folder holds neither .npy files nor images by class name (CLASS/FILE.png)")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(npy.MAGIC):
        return "npy"
    if looks_like_npz(path):
        return "npz"
    if path.suffix.lower() == ".npz":
        raise DataFault(
            f"the .npz is damaged or truncated: it begins with {start!r}, {path.stat().st_size:,} bytes"
        )
    raise DataFault(
        f"the format is not known: it begins with {start!r}; expected .npz, .npy, a folder of .npy files, "
        "a folder of images by class name, or `format:` naming a plugin"
    )


def _file_digest(path: Path, cache: StepCache) -> str:
    def produce(folder: Path) -> None:
        atomic_write(folder / "sha256", sha256_file(path))

    return (cache.run("digest", 1, {"file": npy.stamp(path)}, produce).folder / "sha256").read_text()


# --- arrays into place --------------------------------------------------------------------------------------


def _roles(matched: Match) -> dict[str, tuple[str, ArraySource]]:
    """File in the prepared folder -> name for people, array."""
    roles = {f"input{i}.npy": (name, array) for i, (name, array) in enumerate(matched.inputs.items())}
    if matched.labels is not None:
        roles[LABELS_FILE] = ("y", matched.labels)
    return roles


def _settled(
    request: DataRequest, source: Source, matched: Match, cache: StepCache
) -> tuple[Path | None, Mapping[str, Any]]:
    """The folder of the prepared arrays (None: where they are) and what a pass over them has seen."""
    roles = _roles(matched)
    in_place = all(array.file is not None for _, array in roles.values())
    identity: dict[str, JSON] = {
        "source": source.identity,
        "arrays": {file: [name, list(array.shape), array.dtype.str] for file, (name, array) in roles.items()},
    }

    def produce(folder: Path) -> None:
        if not in_place:
            _check_space(folder, sum(array.total_bytes for _, array in roles.values()))
        meta: dict[str, Any] = {}
        for file, (name, array) in roles.items():
            scan = Scan(name)
            pieces = scan.over(array.pieces())
            if in_place:
                for _ in pieces:
                    pass
            else:
                npy.write(folder / file, array.shape, array.dtype, pieces)
            meta[file] = {"sha256": scan.sha256, "low": scan.low, "high": scan.high}
        atomic_write(folder / _META, json.dumps(meta, sort_keys=True))

    try:
        step = cache.run("look-through" if in_place else "prepare-data", VERSION, identity, produce)
    except StageError as error:
        raise StageError(error.reason, f"{request.uri}: {error.message}") from error
    meta: dict[str, Any] = json.loads((step.folder / _META).read_text())
    return (None if in_place else step.folder), meta


def _check_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataFault(f"its arrays take {wanted:,} bytes; the work directory's disk has {free:,} left")


def _info(
    request: DataRequest,
    split: Split,
    matched: Match,
    folder: Path | None,
    meta: Mapping[str, Any],
) -> DataInfo:
    shapes = {f"input{i}.npy": shape for i, shape in enumerate(matched.shapes.values())}
    shapes[LABELS_FILE] = matched.label_shape
    arrays: dict[str, ArrayInfo] = {}
    parents: set[Path] = set()
    for file, (_, array) in _roles(matched).items():
        stored = file if folder is not None or array.file is None else array.file.name
        if array.file is not None:
            parents.add(array.file.parent)
        arrays[file] = ArrayInfo(file=stored, shape=shapes[file], dtype=array.dtype.name)
    named = [*_inputs_by_name(matched), *([("y", LABELS_FILE)] if matched.labels else [])]
    return DataInfo(
        split=split,
        uri=request.uri,
        folder=str((folder or parents.pop()).absolute()),
        digest=digest_of((name, arrays[file], meta[file]["sha256"]) for name, file in named),
        samples=next(iter(matched.shapes.values()))[0],
        inputs={name: arrays[file] for name, file in _inputs_by_name(matched)},
        labels=arrays.get(LABELS_FILE),
    )


def digest_of(arrays: Iterable[tuple[str, ArrayInfo, str]]) -> str:
    """The digest of a split.

    Args:
        arrays: name (`y` for labels), description, and sha256 (hex) of the bytes in C order.
    """
    content = {name: [list(info.shape), info.dtype, sha256] for name, info, sha256 in arrays}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _inputs_by_name(matched: Match) -> list[tuple[str, str]]:
    return [(name, f"input{i}.npy") for i, name in enumerate(matched.inputs)]


# --- class indices ------------------------------------------------------------------------------------------


def _check_label_form(matched: Match, classes: int) -> None:
    labels = matched.labels
    if labels is None:
        return
    if labels.dtype.kind == "f":
        raise mismatch(f"the labels are {labels.dtype}; accuracy needs class indices as integers")
    if len(matched.label_shape) != 1:
        cure = "; take their argmax" if labels.shape[1:] == (classes,) else ""
        raise mismatch(
            f"the labels have shape {list(labels.shape)}; expected [{labels.shape[0]}] or "
            f"[{labels.shape[0]}, 1] class indices{cure}"
        )


def check_label_range(seen: Mapping[str, Any], classes: int) -> None:
    """Refuse class indices outside 0..classes-1.

    Raises:
        DataFault: naming the label and the sample where it stands.
    """
    for extreme in (seen["low"], seen["high"]):
        if extreme is not None and not 0 <= extreme[0] < classes:
            raise mismatch(
                f"label {extreme[0]} at sample {extreme[1]:,} is out of range; "
                f"the model has {classes} classes, so labels are 0 to {classes - 1}"
            )
