"""How many samples set the ranges of activations, and which."""

import numpy as np
import pytest
from paretune_compress.compress import compress
from paretune_compress.steps.calibration import spread
from paretune_contract.failure import Reason, StageError
from support.made_requests import Workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"))


def made(workplace, samples):
    settings = {"quantization": {"scheme": "int8", "calibrationSamples": samples}}
    return compress(workplace.request(settings))


@pytest.mark.parametrize(
    ("there", "asked", "taken"), [(96, 0, 96), (5000, 0, 512), (5000, 50, 50), (5000, 700, 700), (5, 5, 5)]
)
def test_samples_are_spread_evenly_and_the_ends_are_among_them(there, asked, taken):
    chosen = spread(there, asked)
    assert (len(chosen), chosen[0], chosen[-1]) == (taken, 0, there - 1)
    assert np.ptp(np.diff(chosen)) <= 1


def test_a_sorted_set_is_drawn_from_in_the_proportions_of_its_classes():
    labels = np.repeat(np.arange(10), 100)
    assert np.bincount(labels[spread(1000, 50)]).tolist() == [5] * 10


def test_more_than_there_are_is_refused_with_both_numbers(workplace):
    both = r"calibrationSamples is 97, and dataset.calibration has 96"
    with pytest.raises(StageError, match=both) as error:
        made(workplace, 97)
    assert error.value.reason is Reason.STEP_FAILED


def test_fewer_samples_see_narrower_ranges_and_make_another_file(workplace):
    few, whole = made(workplace, 3), made(workplace, 0)
    assert few.artifact.sha256 != whole.artifact.sha256
    assert made(workplace, 96).artifact == whole.artifact


def test_each_number_is_calibrated_once(workplace):
    made(workplace, 20)
    again = made(workplace, 20)
    assert all(s.cached for s in again.steps if s.name in ("calibrate", "quantize"))
    settings = {"quantization": {"scheme": "int16x8", "calibrationSamples": 20}}
    other = compress(workplace.request(settings))
    assert {s.name: s.cached for s in other.steps}["calibrate"]
