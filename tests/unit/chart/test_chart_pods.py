"""The pods of the chart: images, security, environment, volumes, and the operator's configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from paretune.cluster.config import OperatorConfig, read_config
from paretune.tracking.credentials import NAMES
from support.chart import CHART, EVERYTHING, NAMESPACE, ROOT, environment, render
from support.pod_security import faults

DIGEST = "sha256:" + "0123456789abcdef" * 4
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
OPERATOR, MLFLOW, TEST = "Deployment/paretune", "Deployment/paretune-mlflow", "Pod/paretune-test"
IMAGES = ("operator", "compress", "benchmark", "mlflow")


def _config(tmp_path: Path, values: Mapping[str, Any]) -> OperatorConfig:
    """The configuration as the operator reads it from the file."""
    (text,) = (
        d["data"]["config.yaml"] for d in render(values).all("ConfigMap") if "config.yaml" in d["data"]
    )
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_config(path)


# --- security -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        EVERYTHING,
        {"mlflow": {"enabled": True, "runAsUser": None}, "operator": {"runAsUser": None}},
        {"caBundle": {"pem": PEM}, "tracking": {"servers": [{"uri": "http://m", "credentialsSecret": "m"}]}},
    ],
    ids=["defaults", "everything", "no-user", "mounts"],
)
def test_every_pod_meets_the_restricted_standard_with_a_read_only_root(chosen: dict[str, Any]) -> None:
    pods = render(chosen).pods()

    assert {OPERATOR, TEST} <= set(pods)
    assert {name: wrong for name, spec in pods.items() if (wrong := faults(spec))} == {}
    for spec in pods.values():
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_the_checker_of_the_standard_sees_what_it_should() -> None:
    spec = {
        "hostNetwork": True,
        "containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }

    assert len(faults(spec)) == 7


def test_the_operator_writes_nowhere_but_to_tmp() -> None:
    pod = render({"tracking": {"servers": [{"uri": "http://m", "credentialsSecret": "m"}]}}).pods()[OPERATOR]
    writable = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if not m.get("readOnly")}

    assert writable == {"/tmp"}  # noqa: S108 - the pod's emptyDir


# --- the operator -------------------------------------------------------------------------------------------


def test_the_operator_is_started_and_probed_as_it_expects() -> None:
    container = render().container(OPERATOR, "operator")

    assert " ".join(container["command"]) == "python -m paretune.handlers --config /etc/paretune/config.yaml"
    assert container["ports"][0]["containerPort"] == 8080
    probes = {
        name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert environment(container).keys() >= {"POD_NAME", "POD_NAMESPACE"}


def test_scheduling_is_the_values() -> None:
    chosen = {
        "replicas": 2,
        "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "extraEnv": [{"name": "EXTRA", "value": "yes"}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    }
    objects = render({"operator": chosen})
    deployment, pod = objects.one("Deployment", "paretune"), objects.pods()[OPERATOR]

    assert deployment["spec"]["replicas"] == 2
    assert all(pod[key] == chosen[key] for key in ("nodeSelector", "tolerations", "affinity"))
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert environment(pod["containers"][0])["EXTRA"] == "yes"
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}


def test_another_configuration_is_another_pod_and_the_same_is_the_same() -> None:
    def annotations(values: dict[str, Any]) -> Any:
        deployment = render(values).one("Deployment", "paretune")
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert annotations({}) != annotations({"logLevel": "DEBUG"})
    assert annotations({"caBundle": {"pem": PEM}}) != annotations({"caBundle": {"pem": PEM * 2}})
    assert annotations({}) == annotations({"operator": {"replicas": 2}})


# --- its configuration --------------------------------------------------------------------------------------


def test_the_defaults_are_a_configuration_that_the_operator_reads(tmp_path: Path) -> None:
    config = _config(tmp_path, {})

    assert config.images.compress == "ghcr.io/paretune/compress:0.1.0"
    assert config.lease.name == "paretune"
    assert config.lease.namespace == NAMESPACE
    assert config.namespaces == ()
    assert (config.allow_inline_pools, config.share_steps, config.kueue.enabled) == (False, False, False)
    assert not config.tracking.servers


def test_every_value_for_the_operator_reaches_it(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        {
            "namespaces": ["ml", "vision"],
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
            "allowInlinePools": True,
            "shareSteps": True,
            "logLevel": "DEBUG",
            "kueue": {"enabled": True},
            "compress": {
                "resources": {"requests": {"cpu": "3"}, "limits": {"nvidia.com/gpu": 1}},
                "activeDeadlineSeconds": 99,
            },
            "jobs": {
                "env": [{"name": "A", "value": "1"}],
                "serviceAccountName": "runner",
                "priorityClassName": "low",
            },
            "reconcile": {"workers": 9, "statusSeconds": 33},
            "caBundle": {"configMap": "trust"},
        },
    )

    assert config.namespaces == ("ml", "vision")
    assert config.image_pull_policy == "Always"
    assert config.image_pull_secrets == ("one", "two")
    assert config.allow_inline_pools
    assert config.share_steps
    assert config.kueue.enabled
    assert config.log_level == "DEBUG"
    assert config.compress.resources.requests["cpu"] == "3"
    assert "nvidia.com/gpu" in config.compress.resources.limits
    assert config.compress.active_deadline_seconds == 99
    assert config.jobs.env == ({"name": "A", "value": "1"},)
    assert (config.jobs.service_account_name, config.jobs.priority_class_name) == ("runner", "low")
    assert config.jobs.ca_bundle_config_map == "trust"
    assert (config.reconcile.workers, config.reconcile.status_seconds) == (9, 33)


def test_the_configuration_has_every_key_that_the_operator_knows() -> None:
    known = OperatorConfig.model_json_schema(by_alias=True)["properties"].keys()

    assert render().config().keys() == known


def test_the_bundled_mlflow_is_the_default_server_and_others_stand_beside_it(tmp_path: Path) -> None:
    own = "http://paretune-mlflow.paretune-system.svc:5000"
    other = "https://mlflow.example.com"
    values = {"mlflow": {"enabled": True}, "tracking": {"servers": [{"uri": other}]}}

    assert _config(tmp_path, values).tracking.default == own
    assert [server.uri for server in _config(tmp_path, values).tracking.servers] == [own, other]
    chosen = {**values, "tracking": {"servers": [{"uri": other}], "default": other}}
    assert _config(tmp_path, chosen).tracking.default == other
    assert _config(tmp_path, {"tracking": {"servers": [{"uri": other}]}}).tracking.default == other


def test_credentials_of_a_server_are_mounted_where_the_configuration_says(tmp_path: Path) -> None:
    values = {
        "tracking": {
            "servers": [{"uri": "http://open"}, {"uri": "http://closed", "credentialsSecret": "mlflow-login"}]
        }
    }
    servers = {server.uri: server.credentials_path for server in _config(tmp_path, values).tracking.servers}
    pod = render(values).pods()[OPERATOR]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    assert servers["http://open"] == ""
    assert volumes[mounts[servers["http://closed"]]]["secret"]["secretName"] == "mlflow-login"
    text = (CHART / "values.yaml").read_text()
    assert all(f"`{name}`" in text for name in NAMES)


# --- images -------------------------------------------------------------------------------------------------


def test_one_registry_takes_the_place_of_all_others() -> None:
    objects = render({"imageRegistry": "mirror.example.com:5000/hub/", "mlflow": {"enabled": True}})

    assert objects.images() == {
        "mirror.example.com:5000/hub/paretune/operator:0.1.0",
        "mirror.example.com:5000/hub/paretune/compress:0.1.0",
        "mirror.example.com:5000/hub/paretune/benchmark:0.1.0",
        "mirror.example.com:5000/hub/mlflow/mlflow:v3.17.2",
    }


def test_a_digest_takes_the_place_of_the_tag() -> None:
    chosen = {name: {"tag": "ignored", "digest": DIGEST} for name in IMAGES}
    images = render({"images": chosen, "mlflow": {"enabled": True}}).images()

    assert images == {
        f"ghcr.io/{path}@{DIGEST}"
        for path in ("paretune/operator", "paretune/compress", "paretune/benchmark", "mlflow/mlflow")
    }


def test_each_image_has_a_tag_of_its_own() -> None:
    objects = render({"images": {"compress": {"tag": "0.1.0-gpu"}}})

    assert objects.config()["images"]["compress"] == "ghcr.io/paretune/compress:0.1.0-gpu"
    assert objects.config()["images"]["benchmark"] == "ghcr.io/paretune/benchmark:0.1.0"


def test_secrets_for_pulling_and_the_policy_reach_every_pod() -> None:
    objects = render(
        {"imagePullSecrets": [{"name": "regcred"}], "imagePullPolicy": "Never", "mlflow": {"enabled": True}}
    )
    pods = objects.pods()

    assert len(pods) == 3
    assert all(spec["imagePullSecrets"] == [{"name": "regcred"}] for spec in pods.values())
    assert {
        container["imagePullPolicy"]
        for spec in pods.values()
        for container in [*spec.get("initContainers", []), *spec["containers"]]
    } == {"Never"}


def test_the_list_for_installing_without_internet_has_every_image() -> None:
    page = (ROOT / "docs/installing.md").read_text()

    assert all(f"\n{image}\n" in page for image in render({"mlflow": {"enabled": True}}).images())


def test_the_mlflow_image_is_of_the_version_that_the_lock_has() -> None:
    lock = (ROOT / "uv.lock").read_text()
    tag = yaml.safe_load((CHART / "values.yaml").read_text())["images"]["mlflow"]["tag"]

    assert f'name = "mlflow"\nversion = "{tag.removeprefix("v")}"' in lock


# --- proxy and certificates ---------------------------------------------------------------------------------


def test_a_proxy_reaches_operator_and_jobs_but_not_what_is_inside_the_cluster(tmp_path: Path) -> None:
    values = {
        "proxy": {
            "httpProxy": "http://proxy:3128",
            "httpsProxy": "http://secure:3129",
            "noProxy": "10.0.0.0/8,.corp",
        },
        "mlflow": {"enabled": True},
        "jobs": {"env": [{"name": "A", "value": "1"}]},
    }
    operator = environment(render(values).container(OPERATOR, "operator"))
    jobs = {entry["name"]: entry["value"] for entry in _config(tmp_path, values).jobs.env}

    for env in (operator, jobs):
        assert env["HTTP_PROXY"] == "http://proxy:3128"
        assert env["HTTPS_PROXY"] == "http://secure:3129"
        direct = str(env["NO_PROXY"]).split(",")
        assert {"localhost", ".svc", ".cluster.local", "10.0.0.0/8", ".corp", "paretune-mlflow"} <= set(
            direct
        )
    assert "$(KUBERNETES_SERVICE_HOST)" in str(operator["NO_PROXY"])
    assert "$(" not in jobs["NO_PROXY"]
    assert jobs["A"] == "1"


def test_without_a_proxy_nothing_speaks_of_one() -> None:
    objects = render({"proxy": {"noProxy": ".corp"}})

    assert not [n for n in environment(objects.container(OPERATOR, "operator")) if "PROXY" in n]
    assert objects.config()["jobs"]["env"] == []


def test_an_existing_ca_bundle_is_mounted_and_named_to_jobs() -> None:
    objects = render({"caBundle": {"configMap": "trust"}})
    pod = objects.pods()[OPERATOR]
    (volume,) = (v for v in pod["volumes"] if v.get("configMap", {}).get("name") == "trust")
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == volume["name"])

    env = environment(pod["containers"][0])
    assert env["SSL_CERT_FILE"] == env["REQUESTS_CA_BUNDLE"] == f"{mount['mountPath']}/ca.crt"
    assert objects.config()["jobs"]["caBundleConfigMap"] == "trust"
    assert not objects.has("ConfigMap", "trust")


def test_certificates_in_the_values_are_put_beside_operator_and_studies() -> None:
    objects = render({"caBundle": {"pem": PEM}, "namespaces": ["ml", NAMESPACE]})
    name = objects.config()["jobs"]["caBundleConfigMap"]
    made = [d for d in objects.all("ConfigMap") if d["metadata"]["name"] == name]

    assert sorted(d["metadata"]["namespace"] for d in made) == ["ml", NAMESPACE]
    assert {d["data"]["ca.crt"] for d in made} == {PEM}


def test_without_certificates_the_images_own_are_trusted() -> None:
    assert "SSL_CERT_FILE" not in environment(render().container(OPERATOR, "operator"))


# --- the test pod -------------------------------------------------------------------------------------------


def test_helm_test_asks_operator_and_mlflow_by_the_names_that_clients_use() -> None:
    objects = render({"mlflow": {"enabled": True}})
    pod = objects.one("Pod", "paretune-test")
    command = pod["spec"]["containers"][0]["command"]

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["restartPolicy"] == "Never"
    compile(command[2], "reach", "exec")
    urls = command[3:]
    assert urls[:2] == [f"http://paretune.{NAMESPACE}.svc:8080{page}" for page in ("/readyz", "/metrics")]
    assert len([url for url in urls if "mlflow" in url.partition("/api")[0]]) == 4
