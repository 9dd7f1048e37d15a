"""The probe: each layer is treated alone, and what the model's outputs lose by it is measured.

Nothing is trained, and TensorFlow is not loaded: the float weights are changed and the model runs in LiteRT.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from paretune_contract.dataset import DataInfo, Split
from paretune_contract.model import LayerInfo, ModelInfo

from ..data import PreparedSplit
from ..flatbuffer import Array
from ..quality.model import EvaluatedModel
from .distance import distance
from .effort import Plan, plan
from .table import Cost, LayerCosts, Measure, Sensitivity
from .treatments import ALL, Amounts, Kind, Treatment, treated, treatments
from .variants import Variants

Costs: TypeAlias = dict[Kind, tuple[Cost, ...]]
VERSION = 1
DIGITS = 4
"""Significant digits of a cost. More differ between processors, and decide nothing."""


def probed_split(data: Mapping[Split, DataInfo]) -> DataInfo | None:
    """The part of the data set that a probe reads: calibration, else train; None without either."""
    return data.get(Split.CALIBRATION) or data.get(Split.TRAIN)


def probe(model: ModelInfo, data: PreparedSplit | None, folder: Path, *, threads: int) -> Sensitivity:
    """What every treatment of every layer of some size costs, alone.

    Up to 256 samples, spread evenly; for large models fewer, then fewer treatments, and for the largest, as
    without data, the relative squared error of the weights instead.

    Args:
        model: the float model.
        data: what it runs on; no labels are needed.
        folder: where a changed copy of the model is put meanwhile.
        threads: of LiteRT.

    Raises:
        StageError: NOT_RUNNABLE when the model does not run on the data, DATA_UNREADABLE.
    """
    layers = [layer for layer in model.layers if layer.prunable or layer.clusterable]
    variants = Variants(Path(model.path), layers, folder / "variant.tflite")
    layers = [layer for layer in layers if layer.name in variants.weights]
    chosen = plan(model.macs, layers, data.samples if data else 0)
    errors = _costs(layers, ALL, lambda name, t: _weight_error(variants.weights[name], t))
    if data is None or not chosen.samples:
        table = _table(layers, errors, errors, measure=Measure.WEIGHTS)
    else:
        costs = _costs(layers, chosen.amounts, _running(model, data, variants, chosen, threads))
        table = _table(
            layers, costs, errors, measure=Measure.DIVERGENCE, complete=chosen.complete,
            split=data.info.split, samples=chosen.samples,
        )  # fmt: skip
    variants.path.unlink()
    return table


def _running(
    model: ModelInfo, data: PreparedSplit, variants: Variants, chosen: Plan, threads: int
) -> Callable[[str, Treatment], float]:
    """The cost of a treatment of the layer of a name, by running the model."""
    spread = np.unique(np.linspace(0, data.samples - 1, chosen.samples).astype(np.int64))
    (batch,) = data.batches(len(spread), indices=spread)
    original = EvaluatedModel(Path(model.path), threads)
    batches = original.use_batches(batch.inputs)
    reference = original(batch.inputs)

    def cost(name: str, treatment: Treatment) -> float:
        variants.put(name, treated(variants.weights[name], treatment))
        changed = EvaluatedModel(variants.path, threads)
        if batches:
            changed.use_batches(batch.inputs)
        found = distance(reference, changed(batch.inputs))
        variants.restore(name)
        return found

    return cost


def _weight_error(weights: Array, treatment: Treatment) -> float:
    lost = float(np.sum(np.square(treated(weights, treatment) - weights, dtype=np.float64)))
    return lost / max(float(np.sum(np.square(weights, dtype=np.float64))), 1e-30)


def _costs(
    layers: Sequence[LayerInfo], amounts: Amounts, cost: Callable[[str, Treatment], float]
) -> dict[str, Costs]:
    """Costs of every layer by its name; what falls as the treatment grows stronger is noise, and lifted."""
    found: dict[str, Costs] = {}
    for layer in layers:
        costs: dict[Kind, list[Cost]] = {}
        for t in treatments(layer, amounts):
            rounded = float(f"{cost(layer.name, t):.{DIGITS}g}")
            least = costs[t.kind][-1].cost if t.kind in costs else 0.0
            costs.setdefault(t.kind, []).append(Cost(amount=t.amount, cost=max(rounded, least)))
        found[layer.name] = {kind: tuple(c) for kind, c in costs.items()}
    return found


def _table(
    layers: Sequence[LayerInfo], costs: dict[str, Costs], errors: dict[str, Costs], **how: Any
) -> Sensitivity:
    rows = [
        LayerCosts(name=x.name, weights=x.weights, costs=costs[x.name], errors=errors[x.name]) for x in layers
    ]
    return Sensitivity(layers=tuple(rows), **how)
