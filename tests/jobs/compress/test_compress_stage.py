"""The stage on a small made model, without TensorFlow."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paretune_codec import unpack
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress
from paretune_compress.graph.description import weighted_operators
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import CODER
from support.made_requests import Workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"))


@pytest.fixture
def fresh(tmp_path) -> Workplace:
    return Workplace(tmp_path)


def names(result, cached=None):
    return [s.name for s in result.steps if cached is None or s.cached is cached]


def test_the_untouched_model_is_the_float_file_itself(workplace):
    result = compress(workplace.request({}))
    assert result.artifact.sha256 == workplace.model.sha256
    assert Path(result.artifact.path).read_bytes() == workplace.path.read_bytes()
    assert Path(result.artifact.path).name == f"{result.artifact.sha256}.tflite"
    assert result.metrics["accuracy"].value == 1.0
    assert result.inspection.dtypes == {"FLOAT32": 3888}


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(
    ("scheme", "types", "least"),
    [
        ("float16", {"FLOAT16": 3888}, 0.98),
        ("dynamic", {"INT8": 3888}, 0.9),
        ("int8", {"INT8": 3888}, 0.9),
        ("int16x8", {"INT8": 3888}, 0.9),
        ("int4", {"INT4": 3648, "INT8": 240}, 0.0),
    ],
)
def test_every_scheme_gives_its_types_and_keeps_most_answers(workplace, scheme, granularity, types, least):
    settings = {"quantization": {"scheme": scheme, "granularity": granularity}}
    result = compress(workplace.request(settings))
    assert result.inspection.dtypes == types
    assert result.metrics["accuracy"].value >= least
    assert result.inspection.inputs == result.inspection.outputs == ("FLOAT32",)
    if scheme != "float16":
        scales = {t.layer: t.scales for t in result.inspection.tensors}
        assert scales["pointwise"] == (64 if granularity == "channel" else 1)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(("scheme", "most"), [("float16", 0.001), ("dynamic", 0.02), ("int4", 0.2)])
def test_dequantized_weights_are_near_the_float_ones(workplace, scheme, most, granularity):
    settings = {"quantization": {"scheme": scheme, "granularity": granularity}}
    finished = fb.read(Path(compress(workplace.request(settings)).artifact.path))
    source = fb.read(workplace.path)
    for old, new in zip(weighted_operators(source), weighted_operators(finished), strict=True):
        weights = fb.constant(source, old.tensors[0])
        scales = fb.scales(finished.subgraphs[0].tensors[new.tensors[0]])
        axis = 3 if new.operator == "DEPTHWISE_CONV_2D" else 0
        dims = [len(scales) if i == axis and len(scales) > 1 else 1 for i in range(weights.ndim)]
        scale = scales.reshape(dims) if len(scales) else 1.0
        error = fb.constant(finished, new.tensors[0]).astype(np.float64) * scale - weights
        assert np.sqrt(np.sum(error**2) / np.sum(weights**2)) <= most


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "int4"])
def test_inputs_and_outputs_are_int8_when_asked(workplace, scheme):
    result = compress(workplace.request({"quantization": {"scheme": scheme, "io": "int8"}}))
    assert result.inspection.inputs == result.inspection.outputs == ("INT8",)


@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8", "int4"])
def test_clustering_the_finished_file_leaves_at_most_k_distinct_integers(workplace, scheme):
    settings = {"quantization": {"scheme": scheme}, "clustering": {"stage": "int8", "clusters": 6}}
    result = compress(workplace.request(settings))
    distinct = {t.layer: t.distinct for t in result.inspection.tensors}
    assert max(distinct[name] for name in ("stem", "pointwise", "hidden")) <= 6
    assert distinct["depthwise"] > 6
    plain = compress(workplace.request({"quantization": {"scheme": scheme}}))
    assert result.metrics["downloadSize"].value < plain.metrics["downloadSize"].value


@pytest.mark.parametrize("scheme", ["none", "float16", "dynamic", "int8", "int4"])
def test_zeros_of_one_shot_sparsity_stay_zero_in_every_scheme_and_through_clustering(workplace, scheme):
    settings = {
        "quantization": {"scheme": scheme, "granularity": "tensor"},
        "sparsity": {"pattern": "2:4"},
        "clustering": {"stage": "int8" if scheme in ("dynamic", "int8", "int4") else "none", "clusters": 5},
    }
    result = compress(workplace.request(settings))
    found = {t.layer: t for t in result.inspection.tensors}
    for name in ("stem", "pointwise", "hidden"):
        assert found[name].two_of_four
        assert found[name].zeros >= 0.5
    assert found["last"].zeros < 0.5


def test_settings_of_single_layers_reach_only_these(workplace):
    settings = {
        "quantization": {"scheme": "int8"},
        "layers": [
            {"match": "^hidden$", "quantization": {"scheme": "int4", "granularity": "tensor"}},
            {"match": "pointwise", "sparsity": {"pattern": "unstructured", "level": 0.75}},
            {"match": "last", "quantization": {"scheme": "none"}},
        ],
    }
    found = {t.layer: t for t in compress(workplace.request(settings)).inspection.tensors}
    assert {name: t.dtype for name, t in found.items()} == {
        "stem": "INT8", "depthwise": "INT8", "pointwise": "INT8", "hidden": "INT4", "last": "FLOAT32",
    }  # fmt: skip
    assert (found["hidden"].scales, found["stem"].scales) == (1, 16)
    assert found["pointwise"].zeros >= 0.75 > found["stem"].zeros


def test_a_step_is_not_done_twice_and_one_calibration_serves_all_schemes(fresh):
    settings = {"quantization": {"scheme": "int8"}, "clustering": {"stage": "int8", "clusters": 8}}
    first = compress(fresh.request(settings))
    assert names(first) == ["calibrate", "quantize", "cluster", "inspect", "size", "evaluate"]
    assert names(first, cached=True) == []
    again = compress(fresh.request(settings))
    assert names(again, cached=True) == ["calibrate", "quantize", "cluster", "size", "evaluate"]
    assert again.artifact == first.artifact
    assert again.metrics == first.metrics
    other = compress(fresh.request({"quantization": {"scheme": "int16x8", "granularity": "tensor"}}))
    assert names(other, cached=True) == ["calibrate"]
    fewer = compress(
        fresh.request({"quantization": {"scheme": "int8"}, "clustering": {"stage": "int8", "clusters": 4}})
    )
    assert names(fewer, cached=True) == ["calibrate", "quantize"]


def test_equal_requests_give_equal_bytes_in_another_cache(fresh, workplace):
    settings = {"quantization": {"scheme": "int4"}, "sparsity": {"pattern": "unstructured", "level": 0.4}}
    here, there = compress(fresh.request(settings)), compress(workplace.request(settings))
    assert here.artifact.sha256 == there.artifact.sha256


def test_sizes_are_those_of_the_file_and_of_the_container_that_is_kept(fresh):
    result = compress(fresh.request({"quantization": {"scheme": "int8"}}))
    data = Path(result.artifact.path).read_bytes()
    assert result.artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert result.metrics["modelSize"].value == len(data) == result.artifact.bytes
    (container,) = Path(fresh.request({}).cache).glob("steps/*/*/model.ptz")
    assert unpack(container.read_bytes()) == data
    assert result.metrics["downloadSize"].value == container.stat().st_size < len(data)
    assert result.coder == CODER


def test_a_file_above_a_size_limit_is_not_evaluated(workplace):
    result = compress(workplace.request({}, size_limits={"downloadSize": 100.0}))
    assert set(result.metrics) == {"modelSize", "downloadSize"}
    assert result.evaluation is None
    assert "downloadSize" in result.message
    assert result.artifact is not None


def test_static_quantization_without_calibration_data_says_which_split_is_missing(workplace):
    request = workplace.request({"quantization": {"scheme": "int8"}})
    data = {Split.EVALUATION: workplace.data[Split.EVALUATION]}
    with pytest.raises(StageError, match=r"dataset\.calibration"):
        compress(request.model_copy(update={"data": data}))


def test_clusters_from_training_need_something_to_train_with(workplace):
    settings = {"clustering": {"stage": "training", "clusters": 8}}
    with pytest.raises(StageError, match=r"dataset\.train") as error:
        compress(workplace.request(settings))
    assert error.value.reason is Reason.STEP_FAILED


def test_the_worker_answers_lines_and_loads_no_tensorflow_for_trials_that_do_not_train(workplace, tmp_path):
    request = workplace.request({"quantization": {"scheme": "int8"}}).model_dump(mode="json", by_alias=True)
    log = tmp_path / "log"
    call = {"id": 1, "stage": "compress", "request": request, "log": str(log)}
    code = (
        "import sys; from paretune_compress.__main__ import main; main(); "
        "sys.stderr.write('loaded ' + str('tensorflow' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(call) + "\n", capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    reply = json.loads(done.stdout)
    assert reply["id"] == 1
    assert reply["result"]["reason"] is None
    assert reply["result"]["metrics"]["accuracy"]["value"] > 0.9
    assert "loaded False" in done.stderr
