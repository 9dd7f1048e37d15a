"""Rules on `spec.devices`."""

import re
from collections.abc import Iterator

from ..faults import Fault
from ..study import DEFAULT_POOL, ETHOS_TARGET
from .plain import Plain, entries, text


def device_faults(spec: Plain) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for i, device in entries(spec, "devices"):
        at, name = f"spec.devices[{i}]", text(device, "name")
        if name is not None and name in first:
            yield Fault(f"{at}.name", name, f"spec.devices[{first[name]}] has this name; expected another")
        elif name is not None:
            first[name] = i
        yield from _runtime_faults(at, device)


def _runtime_faults(at: str, device: Plain) -> Iterator[Fault]:
    runtime, target = text(device, "runtime"), text(device, "target")
    if text(device, "pool") is not None:
        for field in ("runtime", "target"):
            if (value := text(device, field)) is not None:
                yield Fault(f"{at}.{field}", value, "the pool knows it; leave it out, or leave pool out")
    elif runtime == "ethos-u" and not (target and re.fullmatch(ETHOS_TARGET, target)):
        yield Fault(
            f"{at}.target",
            target,
            "runtime ethos-u needs the accelerator's configuration, such as ethos-u55-128, ethos-u65-256 or "
            "ethos-u85-512",
        )
    elif target is not None and runtime in (None, "litert", "edgetpu"):
        yield Fault(f"{at}.target", target, f"runtime {runtime or 'litert'} has no targets; leave it out")


def device_names(spec: Plain) -> list[str] | None:
    """Names of the devices; None when they cannot be told because of other faults."""
    devices = spec.get("devices")
    if devices is None or devices == []:
        return [DEFAULT_POOL]
    names = [text(device, "name") for _, device in entries(spec, "devices")]
    complete = isinstance(devices, list) and len(names) == len(devices)
    return list(dict.fromkeys(n for n in names if n)) if complete and None not in names else None
