"""Jobs as the API server, its Pod Security Standards, the scheduler and Kueue want them."""

import copy
import json
from typing import Any

import pytest
from paretune.cluster import manifests, names
from paretune.cluster.manifests import Access, Placement
from paretune.plan.observed import Work
from paretune_contract.settings import (
    LayerSettings,
    Quantization,
    Scheme,
    Settings,
    Sparsity,
    SparsityPattern,
)
from paretune_contract.stages import BENCHMARK, COMPRESS
from paretune_contract.task import TASK, Task
from unit.cluster.objects import OWNER, UID, benchmark_task, compress_task, config, expanded, pool, purge_task

Json = dict[str, Any]
RESOURCES = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}
ACCESS = Access(
    fetch={"model": "paretune-model", "store": "paretune-store"},
    upload={"store": "paretune-store"},
    claims=("data", "share"),
    store="share",
)
PROXY = {"name": "HTTPS_PROXY", "value": "http://user:secret@proxy:3128"}
EVERYTHING = config(
    jobs={
        "env": [PROXY],
        "caBundleConfigMap": "ca",
        "serviceAccountName": "paretune",
        "priorityClassName": "low",
    },
    imagePullSecrets=["pull"],
    imagePullPolicy="Always",
)


def compress(task: Task | None = None, **more: Any) -> Json:
    labels = names.work_labels("toy", UID, Work(7, COMPRESS), 0)
    return manifests.stage_job(
        **{
            "config": EVERYTHING,
            "namespace": "team",
            "name": "toy-0007-compress-0",
            "labels": labels,
            "owner": OWNER,
            "task": task or compress_task(),
            "image": "reg/compress:1",
            "access": ACCESS,
            "resources": RESOURCES,
            "deadline": 7200,
            **more,
        }
    )


def benchmark(spec: Json | None = None, **more: Any) -> Json:
    placement = Placement(pool(**(spec or {})).spec, cpus=2)
    labels = names.work_labels("toy", UID, Work(7, BENCHMARK, "pi"), 0, pool="boards")
    return compress(
        benchmark_task(),
        labels=labels,
        resources=manifests.benchmark_resources(placement),
        placement=placement,
        deadline=940,
        **more,
    )


def store(owner: Json | None = None) -> Json:
    labels = names.work_labels("toy", UID, Work(-1, "purge"), 0)
    return manifests.store_job(
        EVERYTHING, namespace="team", name="toy-purge-0f7c1f3e", labels=labels, owner=owner,
        task=purge_task(),
        image="reg/benchmark:1", access=Access(upload={"store": "paretune-store"}, store="share"),
    )  # fmt: skip


def publish(document: str = "{}") -> Json:
    labels = names.work_labels("toy", UID, Work(-1, "publish"), 0)
    return manifests.publish_job(
        EVERYTHING, namespace="team", name="toy-publish-0", labels=labels, owner=OWNER, document=document,
        records="toy-front", access=ACCESS,
    )  # fmt: skip


def pod_of(job: Json) -> Json:
    return job["spec"]["template"]["spec"]


def containers(job: Json) -> list[Json]:
    pod = pod_of(job)
    return [*pod.get("initContainers", []), *pod["containers"]]


def container(job: Json, name: str) -> Json:
    return next(c for c in containers(job) if c["name"] == name)


JOBS = {
    "compress": compress(),
    "benchmark": benchmark(),
    "purge": store(),
    "retain": store(OWNER),
    "publish": publish(),
}


@pytest.fixture(params=JOBS)
def job(request: pytest.FixtureRequest) -> Json:
    return copy.deepcopy(JOBS[request.param])


# --- what all Jobs have -----------------------------------------------------------------------------------


def test_every_pod_meets_the_restricted_pod_security_standard(job: Json) -> None:
    pod = pod_of(job)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    for one in containers(job):
        security = one["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, one["name"]
        assert security["capabilities"] == {"drop": ["ALL"]}, one["name"]
        assert security["readOnlyRootFilesystem"] is True, one["name"]
        assert not {"privileged", "runAsUser", "procMount"} & set(security)
        assert all("hostPort" not in port for port in one.get("ports", []))
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= allowed


def test_no_pod_has_an_api_token_or_links_to_services(job: Json) -> None:
    assert pod_of(job)["automountServiceAccountToken"] is False
    assert pod_of(job)["enableServiceLinks"] is False


def test_every_mount_has_a_volume_and_every_volume_a_mount(job: Json) -> None:
    volumes = [v["name"] for v in pod_of(job)["volumes"]]
    assert len(set(volumes)) == len(volumes)
    mounted = set()
    for one in containers(job):
        paths = [m["mountPath"] for m in one["volumeMounts"]]
        assert len(set(paths)) == len(paths), one["name"]
        mounted |= {m["name"] for m in one["volumeMounts"]}
        assert "/tmp" in paths  # noqa: S108 - the pod's own
    assert mounted <= set(volumes)
    assert set(volumes) - mounted <= {"work"}


def test_every_container_has_requests_and_limits_of_cpu_and_memory(job: Json) -> None:
    for one in containers(job):
        for part in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(one["resources"][part]), one["name"]


def test_the_failure_policy_is_one_that_the_job_api_takes(job: Json) -> None:
    spec = job["spec"]
    assert pod_of(job)["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    known = {one["name"] for one in containers(job)}
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule["action"] in ("FailJob", "Ignore", "Count")
        assert len({"onExitCodes", "onPodConditions"} & set(rule)) == 1
        if "onExitCodes" in rule:
            codes = rule["onExitCodes"]
            assert codes["containerName"] in known
            assert codes["values"] == sorted(set(codes["values"]))
            assert codes["operator"] != "In" or 0 not in codes["values"]
    first = spec["podFailurePolicy"]["rules"][0]
    assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def test_a_pod_is_bounded_in_time_and_a_job_is_not(job: Json) -> None:
    assert pod_of(job)["activeDeadlineSeconds"] > 0
    assert "activeDeadlineSeconds" not in job["spec"], "time in a queue is not the stage's"


def test_job_and_pod_carry_the_same_labels_and_what_the_admin_configured(job: Json) -> None:
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert job["metadata"]["labels"] == labels
    assert labels[names.MANAGED_BY] == "paretune"
    pod = pod_of(job)
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["serviceAccountName"] == "paretune"
    assert pod["priorityClassName"] == "low"
    assert {one["imagePullPolicy"] for one in containers(job)} == {"Always"}


def test_a_job_is_json_and_names_its_owner(job: Json) -> None:
    assert json.loads(json.dumps(job)) == job
    assert (job["apiVersion"], job["kind"], job["metadata"]["namespace"]) == ("batch/v1", "Job", "team")


def test_purge_outlives_its_study_and_removes_itself_and_retain_belongs_to_it() -> None:
    assert "ownerReferences" not in store()["metadata"]
    assert store()["spec"]["ttlSecondsAfterFinished"] > 0
    assert store(OWNER)["metadata"]["ownerReferences"] == [OWNER]
    assert "ttlSecondsAfterFinished" not in store(OWNER)["spec"]


# --- three containers in a row ----------------------------------------------------------------------------


@pytest.mark.parametrize(("job", "module"), [(compress(), "compress"), (benchmark(), "benchmark")])
def test_fetch_stage_and_upload_run_in_a_row_with_the_module_of_their_stage(job: Json, module: str) -> None:
    assert [c["name"] for c in pod_of(job)["initContainers"]] == ["fetch", "stage"]
    assert [c["name"] for c in pod_of(job)["containers"]] == ["upload"]
    for one in containers(job):
        assert one["command"] == ["python", "-m", f"paretune_{module}.pod", one["name"]]
        assert one["volumeMounts"][0] == {"name": "work", "mountPath": "/work"}
    assert job["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize("job", [compress(), benchmark()])
def test_the_stage_has_no_secret_no_claim_and_no_way_out(job: Json) -> None:
    stage = container(job, "stage")
    assert {m["name"] for m in stage["volumeMounts"]} == {"work", "tmp"}
    assert {e["name"] for e in stage["env"]} == {TASK, "HOME", "TMPDIR", manifests.NODE_NAME}
    assert "envFrom" not in stage
    assert "secret" not in json.dumps(stage)


def test_fetch_and_upload_have_the_credentials_of_their_part_alone() -> None:
    job = compress()
    fetch = {
        m["mountPath"]: m["readOnly"] for m in container(job, "fetch")["volumeMounts"] if "readOnly" in m
    }
    upload = {
        m["mountPath"]: m["readOnly"] for m in container(job, "upload")["volumeMounts"] if "readOnly" in m
    }
    secrets = "/var/run/paretune/secrets"
    assert fetch == {
        f"{secrets}/model": True,
        f"{secrets}/store": True,
        "/mnt/claims/data": True,
        "/mnt/claims/share": True,
        manifests.CA_FOLDER: True,
    }
    assert upload == {f"{secrets}/store": True, "/mnt/claims/share": False, manifests.CA_FOLDER: True}


def test_proxies_and_certificates_go_to_the_containers_that_speak_with_the_outside() -> None:
    for name in ("fetch", "upload"):
        env = container(compress(), name)["env"]
        assert PROXY in env
        assert {"name": "SSL_CERT_FILE", "value": f"{manifests.CA_FOLDER}/ca.crt"} in env


def test_without_secrets_claims_and_certificates_nothing_is_mounted_but_folders_of_the_pod() -> None:
    job = compress(config=config(), access=Access())
    assert pod_of(job)["volumes"] == [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    assert "imagePullSecrets" not in pod_of(job)
    assert "priorityClassName" not in pod_of(job)


def test_claims_with_any_name_have_volumes_with_a_valid_one() -> None:
    job = compress(access=Access(claims=("c" * 253, "a.b"), store="a.b"))
    found = [v["name"] for v in pod_of(job)["volumes"] if "persistentVolumeClaim" in v]
    assert len(found) == len(set(found)) == 2
    assert all(len(n) <= 63 and "." not in n for n in found)


# --- what it is told --------------------------------------------------------------------------------------


def long_settings() -> Settings:
    return Settings(
        layers=tuple(
            LayerSettings(
                match=f"^block_{n:02d}/(conv|dense)_[0-9]+/{'x' * 60}$",
                quantization=Quantization(scheme=Scheme.INT8),
                sparsity=Sparsity(pattern=SparsityPattern.UNSTRUCTURED, level=0.5),
            )
            for n in range(64)
        )
    )


@pytest.mark.parametrize("step", ["fetch", "stage", "upload"])
def test_a_task_with_64_layer_overrides_arrives_as_it_was_and_stays_small(step: str) -> None:
    task = compress_task(long_settings())
    env = container(compress(task), step)["env"]
    value = next(e["value"] for e in env if e["name"] == TASK)
    assert len(value) < 32 * 1024, "one variable may have 128 KiB"
    assert Task.model_validate_json(expanded(value, {})) == task


@pytest.mark.parametrize("match", ["$(HOME)", "a$$", "$", "^(a|b$)", "$$(TMPDIR)", 'x$"y', "$("])
def test_a_pattern_with_dollars_is_not_taken_for_a_variable(match: str) -> None:
    task = compress_task(
        Settings(layers=(LayerSettings(match=match, quantization=Quantization(scheme=Scheme.FLOAT16)),))
    )
    env = container(compress(task), "stage")["env"]
    value = next(e["value"] for e in env if e["name"] == TASK)
    assert Task.model_validate_json(expanded(value, {"HOME": "/tmp", "TMPDIR": "/tmp"})) == task  # noqa: S108


def test_publish_is_told_its_document_and_has_the_records_as_files() -> None:
    job = publish('{"uri": "a$(HOME)$$"}')
    (one,) = containers(job)
    told = next(e["value"] for e in one["env"] if e["name"] == "PARETUNE_PUBLISH")
    assert expanded(told, {"HOME": "/tmp"}) == '{"uri": "a$(HOME)$$"}'  # noqa: S108
    assert {"name": "records", "configMap": {"name": "toy-front"}} in pod_of(job)["volumes"]
    assert one["image"] == "reg/operator:1"


# --- where benchmarks run ---------------------------------------------------------------------------------

CORAL = {"resources": {"limits": {"cpu": "3", "memory": "2Gi", "coral.ai/edgetpu": 1}}}


@pytest.mark.parametrize(
    "spec", [{}, CORAL, {"resources": {"limits": {"cpu": 2}, "requests": {"cpu": "100m"}}}]
)
def test_a_benchmark_pod_is_guaranteed(spec: Json) -> None:
    for one in containers(benchmark(spec)):
        limits, requests = one["resources"]["limits"], one["resources"]["requests"]
        assert {k: limits[k] for k in ("cpu", "memory")} == {k: requests[k] for k in ("cpu", "memory")}


def test_a_device_is_taken_by_the_stage_alone() -> None:
    job = benchmark(CORAL)
    assert container(job, "stage")["resources"]["limits"]["coral.ai/edgetpu"] == 1
    for name in ("fetch", "upload"):
        assert set(container(job, name)["resources"]["limits"]) == {"cpu", "memory"}
    assert container(benchmark(), "stage")["resources"]["limits"]["cpu"] == "2", "one core a thread"


def alone_on_its_node(pod: Json) -> bool:
    terms = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return {
        "labelSelector": {
            "matchLabels": {"app.kubernetes.io/managed-by": "paretune", "paretune.dev/stage": "benchmark"}
        },
        "namespaceSelector": {},
        "topologyKey": "kubernetes.io/hostname",
    } in terms


def test_benchmarks_of_all_namespaces_keep_off_each_others_nodes() -> None:
    job = benchmark()
    assert alone_on_its_node(pod_of(job))
    selected = {"app.kubernetes.io/managed-by": "paretune", "paretune.dev/stage": "benchmark"}
    assert selected.items() <= job["spec"]["template"]["metadata"]["labels"].items(), (
        "it is one of them itself"
    )
    assert "affinity" not in pod_of(compress()), "other stages may share a node"


@pytest.mark.parametrize("missing", [{}, {"podAntiAffinity": None}, {"podAntiAffinity": {}}])
def test_a_pool_without_anti_affinity_of_its_own_gets_ours(missing: Json) -> None:
    assert alone_on_its_node(pod_of(benchmark({"affinity": missing})))


def test_the_affinity_of_a_pool_stays_beside_ours_and_the_pool_as_it_was() -> None:
    own = {"labelSelector": {"matchLabels": {"app": "noisy"}}, "topologyKey": "kubernetes.io/hostname"}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [own],
            "preferredDuringSchedulingIgnoredDuringExecution": [],
        },
    }
    placement = Placement(pool(affinity=copy.deepcopy(affinity)).spec)
    for _ in range(2):
        found = pod_of(
            compress(
                benchmark_task(), placement=placement, resources=manifests.benchmark_resources(placement)
            )
        )
        anti = found["affinity"]["podAntiAffinity"]
        assert own in anti["requiredDuringSchedulingIgnoredDuringExecution"]
        assert alone_on_its_node(found)
        assert len(anti["requiredDuringSchedulingIgnoredDuringExecution"]) == 2
        assert anti["preferredDuringSchedulingIgnoredDuringExecution"] == []
        assert found["affinity"]["nodeAffinity"] == affinity["nodeAffinity"]
    assert placement.pool is not None
    assert placement.pool.affinity == affinity


def test_a_benchmark_goes_to_the_nodes_of_its_pool() -> None:
    pod = pod_of(
        benchmark(
            {
                "nodeSelector": {"kubernetes.io/arch": "arm64"},
                "tolerations": [
                    {"key": "board", "operator": "Equal", "value": "pi", "effect": "NoSchedule"},
                    {"operator": "Exists"},
                ],
                "runtimeClassName": "crun",
            }
        )
    )
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert pod["tolerations"] == [
        {"key": "board", "operator": "Equal", "value": "pi", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ]
    assert pod["runtimeClassName"] == "crun"


def test_all_three_containers_have_the_image_that_was_chosen() -> None:
    assert {one["image"] for one in containers(benchmark(image="own/benchmark:2"))} == {"own/benchmark:2"}


def test_a_benchmark_pod_has_time_for_its_rounds_and_more() -> None:
    assert manifests.benchmark_deadline(20) == 940
    assert isinstance(manifests.benchmark_deadline(0.02), int)


# --- Kueue ------------------------------------------------------------------------------------------------


def test_with_a_queue_a_job_is_created_suspended_with_the_label_of_kueue() -> None:
    job = compress(queue="team-queue")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]


def test_without_a_queue_a_job_starts_at_once() -> None:
    assert "suspend" not in compress()["spec"]
    assert "kueue.x-k8s.io/queue-name" not in compress()["metadata"]["labels"]
