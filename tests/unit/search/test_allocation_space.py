"""Where a study divides budgets among the layers, where it does not, and what it says then."""

import re

import optuna
import pytest
from paretune.search.prior import LIMIT, first_trials
from paretune.search.space import available
from paretune_contract.dataset import Split
from paretune_contract.settings import Allocation, ClusteringStage, Scheme, Settings, SparsityPattern
from unit.search.toy_study import intake, layer, spec

BOTH = (Allocation.UNIFORM, Allocation.SENSITIVITY)
ALL_DATA = (Split.TRAIN, Split.CALIBRATION, Split.EVALUATION)
INDIVISIBLE = {
    "quantization": {"schemes": ["none", "int8"]},
    "sparsity": {"patterns": ["none", "2:4"]},
    "clustering": {"stages": ["none"]},
}


def why(space) -> str:
    return next((w.why for w in space.withheld if w.what == "allocation.sensitivity"), "")


def test_both_allocations_are_offered_for_a_model_of_three_layers_with_calibration_data():
    space = available(spec(), intake())
    assert space.allocations == BOTH
    assert space.bits == (7, 6, 5, 4.5)
    assert not why(space)


@pytest.mark.parametrize(
    ("fields", "given", "reason"),
    [
        ({}, intake((Split.TRAIN, Split.EVALUATION)), "dataset.calibration, which is absent"),
        ({}, intake(layers=[layer("a"), layer("b")]), "3 layers that are large enough.*this model has 2"),
        ({}, intake(layers=[*[layer(f"t{n}", prunable=False) for n in range(9)], layer()]), "has 1"),
        ({"space": INDIVISIBLE}, intake(), "neither levels of sparsity nor clusters nor int4 are left"),
    ],
    ids=["calibration", "few layers", "tiny layers", "nothing to divide"],
)
def test_an_allocation_by_sensitivity_is_left_out_with_the_reason(fields, given, reason):
    space = available(spec(**fields), given)
    assert space.allocations == (Allocation.UNIFORM,)
    assert space.bits == ()
    assert re.search(reason, why(space))
    assert all(cell.allocation is Allocation.UNIFORM for cell in space.cells())


def test_a_manifest_may_ask_for_one_allocation_alone():
    uniform = available(spec(space={"allocation": ["uniform"]}), intake())
    assert (uniform.allocations, why(uniform)) == ((Allocation.UNIFORM,), "")
    divided = available(spec(space={"allocation": ["sensitivity"]}), intake())
    for cell in divided.cells():
        leveled = cell.sparsity.pattern is SparsityPattern.UNSTRUCTURED
        clustered = cell.clustering.stage is not ClusteringStage.NONE
        mixed = cell.quantization.scheme is Scheme.INT4
        rated = cell.rate.ratio > 0
        expected = not rated and (leveled or clustered or mixed)
        assert (cell.allocation is Allocation.SENSITIVITY) is expected


def test_an_allocation_is_chosen_where_there_is_something_to_divide_and_nowhere_else():
    space = available(spec(), intake())
    chosen = {"allocation" in space.params_of(cell): cell for cell in space.cells() if not cell.rate.ratio}
    assert set(chosen) == {True, False}
    for cell in space.cells():
        divided = space.params_of(cell).get("allocation")
        indivisible = cell.model_copy(update={"allocation": Allocation.SENSITIVITY}).canonical()
        if divided is None:
            assert "allocation" not in Settings.model_validate(indivisible).canonical()
        else:
            assert cell.allocation is BOTH[divided]


def test_mixes_of_four_and_eight_bits_are_ordered_and_belong_to_int4_by_sensitivity():
    space = available(spec(), intake())
    for cell in space.cells():
        if cell.quantization.bits:
            assert (cell.quantization.scheme, cell.allocation) == (Scheme.INT4, Allocation.SENSITIVITY)
            assert cell.quantization.bits in space.bits
    alone = Settings.model_validate(
        {"quantization": {"scheme": "int4", "bits": 5}, "allocation": "sensitivity"}
    )
    assert space.params_of(alone)["bits"] == 2
    assert not space.contains(
        Settings.model_validate(
            {"quantization": {"scheme": "int4", "bits": 5.2}, "allocation": "sensitivity"}
        )
    )
    beside = Settings.model_validate(
        {
            "quantization": {"scheme": "int4"},
            "sparsity": {"pattern": "unstructured", "level": 0.5},
            "allocation": "sensitivity",
        }
    )
    assert space.params_of(beside)["bits/beside"] == 4  # all layers at four bits, the last of the mixes


@pytest.mark.parametrize(
    "fields",
    [
        {"allocation": ["sensitivity"], "quantization": {"schemes": ["none", "int4"]}},
        {"allocation": ["uniform", "sensitivity"], "quantization": {"schemes": ["int4"]}},
        {"sparsity": {"patterns": ["none", "1x4"]}, "quantization": {"schemes": ["int8", "int4"]}},
    ],
)
def test_cells_are_distinct_and_lead_to_parameters_and_back(fields):
    space = available(spec(space=fields), intake())
    cells = list(space.cells())
    assert len({c.digest() for c in cells}) == len(cells)
    assert all(space.ask(optuna.trial.FixedTrial(space.params_of(c))) == c for c in cells)


def test_some_of_the_first_guesses_are_allocated_and_their_number_stays():
    first = [s for s, _ in first_trials(available(spec(), intake()))]
    assert len(first) <= LIMIT
    assert any(s.allocation is Allocation.SENSITIVITY for s in first)
    assert any(s.allocation is Allocation.UNIFORM and s.clustering.clusters for s in first)
    without = available(spec(), intake(layers=[layer()]))
    assert all(s.allocation is Allocation.UNIFORM for s, _ in first_trials(without))
    assert len(first_trials(without)) == len(first)


def test_a_step_from_uniform_to_sensitivity_keeps_everything_else():
    space = available(spec(), intake())
    start = Settings.model_validate(
        {"quantization": {"scheme": "int8"}, "sparsity": {"pattern": "unstructured", "level": 0.5}}
    )
    near = [s for s in space._neighbors(start) if s.allocation is not start.allocation]
    assert near == [start.model_copy(update={"allocation": Allocation.SENSITIVITY})]
