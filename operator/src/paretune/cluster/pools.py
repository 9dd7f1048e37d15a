"""The status of a DevicePool: how many nodes it has, and how many benchmarks run on it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..api import DevicePool
from ..api.meta import Condition
from ..api.pool import PoolSpec, PoolStatus
from ..plan.admission import holds
from . import observe
from .api import NODES, POOLS, Api, Json
from .cache import Cache
from .jobs import text_of

LOOK_AGAIN = 60.0


class PoolReconciler:
    """Keeps the status of DevicePools.

    Args:
        api: the API server.
        cache: what runs on them.
    """

    def __init__(self, api: Api, cache: Cache) -> None:
        self._api, self._cache = api, cache

    def __call__(self, name: str) -> float | None:
        """Look at a pool once; returns the seconds to the next look, None when it is gone."""
        document = self._api.get(POOLS, None, name)
        if document is None or document["metadata"].get("deletionTimestamp"):
            return None
        pool = DevicePool.model_validate(document)
        nodes = [n for n in self._api.list(NODES, labels=_selector(pool.spec)) if fits(n, pool.spec)]
        now = text_of(datetime.now(UTC))
        after = status_of(
            pool,
            len(nodes),
            observe.busy(self._cache, name),
            document["metadata"]["generation"],
            now,
        )
        if after != pool.status:
            plain = after.model_dump(mode="json", by_alias=True)
            self._api.replace(POOLS, {**document, "status": plain}, "status")
        return LOOK_AGAIN


def status_of(pool: DevicePool, nodes: int, running: int, generation: int, now: str) -> PoolStatus:
    """The status of a pool with so many nodes that match and are ready."""
    ready = nodes > 0
    message = (
        f"{nodes} node{'s' if nodes != 1 else ''} can run its benchmarks."
        if ready
        else f"No ready node matches {_words(pool.spec)}; benchmarks wait for {_time(pool.spec)}."
    )
    before = next((c for c in pool.status.conditions if c.type == "Ready"), None)
    truth = "True" if ready else "False"
    condition = Condition(
        type="Ready",
        status="True" if ready else "False",
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and before.status == truth else now,
        reason="NodesReady" if ready else "NoNodes",
        message=message,
    )
    return PoolStatus(
        observed_generation=generation, nodes=nodes, running=running, message=message, conditions=(condition,)
    )


def fits(node: Json, spec: PoolSpec) -> bool:
    """A node is ready, takes pods, has no taint that the pool does not tolerate, and has its devices."""
    if node["spec"].get("unschedulable"):
        return False
    conditions = node.get("status", {}).get("conditions", [])
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        return False
    taints = [t for t in node["spec"].get("taints", []) if t["effect"] in ("NoSchedule", "NoExecute")]
    if not all(any(_tolerates(t, taint) for t in spec.tolerations) for taint in taints):
        return False
    if not _near(node, spec.affinity or {}):
        return False
    there = node.get("status", {}).get("allocatable", {})
    devices = [name for name in spec.resources.limits if name not in ("cpu", "memory")]
    return all(there.get(name, "0") != "0" for name in devices)


def _near(node: Json, affinity: Mapping[str, Any]) -> bool:
    """A node has what required node affinity asks for: one of the terms, all of its expressions."""
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    labels, fields = node["metadata"].get("labels", {}), {"metadata.name": node["metadata"]["name"]}
    for term in required.get("nodeSelectorTerms", []):
        rules = [(rule, labels) for rule in term.get("matchExpressions") or []]
        rules += [(rule, fields) for rule in term.get("matchFields") or []]
        if rules and all(
            holds(rule["operator"], found.get(rule["key"]), rule.get("values") or []) for rule, found in rules
        ):
            return True
    return False


def _tolerates(toleration: Any, taint: Mapping[str, Any]) -> bool:
    if toleration.effect and toleration.effect != taint["effect"]:
        return False
    if toleration.key is None:
        return bool(toleration.operator == "Exists")
    if toleration.key != taint["key"]:
        return False
    return bool(toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", ""))


def _time(spec: PoolSpec) -> str:
    deadline = spec.pending_deadline
    return f"{deadline} s" if isinstance(deadline, int) else deadline


def _selector(spec: PoolSpec) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(spec.node_selector.items()))


def _words(spec: PoolSpec) -> str:
    devices = [name for name in spec.resources.limits if name not in ("cpu", "memory")]
    selector = json.dumps(spec.node_selector) if spec.node_selector else "any label"
    return f"{selector} with {', '.join(devices)}" if devices else selector
