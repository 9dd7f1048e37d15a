"""Which array is which input, and whether it fits. Decisions only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretune_contract.dataset import Scaling
from paretune_contract.model import TensorInfo

from .faults import DataFault, mismatch
from .sources import LABELS, SAMPLES, ArraySource, Source


@dataclass(frozen=True)
class Match:
    """The arrays of a source in the roles that the model gives them.

    Attributes:
        inputs: by the model's input names.
        shapes: of the inputs as the model takes them, the samples' axis first.
        labels: None where the source has none.
        label_shape: of the labels as they are used; a trailing axis of 1 of class indices is dropped.
        notes: sentences for people.
    """

    inputs: Mapping[str, ArraySource]
    shapes: Mapping[str, tuple[int, ...]]
    labels: ArraySource | None
    label_shape: tuple[int, ...]
    notes: tuple[str, ...]


def match(source: Source, inputs: Sequence[TensorInfo]) -> Match:
    """Give each array its role.

    Raises:
        DataFault: when an input has no array, shapes do not fit, or lengths differ.
    """
    found = {tensor.name: _array_of(tensor, source, alone=len(inputs) == 1) for tensor in inputs}
    labels_name = LABELS if all(name != LABELS for name, _ in found.values()) else ""
    if labels_name in source.faults:
        raise source.faults[labels_name]
    labels = source.arrays.get(labels_name)
    shapes, notes = {}, []
    for tensor in inputs:
        name, array = found[tensor.name]
        shapes[tensor.name] = fit(name, array.shape, tensor)
        if shapes[tensor.name] != array.shape:
            notes.append(
                f"array {name!r} of shape {list(array.shape)} is used as {list(shapes[tensor.name])} "
                f"(an axis of 1 was added)"
            )
    lengths = {name: array.shape[0] for name, array in found.values()}
    if labels is not None:
        lengths[labels_name] = labels.shape[0]
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {n:,}" for name, n in lengths.items())
        raise mismatch(f"the arrays have different numbers of samples: {listed}")
    return Match(
        inputs={name: array for name, (_, array) in found.items()},
        shapes=shapes,
        labels=labels,
        label_shape=_label_shape(labels),
        notes=tuple(notes),
    )


def _array_of(tensor: TensorInfo, source: Source, *, alone: bool) -> tuple[str, ArraySource]:
    plain = re.sub(r"^serving_default_|:\d+$", "", tensor.name)
    names = [SAMPLES, tensor.name, plain] if alone else [tensor.name, plain]
    for name in names:
        if name in source.faults:
            raise source.faults[name]
        if name in source.arrays:
            return name, source.arrays[name]
    wanted = f"{SAMPLES!r} (or {tensor.name!r})" if alone else f"{tensor.name!r}, an input of the model,"
    there = ", ".join(sorted({*source.arrays, *source.faults})) or "none"
    raise DataFault(f"no array is named {wanted}; found: {there}")


def fit(name: str, shape: tuple[int, ...], tensor: TensorInfo) -> tuple[int, ...]:
    """The shape in which an array feeds an input: its own, or with missing axes of 1 added.

    Raises:
        DataFault: naming both shapes, when it does not fit.
    """
    wanted = tensor.shape[1:]
    if shape[1:] == wanted or _fits_with_ones(shape[1:], wanted):
        return (shape[0], *wanted)
    raise mismatch(
        f"array {name!r} has shape {list(shape)}, the model's input {tensor.name!r} takes "
        f"{list(tensor.shape)}: expected [{shape[0]}, {', '.join(map(str, wanted))}]"
    )


def _fits_with_ones(have: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether `wanted` is `have` with axes of 1 put in."""
    rest = list(have)
    for size in wanted:
        if rest and rest[0] == size:
            rest.pop(0)
        elif size != 1:
            return False
    return not rest


def _label_shape(labels: ArraySource | None) -> tuple[int, ...]:
    if labels is None:
        return ()
    if labels.dtype.kind in "biu" and len(labels.shape) == 2 and labels.shape[1] == 1:
        return labels.shape[:1]
    return labels.shape


def check_scaling(scaling: Scaling, inputs: Sequence[TensorInfo]) -> None:
    """Refuse a scale or offset with another number of values than the last axis of each input.

    Raises:
        DataFault: naming the field and both lengths.
    """
    for field, value in (("scale", scaling.scale), ("offset", scaling.offset)):
        if isinstance(value, tuple):
            for tensor in inputs:
                last = tensor.shape[-1] if len(tensor.shape) > 1 else 1
                if len(value) != last:
                    raise mismatch(
                        f"dataset.{field} has {len(value)} values; the last axis of the model's input "
                        f"{tensor.name!r} ({list(tensor.shape)}) has {last}"
                    )
