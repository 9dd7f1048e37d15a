import numpy as np
import pytest
from jobs.benchmark.tiny_tflite import Tensor, add, dense, fully_connected, tflite
from paretune_benchmark.arena import arena_bytes
from paretune_contract.failure import Reason, StageError


def test_constants_are_not_counted() -> None:
    # x: 64 floats and y: 16 floats live together; the weights (4 KiB) do not count
    assert arena_bytes(dense(np.zeros((16, 64), np.float32))) == 64 * 4 + 16 * 4


def test_every_tensor_takes_multiples_of_16_bytes() -> None:
    assert arena_bytes(dense(np.zeros((3, 5), np.float32))) == 32 + 16


def test_a_residual_graph_holds_the_skipped_tensor() -> None:
    weights = Tensor("w", [32, 32], data=np.zeros((32, 32)))
    tensors = [weights, *(Tensor(name, [1, 32]) for name in ("x", "a", "b", "y"))]
    operators = [
        fully_connected(["x", "w"], "a"),
        fully_connected(["a", "w"], "b"),
        add(["b", "x"], "y"),
    ]
    assert arena_bytes(tflite(tensors, operators, ["x"], ["y"])) == 3 * 128


def test_int8_tensors_take_a_byte_and_state_is_live_throughout() -> None:
    tensors = [
        Tensor("x", [1, 64], "int8", scale=1.0),
        Tensor("y", [1, 64], "int8", scale=1.0),
        Tensor("state", [1, 128], "int8", scale=1.0, variable=True),
    ]
    assert arena_bytes(tflite(tensors, [add(["x", "x"], "y")], ["x"], ["y"])) == 64 + 64 + 128


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_what_is_no_tflite_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(StageError, match=r"bad\.tflite is no readable \.tflite") as raised:
        arena_bytes(content, "bad.tflite")
    assert raised.value.reason is Reason.NOT_RUNNABLE
