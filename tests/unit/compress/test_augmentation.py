"""Changes made to training samples."""

from pathlib import Path

import numpy as np
import pytest
from paretune_compress.train.augmentation import Augmentation, Mixture
from paretune_compress.train.config import resolve_training
from paretune_compress.train.port import TrainingTask, identity
from paretune_contract.training import Augment, Training
from unit.compress.test_training_config import data, model


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def images(rng, samples=8):
    return rng.random((samples, 6, 5, 3), np.float32)


def test_no_changes_asked_for_are_no_augmentation(rng):
    assert Augmentation.of(Augment(), rng) is None


def test_samples_move_by_at_most_what_was_asked_and_repeat_their_edges(rng):
    x = images(rng)
    [moved] = Augmentation(Augment(shift_rows=1, shift_columns=2), rng)([x])
    padded = np.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0)), mode="edge")
    for before, after in zip(padded, moved, strict=True):
        windows = [before[r : r + 6, c : c + 5] for r in range(3) for c in range(5)]
        assert any(np.array_equal(after, w) for w in windows)


def test_a_mirrored_sample_is_read_from_right_to_left(rng):
    x = images(rng, samples=32)
    [changed] = Augmentation(Augment(flip=True), rng)([x])
    same = [np.array_equal(a, b) for a, b in zip(x, changed, strict=True)]
    mirrored = [np.array_equal(a[:, ::-1], b) for a, b in zip(x, changed, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 0 < sum(mirrored) < 32


def test_noise_is_no_larger_than_asked(rng):
    x = np.zeros((64, 100), np.float32)
    [noisy] = Augmentation(Augment(noise=0.5), rng)([x])
    deviations = noisy.std(axis=1)
    assert deviations.max() < 0.65
    assert deviations.min() < 0.1


def test_samples_stay_apart_unless_mixtures_are_asked_for(rng):
    assert Augmentation(Augment(flip=True), rng).mixture(4) is None


def test_a_mixture_is_the_average_of_two_samples_and_of_their_labels(rng):
    x, hot = images(rng), np.eye(8, dtype=np.float32)
    mixture = Augmentation(Augment(mixup=1.0), rng).mixture(8)
    assert mixture is not None
    labels = mixture(hot)
    np.testing.assert_allclose(mixture(x), np.einsum("ij,jhwc->ihwc", labels, x), atol=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(labels, axis=1) <= 2).all()


def test_small_alphas_leave_most_samples_nearly_as_they_are(rng):
    def purest(alpha: float) -> float:
        shares = Augmentation(Augment(mixup=alpha), rng).mixture(2000).shares
        return float(np.mean(np.maximum(shares, 1 - shares) > 0.95))

    assert purest(0.1) > 0.6
    assert purest(1.0) < 0.2


def test_one_share_goes_for_all_inputs_of_a_sample():
    mixture = Mixture(np.array([1, 0]), np.array([0.25, 1.0], np.float32))
    np.testing.assert_array_equal(mixture(np.array([[4.0], [8.0]], np.float32)), [[7.0], [8.0]])
    np.testing.assert_array_equal(mixture(np.array([4.0, 8.0], np.float32)), [7.0, 8.0])


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_what_was_trained_before_mixtures_existed_is_known_by_the_same_key(mixup):
    training = resolve_training(Training(augment=Augment(flip=True, mixup=mixup)), model(), data(), ())
    key = identity(TrainingTask(Path("m"), (), training, seed=0, threads=1))["augment"]
    before = {"shift_rows": 0, "shift_columns": 0, "flip": True, "noise": 0.0}
    assert key == ({**before, "mixup": mixup} if mixup else before)
