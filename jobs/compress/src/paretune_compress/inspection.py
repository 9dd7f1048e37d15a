"""What the finished file really contains, and whether every setting left its trace."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import LayerInfo
from paretune_contract.settings import STATIC_SCHEMES, InputOutput, Scheme, Settings, SparsityPattern
from paretune_contract.stages import Inspection, TensorInspection

from . import flatbuffer as fb
from .graph.description import weighted_operators
from .layers import KEPT_OPERATORS, LayerPlan
from .steps.sparsity import is_two_of_four, zero_blocks

WEIGHT_TYPES = {
    Scheme.FLOAT16: "FLOAT16",
    Scheme.DYNAMIC: "INT8",
    Scheme.INT8: "INT8",
    Scheme.INT16X8: "INT8",
    Scheme.INT4: "INT4",
}
SPARSITY_TOLERANCE = 0.002


def inspect(path: Path, layers: Sequence[LayerInfo]) -> Inspection:
    """Look at the weights and the ends of a finished file.

    Args:
        path: the file.
        layers: of the float model it was made from; operators with weights keep their order.

    Raises:
        StageError: STEP_FAILED when the file has lost or gained operators with weights.
    """
    model = fb.read(path)
    graph = model.subgraphs[0]
    found = weighted_operators(model)
    if len(found) != len(layers):
        raise StageError(
            Reason.STEP_FAILED,
            f"the finished file has {len(found)} operators with weights, the float model {len(layers)}",
        )
    tensors, dtypes, zeros, total = [], dict[str, int](), 0, 0
    for layer, weighted in zip(layers, found, strict=True):
        for index in weighted.tensors:
            tensor = graph.tensors[index]
            values = fb.constant(model, index)
            if values is None:
                continue
            none = int(np.count_nonzero(values == _zero_point(tensor)))
            kind = fb.type_name(tensor)
            zeros, total = zeros + none, total + values.size
            dtypes[kind] = dtypes.get(kind, 0) + values.size
            tensors.append(
                TensorInspection(
                    layer=layer.name,
                    dtype=kind,
                    zeros=none / max(1, values.size),
                    distinct=_distinct(values),
                    scales=len(fb.scales(tensor)) if kind.startswith("INT") else 0,
                    two_of_four=is_two_of_four(values),
                    zero_blocks=zero_blocks(values),
                    weights=values.size,
                )
            )
    return Inspection(
        tensors=tuple(tensors),
        dtypes=dtypes,
        sparsity=zeros / max(1, total),
        inputs=tuple(fb.type_name(graph.tensors[int(t)]) for t in graph.inputs),
        outputs=tuple(fb.type_name(graph.tensors[int(t)]) for t in graph.outputs),
    )


def check(settings: Settings, inspection: Inspection, plans: Sequence[LayerPlan]) -> None:
    """Compare what was asked with what was found.

    Args:
        settings: for the ends of the model.
        inspection: of the finished file.
        plans: by which the file was made.

    Raises:
        StageError: NO_EFFECT naming the setting, the layer and what stands there instead.
    """
    by_layer: dict[str, list[TensorInspection]] = {}
    for tensor in inspection.tensors:
        by_layer.setdefault(tensor.layer, []).append(tensor)
    for plan in plans:
        for tensor in by_layer.get(plan.layer.name, []):
            _check_type(plan, tensor)
            _check_sparsity(plan, tensor)
            _check_clusters(plan, tensor)
    _check_any_type(plans, inspection)
    _check_channels(settings, inspection, plans)
    _check_ends(settings, inspection)


def _check_type(plan: LayerPlan, tensor: TensorInspection) -> None:
    wanted = WEIGHT_TYPES.get(plan.scheme)
    if wanted is None or plan.layer.operator not in KEPT_OPERATORS:
        return
    if tensor.dtype != wanted:
        raise StageError(
            Reason.NO_EFFECT,
            f"quantization.scheme {plan.scheme.value}: the weights of {plan.layer.name!r} "
            f"({plan.layer.operator}) are {tensor.dtype}, expected {wanted}",
        )


def _check_any_type(plans: Sequence[LayerPlan], inspection: Inspection) -> None:
    asked = {WEIGHT_TYPES[p.scheme] for p in plans if p.scheme in WEIGHT_TYPES}
    for wanted in sorted(asked - set(inspection.dtypes)):
        raise StageError(
            Reason.NO_EFFECT,
            f"quantization left no {wanted} weights; the file has {inspection.dtypes or 'none at all'}",
        )


def _check_sparsity(plan: LayerPlan, tensor: TensorInspection) -> None:
    size = max(1, prod(plan.layer.weight_shape))
    rounding = 1 / size
    # Weights of channels that were removed since are zeros that are no longer there.
    zeros = 1 - (1 - tensor.zeros) * tensor.weights / size if tensor.weights else tensor.zeros
    if plan.zeros and zeros < plan.zeros - SPARSITY_TOLERANCE - rounding:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity {plan.zeros:.1%} asked in {plan.layer.name!r}, found {zeros:.1%}",
        )
    if plan.sparsity.pattern is SparsityPattern.TWO_OF_FOUR and not tensor.two_of_four:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity 2:4 asked in {plan.layer.name!r}, but some four weights hold more than two non-zeros",
        )
    if (
        plan.sparsity.pattern is SparsityPattern.BLOCK
        and tensor.zero_blocks < plan.zeros - SPARSITY_TOLERANCE - 4 * rounding
    ):
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity 1x4 {plan.zeros:.1%} asked in {plan.layer.name!r}, found {tensor.zero_blocks:.1%} of "
            "blocks that are zero",
        )


def _check_clusters(plan: LayerPlan, tensor: TensorInspection) -> None:
    if plan.clustering.clusters and tensor.distinct > plan.clustering.clusters:
        raise StageError(
            Reason.NO_EFFECT,
            f"{plan.clustering.clusters} clusters asked in {plan.layer.name!r}, found {tensor.distinct} "
            "distinct weights",
        )


def _check_channels(settings: Settings, inspection: Inspection, plans: Sequence[LayerPlan]) -> None:
    if settings.sparsity.pattern is not SparsityPattern.CHANNEL:
        return
    before, after = sum(p.layer.weights for p in plans), sum(t.weights for t in inspection.tensors)
    if after >= before:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity.pattern channel: the file has {after:,} weights, and the float model {before:,}",
        )


def _check_ends(settings: Settings, inspection: Inspection) -> None:
    if settings.quantization.scheme not in STATIC_SCHEMES:
        return
    wanted = "INT8" if settings.quantization.io is InputOutput.INT8 else "FLOAT32"
    other = "FLOAT32" if wanted == "INT8" else "INT8"
    for end, found in (("inputs", inspection.inputs), ("outputs", inspection.outputs)):
        # Integer inputs of the model itself, such as indices, stay what they are.
        if other in found or (wanted not in found and "INT16" in found):
            raise StageError(
                Reason.NO_EFFECT,
                f"quantization.io {settings.quantization.io.value}: the {end} are {', '.join(found)}",
            )


def _distinct(values: fb.Array) -> int:
    """How many different values there are; zeros of either sign are one.

    float16 goes through float32, which holds each of its values: the sort of float16 that NumPy takes on
    processors with AVX-512 (seen with 2.4.6) leaves long arrays of few values out of order, and
    `numpy.unique` then finds some values twice.
    """
    return len(np.unique(values.astype(np.float32) if values.dtype == np.float16 else values))


def _zero_point(tensor: fb.Tensor) -> int:
    q = tensor.quantization
    if q is None or q.zeroPoint is None or len(q.zeroPoint) == 0:
        return 0
    return int(q.zeroPoint[0])
