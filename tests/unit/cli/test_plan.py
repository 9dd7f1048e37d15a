"""What `paretune plan` says of a space."""

from paretune.cli.plan import choices
from paretune.search.space import available
from unit.search.toy_study import intake, spec


def shown(**sparsity):
    return choices(available(spec(space={"sparsity": sparsity}), intake()))


def test_a_level_says_what_it_is_a_share_of_where_channels_are_removed():
    assert shown()["sparsity.levelOf"] == ["channels"]
    assert shown(levelOf="macs")["sparsity.levelOf"] == ["macs"]
    assert shown(patterns=["none", "unstructured"])["sparsity.levelOf"] == []
