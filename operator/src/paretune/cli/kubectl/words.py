"""What conditions and times say, in a word."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]


def conditions(study: Json) -> dict[str, Json]:
    """The conditions of a study by type."""
    return {c["type"]: c for c in study.get("status", {}).get("conditions", ())}


def phase(study: Json) -> str:
    """Where a study stands: what kubectl's columns of conditions tell, in one word.

    `Deleting`, `Failed`, `Complete`, `Suspended`, `NotReady`, `Running`, or `Pending` before the operator has
    seen it.
    """
    found = conditions(study)

    def holds(kind: str) -> bool:
        return found.get(kind, {}).get("status") == "True"

    if study["metadata"].get("deletionTimestamp"):
        return "Deleting"
    if holds("Failed"):
        return "Failed"
    if holds("Complete"):
        return "Complete"
    if study["spec"].get("suspend"):
        return "Suspended"
    if found.get("Ready", {}).get("status") == "False":
        return "NotReady"
    return "Running" if holds("Progressing") else "Pending"


def why(study: Json) -> str:
    """The reason behind the phase, such as `DataMismatch`; empty where there is none to tell."""
    kind = {"Failed": "Failed", "Complete": "Complete", "NotReady": "Ready", "Running": "Progressing"}
    return str(conditions(study).get(kind.get(phase(study), ""), {}).get("reason", ""))


def over(study: Json) -> bool:
    """Nothing more will happen to the study by itself."""
    return phase(study) in ("Failed", "Complete")


def moment(text: str) -> datetime | None:
    """A time as RFC 3339 writes it; None when it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def age(text: str, now: datetime) -> str:
    """`45s`, `12m`, `5h10m`, `3d` since a time, as kubectl writes it; empty when there is none."""
    since = moment(text)
    return "" if since is None else short((now - since).total_seconds())


def short(seconds: float) -> str:
    """A duration in at most two units: `45s`, `12m`, `5h10m`, `3d`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 2:
        return f"{whole}s"
    if hours < 2:
        return f"{minutes}m"
    if hours < 24:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 3 and hours % 24 else f"{days}d"
