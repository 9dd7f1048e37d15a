"""What a plan can ask for. Whoever acts on it (this machine, a cluster) adds nothing of its own."""

from dataclasses import dataclass

from ..api import State
from .observed import Work


@dataclass(frozen=True)
class Ask:
    """Suggest settings for this number and write its record, before anything of it runs."""

    number: int


@dataclass(frozen=True)
class Run:
    """Start a stage."""

    work: Work


@dataclass(frozen=True)
class Copy:
    """Take the measurements of an earlier trial with equal bytes."""

    number: int
    pool: str
    source: int


@dataclass(frozen=True)
class Conclude:
    """Give a trial its final state."""

    number: int
    state: State
    reason: str
    message: str


@dataclass(frozen=True)
class Finish:
    """The study is over."""

    reason: str
    message: str
    failed: bool = False


Action = Ask | Run | Copy | Conclude | Finish


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they are to be done, and a sentence on what the study waits for."""

    actions: tuple[Action, ...] = ()
    phase: str = "Searching"
