import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jobs.benchmark.tiny_tflite import Operator, Operators, Tensor, add, dense, tflite
from paretune_benchmark.first_run import first_run
from paretune_benchmark.runtime import Model, made_input
from paretune_benchmark.stage import benchmark
from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import Artifact, BenchmarkRequest, BenchmarkResult


def artifact(folder: Path, content: bytes) -> Artifact:
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.tflite"
    path.write_bytes(content)
    return Artifact(path=str(path), sha256=digest, bytes=len(content))


def request(candidate: Artifact, reference: Artifact, **changes: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate(
        {"candidate": candidate, "reference": reference, "pool": "cpu", "max_seconds": 1.0, **changes}
    )


@pytest.fixture
def small(tmp_path: Path) -> Artifact:
    return artifact(tmp_path, dense(np.ones((8, 16), np.float32)))


@pytest.fixture
def large(tmp_path: Path) -> Artifact:
    return artifact(tmp_path, dense(np.ones((2048, 1024), np.float32)))


def test_a_candidate_is_measured_against_its_reference(small: Artifact, large: Artifact) -> None:
    result = benchmark(request(small, large))
    assert result.reason is None
    assert set(result.metrics) == {"latency/cpu", "latencyRatio/cpu", "peakMemory/cpu"}
    latency = result.latency
    assert latency is not None
    assert latency.p10 <= latency.median <= latency.p90
    assert latency.low <= latency.median <= latency.high
    assert latency.ratio < 0.5  # 16,000 times fewer multiplications
    assert latency.inferences >= latency.rounds
    assert result.metrics["latency/cpu"].value == latency.median
    assert result.metrics["latencyRatio/cpu"].high == latency.ratio_high
    assert [step.name for step in result.steps] == ["first run", "rounds"]


def test_memory_is_the_arena_exactly_and_the_process_beside_it(small: Artifact, large: Artifact) -> None:
    result = benchmark(request(large, small))
    assert result.memory is not None
    peak = result.metrics["peakMemory/cpu"]
    assert peak.low == peak.value == peak.high == result.memory.arena == 1024 * 4 + 2048 * 4
    assert result.memory.process > 2048 * 1024 * 4  # the weights, at least


def test_the_environment_names_machine_runtime_and_threads(small: Artifact) -> None:
    environment = benchmark(request(small, small, threads=1)).environment
    assert environment is not None
    assert environment.runtime.startswith("litert 2.")
    assert "XNNPACK" in environment.runtime
    assert environment.threads == 1
    assert environment.cpu
    assert environment.cores == os.cpu_count()


def test_bytes_that_the_runtime_refuses_are_not_runnable(small: Artifact, tmp_path: Path) -> None:
    broken = artifact(tmp_path, b"no flatbuffer at all")
    with pytest.raises(StageError, match=r"litert 2.*Flatbuffer") as raised:
        benchmark(request(broken, small))
    assert raised.value.reason is Reason.NOT_RUNNABLE


def test_an_operator_that_the_runtime_cannot_register_is_not_runnable(
    small: Artifact, tmp_path: Path
) -> None:
    tensors = [Tensor("x", [1, 4]), Tensor("y", [1, 4])]
    unknown = artifact(tmp_path, tflite(tensors, [Operator(Operators.CUSTOM, ["x"], ["y"])], ["x"], ["y"]))
    with pytest.raises(StageError, match="custom_code") as raised:
        benchmark(request(unknown, small))
    assert raised.value.reason is Reason.NOT_RUNNABLE


def test_a_file_that_is_not_the_one_named_is_not_measured(small: Artifact) -> None:
    Path(small.path).write_bytes(b"something else")
    with pytest.raises(StageError, match=small.sha256) as raised:
        benchmark(request(small, small))
    assert raised.value.reason is Reason.STORE_UNAVAILABLE


def test_a_missing_file_is_the_stores_fault(small: Artifact, large: Artifact) -> None:
    Path(large.path).unlink()
    with pytest.raises(StageError, match=r"No such file") as raised:
        benchmark(request(small, large))
    assert raised.value.reason is Reason.STORE_UNAVAILABLE


def test_a_runtime_that_is_not_here_is_named(small: Artifact) -> None:
    with pytest.raises(StageError, match="edgetpu"):
        benchmark(request(small, small, runtime="edgetpu"))


def test_a_first_run_that_does_not_end_is_killed(small: Artifact) -> None:
    with pytest.raises(StageError, match=r"within 0.01 s") as raised:
        first_run(Path(small.path), threads=1, timeout=0.01)
    assert raised.value.reason is Reason.TIMED_OUT


def test_integer_models_run_on_made_inputs() -> None:
    tensors = [Tensor("x", [1, 64], "int8", scale=0.1), Tensor("y", [1, 64], "int8", scale=0.2)]
    model = Model(tflite(tensors, [add(["x", "x"], "y")], ["x"], ["y"]), 1, "m.tflite")
    assert model.run(3) > 0


def test_quantized_inputs_use_their_whole_range_and_indices_stay_small() -> None:
    def values(dtype: type, scale: float) -> np.ndarray:
        details = {"name": "x", "shape": [4, 1000], "dtype": dtype, "quantization": (scale, 0)}
        return made_input(details, np.random.default_rng(0))

    quantized, indices, floats = values(np.int8, 0.1), values(np.int32, 0.0), values(np.float32, 0.0)
    assert (quantized.min(), quantized.max(), quantized.dtype) == (-128, 127, np.int8)
    assert set(np.unique(indices)) == {0, 1}
    assert -1 <= floats.min() < -0.9
    assert 0.9 < floats.max() < 1


def test_inputs_without_a_random_value_are_refused() -> None:
    details = {"name": "text", "shape": [1], "dtype": np.bytes_, "quantization": (0.0, 0)}
    with pytest.raises(ValueError, match="'text'"):
        made_input(details, np.random.default_rng(0))


def test_the_worker_answers_requests_and_keeps_its_output_clean(small: Artifact, tmp_path: Path) -> None:
    call = {
        "id": 7,
        "stage": "benchmark",
        "request": request(small, small).model_dump(mode="json", by_alias=True),
        "log": str(tmp_path / "log.txt"),
        "cpus": None,
    }
    done = subprocess.run(
        [sys.executable, "-m", "paretune_benchmark"],
        input=json.dumps(call) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    reply = json.loads(done.stdout)
    assert reply["id"] == 7
    result = BenchmarkResult.model_validate(reply["result"])
    assert result.reason is None, result.message
    assert result.latency is not None
