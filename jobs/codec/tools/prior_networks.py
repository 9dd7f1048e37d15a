"""Small networks of the usual families, from which the codec's prior is learned.

Each is a function of a module of layers (Keras 2 or 3, which name things differently) that returns a model.
"""

from collections.abc import Callable
from typing import Any

Layers = Any
Model = Any


def _normed(k: Layers, x: Any, filters: int, size: int = 3, stride: int = 1, act: Any = "relu") -> Any:
    x = k.layers.Conv2D(filters, size, stride, "same", use_bias=False)(x)
    x = k.layers.BatchNormalization()(x)
    return _activated(k, x, act)


def _activated(k: Layers, x: Any, act: Any) -> Any:
    if act == "relu6":
        return k.layers.ReLU(6.0)(x)
    if act == "hard_swish":
        return k.layers.Multiply()([x, _hard_sigmoid(k, x)])
    return k.layers.Activation(act)(x) if act else x


def _hard_sigmoid(k: Layers, x: Any) -> Any:
    return k.layers.Rescaling(1 / 6)(k.layers.ReLU(6.0)(k.layers.Rescaling(1.0, 3.0)(x)))


def _depthwise(k: Layers, x: Any, size: int = 3, stride: int = 1, act: Any = "relu") -> Any:
    x = k.layers.DepthwiseConv2D(size, stride, "same", use_bias=False)(x)
    return _activated(k, k.layers.BatchNormalization()(x), act)


def mlp(
    sizes: tuple[int, ...], classes: int, act: str = "relu", last: str | None = "softmax"
) -> Callable[[Layers], Model]:
    """Dense layers; `sizes` begins with the inputs."""

    def make(k: Layers) -> Model:
        given = x = k.Input((sizes[0],))
        for size in sizes[1:]:
            x = k.layers.Dense(size, act)(x)
        return k.Model(given, k.layers.Dense(classes, last)(x))

    return make


def lenet(
    shape: tuple[int, int, int], filters: tuple[int, ...], dense: tuple[int, ...], classes: int,
    pool: str = "MaxPooling2D", act: str = "relu", padding: str = "valid", last: str | None = "softmax",
) -> Callable[[Layers], Model]:  # fmt: skip
    """Convolutions with pools, then dense layers."""

    def make(k: Layers) -> Model:
        given = x = k.Input(shape)
        for f in filters:
            x = k.layers.Conv2D(f, 5 if f < 32 else 3, padding=padding, activation=act)(x)
            x = getattr(k.layers, pool)(2)(x)
        x = k.layers.Flatten()(x)
        for size in dense:
            x = k.layers.Dense(size, act)(x)
        return k.Model(given, k.layers.Dense(classes, last)(x))

    return make


def vgg(
    shape: tuple[int, int, int], widths: tuple[int, ...], classes: int, bias: bool = False
) -> Callable[[Layers], Model]:
    """Pairs of 3x3 convolutions, pools, a mean."""

    def make(k: Layers) -> Model:
        given = x = k.Input(shape)
        for width in widths:
            for _ in range(2):
                if bias:
                    x = k.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
                else:
                    x = _normed(k, x, width)
            x = k.layers.MaxPooling2D(2)(x)
        x = k.layers.GlobalAveragePooling2D()(x)
        return k.Model(given, k.layers.Dense(classes, "softmax")(x))

    return make


def separable(
    shape: tuple[int, int, int], width: int, blocks: int, classes: int, first: tuple[int, int] = (8, 4),
    mean: bool = False,
) -> Callable[[Layers], Model]:  # fmt: skip
    """As for keywords: one wide convolution, separable blocks of one width, a pool over all or a mean."""

    def make(k: Layers) -> Model:
        given = k.Input(shape)
        x = _normed(k, given, width, first, 2)
        for _ in range(blocks):
            x = _normed(k, _depthwise(k, x), width, 1)
        if mean:
            x = k.layers.GlobalAveragePooling2D()(x)
        else:
            x = k.layers.AveragePooling2D((x.shape[1], x.shape[2]))(x)
            x = k.layers.Flatten()(x)
        return k.Model(given, k.layers.Dense(classes, "softmax")(x))

    return make


def mobilenet(
    side: int, channels: int, widths: tuple[int, ...], classes: int, act: str = "relu", pad: bool = False
) -> Callable[[Layers], Model]:
    """Separable blocks that grow wider, every other one with a stride; `pad` before strides."""

    def make(k: Layers) -> Model:
        given = k.Input((side, side, channels))
        x = _normed(k, given, widths[0], 3, 2, act)
        for i, width in enumerate(widths):
            stride = 2 if i % 2 else 1
            if pad and stride == 2:
                x = k.layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
                x = k.layers.DepthwiseConv2D(3, 2, "valid", use_bias=False)(x)
                x = _activated(k, k.layers.BatchNormalization()(x), act)
            else:
                x = _depthwise(k, x, 3, stride, act)
            x = _normed(k, x, width, 1, 1, act)
        x = k.layers.GlobalAveragePooling2D()(x)
        return k.Model(given, k.layers.Dense(classes, "softmax")(x))

    return make


def inverted(
    side: int, widths: tuple[int, ...], classes: int, act: str = "relu6", squeeze: bool = False
) -> Callable[[Layers], Model]:
    """Inverted residual blocks, as in MobileNetV2; with hard swish and `squeeze` as in V3."""

    def make(k: Layers) -> Model:
        given = k.Input((side, side, 3))
        x = _normed(k, given, widths[0], 3, 2, act)
        for i, width in enumerate(widths):
            inner = x.shape[-1] * 4
            stride = 2 if i % 2 else 1
            y = _normed(k, x, inner, 1, 1, act)
            y = _depthwise(k, y, 3 if i % 3 else 5, stride, act)
            if squeeze and i % 2 == 0:
                s = k.layers.GlobalAveragePooling2D(keepdims=True)(y)
                s = k.layers.Conv2D(inner // 4, 1, activation="relu")(s)
                s = _hard_sigmoid(k, k.layers.Conv2D(inner, 1)(s))
                y = k.layers.Multiply()([y, s])
            y = _normed(k, y, width, 1, 1, None)
            x = k.layers.Add()([x, y]) if stride == 1 and x.shape[-1] == width else y
        x = _normed(k, x, widths[-1] * 4, 1, 1, act)
        x = k.layers.GlobalAveragePooling2D()(x)
        return k.Model(given, k.layers.Dense(classes)(x))

    return make


def resnet(
    shape: tuple[int, int, int], widths: tuple[int, ...], each: int, classes: int, pool: bool = True
) -> Callable[[Layers], Model]:
    """Residual blocks of two 3x3 convolutions, a projection where the width changes."""

    def make(k: Layers) -> Model:
        given = k.Input(shape)
        x = _normed(k, given, widths[0])
        for i, width in enumerate(widths):
            for j in range(each):
                stride = 2 if i and not j else 1
                y = _normed(k, x, width, 3, stride)
                y = _normed(k, y, width, 3, 1, None)
                if stride == 2:
                    x = k.layers.Conv2D(width, 1, 2, "same")(x)
                x = k.layers.Activation("relu")(k.layers.Add()([x, y]))
        if pool:
            x = k.layers.Flatten()(k.layers.AveragePooling2D((x.shape[1], x.shape[2]))(x))
        else:
            x = k.layers.GlobalAveragePooling2D()(x)
        return k.Model(given, k.layers.Dense(classes, "softmax")(x))

    return make


def autoencoder(sizes: tuple[int, ...]) -> Callable[[Layers], Model]:
    """Dense layers with batch normalization down to a bottleneck and up again."""

    def make(k: Layers) -> Model:
        given = x = k.Input((sizes[0],))
        for size in (*sizes[1:], *sizes[-2:0:-1]):
            x = k.layers.Dense(size)(x)
            x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
        return k.Model(given, k.layers.Dense(sizes[0])(x))

    return make


def decoder(side: int, widths: tuple[int, ...], skip: bool) -> Callable[[Layers], Model]:
    """Convolutions down and transposed ones up; with `skip` as in a U-Net."""

    def make(k: Layers) -> Model:
        given = x = k.Input((side, side, 1))
        kept = []
        for width in widths:
            x = k.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
            kept.append(x)
            x = k.layers.MaxPooling2D(2)(x)
        for width in widths[::-1]:
            if skip:
                x = k.layers.UpSampling2D(2)(x)
                x = k.layers.Concatenate()([x, kept.pop()])
                x = k.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
            else:
                x = k.layers.Conv2DTranspose(width, 3, 2, "same", activation="relu")(x)
        return k.Model(given, k.layers.Conv2D(1, 1, activation="sigmoid")(x))

    return make


def series(
    steps: int, channels: int, widths: tuple[int, ...], classes: int, norm: bool = False, mean: bool = True
) -> Callable[[Layers], Model]:
    """1-D convolutions over a time series."""

    def make(k: Layers) -> Model:
        given = x = k.Input((steps, channels))
        for width in widths:
            x = k.layers.Conv1D(width, 5, padding="same", activation=None if norm else "relu")(x)
            if norm:
                x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
            x = k.layers.MaxPooling1D(2)(x)
        x = k.layers.GlobalAveragePooling1D()(x) if mean else k.layers.Flatten()(x)
        return k.Model(given, k.layers.Dense(classes, "softmax" if classes > 1 else "sigmoid")(x))

    return make


def branches(
    shape: tuple[int, int, int], width: int, blocks: int, classes: int, dense: bool = False
) -> Callable[[Layers], Model]:
    """Parallel convolutions that are concatenated; with `dense` each block sees all before it."""

    def make(k: Layers) -> Model:
        given = k.Input(shape)
        x = k.layers.Conv2D(width, 3, 2, "same", activation="relu")(given)
        for i in range(blocks):
            s = k.layers.Conv2D(width, 1, activation="relu")(x)
            parts = [k.layers.Conv2D(width, 3, padding="same", activation="relu")(s)]
            parts.append(x if dense else k.layers.Conv2D(width, 1, padding="same", activation="relu")(s))
            x = k.layers.Concatenate()(parts)
            if i % 2:
                x = k.layers.MaxPooling2D(2)(x)
        x = k.layers.Conv2D(classes, 1)(x)
        return k.Model(given, k.layers.Softmax()(k.layers.GlobalAveragePooling2D()(x)))

    return make


def two_inputs(steps: int, channels: int, more: int, classes: int) -> Callable[[Layers], Model]:
    """A series and a few numbers beside it."""

    def make(k: Layers) -> Model:
        one, two = k.Input((steps, channels)), k.Input((more,))
        x = k.layers.Flatten()(k.layers.Conv1D(12, 3, activation="relu")(one))
        x = k.layers.Concatenate()([x, k.layers.Dense(8, "relu")(two)])
        return k.Model([one, two], k.layers.Dense(classes, "softmax")(k.layers.Dense(24, "relu")(x)))

    return make


NETWORKS: tuple[Callable[[Layers], Model], ...] = (
    mlp((784, 64, 32), 10),
    mlp((196, 128), 10, last=None),
    mlp((16, 32, 32), 1, last=None),
    mlp((30, 24, 12, 6), 1, last="sigmoid"),
    mlp((64, 48, 48), 5, act="tanh"),
    lenet((28, 28, 1), (8, 16), (64,), 10),
    lenet((32, 32, 3), (16, 24, 32), (48, 32), 10, padding="same"),
    lenet((28, 28, 1), (4, 12), (), 26, pool="AveragePooling2D", act="tanh"),
    lenet((64, 64, 1), (8, 8, 16, 16), (100,), 2, padding="same", last=None),
    lenet((48, 32, 1), (24, 48), (32,), 4),
    vgg((32, 32, 3), (16, 32, 48), 10),
    vgg((48, 48, 1), (8, 16, 32, 64), 7, bias=True),
    separable((49, 10, 1), 48, 3, 12, (10, 4)),
    separable((40, 32, 1), 32, 5, 8, mean=True),
    separable((99, 40, 1), 64, 4, 35, (6, 6), mean=True),
    separable((49, 20, 1), 24, 6, 10, (5, 5)),
    mobilenet(96, 3, (8, 16, 32, 32, 64, 64), 2),
    mobilenet(64, 1, (16, 24, 48, 64, 96), 20, act="relu6", pad=True),
    mobilenet(48, 3, (12, 24, 24, 48), 10, act="hard_swish"),
    inverted(64, (8, 16, 16, 24, 24), 12),
    inverted(48, (8, 8, 16, 16, 24), 10, act="hard_swish", squeeze=True),
    resnet((32, 32, 3), (8, 16, 32), 1, 10),
    resnet((40, 40, 1), (16, 24, 48), 2, 6, pool=False),
    resnet((28, 28, 1), (12, 24), 1, 47),
    autoencoder((320, 64, 64, 8)),
    autoencoder((128, 96, 48, 12)),
    decoder(32, (8, 16), skip=False),
    decoder(48, (8, 12, 16), skip=True),
    series(128, 9, (16, 32), 6),
    series(96, 3, (24, 24, 48), 5, norm=True),
    series(187, 1, (8, 16, 16), 1, mean=False),
    branches((32, 32, 3), 12, 4, 10),
    branches((56, 56, 3), 8, 4, 17, dense=True),
    two_inputs(50, 6, 10, 4),
)
