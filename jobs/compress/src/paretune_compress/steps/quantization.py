"""Post-training quantization of a float .tflite with litert-quantizer."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import (
    STATIC_SCHEMES,
    Algorithm,
    Granularity,
    InputOutput,
    Scheme,
    Settings,
)

from .. import flatbuffer as fb
from ..layers import LayerPlan
from .algorithms import clipped_plans
from .calibration import Ranges
from .grids import Grids, write_integers
from .lean import lean
from .weight_ranges import best_range

ANY = ".*"


def quantizes(plans: Sequence[LayerPlan]) -> bool:
    """Whether any layer is quantized."""
    return any(plan.scheme is not Scheme.NONE for plan in plans)


def needs_calibration(settings: Settings, plans: Sequence[LayerPlan]) -> bool:
    """Whether ranges of activations are needed."""
    schemes = {settings.quantization.scheme, *(plan.scheme for plan in plans)}
    return bool(schemes & STATIC_SCHEMES)


def quantize(
    source: Path,
    settings: Settings,
    plans: Sequence[LayerPlan],
    ranges: Ranges | None,
    grids: Grids | None = None,
    *,
    spare: bool = False,
) -> bytes:
    """The quantized file, packed anew.

    Args:
        source: the float .tflite; it must have a signature.
        settings: the scheme of operators without weights and the type of inputs and outputs.
        plans: scheme, granularity and algorithm of each layer. What octav and mse do not reach is quantized
            by minMax; so are the layers of gptq, which are rounded anew afterwards.
        ranges: of activations; None where `needs_calibration` says no.
        grids: where weights are integers times known steps: the file holds these integers and steps.
        spare: what no interpreter needs is left out.

    Raises:
        StageError: STEP_FAILED when the quantizer refuses.
    """
    from litert_quantizer import quantizer

    plans = clipped_plans(source, plans)
    try:
        work = quantizer.Quantizer(source.read_bytes(), recipe(settings, plans))
        calibration = _as_statistics(ranges) if ranges is not None and work.need_calibration else None
        if calibration is not None:
            calibration |= _int4_ranges(fb.read(source), plans)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it opens an interpreter that keeps all tensors, and says so
            result = work.quantize(calibration, enable_progress_bar=False, enable_progress_report=False)
    except Exception as error:  # the quantizer raises whatever comes along
        raise StageError(
            Reason.STEP_FAILED,
            f"quantization {settings.quantization.scheme.value} failed: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        ) from error
    model = fb.load(bytes(result.quantized_model), "the quantized model")
    if grids is not None:
        write_integers(model, fb.read(source), grids)
    if spare:
        lean(model)
    return fb.pack(model)


def recipe(settings: Settings, plans: Sequence[LayerPlan]) -> list[dict[str, Any]]:
    """The quantizer's recipe: the scheme for all, then an entry for each layer that differs."""
    from litert_quantizer import algorithm_manager, qtyping, recipe_manager

    operations, none = qtyping.TFLOperationName, algorithm_manager.AlgorithmName.NO_QUANTIZE
    manager = recipe_manager.RecipeManager()
    base = settings.quantization
    everything = Scheme.INT8 if base.scheme is Scheme.INT4 else base.scheme
    _add(manager, ANY, everything, base.granularity)
    if base.scheme in STATIC_SCHEMES:
        for end in (operations.INPUT, operations.OUTPUT):
            if base.io is InputOutput.INT8:
                manager.add_static_config(ANY, end, 8, 8)
            else:
                manager.add_quantization_config(ANY, end, algorithm_key=none)
    for plan in plans:
        plain = plan.algorithm is Algorithm.MIN_MAX
        if not plain or (plan.scheme, plan.granularity) != (everything, base.granularity):
            # The quantizer searches the expression in the output names, each followed by a semicolon.
            scope = f"^{re.escape(plan.layer.name)};?$"
            _add(manager, scope, plan.scheme, plan.granularity, plan.algorithm)
    entries: list[dict[str, Any]] = manager.get_quantization_recipe()
    return entries


def _add(
    manager: Any,
    scope: str,
    scheme: Scheme,
    granularity: Granularity,
    algorithm: Algorithm = Algorithm.MIN_MAX,
) -> None:
    from litert_quantizer import algorithm_manager, qtyping

    names = algorithm_manager.AlgorithmName
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    scales = (
        qtyping.QuantGranularity.TENSORWISE
        if granularity is Granularity.TENSOR
        else qtyping.QuantGranularity.CHANNELWISE
    )
    own = {Algorithm.OCTAV: names.OCTAV, Algorithm.MSE: names.MSE}
    key = own.get(algorithm, names.MIN_MAX_UNIFORM_QUANT)
    if scheme is Scheme.NONE:
        manager.add_quantization_config(scope, everything, algorithm_key=names.NO_QUANTIZE)
    elif scheme is Scheme.FLOAT16:
        manager.add_weight_only_config(scope, everything, 16, algorithm_key=names.FLOAT_CASTING)
    elif scheme is Scheme.DYNAMIC:
        manager.add_dynamic_config(scope, everything, 8, scales, algorithm_key=key)
    else:
        activations = 16 if scheme is Scheme.INT16X8 else 8
        weights = 4 if scheme is Scheme.INT4 else 8
        manager.add_static_config(scope, everything, activations, weights, scales, algorithm_key=key)


def _int4_ranges(model: fb.Model, plans: Sequence[LayerPlan]) -> dict[str, dict[str, Any]]:
    """Ranges of weights with four bits; all others reach to their largest weight, as the quantizer does."""
    found: dict[str, dict[str, Any]] = {}
    for plan in plans:
        weights = fb.constant(model, plan.layer.weight_tensor)
        if plan.scheme is Scheme.INT4 and plan.algorithm is Algorithm.MIN_MAX and weights is not None:
            axis = 0 if plan.granularity is Granularity.CHANNEL else None
            high = best_range(weights, 4, axis)
            name = fb.tensor_name(model.subgraphs[0].tensors[plan.layer.weight_tensor])
            found[name] = {"min": -high, "max": high}
    return found


def _as_statistics(ranges: Ranges) -> dict[str, dict[str, Any]]:
    """Ranges as the quantizer wants them. Activations only: weights are measured by itself."""
    return {
        name: {"min": np.array([low]), "max": np.array([high])}
        for name, low, high in zip(ranges.names, ranges.low, ranges.high, strict=True)
    }
