"""Steps that are there already: for finding out what is missing before anything is made."""

from collections.abc import Callable, Mapping
from pathlib import Path

from .steps import JSON, CachedStep, StepCache, step_key


class Missing(Exception):
    """A step that was never done.

    Attributes:
        step: its name.
    """

    def __init__(self, step: str) -> None:
        super().__init__(f"step {step!r} is not in the cache")
        self.step = step


class KnownSteps(StepCache):
    """A cache that makes nothing: who runs steps finds those that are known, and stops at the first other.

    Args:
        root: see StepCache.
        pull: brings the entry of a key into the folder, where another place has it.
    """

    def __init__(self, root: Path, pull: Callable[[str], object]) -> None:
        super().__init__(root)
        self._pull = pull

    def run(
        self,
        name: str,
        version: int,
        inputs: Mapping[str, JSON],
        produce: Callable[[Path], None],  # noqa: ARG002 - never called
    ) -> CachedStep:
        """The files of a step that is known.

        Raises:
            Missing: when it is not.
            StageError: the failure that the step ended with, where that is known; what `pull` raises.
        """

        def refuse(_: Path) -> None:
            raise Missing(name)

        self._pull(step_key(name, version, inputs))
        return super().run(name, version, inputs, refuse)
