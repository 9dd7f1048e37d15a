"""Weights rounded one input after another, each taking up the errors of those before it.

The nearest integers lie nearest to the weights, not to what the layer makes of its inputs. Where inputs go
together, the error of one weight can be made up for by the next ones: GPTQ (Frantar et al. 2022, "GPTQ:
accurate post-training quantization for generative pre-trained transformers"), which takes the inverse of the
inputs' second moments for it, by its Cholesky factor. Weights that are zero stay zero, and the others take
up what they leave, as in SparseGPT (Frantar and Alistarh 2023).

litert-quantizer has an algorithm of this name too. It is for fully connected operators alone, and corrects by
the inverse itself, which takes no account of the weights that are rounded already.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from paretune_contract.settings import Algorithm, ClusteringStage

from .. import flatbuffer as fb
from ..data import PreparedSplit
from ..graph.description import WeightedOperator, has_integer_weights, input_of, weighted_operators
from ..layers import LayerPlan
from .algorithms import sentence
from .layer_inputs import Values, as_read, layer_inputs

Matrix = NDArray[np.float64]
DAMPING = 0.01
"""Share of the mean second moment that is added to all, so that there is an inverse."""
MOST_INPUTS = 4096
"""Inputs of a channel beyond which the matrix of second moments is too large to be worth it."""
NEEDS = (
    f"without groups, with at most {MOST_INPUTS:,} inputs a channel and with weights that were not clustered "
    "while training, nor are shared with a layer of another algorithm"
)
"""What it needs of a layer."""
PLACES = 256
"""Places of an image that are looked at, spread evenly."""
BLOCK = 64


@dataclass(frozen=True)
class _Layer:
    """A layer in the float model and in the quantized one."""

    plan: LayerPlan
    before: WeightedOperator
    after: WeightedOperator

    @property
    def weights(self) -> int:
        """The quantized tensor; layers with the same weights, stored alike, have the same."""
        return self.after.tensors[0]


def round_by_outputs(
    source: fb.Model,
    quantized: fb.Model,
    plans: Sequence[LayerPlan],
    data: PreparedSplit,
    indices: NDArray[np.int64],
    folder: Path,
    *,
    threads: int,
) -> str:
    """Round the weights of the layers that ask for it anew, on the scales that they have.

    Weights that several layers read are rounded for the inputs of all of them, and only where all ask for it.

    Args:
        source: the float model.
        quantized: made from `source`; changed in place.
        plans: of the layers.
        data: for calibration.
        indices: of the samples.
        folder: where a part of the model is put meanwhile.
        threads: of LiteRT.

    Returns:
        What was rounded and what was left to minMax, as `sentence` says it.

    Raises:
        StageError: NO_EFFECT when no layer is rounded; NOT_RUNNABLE when the runtime refuses.
    """
    pairs = zip(weighted_operators(source), weighted_operators(quantized), strict=True)
    layers = [_Layer(plan, *pair) for plan, pair in zip(plans, pairs, strict=True)]
    # A layer that the quantizer left float is not minMax's either: whoever inspects the file names it.
    floats = {layer.weights for layer in layers if _stayed_float(quantized, layer)}
    apart = floats | {layer.weights for layer in layers if not _rounds(source, layer.plan, layer.before)}
    asked = [layer for layer in layers if layer.plan.algorithm is Algorithm.GPTQ]
    said = sentence(
        [(layer.plan, layer.weights not in apart) for layer in asked if layer.weights not in floats], NEEDS
    )
    layers = [layer for layer in layers if layer.weights not in apart]
    moments: dict[int, Matrix] = {}
    enters = [input_of(source, layer.before) for layer in layers]
    for batch in layer_inputs(source, enters, data, indices, folder, threads=threads) if layers else ():
        for layer, tensor in zip(layers, enters, strict=True):
            rows = np.concatenate(list(_rows(source, layer.before, batch[tensor])))
            square = (rows.T @ rows).astype(np.float64)
            moments[layer.weights] = moments.get(layer.weights, 0.0) + square
    origins = {layer.weights: layer.before.tensors[0] for layer in layers}
    for index, second in moments.items():
        tensor, weights = quantized.subgraphs[0].tensors[index], fb.constant(source, origins[index])
        assert weights is not None
        matrix = weights.reshape(len(weights), -1).astype(np.float64)
        # The ends that the quantizer keeps to: four bits use their lowest integer, eight do not.
        ends = (-8, 7) if fb.type_name(tensor) == "INT4" else (-127, 127)
        integers = rounded(matrix, np.broadcast_to(fb.scales(tensor), len(matrix)), second, ends)
        fb.set_constant(quantized, index, integers.reshape(weights.shape))
    return said


def rounded(
    weights: Matrix, scales: NDArray[np.float32], moments: Matrix, ends: tuple[int, int]
) -> NDArray[np.int8]:
    """Integers whose products with the inputs err little.

    Args:
        weights: [channels, inputs].
        scales: of the channels.
        moments: second moments of the inputs, [inputs, inputs], in any unit.
        ends: the least and the largest integer.
    """
    upper = _factor(moments)
    left, column = weights.copy(), scales.astype(np.float64)
    zero = weights == 0
    integers = np.zeros(weights.shape, np.int8)
    for start in range(0, weights.shape[1], BLOCK):
        end = min(start + BLOCK, weights.shape[1])
        errors = np.zeros((len(weights), end - start))
        for i in range(start, end):
            nearest = np.clip(np.rint(left[:, i] / column), *ends)
            nearest[zero[:, i]] = 0
            integers[:, i] = nearest
            errors[:, i - start] = (left[:, i] - nearest * column) / upper[i, i]
            left[:, i + 1 : end] -= np.outer(errors[:, i - start], upper[i, i + 1 : end])
        left[:, end:] -= errors @ upper[start:end, end:]
    return integers


def _rounds(source: fb.Model, plan: LayerPlan, layer: WeightedOperator) -> bool:
    """Whether a layer is rounded here.

    Clusters from training are so many weights with one value, and would come apart; in a grouped convolution
    not all channels have the same inputs.
    """
    graph = source.subgraphs[0]
    shape = fb.shape(graph.tensors[layer.tensors[0]])
    enters = fb.shape(graph.tensors[input_of(source, layer)])
    grouped = layer.operator == "CONV_2D" and enters[-1] != shape[-1]
    return (
        plan.algorithm is Algorithm.GPTQ
        and plan.reached
        and plan.clustering.stage is not ClusteringStage.TRAINING
        and not grouped
        and int(np.prod(shape[1:])) <= MOST_INPUTS
    )


def _stayed_float(quantized: fb.Model, layer: _Layer) -> bool:
    return layer.plan.reached and not has_integer_weights(quantized, layer.after)


def _factor(moments: Matrix) -> Matrix:
    """The upper Cholesky factor of the inverse of the damped second moments."""
    damped = moments.copy()
    diagonal = np.diag(damped).copy()
    diagonal[diagonal == 0] = max(float(diagonal.mean()), 1e-12)  # an input that is always zero
    np.fill_diagonal(damped, diagonal + DAMPING * diagonal.mean())
    upper: Matrix = np.linalg.cholesky(np.linalg.inv(damped)).T
    return upper


def _rows(model: fb.Model, layer: WeightedOperator, values: Values) -> Iterator[Values]:
    """What meets the weights of a channel, [places, inputs], sample by sample."""
    shape, values = fb.shape(model.subgraphs[0].tensors[layer.tensors[0]]), as_read(model, layer, values)
    if layer.operator == "FULLY_CONNECTED":
        yield values
        return
    options = model.subgraphs[0].operators[layer.index].builtinOptions
    steps = (int(options.strideH), int(options.strideW))
    gaps = (int(options.dilationHFactor), int(options.dilationWFactor))
    spans = tuple((k - 1) * gap + 1 for k, gap in zip(shape[1:3], gaps, strict=True))
    around = [(0, 0), (0, 0), (0, 0)]
    if options.padding == 0:  # SAME
        for axis in (0, 1):
            size = values.shape[axis + 1]
            missing = max((-(-size // steps[axis]) - 1) * steps[axis] + spans[axis] - size, 0)
            around[axis] = (missing // 2, missing - missing // 2)
    for sample in values:
        windows = sliding_window_view(np.pad(sample, around), spans, axis=(0, 1))
        windows = windows[:: steps[0], :: steps[1], :, :: gaps[0], :: gaps[1]]
        rows, columns = windows.shape[:2]
        some = np.unique(np.linspace(0, rows * columns - 1, min(rows * columns, PLACES)).astype(np.int64))
        chosen = windows[some // columns, some % columns]
        yield chosen.transpose(0, 2, 3, 1).reshape(len(some), -1)
