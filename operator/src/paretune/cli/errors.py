"""What ends a command, with its exit code."""

from collections.abc import Iterable


class BadInput(Exception):
    """Exit 2: each line names what is wrong and what would be right."""

    exit_code = 2

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))


class NothingFeasible(BadInput):
    """Exit 3: the study finished, and no trial meets the constraints."""

    exit_code = 3


class Failed(BadInput):
    """Exit 1: the study could not go on."""

    exit_code = 1
