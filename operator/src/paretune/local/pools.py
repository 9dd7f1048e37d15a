"""Which device pools this machine can be."""

from collections.abc import Collection

from ..api import Runtime
from ..api.study import Device, StudySpec
from .workdir import LocalPool


class PoolNotHere(Exception):
    """A pool of the study cannot be this machine. The message names the pool and the cure."""


def local_pools(
    spec: StudySpec, *, cores: int, without: Collection[str] = (), as_local: Collection[str] = ()
) -> tuple[LocalPool, ...]:
    """The study's devices as this machine plays them.

    Args:
        spec: the study.
        cores: cores of this machine.
        without: names of devices to leave out, with their objectives.
        as_local: names of devices to measure here all the same; their metrics are tagged as proxies.

    Raises:
        PoolNotHere: when a device is something else than this machine, needs more threads than it has cores,
            or when an option names a device that the study does not have.
    """
    devices = {d.name: d for d in spec.effective_devices}
    for option, names in (("--without", without), ("--as-local", as_local)):
        for name in names:
            if name not in devices:
                raise PoolNotHere(
                    f"{option} {name}: the study has no such device; it has {', '.join(devices)}"
                )
    pools = []
    for name, device in devices.items():
        if name in without:
            continue
        cause = _elsewhere(device)
        if cause and name not in as_local:
            raise PoolNotHere(
                f"device {name}: {cause}. Leave it out with --without {name} (its objectives are dropped), "
                f"or measure it here as a proxy with --as-local {name}."
            )
        if device.threads > cores:
            raise PoolNotHere(
                f"device {name}: threads {device.threads} are more than this machine's {cores} cores. "
                f"Leave it out with --without {name}, or set its threads to at most {cores}."
            )
        pools.append(LocalPool(name=name, threads=device.threads, proxy=name in as_local and bool(cause)))
    return tuple(pools)


def _elsewhere(device: Device) -> str:
    """Why this machine cannot be the device; empty where it can."""
    if device.pool is not None:
        return f"it is the pool {device.pool} of a cluster"
    if device.runtime not in (None, Runtime.LITERT):
        return f"this machine does not run {device.runtime.value}"
    return ""


def drop_devices(spec: StudySpec, without: Collection[str]) -> StudySpec:
    """The study without some devices and the objectives on them.

    Raises:
        PoolNotHere: when no objective would be left.
    """
    if not without:
        return spec
    objectives = tuple(o for o in spec.objectives if spec.device_of(o) not in without)
    if not objectives:
        raise PoolNotHere(f"--without {' '.join(sorted(without))}: no objective would be left")
    devices = tuple(d for d in spec.effective_devices if d.name not in without)
    return spec.model_copy(update={"objectives": objectives, "devices": devices})
