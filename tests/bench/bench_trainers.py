"""The two trainers side by side: accuracy, downloadSize and seconds of what both can do.

Run: `python tests/bench/bench_trainers.py STUDY.yaml [RESULTS.json]`. Model, data and training come from the
study, the trainer and the techniques from here. Steps are cached in a temporary folder, so the seconds are
those of what was not there yet; the first row of each trainer imports TensorFlow.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from bench_techniques import compressed, read
from paretune_contract.failure import StageError
from paretune_contract.training import TrainerKind

HALF = {"pattern": "unstructured", "level": 0.5}
INT8, AWARE = {"scheme": "int8"}, {"scheme": "int8", "training": "aware"}
CLUSTERS = {"stage": "training", "clusters": 16}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "int8, not trained": {"quantization": INT8},
    "50% sparse": {"quantization": INT8, "sparsity": HALF},
    "2:4": {"quantization": INT8, "sparsity": {"pattern": "2:4"}},
    "16 clusters": {"quantization": INT8, "clustering": CLUSTERS},
    "quantization-aware": {"quantization": AWARE},
    "int4, quantization-aware": {"quantization": {**AWARE, "scheme": "int4"}},
    "PQAT: 50% sparse, aware": {"quantization": AWARE, "sparsity": HALF},
    "CQAT: 16 clusters, aware": {"quantization": AWARE, "clustering": CLUSTERS},
    "PCQAT: both, aware": {"quantization": AWARE, "sparsity": HALF, "clustering": CLUSTERS},
}
COLUMNS = ("technique", "trainer", "accuracy", "downloadSize", "seconds")


def main(arguments: list[str]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
        for row in _rows(Path(arguments[0]), Path(folder)):
            rows.append(row)
            print("| " + " | ".join(_shown(row)) + " |", flush=True)
    if len(arguments) > 1:
        Path(arguments[1]).write_text(json.dumps(rows, indent=1) + "\n")


def _rows(study: Path, work: Path) -> Iterator[dict[str, Any]]:
    spec = yaml.safe_load(study.read_text())["spec"]
    intake = read(spec, study.parent, work)
    assert intake.training is not None
    for name, settings in TECHNIQUES.items():
        for trainer in TrainerKind:
            training = intake.training.model_copy(update={"trainer": trainer})
            row = {"technique": name, "trainer": trainer.value}
            started = time.perf_counter()
            try:
                result = compressed(intake.model_copy(update={"training": training}), settings, work)
            except StageError as error:
                yield {**row, "failure": f"{error.reason.value}: {error.message}"}
                continue
            yield {
                **row,
                "accuracy": result.metrics["accuracy"].value,
                "downloadSize": int(result.metrics["downloadSize"].value),
                "seconds": round(time.perf_counter() - started, 1),
            }


def _shown(row: dict[str, Any]) -> list[str]:
    if "failure" in row:
        return [row["technique"], row["trainer"], row["failure"], "", ""]
    return [
        row["technique"],
        row["trainer"],
        f"{row['accuracy']:.2%}",
        f"{row['downloadSize']:,}",
        f"{row['seconds']:.0f}",
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
