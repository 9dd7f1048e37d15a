"""What is remembered of a study from look to look. All of it can be had again."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ..api import OptimizationTrial
from ..search.choices import SearchSpace
from ..search.front import FrontDocument


class Shown(NamedTuple):
    """What tracking was shown: records and front, how the study stands, generation of its manifest."""

    objects: tuple[object, ...]
    state: str
    generation: int


@dataclass
class Known:
    """What is remembered of one study.

    Args:
        written: when its status was written.
        active: when its active time was counted last, and the seconds until then.
        space: the search space, and what it was made from.
        front: the front, and the final records that it was made from.
        shown: what tracking was shown last; None: nothing.
        settled: version of the study, and changes of its children, with which nothing was left to do.
    """

    written: datetime | None = None
    active: tuple[datetime, float] | None = None
    space: tuple[object, SearchSpace] | None = None
    front: tuple[tuple[OptimizationTrial, ...], FrontDocument] | None = None
    shown: Shown | None = None
    settled: tuple[str, int] | None = None


def same(some: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """The very same objects. Records are not changed in place."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))
