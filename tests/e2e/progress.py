"""Lines that say what is done and how long it took; the same lines in a file, for the table at the end."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

BEGAN = "PARETUNE_E2E_BEGAN"
"""Environment variable with the run's beginning on the machine's monotonic clock, for the process inside."""


class Progress:
    """Phases of one run.

    Args:
        file: a line of JSON for each finished phase; the process inside adds to the file of the one outside.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        if BEGAN not in os.environ:
            os.environ[BEGAN] = str(time.monotonic())
            file.unlink(missing_ok=True)
        self._began = float(os.environ[BEGAN])

    def say(self, text: str) -> None:
        """One line with the time since the beginning."""
        sys.stdout.write(f"[{time.monotonic() - self._began:6.1f} s] {text}\n")
        sys.stdout.flush()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Something that takes its time; the line at its end says how long, and whether it failed."""
        self.say(f"{name} ...")
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.say(f"{name}: not done")
            raise
        seconds = time.monotonic() - began
        self.say(f"{name}: {seconds:.1f} s")
        with self._file.open("a") as file:
            file.write(json.dumps({"phase": name, "seconds": round(seconds, 1)}) + "\n")

    def table(self) -> str:
        """All phases so far with their seconds."""
        if not self._file.exists():
            return ""
        found = [json.loads(line) for line in self._file.read_text().splitlines()]
        width = max((len(each["phase"]) for each in found), default=0)
        lines = [f"{each['phase']:{width}}  {each['seconds']:7.1f} s" for each in found]
        return "\n".join([*lines, f"{'all':{width}}  {time.monotonic() - self._began:7.1f} s"])
