"""The LiteRT interpreter, with its refusals as stage errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError


def open_interpreter(path: Path, *, threads: int, keep_tensors: bool = False) -> Any:
    """An interpreter with its tensors allocated.

    Args:
        path: the .tflite.
        threads: of the CPU kernels.
        keep_tensors: intermediate results can be read after a run.

    Raises:
        StageError: NOT_RUNNABLE when the runtime refuses the file.
    """
    try:
        interpreter = Interpreter(
            str(path), num_threads=threads, experimental_preserve_all_tensors=keep_tensors
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise StageError(
            Reason.NOT_RUNNABLE, f"LiteRT cannot run {path.name}: {' '.join(str(error).split())[:300]}"
        ) from error
    return interpreter


def run_interpreter(interpreter: Any, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Outputs of one run, in the order of the file; the inputs too, each with the shape of the model."""
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(value))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
