"""How the trained numbers become the weights of the network: masks and centroids."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from paretune_contract.settings import ClusteringStage

from ..flatbuffer import Array
from ..kmeans import cluster_values
from ..layers import LayerPlan
from ..steps.sparsity import mask_for

Variable = Any
TFTensor = Any


class Parametrization:
    """Latent weights, a mask where a layer is pruned, centroids where it is clustered.

    weight = mask * (centroid nearest to the latent weight, or the latent weight itself). The gradient reaches
    the centroid (summed over its weights, Han et al. 2016) and, straight through the choice, the latent
    weight, so that a weight can change its centroid (Cho et al. 2022 do so softly). A tensor that is both
    pruned and clustered keeps zero as one of its values: k - 1 centroids are for the rest.

    Args:
        weights: initial values by tensor index.
        plans: what is done to each layer.
    """

    def __init__(self, weights: Mapping[int, Array], plans: Sequence[LayerPlan]) -> None:
        import tensorflow as tf

        self.order = tuple(sorted(weights))
        self.latent = {i: tf.Variable(weights[i].astype(np.float32)) for i in self.order}
        plans_by_tensor = {p.layer.weight_tensor: p for p in plans if p.layer.weight_tensor in weights}
        self._pruned = {i: p for i, p in plans_by_tensor.items() if p.zeros > 0}
        self._clustered = {
            i: p
            for i, p in plans_by_tensor.items()
            if p.clustering.stage is ClusteringStage.TRAINING and p.clustering.clusters > 0
        }
        self.masks = {i: tf.Variable(tf.ones_like(self.latent[i]), trainable=False) for i in self._pruned}
        self.centroids = {i: tf.Variable(tf.zeros([self._free(i)]), trainable=True) for i in self._clustered}
        self._clustering = tf.Variable(0.0, trainable=False)

    @property
    def prunes(self) -> bool:
        return bool(self._pruned)

    @property
    def clusters(self) -> bool:
        return bool(self._clustered)

    @property
    def variables(self) -> list[Variable]:
        """All that the optimizer moves."""
        return [self.latent[i] for i in self.order] + [self.centroids[i] for i in sorted(self.centroids)]

    def update_masks(self, progress: float) -> None:
        """Choose anew which weights are zero, at a share `progress` (0..1) of the ramp."""
        for i, plan in self._pruned.items():
            mask = mask_for(plan, self.latent[i].numpy(), progress)
            if mask is not None:
                self.masks[i].assign(mask.astype(np.float32))

    def begin_clustering(self) -> None:
        """Place the centroids by k-means over the present weights; from here on they are used."""
        for i in self._clustered:
            values = self.latent[i].numpy()
            if i in self.masks:
                values = values[self.masks[i].numpy() > 0]
            found = cluster_values(values, self._free(i))
            # Fewer distinct values than centroids: the last one stands for the rest.
            padded = np.full(self._free(i), found[-1], np.float32)
            padded[: len(found)] = found
            self.centroids[i].assign(padded)
        self._clustering.assign(1.0)

    def weights(self) -> dict[int, TFTensor]:
        """The network's weights as TensorFlow values that pass gradients on."""
        import tensorflow as tf

        result: dict[int, TFTensor] = {}
        for i in self.order:
            w: TFTensor = self.latent[i]
            if i in self.centroids:
                drawn = self._drawn(i)
                w = tf.cond(self._clustering > 0.0, lambda drawn=drawn: drawn, lambda w=w: tf.identity(w))
            result[i] = w * self.masks[i] if i in self.masks else w
        return result

    def final(self) -> dict[int, Array]:
        """The weights as they are stored, float32: exact zeros, exactly the centroids."""
        values: dict[int, Array] = {}
        for i in self.order:
            w = self.latent[i].numpy()
            if i in self.centroids and float(self._clustering.numpy()) > 0:
                centroids = np.sort(self.centroids[i].numpy())
                w = centroids[np.searchsorted((centroids[1:] + centroids[:-1]) / 2, w)]
            values[i] = np.where(self.masks[i].numpy() > 0, w, np.float32(0)) if i in self.masks else w
        return values

    def _free(self, i: int) -> int:
        k = self._clustered[i].clustering.clusters
        return max(1, k - 1) if i in self._pruned else k

    def _drawn(self, i: int) -> TFTensor:
        import tensorflow as tf

        latent = self.latent[i]
        centroids = tf.sort(self.centroids[i])
        middles = (centroids[1:] + centroids[:-1]) / 2.0
        nearest = tf.searchsorted(tf.stop_gradient(middles), tf.reshape(tf.stop_gradient(latent), [-1]))
        drawn = tf.reshape(tf.gather(centroids, nearest), latent.shape)
        return drawn + latent - tf.stop_gradient(latent)
