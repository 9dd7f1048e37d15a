"""Networks from Keras, as the converter writes them, and what comes before and after shrinking."""

from typing import Any

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.graph.function import GraphFunction
from paretune_compress.shrink import channel_groups, mask_for_channels, shrink
from support.made_networks import assert_same_outputs

pytestmark = pytest.mark.tensorflow


def classifier() -> Any:
    """Stem, residual block, squeeze and excitation, separable block, flatten, dense."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(3)

    def normalized(x: Any, **activation: Any) -> Any:
        return layers.Activation("relu", **activation)(layers.BatchNormalization()(x))

    entry = keras.Input((12, 12, 3))
    stem = normalized(layers.Conv2D(16, 3, padding="same", use_bias=False)(entry))
    x = normalized(layers.Conv2D(12, 3, padding="same", use_bias=False)(stem))
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x))
    x = layers.ReLU()(layers.Add()([stem, x]))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(layers.Conv2D(6, 1, activation="relu")(gate))
    x = layers.Multiply()([x, gate])
    x = normalized(layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x))
    x = normalized(layers.Conv2D(20, 1, use_bias=False)(x))
    x = layers.Concatenate()([layers.MaxPooling2D()(x), layers.AveragePooling2D(2)(x)])
    x = layers.Dense(24, activation="relu")(layers.Flatten()(x))
    return keras.Model(entry, layers.Dense(4, activation="softmax")(x))


def decoder() -> Any:
    """Dense, reshape to an image, transposed convolutions."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(4)
    entry = keras.Input((6,))
    x = layers.Reshape((3, 3, 8))(layers.Dense(72, activation="relu")(entry))
    x = layers.Conv2DTranspose(10, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(entry, layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(x))


def converted(network: Any, batch: int | None) -> fb.Model:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    network.set_weights(
        [w + rng.normal(0, 0.05, w.shape) if w.ndim > 1 else w + 0.1 for w in network.get_weights()]
    )
    spec = tf.TensorSpec([batch, *network.input_shape[1:]], tf.float32)
    serve = tf.function(lambda x: network(x, training=False), input_signature=[spec], autograph=False)
    function, module = serve.get_concrete_function(), tf.Module()
    module.owned = list(function.graph.variables)
    return fb.load(tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert())


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize(("make", "sizes"), [(classifier, [16, 12, 6, 20, 24]), (decoder, [8, 10])])
def test_a_masked_keras_network_loses_exactly_its_masked_channels(tmp_path, make, sizes, batch):
    model = converted(make(), batch)
    groups = channel_groups(model)
    assert sorted(len(g.channels) for g in groups) == sorted(sizes)
    masks = mask_for_channels(model, groups, 0.5)
    assert set(masks) <= set(GraphFunction(model).weights)
    for tensor, mask in masks.items():
        fb.set_constant(model, tensor, fb.constant(model, tensor) * mask.astype(np.float32))
    shrunk = shrink(model)
    assert shrunk.removed == sum(n // 2 for n in sizes)
    assert shrunk.after.parameters < 0.6 * shrunk.before.parameters
    assert_same_outputs(model, shrunk.model, tmp_path)
    GraphFunction(shrunk.model)  # can be trained on
