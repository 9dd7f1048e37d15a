"""kubectl and helm for one cluster."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BIN = Path(__file__).resolve().parents[2] / ".tools/bin"
FORWARD_SECONDS = 30.0


class Failed(Exception):
    """The run came to its end too early; the text says why."""


class Tools:
    """Both programs with one kubeconfig.

    Args:
        kubeconfig: of an administrator.
        log: every command and what it said goes there.
    """

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.kubeconfig = kubeconfig
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)

    def kubectl(self, *arguments: str, data: bytes | None = None, check: bool = True) -> str:
        """What kubectl prints.

        Args:
            arguments: of kubectl.
            data: its standard input.
            check: whether a failure is one of the run.

        Raises:
            Failed: with kubectl's message.
        """
        return self._run("kubectl", arguments, data, check)

    def helm(self, *arguments: str, check: bool = True) -> str:
        """What helm prints.

        Args:
            arguments: of helm.
            check: whether a failure is one of the run.

        Raises:
            Failed: with helm's message.
        """
        return self._run("helm", arguments, None, check)

    def get(self, kind: str, name: str = "", namespace: str = "") -> dict[str, Any]:
        """An object, or a list of them when no name is given; empty when there is none.

        Raises:
            Failed: when the API server does not answer.
        """
        inside = ["--namespace", namespace] if namespace else []
        words = [kind, *([name] if name else [])]
        text = self.kubectl("get", *words, *inside, "--ignore-not-found", "--output", "json")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def items(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, in one namespace or all."""
        inside = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *inside, "--output", "json"))[
            "items"
        ]
        return found

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply documents.

        Raises:
            Failed: when the API server refuses one.
        """
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        self.kubectl("apply", "--filename", "-", data=text.encode())

    @contextlib.contextmanager
    def forwarded(self, namespace: str, service: str, port: int) -> Iterator[int]:
        """A loopback port that leads to a Service meanwhile.

        Raises:
            Failed: when kubectl does not forward.
        """
        command = self._command(
            "kubectl", ["--namespace", namespace, "port-forward", f"service/{service}", f":{port}"]
        )
        said = self._log.with_suffix(".forward.log")
        with said.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            end = time.monotonic() + FORWARD_SECONDS
            while not (found := re.search(r"127\.0\.0\.1:(\d+) ->", said.read_text())):
                if process.poll() is not None or time.monotonic() > end:
                    raise Failed(
                        f"service {namespace}/{service} is not forwarded: {said.read_text().strip()}"
                    )
                time.sleep(0.1)
            yield int(found[1])
        finally:
            process.kill()
            process.wait()

    def _command(self, program: str, arguments: list[str]) -> list[str]:
        return [str(BIN / program), "--kubeconfig", str(self.kubeconfig), *arguments]

    def _run(self, program: str, arguments: tuple[str, ...], data: bytes | None, check: bool) -> str:
        done = subprocess.run(
            self._command(program, [*arguments]), check=False, input=data, capture_output=True
        )
        output, error = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()
        if arguments[0] != "get" or done.returncode:
            with self._log.open("a") as log:
                log.write(f"$ {program} {' '.join(arguments)}\n{output}{error}\n")
        if done.returncode and check:
            raise Failed(f"{program} {' '.join(arguments)}: {error}")
        return output
