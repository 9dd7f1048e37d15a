"""Channels and blocks: pruned, fine-tuned, and really gone from the file."""

from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress
from paretune_compress.graph.description import describe
from paretune_compress.steps.channels import narrow
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Training
from support.made_requests import Workplace

pytestmark = pytest.mark.tensorflow
SHORT = Training(epochs=6, batch_size=32, learning_rate=2e-3)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"), samples=640, train=True)


def channels(level, scheme="none"):
    return {"sparsity": {"pattern": "channel", "level": level}, "quantization": {"scheme": scheme}}


def blocks(level, scheme="none"):
    return {"sparsity": {"pattern": "1x4", "level": level}, "quantization": {"scheme": scheme}}


def shapes(result):
    model = fb.read(Path(result.artifact.path))
    tensors = model.subgraphs[0].tensors
    return [fb.shape(t) for i, t in enumerate(tensors) if fb.is_constant(model, i) and len(fb.shape(t)) > 1]


def test_removed_channels_are_gone_from_tensors_sums_and_bytes(workplace):
    half = compress(workplace.request(channels(0.5), SHORT))
    found = describe(Path(half.artifact.path))
    assert found.macs < 0.6 * workplace.model.macs
    assert found.parameters < 0.6 * workplace.model.parameters
    assert half.metrics["modelSize"].value < 0.75 * workplace.model.bytes
    assert all(tensor.zeros < 0.05 for tensor in half.inspection.tensors)
    step = next(s for s in half.steps if s.name == "remove-channels")
    assert f"{workplace.model.macs:,} ->" in step.note


def test_fine_tuning_after_the_removal_learns_from_the_whole_network(workplace):
    removed = compress(workplace.request(channels(0.4)).model_copy(update={"training": None}))
    tuned = compress(workplace.request(channels(0.4), SHORT))
    assert tuned.metrics["accuracy"].value > removed.metrics["accuracy"].value
    assert shapes(removed) == shapes(tuned)
    pure = Training(epochs=6, batch_size=32, learning_rate=2e-3, loss="distillation")
    distilled = compress(workplace.request(channels(0.4), pure)).metrics["accuracy"].value
    assert distilled > removed.metrics["accuracy"].value + 0.02  # what is left would teach it nothing


@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8", "int4", "float16"])
def test_every_scheme_takes_the_smaller_network(workplace, scheme):
    result = compress(workplace.request(channels(0.4, scheme), SHORT))
    assert next(s for s in result.steps if s.name == "train-file").cached or scheme == "dynamic"
    assert result.metrics["accuracy"].value > 0.4


def test_a_level_that_removes_nothing_is_said(workplace):
    with pytest.raises(StageError, match=r"level 0\.01 removes nothing.*channels") as caught:
        compress(workplace.request(channels(0.01), SHORT))
    assert caught.value.reason is Reason.NO_EFFECT


@pytest.mark.parametrize("level", [0.3, 0.6])
def test_a_share_of_macs_is_removed_with_the_fewest_channels_that_do(workplace, level):
    asked = {"sparsity": {"pattern": "channel", "level": level, "levelOf": "macs"}}
    result = compress(workplace.request(asked).model_copy(update={"training": None}))
    found, whole = describe(Path(result.artifact.path)).macs, workplace.model.macs
    most = (1 - level) * whole
    shares = [i / 32 for i in range(1, 32)]
    removed = (narrow(fb.read(workplace.path), s).after.macs for s in shares if s >= 4 / 32)
    assert max(m for m in removed if m <= most) <= found <= most


@pytest.mark.parametrize("scheme", ["none", "int8"])
def test_blocks_of_four_are_zero_together(workplace, scheme):
    result = compress(workplace.request(blocks(0.5, scheme), SHORT))
    pruned = {t.layer: t for t in result.inspection.tensors if t.zero_blocks > 0}
    assert {"stem", "pointwise", "hidden"} <= set(pruned)
    assert all(t.zero_blocks >= 0.49 and t.zeros >= 0.49 for t in pruned.values())
    assert result.metrics["accuracy"].value > 0.5


def test_what_unstructured_pruning_leaves_dead_is_removed_too(tmp_path):
    place = Workplace(tmp_path, samples=320, train=True)
    model = fb.read(place.path)
    layer = next(la for la in place.model.layers if la.operator == "FULLY_CONNECTED")
    weights = np.array(fb.constant(model, layer.weight_tensor))
    weights[: len(weights) // 2] *= 1e-4  # rows that pruning takes first
    fb.set_constant(model, layer.weight_tensor, weights)
    fb.write(model, place.path)
    result = compress(
        place.request({"sparsity": {"pattern": "unstructured", "level": 0.6}}).model_copy(
            update={"training": None}
        )
    )
    step = next(s for s in result.steps if s.name == "shrink")
    assert "channels removed" in step.note
    assert result.metrics["modelSize"].value < place.model.bytes
