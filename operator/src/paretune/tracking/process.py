"""The process that writes to one MLflow server, as the one who asks it sees it."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune_contract.serving import PARENT
from pydantic import TypeAdapter, ValidationError

from .credentials import environment, hide, read_credentials
from .redact import redact, redact_text
from .sync import SyncReport

_REPORT = TypeAdapter(SyncReport)
_TICK = 0.5  # seconds between two looks at whether to give up


class WriterProcess:
    """Started when it is first asked, and again when it died or its server's credentials changed.

    Args:
        uri: the server's tracking URI.
        credentials: folder of the server's credentials, see `credentials.NAMES`; None: none.
        log: file for what the process prints.
    """

    def __init__(self, uri: str, credentials: Path | None, log: Path) -> None:
        self._uri, self._credentials, self._log = uri, credentials, log
        self._secrets: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = False

    def ask(self, request: Mapping[str, Any], timeout: float) -> SyncReport:
        """What came of a request. Never raises: a process that dies or hangs is a server that is down."""
        try:
            process = self._started()
            assert process.stdin is not None
            process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
            process.stdin.flush()
            reply = self._line(process, timeout)
            report = _REPORT.validate_json(reply) if reply else self._silence(process, timeout)
        except (OSError, ValidationError, subprocess.SubprocessError) as error:
            self.stop()
            report = SyncReport(
                0, 1, f"MLflow at {redact(self._uri)} cannot be written to: {error}", unavailable=True
            )
        return SyncReport(
            report.written, report.left, hide(report.error, self._secrets.values()), report.unavailable
        )

    def give_up(self) -> None:
        """Make a running `ask` return soon, from another thread."""
        self._given_up = True

    def stop(self) -> None:
        """End the process; the next request starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not flushed is lost with the process
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        secrets = read_credentials(self._credentials)
        if secrets != self._secrets or (self._process is not None and self._process.poll() is not None):
            self.stop()
        if self._process is None:
            self._secrets = secrets
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "paretune.tracking.serve"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**environment(os.environ, secrets), PARENT: str(os.getpid())},
                    start_new_session=True,
                )
        return self._process

    def _line(self, process: subprocess.Popen[bytes], timeout: float) -> bytes:
        """The reply; nothing when the process ends or the time is over first."""
        assert process.stdout is not None
        handle, until, found = process.stdout.fileno(), time.monotonic() + timeout, b""
        while not found.endswith(b"\n"):
            if self._given_up or time.monotonic() >= until:
                return b""
            if select.select([handle], [], [], _TICK)[0]:
                part = os.read(handle, 1 << 16)
                if not part:
                    return b""
                found += part
        return found

    def _silence(self, process: subprocess.Popen[bytes], timeout: float) -> SyncReport:
        place = redact(self._uri)
        if self._given_up:
            why = f"MLflow at {place} was not waited for any longer"
        elif process.poll() is None:
            why = f"MLflow at {place} did not take it within {timeout:.0f} s"
        else:
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            why = f"the process that writes to MLflow at {place} ended with code {process.returncode}"
            why += f": {redact_text(last)[:300]}" if last else ""
        self.stop()
        return SyncReport(0, 1, why, unavailable=True)
