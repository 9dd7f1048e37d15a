import pytest
from paretune_compress import inspection as checked
from paretune_compress.layers import resolve_layers
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import Settings
from paretune_contract.stages import Inspection, TensorInspection
from support.made_layers import layer


def check(settings, found, layers):
    checked.check(settings, found, resolve_layers(settings, layers))


BODY = layer("body", shape=(16, 4, 4, 16))


def inspection(dtype="INT8", zeros=0.5, distinct=16, two_of_four=True, ends="FLOAT32") -> Inspection:
    tensor = TensorInspection(
        layer="body", dtype=dtype, zeros=zeros, distinct=distinct, scales=1, two_of_four=two_of_four
    )
    return Inspection(
        tensors=(tensor,), dtypes={dtype: 4096}, sparsity=zeros, inputs=(ends,), outputs=(ends,)
    )


ASKED = {
    "quantization": {"scheme": "int8"},
    "sparsity": {"pattern": "unstructured", "level": 0.5},
    "clustering": {"stage": "int8", "clusters": 16},
}


def test_a_file_that_shows_every_setting_passes():
    check(Settings.model_validate(ASKED), inspection(), [BODY])
    check(Settings(), inspection("FLOAT32", 0.0, 4096, False), [BODY])


@pytest.mark.parametrize(
    ("settings", "found", "words"),
    [
        (ASKED, inspection("FLOAT32"), "FLOAT32, expected INT8"),
        (ASKED, inspection(zeros=0.49), "50.0% asked in 'body', found 49.0%"),
        (ASKED, inspection(distinct=17), "16 clusters asked in 'body', found 17"),
        ({"sparsity": {"pattern": "2:4"}}, inspection("FLOAT32", two_of_four=False), "2:4 asked in 'body'"),
        ({"quantization": {"scheme": "int4"}}, inspection("INT8"), "INT8, expected INT4"),
        ({"quantization": {"scheme": "float16"}}, inspection("FLOAT32"), "expected FLOAT16"),
        ({"quantization": {"scheme": "int8", "io": "int8"}}, inspection(), "the inputs are FLOAT32"),
        ({"quantization": {"scheme": "int8"}}, inspection(ends="INT8"), "the inputs are INT8"),
        ({"quantization": {"scheme": "int16x8"}}, inspection(ends="INT16"), "the inputs are INT16"),
    ],
)
def test_a_setting_that_left_no_trace_is_an_error_that_says_what_is_there(settings, found, words):
    with pytest.raises(StageError, match=words) as error:
        check(Settings.model_validate(settings), found, [BODY])
    assert error.value.reason is Reason.NO_EFFECT


def test_an_operator_that_the_quantizer_does_not_know_may_stay_float_but_not_all_of_them():
    recurrent = layer("rnn", "UNIDIRECTIONAL_SEQUENCE_LSTM", (20, 28), prunable=False, int4=False)
    settings = Settings.model_validate({"quantization": {"scheme": "dynamic"}})
    both = inspection().model_copy(update={"dtypes": {"INT8": 4096, "FLOAT32": 560}})
    check(settings, both, [BODY, recurrent])
    alone = inspection("FLOAT32")
    alone = alone.model_copy(update={"tensors": (alone.tensors[0].model_copy(update={"layer": "rnn"}),)})
    with pytest.raises(StageError, match="left no INT8 weights"):
        check(settings, alone, [recurrent])
