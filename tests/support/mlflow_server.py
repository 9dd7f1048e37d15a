"""A real MLflow tracking server as a process, and servers that are none."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

_LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven more processes of 240 MB each otherwise


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def hanging_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@contextlib.contextmanager
def tracking_server(folder: Path, migrated: Path, *arguments: str, port: int | None = None) -> Iterator[str]:
    """A server that serves artifacts by proxy.

    Args:
        folder: for its database, artifacts and log; what is there already is served again.
        migrated: sqlite database to begin with, since a migration takes seconds.
        arguments: further ones of `mlflow server`.
        port: where it listens; None: anywhere.
    """
    port = port or closed_port()
    folder.mkdir(parents=True, exist_ok=True)
    database, log_file = folder / "server.db", folder / "server.log"
    if not database.exists():
        shutil.copyfile(migrated, database)
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}",
        "--artifacts-destination", str(folder / "served"), "--port", str(port), "--workers", "1", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **_LEAN}
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300  # a server that starts on a busy machine takes its time
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=10).close()  # noqa: S310
                break
            except OSError:
                assert process.poll() is None, log_file.read_text()
                assert time.monotonic() < deadline, "the tracking server did not start"
                time.sleep(0.25)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()
