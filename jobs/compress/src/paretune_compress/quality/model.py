"""A finished .tflite as a function from float32 batches to float32 batches."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

from ..runtime import open_interpreter
from .metric import Arrays
from .shapes import mismatch

Floats = dict[str, NDArray[np.float32]]
BATCH = 16
"""Dense layers are three times as fast at 16 samples as at one and hardly faster beyond; convolutions of
small images gain nothing, and large batches leave the cache."""
SLOW = 0.02
"""Seconds an inference from which on the trial of a batch would cost more than it could save."""


@dataclass(frozen=True)
class Port:
    """An input or output of the graph.

    Attributes:
        name: in the signature; without one, the tensor's.
        index: of the tensor.
        shape: at batch 1, the batch axis included.
        dtype: of the tensor.
        scale: of the quantization; 0 for tensors that are not quantized.
        zero_point: of the quantization.
        dynamic: the file leaves the batch size open.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    dynamic: bool


def quantized(values: NDArray[np.float32], port: Port) -> NDArray[Any]:
    """Values as the tensor stores them: round(x / scale) + zero point, clipped to the type's range.

    Rounds half to even, as XNNPACK and numpy do. Integers without a scale (indices) are only rounded.
    """
    if port.dtype.kind == "f":
        return values.astype(port.dtype, copy=False)
    if port.dtype.kind == "b":
        return np.asarray(values != 0)
    limits = np.iinfo(port.dtype)
    if port.scale:
        scaled = np.rint(values / np.float32(port.scale)) + port.zero_point
    else:
        scaled = np.rint(values.astype(np.float64))
    stored: NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(port.dtype)
    return stored


def dequantized(values: NDArray[Any], port: Port) -> NDArray[np.float32]:
    """(q - zero point) * scale; values without a scale as they are."""
    if port.scale and port.dtype.kind in "iu":
        real: NDArray[np.float32] = values.astype(np.float32)
        real -= np.float32(port.zero_point)
        real *= np.float32(port.scale)
        return real
    return values.astype(np.float32)


class EvaluatedModel:
    """A .tflite in LiteRT that takes any number of samples.

    Each sample stands alone: variables (the state of recurrent layers) are reset before every inference.

    Args:
        path: the file.
        threads: of the CPU kernels.

    Raises:
        StageError: NotRunnable with the runtime's message.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._interpreter = open_interpreter(path, threads=threads)
        named = _signature_names(self._interpreter)
        self.inputs = [_port(d, named) for d in self._interpreter.get_input_details()]
        self.outputs = [_port(d, named) for d in self._interpreter.get_output_details()]
        self._in_batches: Any = None

    def check_inputs(self, inputs: Arrays) -> None:
        """Refuse data that do not fit.

        Raises:
            StageError: DataMismatch naming the input and both shapes.
        """
        arrays = self._by_port(inputs)
        for port, array in zip(self.inputs, arrays, strict=True):
            if array.shape[1:] != port.shape[1:]:
                raise mismatch(
                    f"{self._path.name}: input {port.name!r} takes {list(port.shape)}, "
                    f"the data have [1, {', '.join(map(str, array.shape[1:]))}]"
                )

    def use_batches(self, inputs: Arrays) -> bool:
        """Try batches of 16 and keep them if they are faster and give the same bits.

        Only where the file leaves the batch size open: resizing a fixed one is a guess about the graph.

        Args:
            inputs: at least 16 samples.
        """
        if not all(port.dynamic for port in self.inputs) or len(next(iter(inputs.values()))) < BATCH:
            return False
        feeds = [q[:BATCH] for q in self._quantized(inputs)]
        single, single_seconds = _timed(lambda: self._one_by_one(feeds))
        if single_seconds > BATCH * SLOW:
            return False
        try:
            interpreter = open_interpreter(self._path, threads=self._threads)
            for port in self.inputs:
                interpreter.resize_tensor_input(port.index, [BATCH, *port.shape[1:]])
            interpreter.allocate_tensors()
            _invoked(interpreter, self.inputs, self.outputs, feeds)
            batch, batch_seconds = _timed(lambda: _invoked(interpreter, self.inputs, self.outputs, feeds))
        except (StageError, RuntimeError, ValueError):
            return False
        same = all(
            np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(single, batch, strict=True)
        )
        if same and batch_seconds < 0.9 * single_seconds:
            self._in_batches = interpreter
        return self._in_batches is not None

    def __call__(self, inputs: Arrays) -> Floats:
        """Outputs by name, float32 of shape [n, ...].

        Args:
            inputs: float32 of shape [n, ...] by name.

        Raises:
            StageError: NotRunnable when an inference fails or an output has NaN.
        """
        feeds = self._quantized(inputs)
        n = len(feeds[0])
        whole = n // BATCH * BATCH if self._in_batches is not None else 0
        try:
            parts = [
                _invoked(self._in_batches, self.inputs, self.outputs, [q[i : i + BATCH] for q in feeds])
                for i in range(0, whole, BATCH)
            ]
            if whole < n:
                parts.append(self._one_by_one([q[whole:] for q in feeds]))
        except (RuntimeError, ValueError) as error:
            raise StageError(
                Reason.NOT_RUNNABLE, f"{self._path.name}: an inference failed: {' '.join(str(error).split())}"
            ) from error
        raw = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        outputs = {port.name: dequantized(a, port) for port, a in zip(self.outputs, raw, strict=True)}
        for name, array in outputs.items():
            if np.isnan(array).any():
                lost = int(np.isnan(array).reshape(n, -1).any(axis=1).sum())
                raise StageError(
                    Reason.NOT_RUNNABLE,
                    f"{self._path.name}: output {name!r} has NaN for {lost} of {n} samples"
                    + (": so have the inputs" if any(np.isnan(a).any() for a in inputs.values()) else ""),
                )
        return outputs

    def _quantized(self, inputs: Arrays) -> list[NDArray[Any]]:
        return [quantized(a, port) for a, port in zip(self._by_port(inputs), self.inputs, strict=True)]

    def _by_port(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Arrays in the order of the inputs: by name, or the only one for the only input.

        Raises:
            StageError: DataMismatch when an input has no array.
        """
        if len(self.inputs) == 1 and len(inputs) == 1:
            return list(inputs.values())
        missing = [port.name for port in self.inputs if port.name not in inputs]
        if missing:
            raise mismatch(
                f"{self._path.name}: no data for input {missing[0]!r}; "
                f"the data have {', '.join(map(repr, inputs))}"
            )
        return [inputs[port.name] for port in self.inputs]

    def _one_by_one(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        singles = [
            _invoked(self._interpreter, self.inputs, self.outputs, [q[i : i + 1] for q in feeds])
            for i in range(len(feeds[0]))
        ]
        return [np.concatenate(arrays) for arrays in zip(*singles, strict=True)]


def _invoked(
    interpreter: Any, inputs: Sequence[Port], outputs: Sequence[Port], feeds: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """Raw outputs of one inference.

    Raises:
        ValueError: also when an output has not the batch's length in front.
    """
    for port, feed in zip(inputs, feeds, strict=True):
        interpreter.set_tensor(port.index, feed)
    interpreter.reset_all_variables()
    interpreter.invoke()
    results = [interpreter.get_tensor(port.index) for port in outputs]
    n = len(feeds[0])
    if n == 1:  # an output without the batch axis is one sample's
        return [a if a.ndim and a.shape[0] == 1 else a[np.newaxis] for a in results]
    for port, array in zip(outputs, results, strict=True):
        if array.shape[:1] != (n,):
            raise ValueError(f"output {port.name!r} has shape {list(array.shape)} for a batch of {n}")
    return results


def _port(details: Mapping[str, Any], named: Mapping[int, str]) -> Port:
    scale, zero_point = details["quantization"]
    return Port(
        name=named.get(details["index"], details["name"]),
        index=details["index"],
        shape=tuple(int(n) for n in details["shape"]),
        dtype=np.dtype(details["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
        dynamic=len(details["shape_signature"]) > 0 and int(details["shape_signature"][0]) == -1,
    )


def _signature_names(interpreter: Any) -> dict[int, str]:
    """Tensor index -> name in the file's signature; empty without exactly one signature."""
    signatures = list(interpreter.get_signature_list())
    if len(signatures) != 1:
        return {}
    runner = interpreter.get_signature_runner(signatures[0])
    ports = {**runner.get_output_details(), **runner.get_input_details()}
    return {details["index"]: name for name, details in ports.items()}


def _timed(run: Callable[[], list[NDArray[Any]]]) -> tuple[list[NDArray[Any]], float]:
    started = time.perf_counter()
    result = run()
    return result, time.perf_counter() - started
