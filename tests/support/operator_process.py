"""The operator as a process of this machine, against any API server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .mlflow_server import closed_port

IMAGES = {
    "compress": "paretune/compress:test",
    "benchmark": "paretune/benchmark:test",
    "operator": "paretune/operator:test",
}


class OperatorProcess:
    """A running operator.

    Attributes:
        port: of probes and metrics.
        log: file with what it printed.
    """

    def __init__(self, kubeconfig: Path, config: Path, log: Path) -> None:
        self.port, self.log = closed_port(), log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "paretune.handlers",
                    "--config",
                    str(config),
                    "--port",
                    str(self.port),
                ],
                stdout=output,
                stderr=output,
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            )

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages; status 0 while it does not listen."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, as the kubelet does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def write_config(path: Path, **changes: Any) -> Path:
    """A configuration with images that nobody has, and no MLflow server."""
    document = {
        "images": IMAGES,
        "lease": {"name": "paretune-operator", "namespace": "default"},
        "reconcile": {"workers": 4, "statusSeconds": 0.5},
        "logLevel": "INFO",
        **changes,
    }
    path.write_text(yaml.safe_dump(document))
    return path


@contextlib.contextmanager
def operator(kubeconfig: Path, folder: Path, **changes: Any) -> Iterator[OperatorProcess]:
    """An operator that is the active one when the block begins.

    Args:
        kubeconfig: its access.
        folder: for configuration and log.
        changes: of the configuration, by its keys.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = write_config(folder / "config.yaml", **changes)
    running = OperatorProcess(kubeconfig, config, folder / "operator.log")
    try:
        deadline = time.monotonic() + 180
        while "paretune_leader 1.0" not in running.get("/metrics")[1]:
            assert running.process.poll() is None, running.log.read_text()[-3000:]
            assert time.monotonic() < deadline, (
                "the operator does not lead:\n" + running.log.read_text()[-3000:]
            )
            time.sleep(0.2)
        yield running
    finally:
        if running.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.stop()
