"""Where a sparse file has a meaning, and where the encoding leaves no trace in the settings."""

import pytest
from paretune_contract.settings import Settings, SparsityEncoding
from pydantic import ValidationError

SPARSE = {"encoding": "sparse"}
ZEROS = {"pattern": "unstructured", "level": 0.8}


def canonical(**fields):
    return Settings.model_validate(fields).canonical()


@pytest.mark.parametrize("pattern", [ZEROS, {"pattern": "1x4", "level": 0.5}, {"pattern": "2:4"}])
def test_an_encoding_stands_where_there_are_zeros(pattern):
    assert canonical(sparsity={**pattern, **SPARSE}) == {"sparsity": {**pattern, **SPARSE}}


@pytest.mark.parametrize(
    "pattern",
    [{}, {"pattern": "none"}, {"pattern": "unstructured"}, {"pattern": "channel", "level": 0.3}],
)
def test_without_zeros_there_is_nothing_to_leave_out(pattern):
    assert canonical(sparsity={**pattern, **SPARSE}) == canonical(sparsity=pattern)


def test_dense_is_the_default_and_the_digest_of_settings_without_it_stays():
    plain, dense, sparse = (
        Settings.model_validate({"sparsity": {**ZEROS, **more}})
        for more in ({}, {"encoding": "dense"}, SPARSE)
    )
    assert plain.canonical() == {"sparsity": ZEROS}
    assert plain.digest() == dense.digest() != sparse.digest()
    assert plain.digest() == "3e2c728a73809c2c5c1037a81ce8fa771dae320bf743149ce21363a65eb4c41b"


def test_layers_have_no_encoding_of_their_own():
    layer = {"match": "x", "sparsity": ZEROS}
    asked = {"match": "x", "sparsity": {**ZEROS, **SPARSE}}
    assert canonical(layers=[asked]) == {"layers": [layer]}
    whole = Settings.model_validate({"sparsity": {"pattern": "2:4", **SPARSE}, "layers": [asked]})
    assert whole.sparsity.encoding is SparsityEncoding.SPARSE


def test_training_for_bytes_ends_in_a_dense_file():
    rated = {"quantization": {"scheme": "int8"}, "rate": {"ratio": 0.05}}
    assert canonical(sparsity={**ZEROS, **SPARSE}, **rated) == canonical(**rated)


def test_a_sentence_says_it():
    settings = {"quantization": {"scheme": "float16"}, "sparsity": {**ZEROS, **SPARSE}}
    assert Settings.model_validate(settings).sentence() == "float16, 80% sparse, stored sparsely"


def test_what_is_no_encoding_is_refused():
    with pytest.raises(ValidationError, match="'dense' or 'sparse'"):
        Settings.model_validate({"sparsity": {**ZEROS, "encoding": "csr"}})
