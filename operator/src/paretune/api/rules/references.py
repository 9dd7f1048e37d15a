"""Rules on what a study points to: URIs, and what must be installed."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from ..faults import Fault, listed
from ..metrics import BUILT_IN
from ..uris import (
    is_local,
    local_path,
    source_complaint,
    store_complaint,
    tracking_complaint,
    without_password,
)
from .plain import Plain, entries, section, sources, text

FORMATS = ("npz", "npy", "images")
"""Data formats that every installation reads."""


def uri_faults(spec: Plain, base: Path | None) -> Iterator[Fault]:
    for at, source in sources(spec):
        uri, own = text(source, "uri"), text(source, "format")
        if uri is None or (own is not None and own not in FORMATS):
            continue  # a data set of the user's own knows what its URI means
        complaint = source_complaint(uri, model=at == "spec.model")
        if complaint:
            yield Fault(f"{at}.uri", without_password(uri), complaint)
        elif base is not None and (path := local_path(uri, base)) is not None:
            yield from _path_faults(f"{at}.uri", uri, path)
    for at, complain in (("artifacts", store_complaint), ("tracking", tracking_complaint)):
        uri = text(section(spec, at), "uri")
        if uri and (complaint := complain(uri)):
            yield Fault(f"spec.{at}.uri", without_password(uri), complaint)


def _path_faults(at: str, uri: str, path: Path) -> Iterator[Fault]:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        cause = "does not exist" if missing else getattr(error, "strerror", None) or str(error)
        yield Fault(
            at, uri, f"{path.absolute()}: {cause}; expected a file or folder, relative to the manifest's"
        )


def installed_faults(spec: Plain, base: Path | None) -> Iterator[Fault]:
    """A study on local files runs on this machine, so what it calls for by name must be installed here."""
    named = list(sources(spec))
    if base is None or not any(is_local(text(s, "uri") or "pvc:") for _, s in named):
        return
    for at, source in named:
        known = (*FORMATS, *_installed("paretune.datasets"))
        if (form := text(source, "format")) is not None and form not in known:
            yield Fault(f"{at}.format", form, f"no such data format here; expected one of {listed(known)}")
    for i, objective in entries(spec, "objectives"):
        name = text(objective, "metric")
        if name is None or name in BUILT_IN or text(objective, "goal") is None or "/" in name:
            continue
        if name not in (own := _installed("paretune.metrics")):
            yield Fault(
                f"spec.objectives[{i}].metric",
                name,
                f"no such metric here; built in: {listed(BUILT_IN)}; installed: {listed(own) or 'none'}",
            )


def _installed(group: str) -> list[str]:
    return sorted({point.name for point in entry_points(group=group)})
