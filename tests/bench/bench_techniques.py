"""What each compression technique and combination gives: accuracy, sizes, latency ratio, seconds.

Run: `python tests/bench/bench_techniques.py [STUDY.yaml [RESULTS.json [WORK]]]`. Model, data and training
come from the study, the techniques from here. Without one, the network of the demo is trained first. Steps
are cached as in a study, and the seconds are what they took to make, whenever that was. With a folder WORK
the files stay: run again on a quiet machine, it measures latencies alone.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from paretune_benchmark.stage import benchmark
from paretune_compress.compress import compress
from paretune_compress.intake.stage import intake_stage
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.failure import StageError
from paretune_contract.settings import Settings
from paretune_contract.stages import (
    Artifact,
    BenchmarkRequest,
    CompressRequest,
    CompressResult,
    IntakeRequest,
    IntakeResult,
)
from paretune_contract.training import Training

DEMO = Path(__file__).parents[2] / "docs/examples/digits"
TENSOR = {"scheme": "int8", "granularity": "tensor"}
HALF = {"pattern": "unstructured", "level": 0.5}
MOST = {"pattern": "unstructured", "level": 0.75}
AWARE = {"training": "aware"}
LATE, EARLY = {"stage": "int8", "clusters": 16}, {"stage": "training", "clusters": 16}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "float16": {"quantization": {"scheme": "float16"}},
    "dynamic": {"quantization": {"scheme": "dynamic"}},
    "int8, scales per channel": {"quantization": {"scheme": "int8"}},
    "int8, one scale per tensor": {"quantization": TENSOR},
    "int16x8": {"quantization": {"scheme": "int16x8"}},
    "int4": {"quantization": {"scheme": "int4"}},
    "int4, biases corrected": {"quantization": {"scheme": "int4", "biasCorrection": True}},
    "int4 by gptq": {"quantization": {"scheme": "int4", "algorithm": "gptq"}},
    "int8, quantization-aware": {"quantization": {"scheme": "int8", **AWARE}},
    "int4, quantization-aware": {"quantization": {"scheme": "int4", **AWARE}},
    "50% sparse": {"quantization": TENSOR, "sparsity": HALF},
    "75% sparse": {"quantization": TENSOR, "sparsity": MOST},
    "75% sparse, by sensitivity": {"quantization": TENSOR, "sparsity": MOST, "allocation": "sensitivity"},
    "2:4": {"quantization": TENSOR, "sparsity": {"pattern": "2:4"}},
    "1x4, 50%": {"quantization": TENSOR, "sparsity": {"pattern": "1x4", "level": 0.5}},
    "channels, 25%": {"quantization": TENSOR, "sparsity": {"pattern": "channel", "level": 0.25}},
    "channels, 50%": {"quantization": TENSOR, "sparsity": {"pattern": "channel", "level": 0.5}},
    "half of the MACs": {
        "quantization": TENSOR,
        "sparsity": {"pattern": "channel", "level": 0.5, "levelOf": "macs"},
    },
    "float32, 75% sparse": {"sparsity": MOST},
    "float32, 75% sparse, sparse file": {"sparsity": {**MOST, "encoding": "sparse"}},
    "16 clusters (int8)": {"quantization": TENSOR, "clustering": LATE},
    "16 clusters (training)": {"quantization": TENSOR, "clustering": EARLY},
    "50% sparse, 16 clusters (int8)": {"quantization": TENSOR, "sparsity": HALF, "clustering": LATE},
    "50% sparse, 16 clusters (training)": {"quantization": TENSOR, "sparsity": HALF, "clustering": EARLY},
    "PQAT: 50% sparse, aware": {"quantization": {**TENSOR, **AWARE}, "sparsity": HALF},
    "CQAT: 16 clusters, aware": {"quantization": {**TENSOR, **AWARE}, "clustering": EARLY},
    "PCQAT: both, aware": {"quantization": {**TENSOR, **AWARE}, "sparsity": HALF, "clustering": EARLY},
    "channels 25%, 16 clusters (int8)": {
        "quantization": TENSOR,
        "sparsity": {"pattern": "channel", "level": 0.25},
        "clustering": LATE,
    },
    "int4, 50% sparse, aware": {"quantization": {"scheme": "int4", **AWARE}, "sparsity": HALF},
    "rate 12%": {"quantization": TENSOR, "rate": {"ratio": 0.12}},
    "rate 7%": {"quantization": TENSOR, "rate": {"ratio": 0.07}},
    "int4, rate 7%": {"quantization": {"scheme": "int4"}, "rate": {"ratio": 0.07}},
    "channels 25%, rate 7%": {
        "quantization": TENSOR,
        "sparsity": {"pattern": "channel", "level": 0.25},
        "rate": {"ratio": 0.07},
    },
}
LONGER = 5
"""Training for bytes takes so many times the epochs of the others."""
COLUMNS = ("technique", "accuracy", "modelSize", "downloadSize", "latency ratio", "seconds")


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(arguments[2] if len(arguments) > 2 else folder)
        study = Path(arguments[0]) if arguments else demo(work)
        rows = []
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
        for row in _rows(study, work):
            rows.append(row)
            print("| " + " | ".join(_shown(row)) + " |", flush=True)
        if len(arguments) > 1:
            Path(arguments[1]).write_text(json.dumps(rows, indent=1) + "\n")


def demo(work: Path) -> Path:
    subprocess.run([sys.executable, str(DEMO / "train.py"), str(work)], check=True, stdout=subprocess.DEVNULL)
    return Path(shutil.copy(DEMO / "study.yaml", work / "study.yaml"))


def _rows(study: Path, work: Path) -> Iterator[dict[str, Any]]:
    spec = yaml.safe_load(study.read_text())["spec"]
    intake = read(spec, study.parent, work)
    assert intake.training is not None
    longer = intake.training.model_copy(update={"epochs": LONGER * intake.training.epochs})
    for_bytes = intake.model_copy(update={"training": longer})
    baseline = compressed(intake, {}, work)
    assert baseline.artifact is not None
    for name, settings in {"untouched": {}, **TECHNIQUES}.items():
        try:
            result = compressed(for_bytes if "rate" in settings else intake, settings, work)
        except StageError as error:
            yield {"technique": name, "failure": f"{error.reason.value}: {error.message}"}
            continue
        seconds = sum(step.spared or step.seconds for step in result.steps)
        assert result.artifact is not None
        yield {
            "technique": name,
            "accuracy": result.metrics["accuracy"].value,
            "modelSize": int(result.metrics["modelSize"].value),
            "downloadSize": int(result.metrics["downloadSize"].value),
            "latencyRatio": latency_ratio(result.artifact, baseline.artifact),
            "seconds": round(seconds, 1),
        }


def read(spec: dict[str, Any], folder: Path, work: Path) -> IntakeResult:
    data = spec["dataset"]
    splits = {
        split: DataRequest(uri=str(folder / data[split.value]["uri"]))
        for split in Split
        if split.value in data
    }
    scaling = Scaling(scale=data.get("scale", 1.0), offset=data.get("offset", 0.0))
    return intake_stage(
        IntakeRequest(
            model_uri=str(folder / spec["model"]["uri"]),
            dataset=splits,
            scaling=scaling,
            training=Training.model_validate(spec.get("training", {})),
            metrics=("accuracy",),
            cache=str(work / "cache"),
        )
    )


def compressed(intake: IntakeResult, settings: dict[str, Any], work: Path) -> CompressResult:
    assert intake.model is not None
    return compress(
        CompressRequest(
            settings=Settings.model_validate(settings),
            model=intake.model,
            data=intake.data,
            scaling=intake.scaling,
            training=intake.training,
            metrics=("accuracy",),
            cache=str(work / "cache"),
            candidates=str(work / "candidates"),
        )
    )


def latency_ratio(candidate: Artifact, reference: Artifact) -> float:
    request = BenchmarkRequest(candidate=candidate, reference=reference, pool="cpu", max_seconds=4.0)
    return round(benchmark(request).metrics["latencyRatio/cpu"].value, 3)


def _shown(row: dict[str, Any]) -> list[str]:
    if "failure" in row:
        return [row["technique"], row["failure"], "", "", "", ""]
    return [
        row["technique"],
        f"{row['accuracy']:.2%}",
        f"{row['modelSize']:,}",
        f"{row['downloadSize']:,}",
        f"{row['latencyRatio']:.2f}",
        f"{row['seconds']:.0f}",
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
