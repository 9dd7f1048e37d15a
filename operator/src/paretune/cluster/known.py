"""What is remembered of a study from look to look. All of it can be had again."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from ..search.choices import SearchSpace
from ..search.front import FrontDocument


@dataclass
class Known:
    """What is remembered of one study.

    Args:
        written: when its status was written.
        active: when its active time was counted last, and the seconds until then.
        space: the search space, and what it was made from.
        front: the front, and versions of the records that it was made from.
        shown: what tracking was shown last: versions of all records, and how the study stood.
        states: trials by state.
        settled: version of the study, and changes of its children, with which nothing was left to do.
    """

    written: datetime | None = None
    active: tuple[datetime, float] | None = None
    space: tuple[object, SearchSpace] | None = None
    front: tuple[object, FrontDocument] | None = None
    shown: object = None
    states: Counter[str] = field(default_factory=Counter)
    settled: tuple[str, int] | None = None
