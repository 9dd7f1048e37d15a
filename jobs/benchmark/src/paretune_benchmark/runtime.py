"""A .tflite in LiteRT: loaded, with inputs in place, and timed.

Imports neither pydantic nor the contract's documents: the probe's peak memory counts what is imported.
"""

import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from paretune_contract.failure import Reason, StageError

INPUT_SEED = 20_240_229
"""Every model sees the same inputs in every run."""


class Model:
    """A loaded model whose inputs are set; running it again and again is what is timed.

    Args:
        content: the file's bytes, or its path.
        threads: threads of the kernels.
        name: how messages call the file.

    Raises:
        StageError: NotRunnable, with the runtime's message, when LiteRT cannot load or prepare it.
    """

    def __init__(self, content: bytes | Path, threads: int, name: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._name = name
        source = (
            {"model_path": str(content)} if isinstance(content, Path) else {"model_content": bytes(content)}
        )
        try:
            self._interpreter = Interpreter(num_threads=threads, **source)
            self._interpreter.allocate_tensors()
            random = np.random.default_rng(INPUT_SEED)
            for details in self._interpreter.get_input_details():
                self._interpreter.set_tensor(details["index"], made_input(details, random))
        except (ValueError, RuntimeError, TypeError) as error:
            raise self._refused(error) from error

    def run(self, inferences: int) -> float:
        """Seconds for so many inferences in a row; the inputs are not copied again."""
        invoke = self._interpreter.invoke
        started = time.perf_counter_ns()
        try:
            for _ in range(inferences):
                invoke()
        except (ValueError, RuntimeError) as error:
            raise self._refused(error) from error
        return (time.perf_counter_ns() - started) * 1e-9

    def accelerated(self) -> bool:
        """XNNPACK has taken at least a part of the graph."""
        return any(node["op_name"] == "DELEGATE" for node in self._interpreter._get_ops_details())

    def _refused(self, error: Exception) -> StageError:
        cause = " ".join(str(error).split())
        return StageError(Reason.NOT_RUNNABLE, f"{self._name} does not run in {runtime_version()}: {cause}")


def made_input(details: Mapping[str, Any], random: np.random.Generator) -> npt.NDArray[Any]:
    """A random input that the tensor takes.

    Floats lie in [-1, 1). Quantized integers use their whole range. Integers without a scale may be indices
    of an embedding of unknown length, so they are 0 or 1.

    Args:
        details: as `Interpreter.get_input_details` gives them.
        random: source of the values.

    Raises:
        ValueError: for types that have no random value, such as strings.
    """
    shape, dtype = tuple(int(n) for n in details["shape"]), np.dtype(details["dtype"])
    if dtype.kind == "f":
        return (2 * random.random(shape) - 1).astype(dtype)
    if dtype.kind == "b" or (dtype.kind in "iu" and details["quantization"][0] == 0):
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    raise ValueError(f"input {details['name']!r} is of type {dtype}; numbers and booleans can be benchmarked")


def runtime_version() -> str:
    """`litert 2.3.0`."""
    try:
        return f"litert {version('ai-edge-litert')}"
    except PackageNotFoundError:
        return "litert of unknown version"
