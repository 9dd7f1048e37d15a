"""Rules on `spec.devices`."""

import re
from collections.abc import Iterator

from paretune_contract.settings import Scheme

from ..faults import Fault, listed
from ..study import DEFAULT_POOL, ETHOS_TARGET, RUNNABLE, SPARSE_RUNTIMES, Runtime
from .plain import Plain, entries, names_of, section, text, words


def device_faults(spec: Plain) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for i, device in entries(spec, "devices"):
        at, name = f"spec.devices[{i}]", text(device, "name")
        if name is not None and name in first:
            yield Fault(f"{at}.name", name, f"spec.devices[{first[name]}] has this name; expected another")
        elif name is not None:
            first[name] = i
        yield from _runtime_faults(at, device)
    yield from scheme_faults(spec)
    yield from encoding_faults(spec)


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


def scheme_faults(spec: Plain) -> Iterator[Fault]:
    """Schemes that a study lists by name must run on each device that it describes; pools tell later."""
    schemes = words(section(section(spec, "space"), "quantization"), "schemes")
    if schemes is None or not set(schemes) < set(Scheme):
        return
    for i, device in entries(spec, "devices"):
        runtime = text(device, "runtime")
        if text(device, "pool") is not None or runtime not in set(Runtime):
            continue
        able = RUNNABLE[Runtime(runtime)]
        wrong = [s for s in schemes if s != Scheme.NONE and s not in able]
        if wrong:
            yield Fault(
                "spec.space.quantization.schemes",
                listed(wrong),
                f"spec.devices[{i}] has runtime {runtime}, which runs {names_of(able - {Scheme.NONE})}; "
                "leave the others out",
            )


def encoding_faults(spec: Plain) -> Iterator[Fault]:
    """Sparse files must run on each device that a study describes; pools tell later."""
    if "sparse" not in (words(section(section(spec, "space"), "sparsity"), "encodings") or ()):
        return
    for i, device in entries(spec, "devices"):
        runtime = text(device, "runtime")
        if text(device, "pool") is not None or runtime not in set(Runtime) - SPARSE_RUNTIMES:
            continue
        yield Fault(
            "spec.space.sparsity.encodings",
            "sparse",
            f"spec.devices[{i}] has runtime {runtime}, which reads dense files only; leave sparse out",
        )


def device_names(spec: Plain) -> list[str] | None:
    """Names of the devices; None when they cannot be told because of other faults."""
    devices = spec.get("devices")
    if devices is None or devices == []:
        return [DEFAULT_POOL]
    names = [text(device, "name") for _, device in entries(spec, "devices")]
    complete = isinstance(devices, list) and len(names) == len(devices)
    return list(dict.fromkeys(n for n in names if n)) if complete and None not in names else None
