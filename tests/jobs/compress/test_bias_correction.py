"""Biases take up the mean error of a layer's outputs, channel by channel, one layer after another."""

from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress, splits_to_read
from paretune_compress.data import PreparedSplit
from paretune_compress.graph.description import bias_tensor, weighted_operators
from paretune_compress.quality.model import EvaluatedModel
from paretune_contract.dataset import Scaling, Split
from paretune_contract.failure import Reason, StageError
from paretune_store.known_steps import KnownSteps
from support.made_batches import dilated_by_batches, upsampled
from support.made_requests import Workplace
from support.made_tflite import ModelBuilder, convolution, options

SCHEMES = ["dynamic", "int8", "int16x8", "int4"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"))


def made(workplace, *, corrected: bool, **quantization):
    settings = {"quantization": {"biasCorrection": corrected, **quantization}}
    return compress(workplace.request(settings))


def cut(path: Path, layer: int, target: Path) -> Path:
    """The model up to the output of a layer."""
    model = fb.read(path)
    graph = model.subgraphs[0]
    op = graph.operators[weighted_operators(model)[layer].index]
    graph.outputs = [int(op.outputs[0])]
    model.signatureDefs = None
    fb.write(model, target)
    return target


def mean_errors(workplace, path: Path, layer: int, folder: Path) -> np.ndarray:
    """Mean error of each channel of a layer's outputs over the calibration data."""
    data = PreparedSplit(workplace.data[Split.CALIBRATION], Scaling())
    (batch,) = data.batches(data.samples)
    means = []
    for n, model in enumerate((workplace.path, path)):
        (values,) = EvaluatedModel(cut(model, layer, folder / f"{n}.tflite"), 1)(batch.inputs).values()
        means.append(values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64))
    return np.abs(means[1] - means[0])


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_mean_error_of_every_layer_whose_inputs_have_a_mean_goes_down(
    workplace, scheme, granularity, tmp_path
):
    plain = made(workplace, corrected=False, scheme=scheme, granularity=granularity)
    better = made(workplace, corrected=True, scheme=scheme, granularity=granularity)
    for layer in range(1, 5):  # those of the first are symmetric: its errors go to and fro
        before, after = (
            mean_errors(workplace, Path(r.artifact.path), layer, tmp_path).mean() for r in (plain, better)
        )
        assert after < before, layer


@pytest.mark.parametrize("scheme", ["dynamic", "int16x8", "int4"])
def test_the_last_layer_has_next_to_no_mean_error_left(workplace, scheme, tmp_path):
    plain = made(workplace, corrected=False, scheme=scheme, granularity="tensor")
    better = made(workplace, corrected=True, scheme=scheme, granularity="tensor")
    before, after = (mean_errors(workplace, Path(r.artifact.path), 4, tmp_path) for r in (plain, better))
    assert after.max() < before.max() / 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_but_biases_changes(workplace, scheme):
    plain, better = (
        fb.read(Path(made(workplace, corrected=c, scheme=scheme).artifact.path)) for c in (False, True)
    )
    biases = {bias_tensor(plain, w) for w in weighted_operators(plain)}
    for i, (one, other) in enumerate(
        zip(plain.subgraphs[0].tensors, better.subgraphs[0].tensors, strict=True)
    ):
        assert (one.type, list(fb.scales(one))) == (other.type, list(fb.scales(other)))
        values = [fb.constant(m, i) for m in (plain, better)]
        if values[0] is not None:
            assert np.array_equal(*values) is (i not in biases), i


def test_answers_are_kept_far_better_at_four_bits(workplace):
    plain = made(workplace, corrected=False, scheme="int4").metrics["accuracy"].value
    better = made(workplace, corrected=True, scheme="int4").metrics["accuracy"].value
    assert better >= plain + 0.1


def test_it_is_a_step_of_its_own_that_is_done_once(workplace):
    made(workplace, corrected=False, scheme="int8", granularity="tensor")
    better = made(workplace, corrected=True, scheme="int8", granularity="tensor")
    steps = {s.name: s for s in better.steps}
    assert steps["quantize"].cached
    assert steps["correct-biases"].note == "the biases of 5 layers take up the mean error of their outputs"
    again = made(workplace, corrected=True, scheme="int8", granularity="tensor")
    assert {s.name: s for s in again.steps}["correct-biases"].cached
    assert again.artifact == better.artifact


def test_it_looks_at_the_clustered_integers(workplace):
    settings = {
        "quantization": {"scheme": "int8", "biasCorrection": True},
        "clustering": {"stage": "int8", "clusters": 6},
    }
    result = compress(workplace.request(settings))
    names = [s.name for s in result.steps]
    assert names.index("correct-biases") == names.index("cluster") + 1
    assert max(t.distinct for t in result.inspection.tensors if t.layer != "depthwise") <= 240
    assert {t.layer: t.distinct for t in result.inspection.tensors}["hidden"] <= 6


def test_it_goes_with_int8_inputs_and_fewer_samples(workplace):
    result = made(workplace, corrected=True, scheme="int8", io="int8", calibrationSamples=20)
    assert result.inspection.inputs == ("INT8",)
    assert result.metrics["accuracy"].value > 0.9
    whole = made(workplace, corrected=True, scheme="int8", io="int8")
    assert whole.artifact.sha256 != result.artifact.sha256


def test_without_calibration_data_the_cause_is_named(tmp_path):
    workplace = Workplace(tmp_path)
    request = workplace.request({"quantization": {"scheme": "dynamic", "biasCorrection": True}})
    data = {s: d for s, d in request.data.items() if s is not Split.CALIBRATION}
    with pytest.raises(StageError, match=r"biasCorrection needs dataset.calibration"):
        compress(request.model_copy(update={"data": data}))


def test_a_pod_reads_calibration_data_until_the_biases_are_known(tmp_path):
    workplace = Workplace(tmp_path)
    request = workplace.request({"quantization": {"scheme": "dynamic", "biasCorrection": True}}, metrics=())
    known = KnownSteps(Path(request.cache), lambda _: None)
    assert splits_to_read(request, known) == {Split.CALIBRATION}
    compress(request)
    assert splits_to_read(request, known) == frozenset()


def branches(path: Path) -> Path:
    """A strided and a dilated convolution that share one bias, a layer without bias, a transposed one."""
    rng = np.random.default_rng(0)
    b = ModelBuilder()
    (x,) = b.operator("RELU", [b.input("image", (1, 8, 8, 4))], [("positive", (1, 8, 8, 4))])
    shared = b.constant("bias", np.full(8, 0.1))

    def weights(name, *shape):
        return b.constant(name, rng.normal(0, (1 / np.prod(shape[1:])) ** 0.5, shape))

    inner = [x, weights("one/w", 8, 3, 3, 4), shared]
    (one,) = b.operator("CONV_2D", inner, [("one", (1, 4, 4, 8))], convolution(strideH=2, strideW=2))
    inner = [x, weights("two/w", 8, 3, 3, 4), shared]
    wide = convolution(padding=1, dilationHFactor=2, dilationWFactor=2)
    (two,) = b.operator("CONV_2D", inner, [("two", (1, 4, 4, 8))], wide)
    (x,) = b.operator("ADD", [one, two], [("sum", (1, 4, 4, 8))], options("AddOptions"))
    inner = [b.constant("shape", [1, 8, 8, 6], "int32"), weights("up/w", 6, 3, 3, 8), x]
    up = options("TransposeConvOptions", strideH=2, strideW=2)
    inner.append(b.constant("up/b", np.zeros(6)))
    (x,) = b.operator("TRANSPOSE_CONV", inner, [("up", (1, 8, 8, 6))], up, version=3)
    axes = b.constant("axes", [1, 2], "int32")
    (x,) = b.operator("MEAN", [x, axes], [("mean", (1, 6))], options("ReducerOptions", keepDims=False))
    inner = [x, weights("last/w", 3, 6), -1]
    (x,) = b.operator("FULLY_CONNECTED", inner, [("last", (1, 3))], options("FullyConnectedOptions"))
    (x,) = b.operator("SOFTMAX", [x], [("scores", (1, 3))], options("SoftmaxOptions", beta=1.0))
    b.output(x)
    return b.save(path)


@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int4"])
def test_shared_biases_part_and_layers_without_one_are_left_alone(scheme, tmp_path):
    workplace = Workplace(tmp_path, make=branches)
    better = made(workplace, corrected=True, scheme=scheme, granularity="tensor", algorithm="gptq")
    plain = made(workplace, corrected=False, scheme=scheme, granularity="tensor", algorithm="gptq")
    notes = {s.name: s.note for s in better.steps}
    assert notes["correct-biases"] == "the biases of 3 of 4 layers take up the mean error of their outputs"
    assert notes["round"] == "gptq; minMax in 1 of 4 layers: 'up'"
    for layer in range(3):
        before, after = (
            mean_errors(workplace, Path(r.artifact.path), layer, tmp_path).mean() for r in (plain, better)
        )
        assert after < before, layer


def no_biases(path: Path) -> Path:
    b = ModelBuilder()
    x = b.input("image", (1, 8, 8, 4))
    for name, shape in (("hidden", (300, 256)), ("last", (3, 300))):
        w = b.constant(f"{name}/w", np.random.default_rng(0).normal(0, 0.1, shape))
        out = [(name, (1, shape[0]))]
        (x,) = b.operator("FULLY_CONNECTED", [x, w, -1], out, options("FullyConnectedOptions"))
    b.output(x)
    return b.save(path)


def test_a_model_without_biases_has_nothing_to_correct(tmp_path):
    workplace = Workplace(tmp_path, make=no_biases)
    with pytest.raises(StageError, match=r"of 2 layers with integer weights none has a bias") as error:
        made(workplace, corrected=True, scheme="dynamic")
    assert error.value.reason is Reason.NO_EFFECT


@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8"])
def test_a_transposed_convolution_whose_output_shape_is_computed_is_corrected(scheme, tmp_path):
    workplace = Workplace(tmp_path, make=upsampled)
    plain = made(workplace, corrected=False, scheme=scheme, granularity="tensor")
    better = made(workplace, corrected=True, scheme=scheme, granularity="tensor")
    notes = {s.name: s.note for s in better.steps}
    assert notes["correct-biases"] == "the biases of 2 layers take up the mean error of their outputs"
    for layer in range(2):
        before, after = (
            mean_errors(workplace, Path(r.artifact.path), layer, tmp_path).mean() for r in (plain, better)
        )
        assert after < before, layer


def test_a_layer_that_does_not_run_by_itself_is_named(tmp_path):
    workplace = Workplace(tmp_path, make=lambda path: upsampled(path, stated=(1, 1, 1, 6)))
    with pytest.raises(StageError, match=r"biasCorrection .*'up' \(TRANSPOSE_CONV\) does not run") as error:
        made(workplace, corrected=True, scheme="dynamic")
    assert error.value.reason is Reason.NOT_RUNNABLE


@pytest.mark.parametrize("stated", [1, 4])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sample_that_is_a_batch_for_a_layer_counts_with_all_its_places(scheme, stated, tmp_path):
    workplace = Workplace(tmp_path, make=lambda path: dilated_by_batches(path, stated))
    plain = made(workplace, corrected=False, scheme=scheme, granularity="tensor")
    better = made(workplace, corrected=True, scheme=scheme, granularity="tensor")
    for layer in range(2):
        before, after = (
            mean_errors(workplace, Path(r.artifact.path), layer, tmp_path).mean() for r in (plain, better)
        )
        assert after < before, layer


def folded(path: Path) -> Path:
    """A fully connected operator that takes two rows of its input as one."""
    rng = np.random.default_rng(0)
    b = ModelBuilder()
    (x,) = b.operator("RELU", [b.input("image", (1, 8, 8, 4))], [("positive", (1, 8, 8, 4))])
    (x,) = b.operator("RESHAPE", [x, b.constant("to", [2, 128], "int32")], [("halves", (2, 128))])
    inputs = [x, b.constant("w", rng.normal(0, 0.1, (3, 256))), b.constant("b", np.zeros(3))]
    (x,) = b.operator("FULLY_CONNECTED", inputs, [("last", (1, 3))], options("FullyConnectedOptions"))
    (x,) = b.operator("SOFTMAX", [x], [("scores", (1, 3))], options("SoftmaxOptions", beta=1.0))
    b.output(x)
    return b.save(path)


@pytest.mark.parametrize("algorithm", ["minMax", "gptq"])
def test_a_dense_layer_takes_the_rows_of_its_input_as_its_weights_are_wide(algorithm, tmp_path):
    workplace = Workplace(tmp_path, make=folded)
    plain = made(workplace, corrected=False, scheme="int4", algorithm=algorithm)
    better = made(workplace, corrected=True, scheme="int4", algorithm=algorithm)
    before, after = (
        mean_errors(workplace, Path(r.artifact.path), 0, tmp_path).mean() for r in (plain, better)
    )
    assert after < before
