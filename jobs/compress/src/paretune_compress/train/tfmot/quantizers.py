"""What tfmot's quantization wrapper does to each layer: integers with the scales that the file will have.

Its default schemes give a depthwise kernel one scale for all channels, which folded batch norm does not
stand; keep the clusters of a convolution for each channel apart, so that k become k times as many integers;
and share one quantizer among all layers, which forgets the zeros of all where one has none. So each layer has
a configuration of its own here, made of tfmot's parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ...flatbuffer import Array
from ..learned_steps import FINEST, SMALLEST
from .library import keras, tfmot

Layer = Any
TFTensor = Any
Variables = dict[str, Any]
_quantization = tfmot.quantization.keras
_LastValueQuantizer: Any = _quantization.quantizers.LastValueQuantizer
_AllValuesQuantizer: Any = _quantization.quantizers.AllValuesQuantizer
_QuantizeConfig: Any = _quantization.QuantizeConfig
_DefaultScheme: Any = _quantization.default_8bit.Default8BitQuantizeScheme
_LayoutTransform: Any = _quantization.QuantizeLayoutTransform
LOW, HIGH, CENTROIDS, MASK, ZERO = "min_var", "max_var", "centroids", "mask", "zero"
ACTIVATION_BITS = 8


@dataclass(frozen=True)
class Form:
    """How a kernel is trained.

    bits: of its integers; 0: it stays float.
    channels: with a scale each; 0: one scale.
    masked: zeros that it has stay zeros.
    clustered: it keeps the number of its distinct values.
    """

    bits: int = 0
    channels: int = 0
    masked: bool = False
    clustered: bool = False


class KernelQuantizer(_LastValueQuantizer):  # type: ignore[misc]
    """Rounds a kernel to integers between its least and greatest weight, symmetric, without the lowest one.

    Masks and centroids are taken from the kernel as it is when the layer is wrapped.
    """

    def __init__(self, form: Form) -> None:
        super().__init__(form.bits or 8, per_axis=form.channels > 0, symmetric=True, narrow_range=True)
        self.form = form
        self.built: Variables = {}

    def build(self, tensor_shape: Sequence[int], name: str, layer: Layer) -> Variables:  # noqa: ARG002
        kernel = np.asarray(keras.backend.get_value(getattr(layer.layer, name)))
        shape = [self.form.channels] if self.form.channels else []
        built: Variables = {
            key: layer.add_weight(f"{name}_{key}", shape=shape, initializer="zeros", trainable=False)
            for key in (LOW, HIGH)
        }
        if self.form.masked:
            built[MASK] = (kernel != 0).astype(np.float32)
        if self.form.clustered:
            values = np.unique(kernel)
            start = keras.initializers.Constant(values)
            built[CENTROIDS] = layer.add_weight(CENTROIDS, shape=[len(values)], initializer=start)
            built[ZERO] = (values != 0).astype(np.float32)
        self.built = built
        return built

    def __call__(self, inputs: TFTensor, training: bool, weights: Variables, **_: Any) -> TFTensor:
        kernel = tf.convert_to_tensor(inputs)
        if self.form.masked:
            kernel = kernel * weights[MASK]
        if self.form.clustered:
            kernel = self._clustered(kernel, weights)
        if not self.form.bits:
            return kernel
        if not self.form.channels:
            return super().__call__(kernel, training, weights)
        rows = tf.reshape(kernel, [-1, self.form.channels])
        # A channel of next to nothing would leave its bias without room in 32 bits.
        floor = tf.stop_gradient(tf.reduce_max(tf.abs(rows))) * FINEST
        more = tf.concat([rows, tf.fill([1, self.form.channels], floor)], axis=0)
        return tf.reshape(super().__call__(more, training, weights)[:-1], kernel.shape)

    def steps(self) -> Array:
        """The present steps, float32, one or one for each channel."""
        reach = np.ravel(self.built[HIGH].numpy() - self.built[LOW].numpy())
        step: Array = np.maximum(reach / np.float32(2**self.form.bits - 2), np.float32(SMALLEST))
        return step

    def _clustered(self, kernel: TFTensor, weights: Variables) -> TFTensor:
        """Each weight's nearest centroid; the gradient reaches both."""
        centroids = weights[CENTROIDS]
        if self.form.masked:
            centroids.assign(centroids * weights[ZERO])  # zero stays one of them
        algorithm = tfmot.clustering.keras.ClusteringAlgorithm(centroids)
        nearest = algorithm.get_pulling_indices(kernel)
        return algorithm.get_clustered_weight(nearest, kernel)


@keras.utils.register_keras_serializable(package="paretune")
class LayerConfig(_QuantizeConfig):  # type: ignore[misc]
    """What is quantized of one layer.

    Args:
        attribute: name of the layer's kernel; empty where it has none.
        form: of the kernel.
        output: whether the output is rounded too, between the least and the greatest value ever seen, as a
            calibration takes them. (tfmot's moving average begins at -6 to 6 and needs thousands of steps.)
    """

    def __init__(self, attribute: str = "", form: Form | None = None, *, output: bool = False) -> None:
        self.attribute, self.output = attribute, output
        self.quantizer = KernelQuantizer(form or Form())
        self.kernel: Any = None

    def final(self) -> tuple[Array, Array | None]:
        """The kernel as the network sees it now, and its steps, None where it stays float."""
        value = np.asarray(self.quantizer(self.kernel, False, self.quantizer.built))
        return value, self.quantizer.steps() if self.quantizer.form.bits else None

    def get_weights_and_quantizers(self, layer: Layer) -> list[tuple[Any, Any]]:
        if not self.attribute:
            return []
        self.kernel = getattr(layer, self.attribute)
        return [(self.kernel, self.quantizer)]

    def set_quantize_weights(self, layer: Layer, quantize_weights: Sequence[TFTensor]) -> None:
        for weight in quantize_weights:
            setattr(layer, self.attribute, weight)

    def get_activations_and_quantizers(self, layer: Layer) -> list[tuple[Any, Any]]:  # noqa: ARG002
        return []

    def set_quantize_activations(self, layer: Layer, quantize_activations: Sequence[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Layer) -> list[Any]:  # noqa: ARG002
        if not self.output:
            return []
        return [_AllValuesQuantizer(ACTIVATION_BITS, per_axis=False, symmetric=False, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        return {"attribute": self.attribute, "form": vars(self.quantizer.form), "output": self.output}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LayerConfig":
        return cls(config["attribute"], Form(**config["form"]), output=config["output"])


class AsBuilt(_DefaultScheme):  # type: ignore[misc]
    """Wraps the layers as they are: batch norm is folded, and activations are layers of their own."""

    def get_layout_transformer(self) -> "_NoChange":
        return _NoChange()


class _NoChange(_LayoutTransform):  # type: ignore[misc]
    def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return model, layer_quantize_map
