"""How the trained numbers become the weights of the network: masks, centroids, integers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from paretune_contract.settings import ClusteringStage

from ..flatbuffer import Array
from ..kmeans import cluster_values
from ..layers import LayerPlan
from ..steps.sparsity import mask_for
from .learned_steps import LearnedSteps, integer_formats

Variable = Any
TFTensor = Any
TYPICAL = 0.05
"""Root mean square of weights for which usual learning rates are made (a 3x3 layer of 64 channels)."""


class Parametrization:
    """Latent weights, a mask where a layer is pruned, centroids where it is clustered, steps of integers.

    Latent weights and centroids are kept in units of their own size, so that an optimizer's step is in
    proportion to what it changes: folded batch norm and unscaled inputs leave channels whose weights differ
    by orders of magnitude, and a step that suits one destroys another.

    weight = mask * (centroid nearest to the latent weight, or the latent weight itself). The gradient reaches
    the centroid (summed over its weights, Han et al. 2016) and, straight through the choice, the latent
    weight, so that a weight can change its centroid (Cho et al. 2022 do so softly). A tensor that is both
    pruned and clustered keeps zero as one of its values: k - 1 centroids are for the rest.

    Where a layer is trained for its quantization, all of this is rounded to integers times learned steps:
    zeros stay zeros, and with one step for a tensor k values become at most k integers.

    Args:
        weights: initial values by tensor index.
        plans: what is done to each layer.
        largest_unit: no weight counts for more. An optimizer whose steps follow the gradient's size changes
            a weight by the unit squared, and needs a bound; one that divides by that size needs none.
    """

    def __init__(
        self, weights: Mapping[int, Array], plans: Sequence[LayerPlan], largest_unit: float = np.inf
    ) -> None:
        import tensorflow as tf

        self.order = tuple(sorted(weights))
        self._units = {i: np.minimum(unit_of(weights[i]), np.float32(largest_unit)) for i in self.order}
        self.latent = {i: tf.Variable(weights[i].astype(np.float32) / self._units[i]) for i in self.order}
        plans_by_tensor = {p.layer.weight_tensor: p for p in plans if p.layer.weight_tensor in weights}
        self._pruned = {i: p for i, p in plans_by_tensor.items() if p.zeros > 0}
        self._clustered = {
            i: p
            for i, p in plans_by_tensor.items()
            if p.clustering.stage is ClusteringStage.TRAINING and p.clustering.clusters > 0
        }
        self.masks = {i: tf.Variable(tf.ones_like(self.latent[i]), trainable=False) for i in self._pruned}
        self.centroids = {i: tf.Variable(tf.zeros([self._free(i)]), trainable=True) for i in self._clustered}
        self._spread = {i: tf.Variable(1.0, trainable=False) for i in self._clustered}
        self._nearest = {
            i: tf.Variable(tf.zeros(weights[i].shape, tf.int32), trainable=False) for i in self._clustered
        }
        self._clustering = tf.Variable(False, trainable=False)
        self._steps = LearnedSteps(integer_formats(plans), {i: weights[i].shape for i in self.order})

    @property
    def prunes(self) -> bool:
        return bool(self._pruned)

    @property
    def clusters(self) -> bool:
        return bool(self._clustered)

    @property
    def quantizes(self) -> bool:
        return bool(self._steps)

    @property
    def variables(self) -> list[Variable]:
        """All that the optimizer moves."""
        latent = [self.latent[i] for i in self.order]
        return latent + [self.centroids[i] for i in sorted(self.centroids)] + self._steps.variables

    def update_masks(self, progress: float) -> None:
        """Choose anew which weights are zero, at a share `progress` (0..1) of the ramp."""
        for i, plan in self._pruned.items():
            mask = mask_for(plan, self._present(i), progress)
            if mask is not None:
                self.masks[i].assign(mask.astype(np.float32))

    def begin_clustering(self) -> None:
        """Place the centroids by k-means over the present weights; from here on they are used."""
        for i in self._clustered:
            values = self._present(i)
            if i in self.masks:
                values = values[self.masks[i].numpy() > 0]
            found = cluster_values(values, self._free(i))
            # Fewer distinct values than centroids: the last one stands for the rest.
            padded = np.full(self._free(i), found[-1], np.float32)
            padded[: len(found)] = found
            self._spread[i].assign(np.float32(max(float(np.std(values)), 1e-12) / TYPICAL))
            self.centroids[i].assign(padded / self._spread[i].numpy())
        self._clustering.assign(True)
        self.choose_centroids()

    def begin_quantization(self) -> None:
        """Take steps that suit the present weights; from here on the network sees integers."""
        self._steps.begin(self.final())

    def choose_centroids(self) -> None:
        """Let each weight take the centroid that is nearest by now; nothing before clustering began.

        To be done before each step: with a choice that is some steps old, latent weights drift without
        being heard, and then change sides together (seen to destroy a network).
        """
        if not self._clustering.numpy():
            return
        for i in self._clustered:
            centroids = self._centroids(i)
            order = np.argsort(centroids, kind="stable")
            middles = (centroids[order][1:] + centroids[order][:-1]) / 2
            self._nearest[i].assign(order.astype(np.int32)[_above(self._present(i), middles)])

    def weights(self) -> dict[int, TFTensor]:
        """The network's weights as TensorFlow values that pass gradients on."""
        import tensorflow as tf

        result: dict[int, TFTensor] = {}
        for i in self.order:
            w: TFTensor = self.latent[i] * self._units[i]
            if i in self.centroids:
                w = tf.cond(self._clustering, lambda i=i, w=w: self._drawn(i, w), lambda w=w: tf.identity(w))
            w = w * self.masks[i] if i in self.masks else w
            result[i] = self._steps.rounded(i, w) if i in self._steps else w
        return result

    def final(self) -> dict[int, Array]:
        """The weights as they are stored, float32: exact zeros, exactly the centroids, exact integers."""
        values: dict[int, Array] = {}
        for i in self.order:
            w = self._present(i)
            if i in self.centroids and self._clustering.numpy():
                w = self._centroids(i)[self._nearest[i].numpy()]
            w = np.where(self.masks[i].numpy() > 0, w, np.float32(0)) if i in self.masks else w
            values[i] = self._steps.on_grid(i, w) if i in self._steps else w
        return values

    def grids(self) -> dict[int, list[float]]:
        """Steps of the weights that are trained as integers, one or one for each channel."""
        return self._steps.steps()

    def _free(self, i: int) -> int:
        k = self._clustered[i].clustering.clusters
        return max(1, k - 1) if i in self._pruned else k

    def _centroids(self, i: int) -> Array:
        value: Array = self.centroids[i].numpy() * self._spread[i].numpy()
        return value

    def _present(self, i: int) -> Array:
        value: Array = self.latent[i].numpy() * self._units[i]
        return value

    def _drawn(self, i: int, latent: TFTensor) -> TFTensor:
        drawn = _pick(self.centroids[i] * self._spread[i], self._nearest[i])
        return drawn + latent - _stopped(latent)


def unit_of(weights: Array) -> Array:
    """What a latent weight counts in: its output channel's size. Biases, on the scale of activations: one.

    Channels are the last axis of depthwise weights, [1, height, width, channels], else the first.
    """
    if weights.ndim < 2:
        return np.ones(weights.shape, np.float32)
    channel = weights.ndim - 1 if weights.ndim == 4 and weights.shape[0] == 1 else 0
    other = tuple(i for i in range(weights.ndim) if i != channel)
    size = np.sqrt(np.mean(np.square(weights, dtype=np.float64), axis=other, keepdims=True))
    floor = max(float(size.mean()) * 1e-3, 1e-12)  # dead channels stay nearly dead
    unit: Array = (np.maximum(size, floor) / TYPICAL).astype(np.float32)
    return unit


def _above(values: Array, bounds: Array) -> Array:
    """How many of at most 255 bounds lie below each value: ten times faster than a binary search."""
    count = np.zeros(values.shape, np.uint8)
    for bound in bounds:
        count += values > bound
    return count


def _stopped(value: TFTensor) -> TFTensor:
    import tensorflow as tf

    return tf.stop_gradient(value)


def _pick(centroids: TFTensor, nearest: TFTensor) -> TFTensor:
    """Centroids by index, in the shape of `nearest`; the gradient is summed by counting, which is fast."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def picked(values: TFTensor, index: TFTensor) -> tuple[TFTensor, Any]:
        def gradient(upstream: TFTensor) -> tuple[TFTensor, None]:
            flat, at = tf.reshape(upstream, [-1]), tf.reshape(index, [-1])
            return tf.math.bincount(at, weights=flat, minlength=int(values.shape[0])), None

        return tf.gather(values, index), gradient

    return picked(centroids, tf.identity(nearest))
