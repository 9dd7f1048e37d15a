"""Reading a study's document as it stands, when its parts may be of any type."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..faults import listed

Plain = Mapping[str, Any]
PARTS = ("train", "calibration", "evaluation", "test")


def sources(spec: Plain) -> Iterator[tuple[str, Plain]]:
    yield "spec.model", section(spec, "model")
    for part in PARTS:
        yield f"spec.dataset.{part}", section(section(spec, "dataset"), part)


def section(plain: Plain, name: str) -> Plain:
    found = plain.get(name)
    return found if isinstance(found, Mapping) else {}


def entries(plain: Plain, name: str) -> Iterator[tuple[int, Plain]]:
    found = plain.get(name)
    if isinstance(found, list | tuple):
        yield from ((i, entry) for i, entry in enumerate(found) if isinstance(entry, Mapping))


def text(plain: Plain, name: str) -> str | None:
    found = plain.get(name)
    return found if isinstance(found, str) else None


def words(plain: Plain, name: str) -> list[str] | None:
    found = plain.get(name)
    return [word for word in found if isinstance(word, str)] if isinstance(found, list | tuple) else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def given(spec: Plain, part: str) -> bool:
    """Whether `dataset` has a part. Where the data set holds faults of its own this is not judged: yes."""
    dataset = spec.get("dataset")
    if not isinstance(dataset, Mapping) or not {*dataset} <= {*PARTS, "scale", "offset"}:
        return True
    return dataset.get(part) is not None


def names_of(schemes: frozenset[Any]) -> str:
    return listed(sorted(s.value for s in schemes))
