"""Weights without their zeros: written as TensorFlow's converter does, run by LiteRT, read by all else."""

import copy
from pathlib import Path

import numpy as np
import paretune_codec
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from paretune_benchmark.first_run import first_run
from paretune_benchmark.runtime import Model
from paretune_compress import flatbuffer as fb
from paretune_compress import sparse
from paretune_compress.compress import compress
from paretune_compress.graph.description import describe, weighted_operators
from paretune_compress.inspection import inspect
from paretune_compress.layers import resolve_layers
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.shrink.verification import random_samples
from paretune_compress.steps.quantization import quantize
from paretune_compress.steps.sparse_encoding import encode, encode_file
from paretune_compress.steps.sparsity import block_mask, unstructured_mask
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import Settings
from support.made_networks import Network
from support.made_requests import Workplace

RULES = {"unstructured": unstructured_mask, "1x4": block_mask}


def every_kind(level: float, pattern: str = "unstructured") -> Network:
    """One network with each operator that is encoded, with this share of zeros in its weights."""
    net = Network()
    x = net.input("image", (1, 8, 8, 8))
    x = net.conv("wide", x, 32, 3)
    x = net.depthwise("depth", net.conv("point", x, 64))
    x = net.conv("narrow", net.transposed("up", x, 16), 24)
    net.output(net.dense("last", net.dense("hidden", net.mean("mean", x), 64), 10, act=0))
    for name in ("wide", "point", "depth", "up", "narrow", "hidden", "last"):
        weights = net.get(f"{name}/w")
        net.set(f"{name}/w", weights * RULES[pattern](weights, level))
    return net


def saved(net: Network, folder: Path, scheme: str = "none") -> Path:
    path = net.save(folder / "dense.tflite")
    if scheme != "none":
        layers = describe(path).layers
        settings = Settings.model_validate({"quantization": {"scheme": scheme}})
        path = folder / f"{scheme}.tflite"
        path.write_bytes(quantize(folder / "dense.tflite", settings, resolve_layers(settings, layers), None))
    return path


def operators(model: fb.Model) -> list[str]:
    return [fb.operator_name(model, op) for op in model.subgraphs[0].operators]


def outputs_of(model: fb.Model, ops: list[fb.Operator]) -> list[str]:
    return [fb.tensor_name(model.subgraphs[0].tensors[int(op.outputs[0])]) for op in ops]


def encodings(model: fb.Model) -> dict[str, fb.Tensor]:
    return {fb.tensor_name(t): t for t in model.subgraphs[0].tensors if t.sparsity is not None}


def outputs(path: Path, resolver: OpResolverType) -> list[np.ndarray]:
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return [y for sample in random_samples(fb.read(path)) for y in run_interpreter(interpreter, sample)]


# --- the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolver", [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES])
@pytest.mark.parametrize("scheme", ["none", "float16"])
@pytest.mark.parametrize("pattern", list(RULES))
def test_outputs_stay_the_same_with_and_without_the_delegate(tmp_path, pattern, scheme, resolver):
    dense = saved(every_kind(0.75, pattern), tmp_path, scheme)
    report = encode_file(dense, tmp_path / "sparse.tflite")
    assert (report.report.encoded, report.report.tensors) == (7, 7)
    assert report.report.blocks == (2 if pattern == "1x4" else 0)
    for a, b in zip(outputs(dense, resolver), outputs(tmp_path / "sparse.tflite", resolver), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())


@pytest.mark.parametrize("scheme", ["none", "float16"])
def test_the_more_zeros_the_smaller_the_file(tmp_path, scheme):
    sizes = []
    for level in (0.5, 0.7, 0.8, 0.9):
        dense = saved(every_kind(level), tmp_path, scheme)
        report = encode_file(dense, tmp_path / "sparse.tflite")
        sizes.append((tmp_path / "sparse.tflite").stat().st_size)
        assert sizes[-1] < dense.stat().st_size
        assert (report.before, report.after) == (dense.stat().st_size, sizes[-1])
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.4 * dense.stat().st_size


@pytest.mark.tensorflow
@pytest.mark.parametrize("scheme", ["none", "float16"])
@pytest.mark.parametrize("pattern", list(RULES))
def test_tensors_are_encoded_as_the_converter_encodes_them(tmp_path, pattern, scheme):
    from tensorflow.lite.python.convert import mlir_sparsify

    dense = saved(every_kind(0.6, pattern), tmp_path, scheme)
    theirs, ours = fb.load(mlir_sparsify(dense.read_bytes())), fb.read(dense)
    encode(ours)
    dense = set()
    for one, other in zip(weighted_operators(ours), weighted_operators(theirs), strict=True):
        a, b = (m.subgraphs[0].tensors[w.tensors[0]] for m, w in ((ours, one), (theirs, other)))
        if a.sparsity is None:
            dense.add(fb.tensor_name(a))
            continue
        assert bytes(ours.buffers[a.buffer].data) == bytes(theirs.buffers[b.buffer].data)
        assert list(a.sparsity.traversalOrder) == list(b.sparsity.traversalOrder)
        assert list(a.sparsity.blockMap) == list(b.sparsity.blockMap)
        for x, y in zip(a.sparsity.dimMetadata, b.sparsity.dimMetadata, strict=True):
            assert (x.format, x.denseSize) == (y.format, y.denseSize)
            for part in ("arraySegments", "arrayIndices"):
                assert getattr(x, f"{part}Type") == getattr(y, f"{part}Type")
                if getattr(y, part) is not None:
                    assert list(getattr(x, part).values) == list(getattr(y, part).values)
    # Of 384 halves the zeros take fewer bytes than their tables, which the converter does not count.
    assert dense == ({"narrow/w"} if scheme == "float16" else set())
    if scheme == "none":  # of float16 blocks theirs leaves out a DENSIFY, and the outputs are no numbers
        assert operators(ours) == operators(theirs)


def test_only_fully_connected_operators_read_blocks_of_float32_by_themselves(tmp_path):
    single = fb.read(saved(every_kind(0.75, "1x4"), tmp_path))
    encode(single)
    assert operators(single).count("DENSIFY") == 5
    codes = {operators(single)[n]: single.operatorCodes[op.opcodeIndex].version
             for n, op in enumerate(single.subgraphs[0].operators)}  # fmt: skip
    assert codes["FULLY_CONNECTED"] == 8
    half = fb.read(saved(every_kind(0.75, "1x4"), tmp_path, "float16"))
    encode(half)
    assert operators(half).count("DENSIFY") == 7


def test_names_signature_and_everything_else_stay(tmp_path):
    dense = saved(every_kind(0.75), tmp_path)
    encode_file(dense, tmp_path / "sparse.tflite")
    before, after = fb.read(dense), fb.read(tmp_path / "sparse.tflite")
    kept = [op for op in after.subgraphs[0].operators if fb.operator_name(after, op) != "DENSIFY"]
    assert outputs_of(after, kept) == outputs_of(before, before.subgraphs[0].operators)
    one, other = (open_interpreter(p, threads=1) for p in (dense, tmp_path / "sparse.tflite"))
    assert one.get_signature_list() == other.get_signature_list()


def test_tensors_with_few_zeros_with_nothing_else_and_with_shared_bytes_stay_dense(tmp_path):
    net = every_kind(0.75)
    net.set("wide/w", np.random.default_rng(0).normal(0, 0.1, net.get("wide/w").shape))
    net.set("narrow/w", 0 * net.get("narrow/w"))
    twin = net.constant("twin", net.get("hidden/w"))
    net.graph.tensors[twin].buffer = net.graph.tensors[net.index("hidden/w")].buffer
    dense = saved(net, tmp_path)
    report = encode_file(dense, tmp_path / "sparse.tflite")
    found = encodings(fb.read(tmp_path / "sparse.tflite"))
    assert set(found) == {"point/w", "depth/w", "up/w", "last/w"}
    assert report.sentence().startswith("4 of 7 tensors encoded: ")


def small_layers(level: float, name: str = "small", widths=(16, 16, 16, 16)) -> Network:
    """Convolutions of 1x1, whose tables weigh about as much as their zeros."""
    net = Network()
    x = net.input("image", (1, 4, 4, 16))
    for n, width in enumerate(widths):
        x = net.conv(f"{name}{n}", x, width)
        weights = net.get(f"{name}{n}/w")
        net.set(f"{name}{n}/w", weights * unstructured_mask(weights, level))
    net.output(x)
    return net


@pytest.mark.parametrize("level", [0.35, 0.45])
def test_a_tensor_whose_tables_weigh_more_than_its_zeros_stays_dense(tmp_path, level):
    dense = saved(small_layers(level), tmp_path)
    with pytest.raises(StageError, match="none of the 4 weight tensors is smaller") as caught:
        encode_file(dense, tmp_path / "sparse.tflite")
    assert caught.value.reason is Reason.NO_EFFECT
    assert not (tmp_path / "sparse.tflite").exists()


def test_of_large_and_small_tensors_the_large_ones_are_encoded_and_the_file_is_as_small_as_is_said(tmp_path):
    dense = saved(small_layers(0.4, widths=(16, 16, 512, 16)), tmp_path)
    report = encode_file(dense, tmp_path / "sparse.tflite")
    assert set(encodings(fb.read(tmp_path / "sparse.tflite"))) == {"small2/w", "small3/w"}
    before, after = dense.stat().st_size, (tmp_path / "sparse.tflite").stat().st_size
    assert report.sentence() == f"2 of 4 tensors encoded: file of {before:,} -> {after:,} bytes"
    assert after < before


def test_long_names_count(tmp_path):
    kept = saved(small_layers(0.6), tmp_path)
    assert encode_file(kept, tmp_path / "sparse.tflite").report.encoded == 4
    named = saved(small_layers(0.6, "a_layer_in_a_block_in_a_stage_of_the_network/" * 12), tmp_path)
    with pytest.raises(StageError, match="none of the 4 weight tensors is smaller"):
        encode_file(named, tmp_path / "sparse.tflite")


@pytest.mark.parametrize("level", [0.5, 0.55, 0.6, 0.7])
@pytest.mark.parametrize("pattern", list(RULES))
@pytest.mark.parametrize("scheme", ["none", "float16"])
def test_every_encoded_tensor_makes_the_file_smaller(tmp_path, scheme, pattern, level):
    model = fb.read(saved(every_kind(level, pattern), tmp_path, scheme))
    whole = copy.deepcopy(model)
    encode(whole)
    for name in encodings(whole):
        without = copy.deepcopy(model)
        others = [t for t in without.subgraphs[0].tensors if fb.tensor_name(t) == name]
        values = np.array(fb.constant(without, without.subgraphs[0].tensors.index(others[0])))
        fb.set_constant(without, without.subgraphs[0].tensors.index(others[0]), values + (values == 0))
        encode(without)
        assert name not in encodings(without)
        assert len(fb.pack(whole)) < len(fb.pack(without))


def test_weights_that_two_operators_read_are_made_dense_once(tmp_path):
    net = Network()
    x = net.input("x", (1, 32))
    a = net.dense("a", x, 32)
    b = net.dense("b", a, 32)
    net.output(net.add("sum", a, b))
    weights = net.get("a/w")
    net.set("a/w", weights * unstructured_mask(weights, 0.8))
    net.graph.operators[1].inputs[1] = net.index("a/w")
    dense = saved(net, tmp_path)
    encode_file(dense, tmp_path / "sparse.tflite")
    assert operators(fb.read(tmp_path / "sparse.tflite")) == [
        "DENSIFY", "FULLY_CONNECTED", "FULLY_CONNECTED", "ADD",
    ]  # fmt: skip


# --- what is refused --------------------------------------------------------------------------------------


def test_integer_weights_are_refused(tmp_path):
    path = saved(every_kind(0.8), tmp_path, "dynamic")
    with pytest.raises(StageError, match=r"weights of a CONV_2D are INT8.*scheme none or float16") as caught:
        encode_file(path, tmp_path / "sparse.tflite")
    assert caught.value.reason is Reason.STEP_FAILED


def test_a_file_without_zeros_is_refused(tmp_path):
    with pytest.raises(StageError, match="none of the 7 weight tensors is smaller") as caught:
        encode_file(saved(every_kind(0.1), tmp_path), tmp_path / "sparse.tflite")
    assert caught.value.reason is Reason.NO_EFFECT


# --- reading it again -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "block"), [((300, 40), 1), ((5, 2, 3, 600), 1), ((9, 600), 4), ((2, 70_000), 1)]
)
def test_an_encoded_tensor_decodes_to_itself(shape, block):
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, shape).astype(np.float32)
    weights *= (block_mask if block == 4 else unstructured_mask)(weights, 0.8)
    encoded = sparse.encode(weights, block)
    raw = np.frombuffer(encoded.values.tobytes(), np.uint8)
    found = sparse.decode(raw, np.float32, shape, encoded.parameters())
    np.testing.assert_array_equal(found, weights)
    stored = (encoded.values, encoded.segments, encoded.places)
    assert sum(part.nbytes for part in stored) < weights.nbytes / 2


@pytest.mark.parametrize("damage", ["segments", "places", "values", "order", "missing", "block"])
def test_an_encoding_that_contradicts_itself_is_refused_with_the_tensor(tmp_path, damage):
    model = fb.read(saved(every_kind(0.75, "1x4"), tmp_path))
    encode(model)
    tensor = encodings(model)["hidden/w"]
    row = tensor.sparsity.dimMetadata[1]
    if damage == "segments":
        row.arraySegments.values = row.arraySegments.values[::-1]
    elif damage == "places":
        row.arrayIndices.values = np.full_like(row.arrayIndices.values, 200)
    elif damage == "values":
        model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[:-16]
    elif damage == "order":
        tensor.sparsity.traversalOrder = np.array([1, 0, 2], np.int32)
    elif damage == "missing":
        row.arrayIndices = None
    else:
        tensor.sparsity.dimMetadata[2].denseSize = 5
    with pytest.raises(StageError, match=r"tensor 'hidden/w' cannot be read: .*sparse encoding") as caught:
        fb.constant(model, model.subgraphs[0].tensors.index(tensor))
    assert caught.value.reason is Reason.MODEL_UNREADABLE


@pytest.mark.parametrize(
    ("shape", "sizes", "segments"),
    [
        ((-1, 8), [-1], []),
        ((-1, 8), [2], [0, 1, 1]),
        ((2, -8), [2], [0, 1, 1]),
        ((4, 8), [2], [0, 1, 1]),
        ((2, 1, 8), [1, 2], [0, 1, 1]),
        ((2, 2**31 - 1), [2], [0, 1, 1]),
        ((2**31 - 1, 2**31 - 1, 8), [2**31 - 1, 2**31 - 1], [0, 1, 1]),
    ],
)
def test_a_shape_that_is_not_the_encodings_is_refused_and_nothing_is_allocated(shape, sizes, segments):
    encoding = sparse.Encoded(
        (*sizes, 8), np.ones(min(1, len(segments)), np.float32),
        np.array(segments, np.uint8), np.zeros(min(1, len(segments)), np.uint8), 1,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"its shape \[.*\] is"):
        sparse.decode(np.frombuffer(encoding.values.tobytes(), np.uint8), np.float32, shape,
                      encoding.parameters())  # fmt: skip


def test_a_sparse_tensor_cannot_be_overwritten(tmp_path):
    model = fb.read(saved(every_kind(0.75), tmp_path))
    encode(model)
    index = model.subgraphs[0].tensors.index(encodings(model)["last/w"])
    with pytest.raises(ValueError, match="stored sparsely"):
        fb.set_constant(model, index, np.array(fb.constant(model, index)))


def test_the_bytes_of_the_model_are_those_of_its_copy(tmp_path):
    model = fb.read(saved(every_kind(0.75), tmp_path))
    other = copy.deepcopy(model)
    encode(model)
    encode(other)
    assert fb.pack(model) == fb.pack(other) == fb.pack(fb.load(fb.pack(model)))


# --- the rest of the way ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"), samples=96, train=True)


def request(workplace: Workplace, encoding: str, scheme: str = "none", pattern: str = "1x4"):
    settings = {
        "quantization": {"scheme": scheme},
        "sparsity": {"pattern": pattern, "level": 0.75, "encoding": encoding},
    }
    return workplace.request(settings).model_copy(update={"training": None})  # one shot: no TensorFlow


@pytest.mark.parametrize("scheme", ["none", "float16"])
def test_a_candidate_differs_from_its_dense_twin_in_bytes_alone(workplace, scheme):
    dense, found = (compress(request(workplace, encoding, scheme)) for encoding in ("dense", "sparse"))
    assert found.metrics["accuracy"].value == dense.metrics["accuracy"].value
    assert found.metrics["modelSize"].value < 0.8 * dense.metrics["modelSize"].value
    assert found.inspection == dense.inspection
    assert found.inspection.sparsity > 0.5
    made = {s.name: s for s in found.steps}
    assert made["prune"].cached
    assert made["encode-sparse"].note.startswith("3 of 5 tensors encoded (1 in blocks of four): ")
    again = {s.name: s for s in compress(request(workplace, "sparse", scheme)).steps}
    assert again["encode-sparse"].cached
    assert again["encode-sparse"].note == made["encode-sparse"].note


def test_a_sparse_file_travels_in_a_container_and_is_measured(workplace):
    found = compress(request(workplace, "sparse"))
    path = Path(found.artifact.path)
    coded = paretune_codec.pack(path.read_bytes())
    assert paretune_codec.unpack(coded, max_bytes=found.artifact.bytes) == path.read_bytes()
    assert len(coded) == found.metrics["downloadSize"].value
    assert inspect(path, workplace.model.layers) == found.inspection
    assert first_run(path, 1, 60).seconds > 0
    model = Model(path, 1, path.name)
    assert model.run(2) > 0
    assert model.accelerated()


@pytest.mark.parametrize("where", ["model", "layer"])
def test_integers_are_refused_before_anything_is_made(workplace, where):
    asked = {"sparsity": {"pattern": "unstructured", "level": 0.75, "encoding": "sparse"}}
    if where == "model":
        asked["quantization"] = {"scheme": "int8"}
    else:
        asked["layers"] = [{"match": "pointwise", "quantization": {"scheme": "dynamic"}}]
    with pytest.raises(
        StageError, match=r"sparsity\.encoding is sparse, but the weights of .* are integers"
    ) as e:
        compress(workplace.request(asked))
    assert e.value.reason is Reason.NO_EFFECT
