"""Small networks made layer by layer, with random weights that tests then set to zero here and there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paretune_compress import flatbuffer as fb
from paretune_compress.runtime import open_interpreter, run_interpreter

from .made_tflite import ModelBuilder, convolution, options

NONE, RELU, CLIPPED, RELU6 = 0, 1, 2, 3
SAME, VALID = 0, 1


class Network(ModelBuilder):
    """A builder that knows the shapes. Kernels and biases are named `<layer>/w` and `<layer>/b`."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def shape(self, tensor: int) -> tuple[int, ...]:
        return fb.shape(self.graph.tensors[tensor])

    def conv(
        self, name: str, x: int, out: int, k: int = 1, *, padding: int = SAME, stride: int = 1,
        act: int = RELU, bias: bool = True,
    ) -> int:  # fmt: skip
        channels = self.shape(x)[-1]
        inputs = [x, self._weights(f"{name}/w", (out, k, k, channels), k * k * channels)]
        given = convolution(strideH=stride, strideW=stride, padding=padding, fusedActivationFunction=act)
        shape = (*self._slid(x, k, padding, stride), out)
        return self._one("CONV_2D", inputs + self._bias(name, out, bias), name, shape, given)

    def depthwise(
        self, name: str, x: int, k: int = 3, *, multiplier: int = 1, padding: int = SAME, stride: int = 1,
        act: int = RELU,
    ) -> int:  # fmt: skip
        out = self.shape(x)[-1] * multiplier
        inputs = [x, self._weights(f"{name}/w", (1, k, k, out), k * k), *self._bias(name, out, True)]
        given = convolution(
            "DepthwiseConv2DOptions", depthMultiplier=multiplier, strideH=stride, strideW=stride,
            padding=padding, fusedActivationFunction=act,
        )  # fmt: skip
        return self._one("DEPTHWISE_CONV_2D", inputs, name, (*self._slid(x, k, padding, stride), out), given)

    def transposed(self, name: str, x: int, out: int, k: int = 3) -> int:
        """Twice as high and wide."""
        _, height, width, channels = self.shape(x)
        shape = (1, 2 * height, 2 * width, out)
        size = self.constant(f"{name}/size", shape, "int32")
        inputs = [size, self._weights(f"{name}/w", (out, k, k, channels), k * k * channels), x]
        given = options("TransposeConvOptions", strideH=2, strideW=2, padding=SAME)
        return self._one("TRANSPOSE_CONV", inputs + self._bias(name, out, True), name, shape, given, 3)

    def dense(self, name: str, x: int, out: int, *, act: int = RELU, bias: bool = True) -> int:
        size = int(np.prod(self.shape(x)))
        inputs = [x, self._weights(f"{name}/w", (out, size), size), *self._bias(name, out, bias)]
        return self._one(
            "FULLY_CONNECTED",
            inputs,
            name,
            (1, out),
            options("FullyConnectedOptions", fusedActivationFunction=act),
        )

    def add(self, name: str, x: int, y: int, act: int = NONE) -> int:
        return self._one(
            "ADD", [x, y], name, self.shape(x), options("AddOptions", fusedActivationFunction=act)
        )

    def multiply(self, name: str, x: int, y: int) -> int:
        return self._one("MUL", [x, y], name, self.shape(x), options("MulOptions"))

    def concat(self, name: str, *parts: int) -> int:
        shape = (*self.shape(parts[0])[:-1], sum(self.shape(p)[-1] for p in parts))
        given = options("ConcatenationOptions", axis=len(shape) - 1)
        return self._one("CONCATENATION", list(parts), name, shape, given)

    def pool(self, name: str, x: int, kind: str = "MAX_POOL_2D", *, padding: int = VALID) -> int:
        """Windows of 2x2."""
        given = options("Pool2DOptions", filterHeight=2, filterWidth=2, strideH=2, strideW=2, padding=padding)
        return self._one(kind, [x], name, (*self._slid(x, 2, padding, 2), self.shape(x)[-1]), given)

    def mean(self, name: str, x: int, keep: bool = False) -> int:
        shape = self.shape(x)
        axes = self.constant(f"{name}/axes", [1, 2], "int32")
        out = (shape[0], 1, 1, shape[-1]) if keep else (shape[0], shape[-1])
        return self._one("MEAN", [x, axes], name, out, options("ReducerOptions", keepDims=keep))

    def pad(self, name: str, x: int, before: int = 1, after: int = 1) -> int:
        _, height, width, channels = self.shape(x)
        sides = [before, after]
        widths = self.constant(f"{name}/widths", [[0, 0], sides, sides, [0, 0]], "int32")
        shape = (1, height + before + after, width + before + after, channels)
        return self._one("PAD", [x, widths], name, shape)

    def reshape(self, name: str, x: int, shape: tuple[int, ...]) -> int:
        wanted = self.constant(f"{name}/shape", [-1, *shape[1:]], "int32")
        return self._one("RESHAPE", [x, wanted], name, shape)

    def flatten(self, name: str, x: int) -> int:
        return self.reshape(name, x, (1, int(np.prod(self.shape(x)))))

    def apply(self, kind: str, name: str, x: int, *more: int, given: Any = None) -> int:
        """An operator that keeps the shape of its first input."""
        return self._one(kind, [x, *more], name, self.shape(x), given)

    def softmax(self, name: str, x: int) -> int:
        return self.apply("SOFTMAX", name, x, given=options("SoftmaxOptions", beta=1.0))

    # --- weights ------------------------------------------------------------------------------------------

    def get(self, name: str) -> Any:
        value = fb.constant(self.model, self.index(name))
        assert value is not None
        return value.copy()

    def set(self, name: str, value: Any) -> None:
        fb.set_constant(self.model, self.index(name), np.asarray(value, np.float32))

    def zero_rows(self, layer: str, rows: Sequence[int], bias: float | None = 0.0) -> None:
        """No weights compute these channels; their bias too is set unless None."""
        w = self.get(f"{layer}/w")
        w[(..., list(rows)) if w.shape[0] == 1 and w.ndim == 4 and w.shape[-1] > 1 else list(rows)] = 0
        self.set(f"{layer}/w", w)
        if bias is not None:
            b = self.get(f"{layer}/b")
            b[list(rows)] = bias
            self.set(f"{layer}/b", b)

    def zero_columns(self, layer: str, columns: Sequence[int]) -> None:
        """The layer does not read these input channels."""
        w = self.get(f"{layer}/w")
        w[..., list(columns)] = 0
        self.set(f"{layer}/w", w)

    def finish(self, *outputs: int) -> Any:
        self.output(*outputs)
        return fb.load(fb.pack(self.model))

    def index(self, name: str) -> int:
        return next(i for i, t in enumerate(self.graph.tensors) if t.name == name)

    def _weights(self, name: str, shape: tuple[int, ...], reads: int) -> int:
        return self.constant(name, self.rng.normal(0, (2 / reads) ** 0.5, shape))

    def _bias(self, name: str, out: int, bias: bool) -> list[int]:
        return [self.constant(f"{name}/b", self.rng.normal(0, 0.3, out))] if bias else []

    def _slid(self, x: int, k: int, padding: int, stride: int) -> tuple[int, ...]:
        batch, *sides, _ = self.shape(x)
        return (batch, *(-(-(n - (k - 1) * padding) // stride) for n in sides))

    def _one(self, kind: str, inputs: list[int], name: str, shape: Any, given: Any = None, version=1) -> int:
        (made,) = self.operator(kind, inputs, [(name, tuple(shape))], given, version)
        return made


def named(model: Any, name: str) -> Any:
    """The values of the constant with this name, else the shape of the activation with it."""
    tensors = model.subgraphs[0].tensors
    index = next(i for i, t in enumerate(tensors) if fb.tensor_name(t) == name)
    value = fb.constant(model, index)
    return fb.shape(tensors[index]) if value is None else value


def outputs(model: Any, folder: Path, samples: int = 6, seed: int = 5) -> list[Any]:
    """What the runtime gives for some random inputs: for each output an array [samples, ...]."""
    path = folder / "compared.tflite"
    fb.write(model, path)
    rng, interpreter = np.random.default_rng(seed), open_interpreter(path, threads=1)
    shapes = [tuple(d["shape"]) for d in interpreter.get_input_details()]
    runs = [
        run_interpreter(interpreter, [rng.normal(0, 2, s).astype(np.float32) for s in shapes])
        for _ in range(samples)
    ]
    return [np.stack(values) for values in zip(*runs, strict=True)]


def assert_same_outputs(one: Any, other: Any, folder: Path) -> None:
    for a, b in zip(outputs(one, folder), outputs(other, folder), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * max(1.0, float(np.abs(a).max())))
