"""Data sets: where they come from, and what intake found in them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import Document

Uri = Annotated[str, Field(min_length=1, max_length=2048)]
PerChannel = Annotated[tuple[float, ...], Field(min_length=1, max_length=1024)]


class Split(StrEnum):
    """The parts of a data set; the search never sees `test`."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"
    TEST = "test"


class DataRequest(Document):
    """One split to open."""

    uri: Uri
    format: str | None = Field(
        None, description="`npz`, `npy`, `images`, or the name of an entry point in `paretune.datasets`."
    )


class Scaling(Document):
    """Model input = float32(x) * scale + offset; a number, or one per channel (last axis)."""

    scale: float | PerChannel = 1.0
    offset: float | PerChannel = 0.0


class ArrayInfo(Document):
    """One array of a prepared split."""

    file: str = Field(description="File name inside the split's folder.")
    shape: tuple[int, ...] = Field(description="Shape with the batch axis first, as the model takes it.")
    dtype: str


class DataInfo(Document):
    """A prepared split: a folder of .npy files, memory-mapped by whoever reads it.

    `inputs` maps the model's input names to arrays; `labels` is absent where the source has none.
    """

    split: Split
    uri: Uri
    folder: str = Field(description="Absolute path of the prepared folder.")
    digest: str = Field(description="sha256 over the arrays' bytes, shapes and types.")
    samples: int
    inputs: dict[str, ArrayInfo]
    labels: ArrayInfo | None = None
    class_names: tuple[str, ...] | None = Field(None, description="From folders of images: names by index.")
