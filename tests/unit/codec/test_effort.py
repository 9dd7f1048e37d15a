"""What a packer may spend, and how it knows beforehand that it does not suffice."""

import numpy as np
import pytest
from paretune_codec.constants import INT8, LEVELS, MATRIX, UINT8, Job, plan_of
from paretune_codec.structure import Constant
from paretune_codec.view import Tensor
from support.made_int8 import kernel

UNBOUNDED = 1 << 62


def job(kind: str, type_: int = INT8) -> tuple[Job, bytes, int]:
    """A kernel of `kind`, its bytes, and how many elements are not the most frequent one."""
    values = kernel(np.random.default_rng(0), kind, (24, 3, 3, 8))
    content = values.tobytes()
    tensor = Tensor(buffer=1, shape=values.shape, type=type_, scales=0, zero_points=0, scale=0, zero_point=0)
    one = Job(Constant(buffer=1, position=0, length=len(content)), tensor, code=3, role=1)
    return one, content, len(content) - int(np.unique(values, return_counts=True)[1].max())


@pytest.mark.parametrize("kind", ["sparse", "clustered", "dense", "dead", "zero"])
@pytest.mark.parametrize("type_", [INT8, UINT8])
def test_only_a_matrix_that_cannot_be_afforded_is_left_out_beforehand(kind: str, type_: int) -> None:
    one, content, unusual = job(kind, type_)
    whole = plan_of(one, content, UNBOUNDED, 0)
    ((mode, needed),) = ((m, n) for m, n in whole.decisions.items() if m in (MATRIX, LEVELS))

    assert 3 * unusual <= needed, "else one that can be afforded would be left out"
    assert plan_of(one, content, needed, 0).modes == whole.modes
    assert mode not in plan_of(one, content, 3 * unusual - 1, 0).modes
