"""Which nodes are a pool's, and what its status says."""

from typing import Any

import pytest
from paretune.cluster.pools import fits, status_of
from unit.cluster.objects import pool

Json = dict[str, Any]
THEN, NOW = "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"


def node(
    taints: tuple[Json, ...] = (), ready: str = "True", unschedulable: bool = False, **allocatable: str
) -> Json:
    spec: Json = {"podCIDR": "10.0.0.0/24"}
    if taints:
        spec["taints"] = list(taints)
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "metadata": {"name": "n"},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", **allocatable},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
        },
    }


BOARD = {"key": "board", "value": "pi", "effect": "NoSchedule"}


def test_a_ready_node_without_taints_is_anybodys() -> None:
    assert fits(node(), pool().spec)


@pytest.mark.parametrize(
    ("terms", "fit"),
    [
        ([[("board", "In", ["rpi4", "rpi5"])]], True),
        ([[("board", "In", ["jetson"])]], False),
        ([[("board", "In", ["jetson"])], [("cores", "Exists", [])]], True),
        ([[("board", "Exists", []), ("cores", "Gt", ["4"])]], False),
        ([[("cores", "Gt", ["3"]), ("cores", "Lt", ["5"])]], True),
        ([[("board", "NotIn", ["rpi4"])]], False),
        ([[("gpu", "DoesNotExist", [])]], True),
        ([[("board", "Gt", ["3"])]], False),
        ([[]], False),
    ],
)
def test_required_node_affinity_decides_as_the_scheduler_does(terms: list, fit: bool) -> None:
    expressions = [
        {"matchExpressions": [{"key": k, "operator": o, "values": v} for k, o, v in term]} for term in terms
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": expressions}}
    labelled = node()
    labelled["metadata"]["labels"] = {"board": "rpi4", "cores": "4"}
    assert fits(labelled, pool(affinity={"nodeAffinity": required}).spec) is fit


def test_node_affinity_can_name_a_node() -> None:
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [fields]}}
    assert fits(node(), pool(affinity={"nodeAffinity": required}).spec)
    other = {**node(), "metadata": {"name": "m"}}
    assert not fits(other, pool(affinity={"nodeAffinity": required}).spec)


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_a_node_that_is_not_ready_does_not_count(ready: str) -> None:
    assert not fits(node(ready=ready), pool().spec)


def test_a_node_that_was_just_registered_does_not_count() -> None:
    assert not fits({"metadata": {"name": "n"}, "spec": {}}, pool().spec)


def test_a_cordoned_node_does_not_count() -> None:
    assert not fits(node(unschedulable=True), pool().spec)


@pytest.mark.parametrize(
    ("toleration", "fit"),
    [
        ({"key": "board", "operator": "Equal", "value": "pi", "effect": "NoSchedule"}, True),
        ({"key": "board", "value": "pi"}, True),
        ({"key": "board", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "board", "value": "coral"}, False),
        ({"key": "board"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_tainted_node_counts_when_the_pool_tolerates_the_taint(toleration: Json, fit: bool) -> None:
    assert fits(node(taints=(BOARD,)), pool(tolerations=[toleration]).spec) is fit


def test_every_taint_must_be_tolerated() -> None:
    taints = (BOARD, {"key": "spot", "effect": "NoExecute"})
    assert not fits(node(taints=taints), pool(tolerations=[{"key": "board", "operator": "Exists"}]).spec)


def test_a_taint_that_only_discourages_does_not_count() -> None:
    assert fits(node(taints=({**BOARD, "effect": "PreferNoSchedule"},)), pool().spec)


def test_a_taint_without_value_is_met_by_an_equal_without_value() -> None:
    assert fits(
        node(taints=({"key": "spot", "effect": "NoSchedule"},)), pool(tolerations=[{"key": "spot"}]).spec
    )


def test_a_node_without_the_device_does_not_count() -> None:
    coral = pool(resources={"limits": {"cpu": "1", "memory": "1Gi", "coral.ai/edgetpu": 1}}).spec
    assert not fits(node(), coral)
    assert not fits(node(**{"coral.ai/edgetpu": "0"}), coral)
    assert fits(node(**{"coral.ai/edgetpu": "1"}), coral)


# --- status -----------------------------------------------------------------------------------------------


def test_a_pool_with_nodes_is_ready() -> None:
    found = status_of(pool(), 2, 1, 3, NOW)
    assert (found.nodes, found.running, found.observed_generation) == (2, 1, 3)
    assert (found.conditions[0].type, found.conditions[0].status) == ("Ready", "True")
    assert found.message == "2 nodes can run its benchmarks."
    assert status_of(pool(), 1, 0, 3, NOW).message == "1 node can run its benchmarks."


@pytest.mark.parametrize(("deadline", "words"), [("2h", "2h."), (90, "90 s.")])
def test_a_pool_without_nodes_says_what_it_looks_for_and_how_long_benchmarks_wait(
    deadline: str | int, words: str
) -> None:
    coral = pool(
        nodeSelector={"kubernetes.io/arch": "arm64"},
        resources={"limits": {"coral.ai/edgetpu": 1}},
        pendingDeadline=deadline,
    )
    found = status_of(coral, 0, 0, 1, NOW)
    assert (found.conditions[0].status, found.conditions[0].reason) == ("False", "NoNodes")
    for word in ("kubernetes.io/arch", "arm64", "coral.ai/edgetpu", words):
        assert word in found.message


def test_the_time_of_the_condition_moves_only_when_its_status_does() -> None:
    one = pool()
    first = one.model_copy(update={"status": status_of(one, 1, 0, 1, THEN)})
    more = status_of(first, 5, 2, 2, NOW)
    assert more.conditions[0].last_transition_time == THEN
    gone = status_of(first, 0, 0, 2, NOW)
    assert gone.conditions[0].last_transition_time == NOW


def test_the_same_nodes_are_the_same_status() -> None:
    one = pool()
    first = one.model_copy(update={"status": status_of(one, 1, 0, 1, THEN)})
    assert status_of(first, 1, 0, 1, NOW) == first.status
