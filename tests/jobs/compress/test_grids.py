"""Integers and steps that are known go into quantized files of every kind of operator with weights."""

from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.data import PreparedSplit, prepare
from paretune_compress.graph import describe
from paretune_compress.graph.description import weighted_operators
from paretune_compress.layers import resolve_layers
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.steps.calibration import calibrate
from paretune_compress.steps.quantization import quantize
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.model import TensorInfo
from paretune_contract.settings import Settings
from paretune_store.steps import StepCache
from support.made_networks import Network

SHAPE = (1, 6, 6, 3)


def on_grids(granularity, dynamic):
    """A network whose weights are integers times steps that differ from channel to channel, and the steps."""
    net = Network(seed=3)
    x = net.input("x", SHAPE)
    x = net.depthwise("depthwise", net.conv("conv", x, 8, 3), multiplier=2)
    x = net.transposed("transposed", x, 6)
    net.output(net.dense("dense", net.flatten("flat", x), 5))
    grids = {}
    for found in weighted_operators(net.model):
        index = found.tensors[0]
        weights = fb.constant(net.model, index)
        channel = 3 if found.operator == "DEPTHWISE_CONV_2D" else 0
        per_channel = granularity == "channel" or (dynamic and channel == 3)
        count = weights.shape[channel] if per_channel else 1
        # Far from what a quantizer would take: the largest integers differ from channel to channel.
        largest = net.rng.uniform(40, 127, count) if per_channel else np.full(1, 90)
        steps = (np.abs(weights).max() / largest).astype(np.float32)
        dims = [1] * 4 if weights.ndim == 4 else [1] * 2
        dims[channel] = count
        grid = steps.astype(np.float64).reshape(dims)
        fb.set_constant(net.model, index, (np.rint(weights / grid) * grid).astype(np.float32))
        grids[index] = steps.astype(np.float64)
    return net, grids


def samples(n=60):
    return np.random.default_rng(8).normal(0, 1, (n, *SHAPE[1:])).astype(np.float32)


def ranges_of(path: Path):
    np.savez(path.with_name("calibration.npz"), x=samples())
    request = DataRequest(uri=str(path.with_name("calibration.npz")))
    ends = (TensorInfo(name="x", shape=SHAPE, dtype="float32"),)
    info = prepare(request, Split.CALIBRATION, ends, StepCache(path.parent / "cache"))
    return calibrate(path, PreparedSplit(info, Scaling()), threads=1)


def outputs(path: Path):
    interpreter = open_interpreter(path, threads=1)
    return np.stack([run_interpreter(interpreter, [x[None]])[0][0] for x in samples(20)])


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize(("scheme", "most"), [("int16x8", 1e-3), ("dynamic", 0.03), ("int8", 0.06)])
def test_the_quantized_file_computes_with_the_known_integers(tmp_path, scheme, most, granularity):
    net, grids = on_grids(granularity, scheme == "dynamic")
    path = net.save(tmp_path / "float.tflite")
    settings = Settings.model_validate({"quantization": {"scheme": scheme, "granularity": granularity}})
    plans = resolve_layers(settings, describe(path).layers)
    ranges = None if scheme == "dynamic" else ranges_of(path)
    finished = tmp_path / "finished.tflite"
    finished.write_bytes(quantize(path, settings, plans, ranges, grids))
    made = fb.read(finished)
    for before, after in zip(weighted_operators(net.model), weighted_operators(made), strict=True):
        tensor = made.subgraphs[0].tensors[after.tensors[0]]
        assert fb.type_name(tensor) == "INT8"
        assert np.array_equal(fb.scales(tensor), grids[before.tensors[0]].astype(np.float32))
    expected = outputs(path)
    assert np.abs(outputs(finished) - expected).mean() < most * np.abs(expected).max()
