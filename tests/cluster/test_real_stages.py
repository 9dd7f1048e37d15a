"""The operator, the real commands of the stages, and a real MLflow server as store and registry."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.api_server import ApiServer, Document
from support.cluster_study import bound_claim, condition, path, pool, study, trials, wait_for
from support.made_tflite import image_classifier
from support.mlflow_server import tracking_server
from support.operator_process import operator
from support.pod_process import Processes
from support.simulated_node import SimulatedNodes
from support.waiting import until

pytestmark = [pytest.mark.usefixtures("definitions"), pytest.mark.timeout(1500)]

CLAIM = "shelf"


def _data(folder: Path) -> None:
    """A small network, and images with the labels that it gives them itself."""
    from ai_edge_litert.interpreter import Interpreter

    image_classifier(folder / "m.tflite")
    interpreter = Interpreter(str(folder / "m.tflite"))
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    images = np.random.default_rng(0).normal(size=(200, *given["shape"][1:])).astype(np.float32)
    labels = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        labels.append(int(interpreter.get_tensor(made["index"])[0].argmax()))
    for part in ("calibration", "evaluation"):
        np.savez(folder / f"{part}.npz", x=images, y=np.asarray(labels))


def _manifest(server: str, **spec: Any) -> Document:
    manifest = study("real", devices=[{"name": "cpu", "pool": "real"}], **spec)
    manifest["spec"] |= {
        "model": {"uri": f"pvc://{CLAIM}/m.tflite"},
        "dataset": {p: {"uri": f"pvc://{CLAIM}/{p}.npz"} for p in ("calibration", "evaluation")},
        "objectives": [
            {"metric": "accuracy", "maxDrop": 0.2},
            {"metric": "modelSize"},
            {"metric": "latency", "device": "cpu"},
        ],
        "space": {"quantization": {"schemes": ["none", "float16", "dynamic", "int8"]}},
        "budget": {"trials": 5, "parallelism": 1},
        "benchmark": {"maxDuration": "1s", "halfWidth": 0.5},
        "artifacts": {"uri": ""},
        "tracking": {"uri": server},
    }
    return manifest


def _ask(server: str, call: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - a server of this test
        f"{server}/api/2.0/mlflow/{call}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def test_a_real_model_goes_from_a_claim_to_the_registry(
    api: ApiServer, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.db").touch()
    pods = Processes(api, tmp_path / "node")
    claim = pods.claim(namespace, CLAIM)
    _data(claim)
    for document in bound_claim(namespace, CLAIM, claim, {"paretune.dev/allow": "true"}):
        api.create(document)
    with (
        tracking_server(tmp_path / "mlflow", tmp_path / "empty.db") as server,
        SimulatedNodes(api, pods) as nodes,
        operator(
            api.kubeconfig,
            tmp_path / "operator",
            tracking={"servers": [{"uri": server}], "default": server},
        ),
    ):
        nodes.add("real-1", labels={"pool": "real"})
        api.apply(pool("real"))
        api.create(_manifest(server), namespace)
        done = wait_for(api, namespace, "real", "Complete", seconds=900)
        wait_for(api, namespace, "real", "Published", seconds=300)
        records = trials(api, namespace)
        states = {t["status"]["state"] for t in records}
        assert states <= {"Complete", "Infeasible"}, [t["status"].get("message") for t in records]
        assert records[0]["status"]["metrics"]["accuracy"]["value"] == 1.0
        node = records[0]["status"]["pools"]["cpu"]["environment"]["node"]
        assert node == "real-1", "the record names the node, not the pod"
        assert condition(done, "Ready")["reason"] == "Accepted"

        (version, *_) = _ask(server, "registered-models/get-latest-versions", name=f"{namespace}.real")[
            "model_versions"
        ]
        assert version["status"] == "READY"
        experiment = _ask(server, "experiments/search", filter=f"name = '{namespace}.real'", max_results=1)[
            "experiments"
        ][0]["experiment_id"]
        runs = _ask(server, "runs/search", experiment_ids=[experiment], max_results=100)["runs"]
        assert len(runs) == 1 + len(records)

        wait_for(api, namespace, "real", "Tracked", seconds=120)
        front = done["status"]["front"]
        kept = {0, *front}
        served = tmp_path / "mlflow" / "served" / "paretune" / namespace / done["metadata"]["uid"]
        wanted = {records[n]["status"]["artifact"]["sha256"] for n in kept}

        def candidates() -> set[str]:
            return {f.stem for f in (served / "candidates").glob("*.tflite")}

        until(lambda: candidates() == wanted, 180, "only the front's candidates in the store")
        api.delete(path(namespace, "real"))
        until(lambda: not any(served.rglob("*.tflite")), 180, "the artifacts purged")
    api.delete(f"/api/v1/persistentvolumes/{namespace}-{CLAIM}")
