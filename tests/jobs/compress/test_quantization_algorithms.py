"""How weights become integers: what each algorithm does to the file, and what it leaves to minMax."""

import json
from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress, splits_to_read
from paretune_compress.graph.description import weighted_operators
from paretune_compress.steps.gptq import rounded
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason, StageError
from paretune_store.known_steps import KnownSteps
from support.made_requests import Workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"))


def quantized(workplace, **quantization):
    return compress(workplace.request({"quantization": quantization}))


def real_weights(path: Path) -> dict[str, np.ndarray]:
    """Weights in real numbers, by place and operator."""
    model, found = fb.read(path), {}
    for n, w in enumerate(weighted_operators(model)):
        tensor, values = model.subgraphs[0].tensors[w.tensors[0]], fb.constant(model, w.tensors[0])
        scales, dims = fb.scales(tensor), [1] * values.ndim
        if len(scales) > 1:
            dims[int(tensor.quantization.quantizedDimension)] = len(scales)
        found[f"{n} {w.operator}"] = values * scales.reshape(dims) if len(scales) else values
    return found


def note(result, name):
    return next(s.note for s in result.steps if s.name == name)


def keys(result):
    return {s.name: s for s in result.steps}


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("algorithm", ["octav", "mse", "gptq"])
@pytest.mark.parametrize(
    ("scheme", "types", "least"),
    [
        ("dynamic", {"INT8": 3888}, 0.9),
        ("int8", {"INT8": 3888}, 0.9),
        ("int16x8", {"INT8": 3888}, 0.9),
        ("int4", {"INT4": 3648, "INT8": 240}, 0.5),
    ],
)
def test_no_algorithm_leaves_a_layer_float(workplace, scheme, types, least, algorithm, granularity):
    result = quantized(workplace, scheme=scheme, granularity=granularity, algorithm=algorithm)
    assert result.inspection.dtypes == types
    assert result.metrics["accuracy"].value >= least


def test_the_defaults_written_out_are_known_by_the_key_that_they_had(workplace):
    quantized(workplace, scheme="int8", granularity="tensor")
    written = quantized(
        workplace, scheme="int8", granularity="tensor", algorithm="minMax", calibrationSamples=0
    )
    assert all(s.cached for s in written.steps if s.name in ("calibrate", "quantize"))
    assert [s.name for s in written.steps][:3] == ["calibrate", "quantize", "inspect"]
    entries = [json.loads(p.read_text()) for p in (workplace.folder / "cache").glob("steps/*/*/entry.json")]
    quantizations = [e["inputs"] for e in entries if e["name"] == "quantize"]
    assert {frozenset(inputs["quantization"]) for inputs in quantizations} == {
        frozenset({"scheme", "granularity", "io", "bits"})
    }
    assert all(set(e["inputs"]) == {"model", "data", "scaling"} for e in entries if e["name"] == "calibrate")
    assert [["stem", "int8", "tensor"], ["depthwise", "int8", "tensor"]] in [
        inputs["layers"][:2] for inputs in quantizations
    ]


@pytest.mark.parametrize("algorithm", ["octav", "mse"])
def test_large_weights_are_clipped_where_that_pays(workplace, algorithm):
    plain = real_weights(Path(quantized(workplace, scheme="int4", algorithm="minMax").artifact.path))
    clipped = real_weights(Path(quantized(workplace, scheme="int4", algorithm=algorithm).artifact.path))
    source = real_weights(workplace.path)
    for name in (n for n in source if "DEPTHWISE" not in n):
        assert not np.array_equal(plain[name], clipped[name])
        assert np.sqrt(np.mean((clipped[name] - source[name]) ** 2) / np.mean(source[name] ** 2)) < 0.2


def test_a_channel_of_zeros_is_left_to_minmax_and_the_note_says_so(tmp_path):
    workplace = Workplace(tmp_path)
    model = fb.read(workplace.path)
    hidden = weighted_operators(model)[3].tensors[0]
    weights = fb.constant(model, hidden).copy()
    weights[5] = 0
    fb.set_constant(model, hidden, weights)
    fb.write(model, workplace.path)
    for algorithm in ("octav", "mse"):
        for scheme in ("dynamic", "int8"):
            result = quantized(workplace, scheme=scheme, algorithm=algorithm)
            assert note(result, "quantize") == f"{algorithm}; minMax in 1 of 5 layers: 'hidden'"
            assert np.isfinite(real_weights(Path(result.artifact.path))["3 FULLY_CONNECTED"]).all()


def test_gptq_says_which_layers_it_left_to_minmax(workplace):
    result = quantized(workplace, scheme="int4", algorithm="gptq")
    assert note(result, "round") == "gptq; minMax in 1 of 5 layers: 'depthwise'"
    again = quantized(workplace, scheme="int4", algorithm="gptq")
    assert keys(again)["round"].cached
    assert again.artifact == result.artifact
    plain = quantized(workplace, scheme="int4")
    assert keys(plain)["quantize"].cached  # one quantized file serves both
    assert plain.artifact.sha256 != result.artifact.sha256


def test_gptq_keeps_the_scales_and_brings_outputs_nearer(workplace):
    paths = {
        a: Path(quantized(workplace, scheme="int4", algorithm=a).artifact.path) for a in ("minMax", "gptq")
    }
    models = {a: fb.read(path) for a, path in paths.items()}
    for one, other in zip(*(weighted_operators(m) for m in models.values()), strict=True):
        scales = [
            fb.scales(m.subgraphs[0].tensors[w.tensors[0]])
            for m, w in zip(models.values(), (one, other), strict=True)
        ]
        assert np.array_equal(*scales)
    rng = np.random.default_rng(3)
    image = rng.normal(0, 1, (4000, 4, 3, 3)).transpose(0, 2, 3, 1).reshape(4000, -1)
    source = real_weights(workplace.path)
    first = next(iter(source))
    errors = {
        a: np.square(image @ (real_weights(p)[first] - source[first]).reshape(16, -1).T).mean()
        for a, p in paths.items()
    }
    assert errors["gptq"] < 1.1 * errors["minMax"]  # inputs without correlation leave nothing to gain


def test_rounding_by_outputs_loses_far_less_than_the_nearest_integers_where_inputs_go_together():
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 1, (2000, 6)) @ rng.normal(0, 1, (6, 40)) + rng.normal(0, 0.1, (2000, 40))
    weights = rng.normal(0, 1, (12, 40))
    scales = (np.abs(weights).max(axis=1) / 7).astype(np.float32)
    made = rounded(weights, scales, inputs.T @ inputs, (-8, 7))
    nearest = np.clip(np.rint(weights / scales[:, None]), -8, 7)
    assert made.dtype == np.int8
    assert made.min() >= -8
    assert made.max() <= 7

    def lost(integers):
        return np.mean((inputs @ (integers * scales[:, None] - weights).T) ** 2)

    assert lost(made) < lost(nearest) / 4


def test_rounding_by_outputs_without_correlation_gives_the_nearest_integers():
    rng = np.random.default_rng(1)
    weights, scales = rng.normal(0, 1, (4, 150)), np.full(4, 0.05, np.float32)
    made = rounded(weights, scales, np.eye(150), (-127, 127))
    assert np.array_equal(made, np.rint(weights / 0.05))


def test_zeros_stay_zeros_and_inputs_that_are_always_zero_do_no_harm():
    rng = np.random.default_rng(2)
    weights = rng.normal(0, 1, (4, 30))
    weights[rng.random(weights.shape) < 0.5] = 0
    inputs = rng.normal(0, 1, (500, 5)) @ rng.normal(0, 1, (5, 30))
    inputs[:, 7] = 0
    made = rounded(weights, np.full(4, 0.1, np.float32), inputs.T @ inputs, (-8, 7))
    assert np.array_equal(made == 0, (made == 0) | (weights == 0))
    assert (made[weights == 0] == 0).all()


def test_sparse_weights_keep_their_zeros_with_every_algorithm(workplace):
    for algorithm in ("octav", "mse", "gptq"):
        settings = {
            "quantization": {"scheme": "int8", "algorithm": algorithm},
            "sparsity": {"pattern": "2:4"},
        }
        found = {t.layer: t for t in compress(workplace.request(settings)).inspection.tensors}
        assert all(found[name].two_of_four for name in ("stem", "pointwise", "hidden"))


def test_a_layer_may_have_an_algorithm_of_its_own(workplace):
    settings = {
        "quantization": {"scheme": "int8"},
        "layers": [{"match": "^hidden$", "quantization": {"scheme": "int4", "algorithm": "octav"}}],
    }
    result = compress(workplace.request(settings))
    assert note(result, "quantize") == "octav"
    plain = {
        "quantization": {"scheme": "int8"},
        "layers": [{"match": "^hidden$", "quantization": {"scheme": "int4"}}],
    }
    one, other = (real_weights(Path(r.artifact.path)) for r in (result, compress(workplace.request(plain))))
    assert [n for n in one if not np.array_equal(one[n], other[n])] == ["3 FULLY_CONNECTED"]


def test_an_algorithm_that_reaches_none_of_a_layers_operators_is_refused(workplace):
    settings = {"layers": [{"match": "depthwise", "quantization": {"scheme": "int8", "algorithm": "gptq"}}]}
    with pytest.raises(StageError, match=r"layers\[0\].*gptq quantizes CONV_2D, FULLY_CONNECTED") as error:
        compress(workplace.request(settings))
    assert error.value.reason is Reason.NO_EFFECT


def test_gptq_without_calibration_data_names_what_is_missing(tmp_path):
    workplace = Workplace(tmp_path)
    request = workplace.request({"quantization": {"scheme": "dynamic", "algorithm": "gptq"}})
    data = {s: d for s, d in request.data.items() if s is not Split.CALIBRATION}
    with pytest.raises(StageError, match=r"algorithm gptq needs dataset.calibration"):
        compress(request.model_copy(update={"data": data}))


def test_a_pod_reads_calibration_data_for_gptq_until_it_is_rounded(tmp_path):
    workplace = Workplace(tmp_path)
    request = workplace.request({"quantization": {"scheme": "dynamic", "algorithm": "gptq"}}, metrics=())
    known = KnownSteps(Path(request.cache), lambda _: None)
    assert splits_to_read(request, known) == {Split.CALIBRATION}
    compress(request)
    assert splits_to_read(request, known) == frozenset()
