"""Float .tflite files: made whole where they can be, refused with their cause where not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from paretune_compress import flatbuffer as fb
from paretune_compress.intake import intake
from paretune_compress.intake.tflite_files import normalized
from paretune_contract.dataset import DataRequest, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import IntakeRequest
from paretune_contract.training import TrainerKind, Training
from support.made_operators import CASES, SHAPE, model_of

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)


def tensor(name: str, shape: list[int], buffer: int) -> Any:
    t = schema.TensorT()
    t.name, t.shape, t.buffer, t.type = name, np.array(shape, np.int32), buffer, schema.TensorType.FLOAT32
    return t


def dense() -> Any:
    """x [1, 4] -> FULLY_CONNECTED with 3 units -> y [1, 3], without a signature."""
    model, graph, op, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    op.opcodeIndex, op.inputs, op.outputs = 0, [0, 1, -1], [2]
    op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    op.builtinOptions = schema.FullyConnectedOptionsT()
    graph.tensors = [
        tensor("serving_default_x:0", [1, 4], 1),
        tensor("net/dense/MatMul", [3, 4], 2),
        tensor("net/dense/BiasAdd", [1, 3], 1),
    ]
    graph.inputs, graph.outputs, graph.operators, graph.name = [0], [2], [op], "main"
    weights = schema.BufferT()
    weights.data = np.frombuffer(KERNEL.tobytes(), np.uint8)
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), schema.BufferT(), weights]
    return model


def request(tmp_path: Path, data: bytes, **more: Any) -> IntakeRequest:
    (tmp_path / "model.tflite").write_bytes(data)
    np.savez(tmp_path / "eval.npz", x=np.ones((5, 4), np.float32), y=np.array([0, 1, 2, 1, 0]))
    return IntakeRequest(
        model_uri=str(tmp_path / "model.tflite"),
        dataset={Split.EVALUATION: DataRequest(uri=str(tmp_path / "eval.npz"))},
        cache=str(tmp_path / "cache"),
        **more,
    )


def test_a_model_that_is_known_says_what_its_reading_had_taken(tmp_path):
    asked = request(tmp_path, fb.pack(dense()))
    first, again = (intake(asked).steps[0] for _ in range(2))
    assert (first.cached, first.spared) == (False, 0)
    assert again.cached
    assert 0 < again.spared <= first.seconds


def refused(tmp_path: Path, data: bytes, **more: Any) -> StageError:
    wanted = request(tmp_path, data, **more)
    with pytest.raises(StageError) as caught:
        intake(wanted)
    return caught.value


def test_a_file_without_a_signature_gets_one(tmp_path: Path) -> None:
    result = intake(request(tmp_path, fb.pack(dense()), metrics=("accuracy",)))
    assert result.model is not None
    assert [(t.name, t.shape, t.dtype) for t in result.model.inputs] == [("x", (1, 4), "float32")]
    assert [t.name for t in result.model.outputs] == ["net/dense/BiasAdd"]
    runner = Interpreter(result.model.path).get_signature_runner("serving_default")
    x = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(runner(x=x)["net/dense/BiasAdd"], x @ KERNEL.T)
    assert [layer.name for layer in result.model.layers] == ["net/dense/BiasAdd"]
    assert result.data[Split.EVALUATION].samples == 5
    assert result.training is None


def test_a_signature_under_another_key_is_offered_as_serving_default(tmp_path: Path) -> None:
    model = dense()
    entry, exit_, signature = schema.TensorMapT(), schema.TensorMapT(), schema.SignatureDefT()
    entry.name, entry.tensorIndex, exit_.name, exit_.tensorIndex = "image", 0, "scores", 2
    signature.signatureKey, signature.inputs, signature.outputs = "predict", [entry], [exit_]
    model.signatureDefs = [signature]
    result = intake(request(tmp_path, fb.pack(model)))
    assert result.model is not None
    assert (result.model.inputs[0].name, result.model.outputs[0].name) == ("image", "scores")
    assert set(Interpreter(result.model.path).get_signature_list()) == {"predict", "serving_default"}


def test_intake_runs_once_for_equal_models(tmp_path: Path) -> None:
    wanted = request(tmp_path, fb.pack(dense()))
    first, again = intake(wanted), intake(wanted)
    assert (first.model, first.data) == (again.model, again.data)
    assert [step.cached for step in (first.steps[0], again.steps[0])] == [False, True]


def test_an_already_quantized_model_is_refused_by_its_tensor(tmp_path: Path) -> None:
    int8 = dense()
    weights = int8.subgraphs[0].tensors[1]
    weights.type, weights.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
    weights.quantization.scale, weights.quantization.zeroPoint = [0.1], [0]
    int8.buffers[2].data = np.zeros(12, np.uint8)
    half = dense()
    half.subgraphs[0].tensors[1].type = schema.TensorType.FLOAT16
    half.buffers[2].data = np.zeros(24, np.uint8)
    for model, kind in ((int8, "INT8"), (half, "FLOAT16")):
        error = refused(tmp_path, fb.pack(model))
        assert error.reason is Reason.MODEL_QUANTIZED
        assert f"('net/dense/MatMul') is {kind}" in error.message


def outcome(data: bytes) -> Reason | None:
    """The reason for which the bytes are refused; None where they pass and can be written again."""
    try:
        model = normalized(data, "s3://b/m.tflite")
    except StageError as error:
        return error.reason if error.message.startswith("s3://b/m.tflite: ") else Reason.INTERNAL
    fb.load(fb.pack(model))
    return None


def test_every_truncation_is_refused() -> None:
    whole = fb.pack(dense())
    outcomes = {outcome(whole[:length]) for length in range(0, len(whole) - 8, 37)}
    assert outcomes == {Reason.MODEL_UNREADABLE}


def test_no_flipped_byte_ends_in_anything_but_an_error_that_names_the_file() -> None:
    whole = fb.pack(dense())
    outcomes = set()
    for place in range(8, len(whole)):
        for value in (0x00, 0x7F, 0xFF):
            outcomes.add(outcome(whole[:place] + bytes([value]) + whole[place + 1 :]))
    assert Reason.INTERNAL not in outcomes
    assert {Reason.MODEL_UNREADABLE, Reason.MODEL_UNSUPPORTED} <= outcomes


def change(edit: Callable[[Any], None]) -> bytes:
    model = dense()
    edit(model)
    return fb.pack(model)


def custom(name: bytes) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = name

    return edit


def shaped(shape: list[int], index: int = 0, signature: list[int] | None = None) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        model.subgraphs[0].tensors[index].shape = np.array(shape, np.int32)
        if signature:
            model.subgraphs[0].tensors[index].shapeSignature = np.array(signature, np.int32)

    return edit


@pytest.mark.parametrize(
    ("edit", "reason", "said"),
    [
        (custom(b"MyOp"), Reason.MODEL_UNSUPPORTED, "custom operator 'MyOp'"),
        (custom(b"FlexReadFile"), Reason.MODEL_UNSUPPORTED, "'FlexReadFile' (TensorFlow's own"),
        (shaped([1, 2**31 - 1, 4]), Reason.MODEL_UNREADABLE, "absurd shape [1, 2147483647, 4]"),
        (shaped([1, -4]), Reason.MODEL_UNREADABLE, "absurd shape [1, -4]"),
        (shaped([300, 400], 1), Reason.MODEL_UNREADABLE, "needs 480,000 bytes and has 48"),
        (shaped([8, 4]), Reason.MODEL_UNSUPPORTED, "expected a batch of 1"),
        (shaped([]), Reason.MODEL_UNSUPPORTED, "expected a batch of 1"),
        (
            shaped([1, 1], 0, [-1, -1]),
            Reason.MODEL_UNSUPPORTED,
            "every axis but the first needs a fixed size",
        ),
        (
            lambda m: setattr(m.subgraphs[0].tensors[1], "buffer", 99),
            Reason.MODEL_UNREADABLE,
            "buffer 99 of 3",
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [0, 77, -1]),
            Reason.MODEL_UNREADABLE,
            "77",
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[0], "outputs", [-1]),
            Reason.MODEL_UNREADABLE,
            "[-1] of 3",
        ),
        (lambda m: setattr(m.subgraphs[0], "outputs", [9]), Reason.MODEL_UNREADABLE, "tensor 9 of 3"),
        (lambda m: setattr(m.subgraphs[0], "operators", []), Reason.MODEL_UNREADABLE, "no operators"),
        (lambda m: setattr(m, "subgraphs", []), Reason.MODEL_UNREADABLE, "u: "),
        (
            lambda m: setattr(m.subgraphs[0].tensors[0], "type", schema.TensorType.INT32),
            Reason.MODEL_UNSUPPORTED,
            "is INT32; expected float32",
        ),
        (
            lambda m: setattr(m.subgraphs[0].tensors[1], "sparsity", schema.SparsityParametersT()),
            Reason.MODEL_UNSUPPORTED,
            "stored sparsely",
        ),
    ],
)
def test_a_hostile_model_is_refused_with_its_cause(
    edit: Callable[[Any], None], reason: Reason, said: str
) -> None:
    with pytest.raises(StageError) as caught:
        normalized(change(edit), "u")
    assert caught.value.reason is reason
    assert said in caught.value.message


def test_a_model_that_the_runtime_refuses_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, change(shaped([1, 5])))
    assert error.reason is Reason.MODEL_UNSUPPORTED
    assert str(tmp_path / "model.tflite") in error.message


def test_a_layer_regex_that_matches_nothing_names_a_few_layers(tmp_path: Path) -> None:
    intake(request(tmp_path, fb.pack(dense()), layers=("dense",)))
    error = refused(tmp_path, fb.pack(dense()), layers=("dense", "conv"))
    assert error.reason is Reason.LAYER_NOT_FOUND
    assert error.message == "space.layers[1].match: 'conv' matches no layer; there are 'net/dense/BiasAdd'"
    assert "no regular expression" in refused(tmp_path, fb.pack(dense()), layers=("(",)).message


def test_a_model_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    assert "the limit is 100" in refused(tmp_path, fb.pack(dense()), model_limit=100).message


def test_labels_out_of_range_of_the_outputs_are_refused_for_accuracy(tmp_path: Path) -> None:
    wanted = request(tmp_path, fb.pack(dense()), metrics=("accuracy",))
    np.savez(tmp_path / "eval.npz", x=np.ones((5, 4), np.float32), y=np.array([0, 1, 2, 3, 0]))
    with pytest.raises(StageError, match="label 3 at sample 3 is out of range; the model has 3 classes"):
        intake(wanted)
    np.savez(tmp_path / "eval.npz", x=np.ones((5, 4), np.float32))
    with pytest.raises(StageError, match=r"dataset\.evaluation .* accuracy needs labels"):
        intake(wanted)


def test_a_model_that_the_named_trainer_cannot_train_is_refused_before_any_trial(tmp_path: Path) -> None:
    path = model_of(CASES["hard swish"], tmp_path / "model.tflite")
    np.savez(tmp_path / "train.npz", x=np.ones((5, *SHAPE[1:]), np.float32))

    def asked(trainer: TrainerKind) -> IntakeRequest:
        return IntakeRequest(
            model_uri=str(path),
            dataset={Split.TRAIN: DataRequest(uri=str(tmp_path / "train.npz"))},
            training=Training(trainer=trainer),
            cache=str(tmp_path / "cache"),
        )

    with pytest.raises(StageError, match=r"no Keras layer for HARD_SWISH; training\.trainer: file") as caught:
        intake(asked(TrainerKind.TFMOT))
    assert caught.value.reason is Reason.MODEL_UNSUPPORTED
    found = intake(asked(TrainerKind.FILE)).training
    assert found is not None
    assert found.trainer is TrainerKind.FILE
