"""What Helm and the API server demand of the chart, and what its files promise each other."""

import json
from typing import Any

import pytest
import yaml
from paretune.api.pool import DevicePool
from support.chart import CHART, EVERYTHING, HELM, NAMESPACE, ROOT, Refused, helm, render
from support.chart_readme import readme, values
from support.kubernetes_objects import faults

CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "DevicePool"}
CUSTOM = {"DevicePool", "ServiceMonitor", "PrometheusRule"}
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
VALUES: list[dict[str, Any]] = [
    {},
    EVERYTHING,
    {**EVERYTHING, "namespaces": ["ml", "vision"]},
    {
        **EVERYTHING,
        "fullnameOverride": "tuner",
        "imagePullSecrets": [{"name": "registry"}],
        "proxy": {"httpProxy": "http://proxy:3128", "httpsProxy": "http://proxy:3128"},
        "caBundle": {"pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
        "tracking": {"servers": [{"uri": "https://mlflow.example.com", "credentialsSecret": "mlflow"}]},
        "operator": {
            "replicas": 2,
            "priorityClassName": "high",
            "podLabels": {"team": "ml"},
            "podAnnotations": {"note": "x"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
            ],
            "extraEnv": [{"name": "EXTRA", "value": "1"}],
            "runAsUser": None,
        },
        "mlflow": {
            "enabled": True,
            "persistence": {"storageClassName": "fast", "accessModes": ["ReadWriteOncePod"]},
            "podAnnotations": {"note": "x"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "extraArgs": ["--static-prefix=/mlflow"],
        },
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        },
    },
    {"serviceAccount": {"create": False, "name": "given"}, "crds": {"install": False}},
]


def test_helm_lint_is_content_when_it_is_strict() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_helm_lint_accepts_the_examples(example: Any) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--values", str(example))


def test_the_helm_of_the_tests_is_the_pinned_one() -> None:
    assert HELM.is_relative_to(ROOT / ".tools")
    assert helm("version", "--short").startswith("v4.")


@pytest.mark.parametrize("chosen", VALUES, ids=range(len(VALUES)))
def test_every_object_has_the_structure_of_its_kind(chosen: dict[str, Any]) -> None:
    objects = render(chosen)
    found = {
        f"{document['kind']}/{document['metadata']['name']}": faults(document)
        for document in objects
        if document["kind"] not in CUSTOM
    }

    assert len(found) > 5
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("chosen", VALUES, ids=range(len(VALUES)))
def test_every_namespaced_object_names_its_namespace_and_no_two_are_the_same(chosen: dict[str, Any]) -> None:
    seen = set()
    for document in render(chosen):
        metadata = document["metadata"]
        assert ("namespace" in metadata) is (document["kind"] not in CLUSTER_SCOPED), metadata["name"]
        assert metadata["labels"]["app.kubernetes.io/instance"] == "paretune"
        key = (document["kind"], metadata.get("namespace"), metadata["name"])
        assert key not in seen
        seen.add(key)


def test_the_services_select_the_pods_that_they_are_for() -> None:
    objects = render(EVERYTHING)
    for name in ("paretune", "paretune-mlflow"):
        deployment = objects.one("Deployment", name)
        service = objects.one("Service", name)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]

        assert service["spec"]["selector"].items() <= labels.items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in ports}
        others = {"paretune", "paretune-mlflow"} - {name}
        for other in others:
            strange = objects.one("Deployment", other)["spec"]["template"]["metadata"]["labels"]
            assert not service["spec"]["selector"].items() <= strange.items()


def test_long_release_names_give_names_that_are_allowed() -> None:
    objects = render(EVERYTHING, release="a-release-whose-name-is-as-long-as-helm-allows-it-be")

    assert all(len(d["metadata"]["name"]) <= 63 for d in objects if d["kind"] != "CustomResourceDefinition")


def test_crd_copies_are_fresh() -> None:
    origin = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    copies = {path.name: path.read_text() for path in (CHART / "files/crds").glob("*.yaml")}

    assert origin
    assert copies == origin, "stale: run `cp crds/*.yaml charts/paretune/files/crds/`"


def test_crds_are_rendered_as_they_are_but_for_labels_and_the_policy_that_keeps_them() -> None:
    rendered = {d["metadata"]["name"]: d for d in render().all("CustomResourceDefinition")}
    for path in (CHART / "files/crds").glob("*.yaml"):
        original = yaml.safe_load(path.read_text())
        document = rendered.pop(original["metadata"]["name"])
        metadata = dict(document["metadata"])

        assert metadata.pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert metadata.pop("labels")["app.kubernetes.io/managed-by"] == "Helm"
        assert {**document, "metadata": metadata} == original
    assert not rendered


def test_crds_can_be_left_to_somebody_else() -> None:
    assert not render({"crds": {"install": False}}).all("CustomResourceDefinition")


def test_the_readme_has_every_value() -> None:
    assert (CHART / "README.md").read_text() == readme(), "stale: run `python tests/support/chart_readme.py`"


def _leaves(tree: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for key, value in tree.items():
        inner = isinstance(value, dict) and value
        found |= _leaves(value, f"{path}{key}.") if inner else {f"{path}{key}"}
    return found


def test_the_schema_knows_exactly_the_values_that_there_are() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    described = {value.key for value in values()}

    def known(node: dict[str, Any], path: str) -> set[str]:
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
        inner = node.get("properties", {})
        if path in described or not inner:
            return {path}
        assert node["additionalProperties"] is False, path
        return set().union(*(known(value, f"{path}.{key}".lstrip(".")) for key, value in inner.items()))

    assert known(schema, "") - {"global"} == described
    assert all(any(f"{leaf}.".startswith(f"{key}.") for key in described) for leaf in _leaves(defaults))


def test_the_schema_knows_the_names_in_every_object_whose_names_are_known() -> None:
    def open_objects(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [name for i, item in enumerate(node) for name in open_objects(item, f"{path}[{i}]")]
        if not isinstance(node, dict):
            return []
        found = [path] if "properties" in node and node.get("additionalProperties") is not False else []
        return found + [name for key, item in node.items() for name in open_objects(item, f"{path}/{key}")]

    assert not open_objects(json.loads((CHART / "values.schema.json").read_text()), "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"operatr": {"replicas": 2}}, "operatr"),
        ({"operator": {"replica": 2}}, "replica"),
        ({"operator": {"resources": {"limit": {}}}}, "limit"),
        ({"operator": {"replicas": "2"}}, "/operator/replicas"),
        ({"images": {"operator": {"digest": "abc"}}}, "/images/operator/digest"),
        ({"images": {"compres": {}}}, "compres"),
        ({"imageRegistry": "https://registry.example.com"}, "/imageRegistry"),
        ({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0"),
        ({"logLevel": "verbose"}, "/logLevel"),
        ({"namespaces": ["Not_A_Name"]}, "/namespaces/0"),
        ({"namespaces": ["ml", "ml"]}, "/namespaces"),
        ({"tracking": {"servers": ["http://mlflow"]}}, "/tracking/servers/0"),
        ({"tracking": {"servers": [{"uri": "http://user:secret@mlflow"}]}}, "/tracking/servers/0/uri"),
        ({"tracking": {"servers": [{"url": "http://mlflow"}]}}, "url"),
        ({"compress": {"activeDeadlineSeconds": 0}}, "/compress/activeDeadlineSeconds"),
        ({"devicePools": {"pi": {"nodeSelectors": {}}}}, "nodeSelectors"),
        ({"devicePools": {"pi": {"runtime": "tensorrt"}}}, "/devicePools/pi/runtime"),
        ({"devicePools": {"pi": {"resources": {"limits": {"cpu": 0.5}}}}}, "/devicePools/pi/resources"),
        ({"devicePools": {"pi": {"preset": "raspberry"}}}, "there are arm64, "),
        ({"devicePools": {"default": {}}}, "defaultPool.spec"),
        ({"mlflow": {"port": 0}}, "/mlflow/port"),
        ({"mlflow": {"allowedHosts": ["https://mlflow.example.com"]}}, "/mlflow/allowedHosts/0"),
        ({"proxy": {"httpProxy": "proxy:3128"}}, "/proxy/httpProxy"),
        ({"caBundle": {"pem": "/etc/ssl/ca.pem"}}, "/caBundle/pem"),
        (
            {"caBundle": {"pem": "-----BEGIN CERTIFICATE-----", "configMap": "ca"}},
            "caBundle.pem and caBundle.configMap",
        ),
        ({"tracking": {"default": "http://mlflow:5000"}}, "none of tracking.servers"),
        ({"tracking": {"servers": [{"uri": "http://a"}, {"uri": "http://a"}]}}, "there twice"),
        ({"grafanaDashboard": {"label": {}}}, "label"),
        ({"operator": {"runAsUser": 0}}, "/operator/runAsUser"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_wrong_values_are_refused_with_their_name(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused) as refused:
        render(wrong)

    assert told in str(refused.value)


def test_the_chart_can_be_part_of_another() -> None:
    assert render({"global": {"anything": 1}}).has("Deployment", "paretune")


def test_device_pools_are_valid_and_presets_are_what_they_begin_with() -> None:
    example = yaml.safe_load((CHART / "examples/device-pools.yaml").read_text())
    pools = {d["metadata"]["name"]: d for d in render(example).all("DevicePool")}
    specs = {name: DevicePool.model_validate(document).spec for name, document in pools.items()}

    assert set(specs) == {"default", *example["devicePools"]}
    assert specs["raspberry-pi-4"].node_selector == {
        "kubernetes.io/arch": "arm64",
        "kubernetes.io/os": "linux",
        "board": "rpi4",
    }
    assert specs["coral-akri"].resources.limits["akri.sh/coral"] == "1"
    assert specs["coral-akri"].runtime == "edgetpu"
    assert specs["ethos-u55-256"].target == "ethos-u55-256"
    assert specs["default"].runtime == "litert"


def test_a_pool_of_an_earlier_values_file_can_be_left_out() -> None:
    pools = render({"devicePools": {"given": {}, "left-out": None}}).all("DevicePool")

    assert {pool["metadata"]["name"] for pool in pools} == {"default", "given"}


def test_every_preset_makes_a_valid_pool_whose_device_is_a_limit() -> None:
    presets = yaml.safe_load((CHART / "files/pool-presets.yaml").read_text())
    pools = render({"devicePools": {f"pool-{name}": {"preset": name} for name in presets}})
    specs = {
        name: DevicePool.model_validate(pools.one("DevicePool", f"pool-{name}")).spec for name in presets
    }

    devices = {
        name: set(spec.resources.limits) - {"cpu", "memory"}
        for name, spec in specs.items()
        if spec.runtime == "edgetpu"
    }
    assert devices == {
        "coral-google": {"google.com/coral"},
        "coral-generic-device-plugin": {"squat.ai/coral"},
        "coral-smarter-device-manager": {"smarter-devices/apex_0"},
        "coral-edge-device-plugin": {"coral.ai/tpu"},
        "coral-usb-or-pcie": set(),
    }
    assert specs["arm64"].node_selector["kubernetes.io/arch"] == "arm64"
    assert specs["tflm"].runtime == "tflm"
    table = (CHART / "README.md").read_text()
    assert all(f"`{name}`" in table for name in presets)


def test_pools_of_a_first_installation_wait_for_their_definition_and_can_be_adopted_later() -> None:
    (pool,) = render().all("DevicePool")
    annotations = pool["metadata"]["annotations"]

    assert annotations["helm.sh/hook"] == "post-install"
    assert "before-hook-creation" not in annotations["helm.sh/hook-delete-policy"]
    assert annotations["meta.helm.sh/release-name"] == "paretune"
    assert annotations["meta.helm.sh/release-namespace"] == NAMESPACE
    assert pool["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


@pytest.mark.parametrize("options", [("--is-upgrade",), ("--api-versions=paretune.dev/v1alpha1/DevicePool",)])
def test_pools_are_part_of_the_release_once_their_definition_is_there(options: tuple[str, ...]) -> None:
    (pool,) = render(options=options).all("DevicePool")

    assert "annotations" not in pool["metadata"]


def test_artifact_hub_is_told_the_images_and_definitions_that_there_are() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    objects = render({"mlflow": {"enabled": True}})

    assert {i["image"] for i in yaml.safe_load(annotations["artifacthub.io/images"])} == objects.images()
    told = {crd["name"] for crd in yaml.safe_load(annotations["artifacthub.io/crds"])}
    assert told == {d["metadata"]["name"] for d in objects.all("CustomResourceDefinition")}


def test_the_study_that_artifact_hub_shows_is_valid() -> None:
    from paretune.api.manifest import faults as study_faults

    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    (study,) = yaml.safe_load(annotations["artifacthub.io/crdsExamples"])

    assert not study_faults(yaml.safe_dump(study), base=ROOT)


def _notes(chosen: dict[str, Any]) -> str:
    options = ("--dry-run=client", "--namespace", NAMESPACE, "--values", "-")
    return helm("install", "paretune", str(CHART), *options, stdin=json.dumps(chosen)).partition("NOTES:")[2]


def test_the_notes_say_that_mlflow_without_passwords_is_one_trust_domain() -> None:
    notes = _notes({"mlflow": {"enabled": True}})

    assert "one trust domain" in notes
    assert "http://paretune-mlflow.paretune-system.svc:5000" in notes


def test_the_notes_say_what_studies_need_without_any_mlflow() -> None:
    assert "(NoStore)" in _notes({})
    assert "(NoStore)" not in _notes({"tracking": {"servers": [{"uri": "http://mlflow"}]}})


def test_the_chart_can_be_packaged_with_all_its_files(tmp_path: Any) -> None:
    import tarfile

    helm("package", str(CHART), "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("paretune-*.tgz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}

    files = {str(p.relative_to(CHART)) for p in CHART.rglob("*") if p.is_file() and p.name != ".helmignore"}
    assert files <= names
