"""Where a measurement was taken."""

import os
import platform
import re
import subprocess
from pathlib import Path

from paretune_contract.stages import Environment

from .runtime import runtime_version

NODE_NAME = "PARETUNE_NODE_NAME"
"""Environment variable with the node's name; in a pod the host name is the pod's."""


def environment(threads: int, accelerated: bool) -> Environment:
    """This machine, this process and its runtime.

    Args:
        threads: threads that the kernels used.
        accelerated: XNNPACK ran at least a part of one of the models.
    """
    return Environment(
        node=os.environ.get(NODE_NAME) or platform.node(),
        cpu=_cpu(),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        runtime=f"{runtime_version()} ({'XNNPACK' if accelerated else 'builtin kernels'})",
        threads=threads,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
    )


def cpu_model(cpuinfo: str) -> str | None:
    """The CPU's name from the text of /proc/cpuinfo; None where it gives none.

    x86 has `model name`. ARM kernels give the board (`Model`, `Hardware`), or at least the numbers of
    implementer and part of each core.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines() if ":" in line)
    fields: dict[str, list[str]] = {}
    for key, _, value in lines:
        if value.strip():
            fields.setdefault(key.strip(), []).append(value.strip())
    for key in ("model name", "Model", "Hardware", "cpu model", "uarch"):
        if key in fields:
            return re.sub(r"\s+", " ", fields[key][0])
    parts = zip(fields.get("CPU implementer", []), fields.get("CPU part", []), strict=False)
    cores = sorted({f"{implementer}/{part}" for implementer, part in parts})
    return f"ARM implementer/part {', '.join(cores)}" if cores else None


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (name := cpu_model(cpuinfo.read_text(errors="replace"))):
        return name
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
    return platform.processor() or platform.machine()
