"""Folders of images by class name: CLASS/FILE, decoded and resized to the model's input."""

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import DataFault, mismatch
from .npy import stamp
from .sources import LABELS, SAMPLES, ArraySource, Source

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm"})
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")
MAX_PIXELS = 64_000_000
_MODES = {1: "L", 3: "RGB"}


def holds_images(folder: Path) -> bool:
    """Whether a subfolder holds at least one image."""
    return any(_images(child) for child in sorted(folder.iterdir()) if child.is_dir())


def open_images(folder: Path, input_shape: tuple[int, ...]) -> Source:
    """Images of a folder as `x` (uint8) and the index of their class as `y`.

    Classes are the subfolders in the order of their names. Samples come in an order that mixes the classes
    and depends on the names alone, so that the first part of the set is a fair sample of it.

    Args:
        folder: with one subfolder for each class.
        input_shape: of the model's only input, [1, height, width, 1 or 3].

    Raises:
        DataFault: when there is no image, or the model takes no images.
    """
    if len(input_shape) != 4 or input_shape[3] not in _MODES:
        raise mismatch(
            f"a folder of images needs a model with an input of [1, height, width, 1 or 3]; "
            f"this one takes {list(input_shape)}"
        )
    height, width, channels = input_shape[1:]
    classes = [
        child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")
    ]
    found = [(path, label) for label, child in enumerate(classes) for path in _images(child)]
    empty = [child.name for child in classes if not _images(child)]
    if not found:
        raise DataFault("no image was found; expected CLASS/FILE.png (or .jpg, .bmp, .gif, .webp, .ppm)")
    if empty:
        raise DataFault(f"the class {empty[0]!r} holds no image; remove the folder or fill it")
    found.sort(key=lambda item: hashlib.sha256(item[0].relative_to(folder).as_posix().encode()).digest())
    labels = np.array([label for _, label in found], np.int64)

    def pixels(rows: int) -> Iterator[NDArray[Any]]:
        for first in range(0, len(found), rows):
            batch = [decode(path, folder, height, width, channels) for path, _ in found[first : first + rows]]
            yield np.stack(batch)

    def indices(rows: int) -> Iterator[NDArray[Any]]:
        yield from (labels[first : first + rows] for first in range(0, len(labels), rows))

    listing = hashlib.sha256(repr([stamp(path) for path, _ in found]).encode()).hexdigest()
    return Source(
        arrays={
            SAMPLES: ArraySource((len(found), height, width, channels), np.dtype(np.uint8), pixels),
            LABELS: ArraySource((len(found),), np.dtype(np.int64), indices),
        },
        identity={"images": listing, "input": list(input_shape), "classes": [c.name for c in classes]},
        class_names=tuple(child.name for child in classes),
        notes=(
            f"{len(found):,} images of {len(classes)} classes, resized to {height}x{width} (bilinear), "
            f"{'gray' if channels == 1 else 'RGB'}",
        ),
    )


def decode(path: Path, folder: Path, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """One image as uint8 [height, width, channels], turned as its EXIF says, bilinear.

    Raises:
        DataFault: naming the file, when it is corrupt, too large, or has more than 8 bits for each value.
    """
    from PIL import Image, ImageOps

    name = path.relative_to(folder).as_posix()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataFault(
                        f"image {name} has {image.width}x{image.height} pixels; "
                        f"at most {MAX_PIXELS:,} are decoded"
                    )
                if image.mode.startswith(("I", "F")):
                    raise DataFault(f"image {name} has mode {image.mode}; expected 8 bits for each value")
                upright = ImageOps.exif_transpose(image)
                small = upright.convert(_MODES[channels]).resize((width, height), Image.Resampling.BILINEAR)
    except DataFault:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataFault(
            f"image {name} is corrupt or no image: {str(error).replace(str(path), name)}"
        ) from error
    return np.asarray(small, np.uint8).reshape(height, width, channels)


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
