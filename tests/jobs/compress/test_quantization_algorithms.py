"""How weights become integers: what each algorithm does to the file, and what it leaves to minMax."""

import json
from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress, splits_to_read
from paretune_compress.data import PreparedSplit
from paretune_compress.graph.description import weighted_operators
from paretune_compress.quality.model import EvaluatedModel
from paretune_compress.steps.gptq import rounded
from paretune_contract.dataset import Scaling, Split
from paretune_contract.failure import Reason, StageError
from paretune_store.known_steps import KnownSteps
from support.made_batches import dilated_by_batches
from support.made_requests import Workplace
from support.made_tflite import ModelBuilder, options


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


def layer_error(workplace, path, layer):
    """Mean squared error of a layer's outputs on calibration data, where its weights alone are rounded."""
    source, real = fb.read(workplace.path), real_weights(path)
    index = weighted_operators(source)[layer].tensors[0]
    name = list(real)[layer]
    outputs = []
    for changed in (False, True):
        if changed:
            fb.set_constant(source, index, real[name].astype(np.float32))
        graph = source.subgraphs[0]
        graph.outputs = [int(graph.operators[weighted_operators(source)[layer].index].outputs[0])]
        source.signatureDefs = None
        fb.write(source, workplace.folder / "cut.tflite")
        data = PreparedSplit(workplace.data[Split.CALIBRATION], Scaling())
        (batch,) = data.batches(data.samples)
        (values,) = EvaluatedModel(workplace.folder / "cut.tflite", 1)(batch.inputs).values()
        outputs.append(values)
    return np.mean((outputs[1] - outputs[0]) ** 2)


@pytest.mark.parametrize("stated", [1, 4])
def test_gptq_rounds_for_all_places_of_a_sample_that_is_a_batch_for_a_layer(stated, tmp_path):
    workplace = Workplace(tmp_path, make=lambda path: dilated_by_batches(path, stated))
    better = quantized(workplace, scheme="int4", algorithm="gptq")
    assert note(better, "round") == "gptq"
    plain = quantized(workplace, scheme="int4")
    before, after = (layer_error(workplace, Path(r.artifact.path), 0) for r in (plain, better))
    assert after < before


def twice(path: Path) -> Path:
    """Weights that two dense layers share, one behind the other, on inputs that go together."""
    rng = np.random.default_rng(0)
    b = ModelBuilder()
    x = b.input("image", (1, 8, 8, 4))
    (x,) = b.operator("RESHAPE", [x, b.constant("to", [1, 256], "int32")], [("flat", (1, 256))])
    mix = b.constant("mix/w", rng.normal(0, 1, (48, 6)) @ rng.normal(0, 1, (6, 256)) / 16)
    (x,) = b.operator("FULLY_CONNECTED", [x, mix, -1], [("mix", (1, 48))], options("FullyConnectedOptions"))
    shared, zero = b.constant("shared/w", rng.normal(0, 0.1, (48, 48))), b.constant("shared/b", np.zeros(48))
    relu = options("FullyConnectedOptions", fusedActivationFunction=1)
    for name in ("first", "second"):
        (x,) = b.operator("FULLY_CONNECTED", [x, shared, zero], [(name, (1, 48))], relu)
    last = b.constant("last/w", rng.normal(0, 0.3, (3, 48)))
    (x,) = b.operator("FULLY_CONNECTED", [x, last, -1], [("last", (1, 3))], options("FullyConnectedOptions"))
    (x,) = b.operator("SOFTMAX", [x], [("scores", (1, 3))], options("SoftmaxOptions", beta=1.0))
    b.output(x)
    return b.save(path)


def test_weights_that_two_layers_share_are_rounded_for_the_inputs_of_both(tmp_path):
    workplace = Workplace(tmp_path, make=twice)
    better = quantized(workplace, scheme="int4", algorithm="gptq")
    assert note(better, "round") == "gptq"
    plain = quantized(workplace, scheme="int4")
    for layer in (1, 2):
        before, after = (layer_error(workplace, Path(r.artifact.path), layer) for r in (plain, better))
        assert after < before / 2, layer


def test_shared_weights_are_left_alone_where_one_of_their_layers_asks_for_minmax(tmp_path):
    workplace = Workplace(tmp_path, make=twice)
    override = {"match": "^second$", "quantization": {"scheme": "int4"}}
    settings = {"quantization": {"scheme": "int4", "algorithm": "gptq"}, "layers": [override]}
    result = compress(workplace.request(settings))
    assert note(result, "round") == "gptq; minMax in 1 of 3 layers: 'first'"
    plain = real_weights(Path(quantized(workplace, scheme="int4").artifact.path))
    found = real_weights(Path(result.artifact.path))
    assert [n for n in found if not np.array_equal(found[n], plain[n])] == [
        "0 FULLY_CONNECTED",
        "3 FULLY_CONNECTED",
    ]


def test_a_layer_that_the_quantizer_left_float_is_named_as_such(tmp_path):
    workplace = Workplace(tmp_path, make=nameless)
    override = {"match": "^operator-3$", "quantization": {"scheme": "dynamic", "algorithm": "gptq"}}
    with pytest.raises(StageError, match=r"'operator-3' \(FULLY_CONNECTED\) are FLOAT32") as error:
        compress(workplace.request({"layers": [override]}))
    assert error.value.reason is Reason.NO_EFFECT


def nameless(path: Path) -> Path:
    """A layer without a name, which no entry of the quantizer's recipe can speak of."""
    model = fb.read(twice(path))
    op = model.subgraphs[0].operators[3]
    model.subgraphs[0].tensors[int(op.outputs[0])].name = b""
    fb.write(model, path)
    return path


def test_where_an_algorithm_takes_no_layer_its_own_reasons_are_given(tmp_path):
    workplace = Workplace(tmp_path, make=twice)
    model = fb.read(workplace.path)
    mix = weighted_operators(model)[0].tensors[0]
    weights = fb.constant(model, mix).copy()
    weights[5] = 0
    fb.set_constant(model, mix, weights)
    fb.write(model, workplace.path)

    def refusal(layer, algorithm):
        quantization = {"scheme": "int8", "algorithm": algorithm}
        settings = {
            "quantization": {"scheme": "int8"},
            "layers": [{"match": layer, "quantization": quantization}],
        }
        with pytest.raises(StageError, match=rf"{algorithm} takes none of the layers") as error:
            compress(workplace.request(settings))
        assert error.value.reason is Reason.NO_EFFECT
        return error.value.message

    for clipping in ("octav", "mse"):
        said = refusal("^mix$", clipping)
        assert "whose weights have no channel of zeros alone; expected minMax" in said
        assert "training" not in said
    said = refusal("^second$", "gptq")
    assert "without groups, with at most 4,096 inputs a channel" in said
    assert "shared with a layer of another algorithm; expected minMax" in said
    assert "zeros" not in said
