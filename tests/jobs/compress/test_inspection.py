"""What is counted in a finished file, without TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.graph import describe
from paretune_compress.inspection import check, inspect
from paretune_compress.layers import resolve_layers
from paretune_compress.steps.quantization import quantize
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import Settings
from support.made_tflite import ModelBuilder, options

WIDTH = 192
"""Long enough a tensor for vectorized sorts to part it several times."""


@pytest.fixture(params=["this NumPy", "a NumPy that cannot sort float16"])
def numpy_unique(request, monkeypatch):
    """NumPy's AVX-512 sort leaves long float16 arrays of few values unsorted; here on any processor."""
    if request.param != "this NumPy":
        real = np.unique

        def unsorted(values, *arguments, **named):
            if values.dtype != np.float16:
                return real(values, *arguments, **named)
            flat = values.reshape(-1)
            return flat[np.concatenate([[True], flat[1:] != flat[:-1]])]

        monkeypatch.setattr(np, "unique", unsorted)


def dense_model(path: Path, values: np.ndarray) -> Path:
    """One dense layer whose weights are random picks of `values`, each at least once."""
    rng = np.random.default_rng(0)
    picks = np.concatenate([np.arange(len(values)), rng.integers(0, len(values), WIDTH**2 - len(values))])
    b = ModelBuilder()
    x = b.input("x", (1, WIDTH))
    w, c = b.constant("dense/w", values[picks].reshape(WIDTH, WIDTH)), b.constant("dense/b", np.zeros(WIDTH))
    b.output(
        *b.operator("FULLY_CONNECTED", [x, w, c], [("dense", (1, WIDTH))], options("FullyConnectedOptions"))
    )
    return b.save(path)


def clustered(scheme: str, clusters: int) -> Settings:
    return Settings.model_validate(
        {"quantization": {"scheme": scheme}, "clustering": {"stage": "training", "clusters": clusters}}
    )


def finished(source: Path, settings: Settings) -> Path:
    """The file after the chain's last step: training is taken as done."""
    layers = describe(source).layers
    target = source.with_name("finished.tflite")
    plans = resolve_layers(settings, layers)
    scheme = settings.quantization.scheme.value
    target.write_bytes(source.read_bytes() if scheme == "none" else quantize(source, settings, plans, None))
    return target


def weights_of(model: fb.Model, dtype: str) -> int:
    """The constant of the layer's weights: the only one of its type and shape."""
    tensors = model.subgraphs[0].tensors
    return next(
        i
        for i, t in enumerate(tensors)
        if fb.type_name(t) == dtype and fb.shape(t) == (WIDTH, WIDTH) and fb.is_constant(model, i)
    )


@pytest.mark.parametrize("scheme", ["none", "float16", "dynamic"])
@pytest.mark.parametrize("clusters", [8, 32, 48, 64])
def test_exactly_as_many_distinct_weights_are_found_as_there_are(tmp_path, numpy_unique, scheme, clusters):
    values = np.random.default_rng(clusters).normal(0, 0.1, clusters).astype(np.float32)
    source = dense_model(tmp_path / "float.tflite", values)
    settings = clustered(scheme, clusters)
    file = finished(source, settings)
    (tensor,) = inspect(file, describe(source).layers).tensors
    stored = fb.constant(model := fb.read(file), weights_of(model, tensor.dtype))
    assert tensor.distinct == len(set(stored.reshape(-1).tolist())) <= clusters
    assert scheme == "dynamic" or tensor.distinct == clusters
    layers = describe(source).layers
    check(settings, inspect(file, layers), resolve_layers(settings, layers))


@pytest.mark.parametrize("scheme", ["none", "float16"])
def test_zeros_of_either_sign_are_one_value_and_all_of_them_zeros(tmp_path, numpy_unique, scheme):
    source = dense_model(tmp_path / "float.tflite", np.array([-0.0, 0.0, 0.5, -0.25], np.float32))
    (tensor,) = inspect(finished(source, clustered(scheme, 3)), describe(source).layers).tensors
    assert tensor.distinct == 3
    assert tensor.zeros == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("scheme", ["none", "float16"])
def test_one_value_too_many_is_still_an_error(tmp_path, numpy_unique, scheme):
    values = np.random.default_rng(1).normal(0, 0.1, 9).astype(np.float32)
    source = dense_model(tmp_path / "float.tflite", values)
    file, layers = finished(source, clustered(scheme, 8)), describe(source).layers
    with pytest.raises(StageError, match=r"8 clusters asked in 'dense', found 9 distinct weights") as error:
        check(clustered(scheme, 8), inspect(file, layers), resolve_layers(clustered(scheme, 8), layers))
    assert error.value.reason is Reason.NO_EFFECT
