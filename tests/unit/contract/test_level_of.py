"""What a level is a share of."""

import pytest
from paretune_contract.settings import Settings


def test_channels_are_the_default_and_are_left_out():
    plain = {"sparsity": {"pattern": "channel", "level": 0.5}}
    given = {"sparsity": {**plain["sparsity"], "levelOf": "channels"}}
    assert Settings.model_validate(given).canonical() == plain


def test_macs_are_part_of_the_settings_and_of_the_sentence():
    given = {"sparsity": {"pattern": "channel", "level": 0.5, "levelOf": "macs"}}
    settings = Settings.model_validate(given)
    assert settings.canonical() == given
    assert settings.sentence() == "50% of MACs removed"


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4"])
def test_other_patterns_have_levels_of_weights_alone(pattern):
    level = {} if pattern == "2:4" else {"level": 0.5}
    given = {"sparsity": {"pattern": pattern, "levelOf": "macs", **level}}
    assert Settings.model_validate(given).canonical() == {"sparsity": {"pattern": pattern, **level}}
