"""The text of a study's manifest of which only the space matters."""

from collections.abc import Sequence
from typing import Any

import yaml

DATA = {name: {"uri": f"s3://data/{name}.npz"} for name in ("train", "calibration", "evaluation")}


def manifest_text(
    space: dict[str, Any],
    without: str = "",
    objectives: Sequence[str] = ("accuracy", "downloadSize"),
    **more: Any,
) -> str:
    """`without` names a split that is left out; `more` adds to the spec."""
    return yaml.safe_dump(
        {
            "apiVersion": "paretune.dev/v1alpha1",
            "kind": "OptimizationStudy",
            "metadata": {"name": "kws"},
            "spec": {
                "model": {"uri": "s3://models/kws.keras"},
                "dataset": {name: one for name, one in DATA.items() if name != without},
                "objectives": [{"metric": metric} for metric in objectives],
                "space": space,
                **more,
            },
        }
    )
