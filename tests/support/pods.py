"""A pod's containers as processes, one after another over one work folder, as a node would start them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune_contract.stages import Result
from paretune_contract.task import TASK, Source, Store, StoreKind, Task
from paretune_contract.termination import LIMIT, from_message

MODULES = {
    "benchmark": "paretune_benchmark.pod",
    "retain": "paretune_store.pod",
    "purge": "paretune_store.pod",
}
FORBIDDEN = 'raise ImportError("TensorFlow is imported where it must not be")\n'


@dataclass
class Cluster:
    """A store in a folder, one claim with a study's sources, and pods.

    tensorflow: where false, the import of TensorFlow fails in all containers.
    """

    folder: Path
    study: str = "team/4f7d"
    kind: StoreKind = StoreKind.FOLDER
    uri: str = ""
    tensorflow: bool = False
    pods: int = field(default=0)

    def __post_init__(self) -> None:
        forbidden = self.folder / "forbidden" / "tensorflow"
        forbidden.mkdir(parents=True, exist_ok=True)
        (forbidden / "__init__.py").write_text(FORBIDDEN)
        self.claim.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True)

    @property
    def claim(self) -> Path:
        return self.folder / "claims" / "models"

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self.folder / "store"

    @property
    def store(self) -> Store:
        return Store(
            kind=self.kind, uri=self.uri or str(self.root), study=self.study,
            steps=f"{self.study.partition('/')[0]}/steps",
        )  # fmt: skip

    def source(self, name: str, format: str | None = None) -> Source:
        """A file or folder of the claim."""
        return Source(uri=f"pvc://models/{name}", format=format)

    def task(self, name: str, **part: Any) -> Task:
        return Task(store=self.store, name=name, **part)

    def pod(self, task: Task, **environment: str) -> "Pod":
        """A pod that has not started yet."""
        self.pods += 1
        return Pod(self, task, self.folder / f"pod{self.pods}", environment)

    def names(self) -> set[str]:
        """Objects of the store."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix() for path in files}


@dataclass
class Pod:
    """Its containers are run one by one with `run`, or all with `all`."""

    cluster: Cluster
    task: Task
    folder: Path
    environment: Mapping[str, str]
    messages: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def run(self, container: str, code: int = 0) -> str:
        """One container; its termination message. It must end with this code."""
        self.work.mkdir(parents=True, exist_ok=True)
        termination = self.folder / f"{container}.message"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PARETUNE_", "HOME"))},
            TASK: self.task.model_dump_json(by_alias=True),
            "PARETUNE_WORK": str(self.work),
            "PARETUNE_SECRETS": str(self.cluster.folder / "secrets"),
            "PARETUNE_CLAIMS": str(self.cluster.folder / "claims"),
            "PARETUNE_TERMINATION_LOG": str(termination),
            **self.environment,
        }
        if not self.cluster.tensorflow:
            paths = (str(self.cluster.folder / "forbidden"), self.environment.get("PYTHONPATH", ""))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        module = MODULES.get(self.task.stage, "paretune_compress.pod")
        done = subprocess.run(
            [sys.executable, "-m", module, container],
            env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, f"{container}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        message = termination.read_text() if termination.exists() else ""
        assert len(message.encode()) <= LIMIT
        self.messages[container], self.logs[container] = message, done.stderr
        return message

    def all(self) -> Result:
        """All containers of a stage; what the operator reads in the end."""
        for container in ("fetch", "stage"):
            assert self.run(container) == ""
        return from_message(self.run("upload"), self.task.stage)

    @property
    def request(self) -> dict[str, Any]:
        """What `fetch` left for `stage`."""
        request: dict[str, Any] = json.loads((self.work / "request.json").read_text())
        return request
