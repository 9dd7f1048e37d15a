"""Who may do what: the operator's roles, and those of people."""

from collections import defaultdict
from typing import Any

import pytest
from support.chart import EVERYTHING, NAMESPACE, Objects, render

LEASES = "coordination.k8s.io/leases"
NAMED = {"namespaces": ["ml", "vision"]}
READ = {"get", "list", "watch"}

IN_NAMESPACES: dict[str, set[str]] = {
    "paretune.dev/optimizationstudies": READ | {"patch"},
    "paretune.dev/optimizationstudies/status": {"update"},
    "paretune.dev/optimizationstudies/finalizers": {"update"},
    "paretune.dev/optimizationtrials": {"get", "list", "create"},
    "paretune.dev/optimizationtrials/status": {"update"},
    "paretune.dev/optimizationtrials/finalizers": {"update"},
    "batch/jobs": READ | {"create", "delete"},
    "/pods": {"list", "watch"},
    "/events": {"list", "create"},
    "/configmaps": {"create"},
    "/persistentvolumeclaims": {"get"},
}
IN_THE_CLUSTER: dict[str, set[str]] = {
    "paretune.dev/devicepools": READ,
    "paretune.dev/devicepools/status": {"update"},
    "/nodes": {"list"},
}
"""What has no namespace: no Role can grant it."""


def _granted(role: dict[str, Any]) -> dict[str, set[str]]:
    """Verbs by group and resource; those that are narrowed by name have the names behind."""
    found: dict[str, set[str]] = defaultdict(set)
    for rule in role["rules"]:
        names = f"={','.join(rule['resourceNames'])}" if "resourceNames" in rule else ""
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found[f"{group}/{resource}{names}"] |= set(rule["verbs"])
    return dict(found)


def _of_the_operator(objects: Objects) -> list[tuple[str, dict[str, set[str]]]]:
    """Where (empty: everywhere) and what the operator's service account is granted, by following bindings."""
    found = []
    for binding in objects.all("RoleBinding", "ClusterRoleBinding"):
        if {"kind": "ServiceAccount", "name": "paretune", "namespace": NAMESPACE} in binding["subjects"]:
            namespace = binding["metadata"].get("namespace", "")
            reference = binding["roleRef"]
            within = namespace if reference["kind"] == "Role" else None
            found.append((namespace, _granted(objects.one(reference["kind"], reference["name"], within))))
    return found


def test_the_operator_of_a_whole_cluster_may_do_exactly_this() -> None:
    assert _of_the_operator(render()) == [
        (
            "",
            {
                **IN_THE_CLUSTER,
                **IN_NAMESPACES,
                "/namespaces": {"get"},
                "apiextensions.k8s.io/customresourcedefinitions": {"list", "watch"},
            },
        ),
        (
            NAMESPACE,
            {
                LEASES: {"create"},
                f"{LEASES}=paretune": {"get", "update"},
            },
        ),
    ]


def test_the_operator_of_named_namespaces_has_only_what_has_no_namespace_in_the_cluster() -> None:
    granted = _of_the_operator(render(NAMED))

    assert [namespace for namespace, _ in granted] == ["", "ml", "vision", NAMESPACE]
    assert granted[0][1] == {**IN_THE_CLUSTER, "/namespaces=ml,vision": {"get"}}
    assert granted[1][1] == granted[2][1] == IN_NAMESPACES


@pytest.mark.parametrize("chosen", [{}, NAMED, EVERYTHING], ids=["cluster", "named", "everything"])
def test_no_role_has_a_wildcard_or_reaches_secrets_or_into_pods(chosen: dict[str, Any]) -> None:
    roles = render(chosen).all("Role", "ClusterRole")
    assert roles
    for role in roles:
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not any("*" in word for word in words), role["metadata"]["name"]
            forbidden = {
                "secrets",
                "pods/exec",
                "pods/log",
                "pods/attach",
                "pods/portforward",
                "pods/ephemeralcontainers",
            }
            assert not forbidden & set(rule["resources"])
            assert not {"impersonate", "escalate", "bind"} & set(rule["verbs"])
            assert "nonResourceURLs" not in rule


def test_the_lease_may_have_another_name_and_operator_and_role_agree_on_it() -> None:
    objects = render({"lease": {"name": "other"}})

    assert objects.config()["lease"] == {"name": "other", "namespace": NAMESPACE}
    assert f"{LEASES}=other" in _granted(objects.one("Role", "paretune-lease", NAMESPACE))


def test_roles_can_be_left_to_somebody_else() -> None:
    objects = render({"rbac": {"create": False, "aggregate": False}})

    assert not objects.all("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def _aggregated(objects: Objects, to: str) -> dict[str, set[str]]:
    label = f"rbac.authorization.k8s.io/aggregate-to-{to}"
    found: dict[str, set[str]] = defaultdict(set)
    for role in objects.all("ClusterRole"):
        if role["metadata"]["labels"].get(label) == "true":
            for resource, verbs in _granted(role).items():
                found[resource] |= verbs
    return dict(found)


WRITE = {"create", "update", "patch", "delete", "deletecollection"}
STUDIES, TRIALS, POOLS = (
    f"paretune.dev/{name}" for name in ("optimizationstudies", "optimizationtrials", "devicepools")
)


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("view", {STUDIES: READ, TRIALS: READ, POOLS: READ}),
        ("edit", {STUDIES: READ | WRITE, TRIALS: READ, POOLS: READ}),
        ("admin", {STUDIES: READ | WRITE, TRIALS: READ | {"delete", "deletecollection"}, POOLS: READ}),
    ],
)
def test_kubernetes_own_roles_get_what_people_need_and_no_more(
    role: str, expected: dict[str, set[str]]
) -> None:
    objects = render()

    assert _aggregated(objects, role) == expected
    assert _granted(objects.one("ClusterRole", f"paretune-{role}")) == expected


def test_nobody_may_write_records_or_pools_but_operator_and_administrators() -> None:
    for role in render(EVERYTHING).all("ClusterRole"):
        if role["metadata"]["name"] == "paretune":
            continue
        granted = _granted(role)
        assert not granted.get(POOLS, set()) - READ
        assert not granted.get(TRIALS, set()) - READ - {"delete", "deletecollection"}
        assert not any("/status" in resource for resource in granted)


def test_the_operators_role_is_not_aggregated_to_people() -> None:
    labels = render().one("ClusterRole", "paretune")["metadata"]["labels"]

    assert not [label for label in labels if "aggregate-to" in label]


def test_pools_are_readable_for_the_groups_that_the_values_name_only() -> None:
    assert not render().has("ClusterRoleBinding", "paretune-device-pools")
    objects = render({"rbac": {"devicePoolReaders": ["system:authenticated"]}})

    (subject,) = objects.one("ClusterRoleBinding", "paretune-device-pools")["subjects"]
    assert (subject["kind"], subject["name"]) == ("Group", "system:authenticated")
    assert _granted(objects.one("ClusterRole", "paretune-device-pools")) == {POOLS: READ}


def test_only_the_operators_pods_get_a_token() -> None:
    objects = render(EVERYTHING)
    tokens = {name: spec.get("automountServiceAccountToken") for name, spec in objects.pods().items()}

    assert tokens == {
        "Deployment/paretune": True,
        "Deployment/paretune-mlflow": False,
        "Pod/paretune-test": False,
    }
    assert objects.one("ServiceAccount", "paretune")["automountServiceAccountToken"] is False
    assert objects.pods()["Deployment/paretune"]["serviceAccountName"] == "paretune"
