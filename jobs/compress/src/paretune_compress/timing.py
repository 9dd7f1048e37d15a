"""What a part of a stage cost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from paretune_contract.stages import Step


@contextmanager
def timed(name: str, steps: list[Step]) -> Iterator[None]:
    """Append a step with the seconds that the block took, if it ends well."""
    started = time.perf_counter()
    yield
    steps.append(Step(name=name, seconds=time.perf_counter() - started))
