"""Training for a number of bytes, on a small made model."""

import json
from pathlib import Path

import numpy as np
import pytest
from paretune_codec import pack, unpack
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress, splits_to_read
from paretune_compress.runtime import open_interpreter
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Augment, Training
from paretune_store.known_steps import KnownSteps
from support.made_requests import Workplace

pytestmark = pytest.mark.tensorflow
SHORT = Training(epochs=12, batch_size=32)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"), samples=960, train=True)


def settings(ratio, scheme="int8", **quantization):
    return {"quantization": {"scheme": scheme, **quantization}, "rate": {"ratio": ratio}}


def weights_of(path):
    model = fb.read(Path(path))
    found = [fb.constant(model, i) for i in range(len(model.subgraphs[0].tensors))]
    return [w for w in found if w is not None and w.dtype == np.int8]


def coded(result) -> int:
    return len(pack(Path(result.artifact.path).read_bytes()))


def test_fewer_bytes_asked_are_fewer_bytes_got(workplace, capfd):
    results = [compress(workplace.request(settings(ratio), SHORT)) for ratio in (0.12, 0.05)]
    assert coded(results[0]) > 1.2 * coded(results[1])
    assert [r.metrics["downloadSize"].value for r in results] == [coded(r) for r in results]
    assert results[0].inspection.sparsity < results[1].inspection.sparsity
    assert "bytes of weights" in capfd.readouterr().out


def test_the_bytes_of_the_weights_are_near_the_budget(workplace):
    result = compress(workplace.request(settings(0.08), SHORT))
    rest = _without_weights(result.artifact.path)
    budget = 0.08 * 4 * workplace.model.parameters
    assert coded(result) - rest == pytest.approx(budget, rel=0.3)


def _without_weights(path) -> int:
    model = fb.read(Path(path))
    for i in range(len(model.subgraphs[0].tensors)):
        values = fb.constant(model, i)
        if values is not None and values.size > 1:
            fb.set_constant(model, i, np.zeros_like(values))
    return len(pack(fb.pack(model)))


def test_training_for_bytes_keeps_more_than_rounding_to_as_few_levels(workplace):
    trained = compress(workplace.request(settings(0.06), SHORT))
    rounded = compress(
        workplace.request(
            {
                "quantization": {"scheme": "int8", "granularity": "tensor"},
                "clustering": {"stage": "int8", "clusters": 2},
            }
        )
    )
    assert trained.metrics["accuracy"].value > rounded.metrics["accuracy"].value + 0.05


@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8"])
def test_one_training_serves_every_scheme_with_the_very_same_integers(workplace, scheme):
    first = compress(workplace.request(settings(0.08), SHORT))
    result = compress(workplace.request(settings(0.08, scheme), SHORT))
    assert next(s for s in result.steps if s.name == "train-rate").cached
    pairs = zip(weights_of(first.artifact.path), weights_of(result.artifact.path), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert result.metrics["accuracy"].value == pytest.approx(first.metrics["accuracy"].value, abs=0.05)


def test_four_bit_weights_are_trained_within_their_range(workplace):
    result = compress(workplace.request(settings(0.08, "int4"), SHORT))
    assert result.inspection.dtypes["INT4"] > 0
    assert all(np.abs(w).max() <= 127 for w in weights_of(result.artifact.path))
    narrow = [t for t in result.inspection.tensors if t.dtype == "INT4"]
    assert all(t.distinct <= 15 and t.scales == 1 for t in narrow)


def test_the_file_runs_without_names(workplace):
    result = compress(workplace.request(settings(0.08, io="int8"), SHORT))
    model = fb.read(Path(result.artifact.path))
    graph = model.subgraphs[0]
    assert not model.signatureDefs
    assert not any(fb.tensor_name(t) for t in graph.tensors)
    assert (result.inspection.inputs, result.inspection.outputs) == (("INT8",), ("INT8",))
    open_interpreter(Path(result.artifact.path), threads=1)


def test_biases_lie_on_a_coarse_grid(workplace):
    result = compress(workplace.request(settings(0.08), SHORT))
    model = fb.read(Path(result.artifact.path))
    biases = [fb.constant(model, i) for i in range(len(model.subgraphs[0].tensors))]
    biases = [b for b in biases if b is not None and b.dtype == np.int32 and b.size > 2]
    assert biases
    shifts = [int(np.bitwise_or.reduce(b)) for b in biases]
    assert sum(s == 0 or s & 1 == 0 for s in shifts) > len(shifts) / 2


def test_the_same_seed_gives_the_same_bytes(workplace, tmp_path):
    once = compress(workplace.request(settings(0.08), SHORT))
    again = compress(workplace.request(settings(0.08), SHORT, cache=str(tmp_path / "cache")))
    assert again.artifact.sha256 == once.artifact.sha256
    assert unpack(pack(Path(again.artifact.path).read_bytes())) == Path(once.artifact.path).read_bytes()


def test_each_epoch_is_told_with_its_bytes_and_the_best_that_fits_is_kept(workplace):
    result = compress(workplace.request(settings(0.08), SHORT))
    step = next(s for s in result.steps if s.name == "train-rate")
    assert "of 12 was best" in step.note
    (told, *_) = (workplace.folder / "cache").rglob("history.json")
    assert (told.parent / "grids.json").exists()
    history = json.loads(told.read_text())["history"]
    assert [h["epoch"] for h in history] == list(range(1, 13))
    assert any(h["settled"] for h in history)
    assert history[-1]["bytes"] < history[0]["bytes"]


def test_samples_that_change_are_part_of_what_was_trained(workplace):
    plain = compress(workplace.request(settings(0.08), SHORT))
    moved = Training(
        epochs=12, batch_size=32, augment=Augment(shift_rows=1, shift_columns=1, flip=True, noise=0.1)
    )
    changed = compress(workplace.request(settings(0.08), moved))
    assert changed.artifact.sha256 != plain.artifact.sha256
    assert not next(s for s in changed.steps if s.name == "train-rate").cached


def test_without_a_train_split_the_cause_is_named(tmp_path):
    bare = Workplace(tmp_path, samples=40)
    with pytest.raises(StageError, match=r"rate\.ratio is 0\.08.*dataset\.train") as caught:
        compress(bare.request(settings(0.08)))
    assert caught.value.reason is Reason.STEP_FAILED


def test_a_pod_reads_the_train_split_only_while_the_training_is_unknown(workplace, tmp_path):
    request = workplace.request(settings(0.08), SHORT)
    assert Split.TRAIN in splits_to_read(
        request.model_copy(update={"cache": str(tmp_path)}), KnownSteps(tmp_path, lambda _: None)
    )
    compress(request)
    known = splits_to_read(request, KnownSteps(Path(request.cache), lambda _: None))
    assert Split.TRAIN not in known
