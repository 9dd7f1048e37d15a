"""Rules over several fields of a study.

They look at the plain document, so that they find what they can when other fields are faulty: a value of the
wrong type is left to the types, and what depends on a fault is not judged.
"""

from pathlib import Path

from ..faults import Fault
from .devices import device_faults
from .layers import layer_faults
from .objectives import objective_faults
from .plain import Plain
from .references import installed_faults, uri_faults
from .space import space_faults

__all__ = ["cross_faults"]


def cross_faults(spec: Plain, base: Path | None = None) -> list[Fault]:
    """Faults that no single field shows.

    Args:
        spec: `spec` of the document, as plain data.
        base: folder of the manifest; with it the files that the study names are looked for on this machine.
    """
    return [
        *device_faults(spec),
        *objective_faults(spec),
        *space_faults(spec),
        *layer_faults(spec),
        *uri_faults(spec, base),
        *installed_faults(spec, base),
    ]
