"""What of a study may change once it has begun."""

from typing import Any

import pytest
from paretune.api import Objective, OptimizationStudy
from paretune.api.manifest import immutable_difference

BASE: dict[str, Any] = {
    "metadata": {"name": "s"},
    "spec": {
        "model": {"uri": "m.keras"},
        "dataset": {"evaluation": {"uri": "e.npz"}},
        "objectives": [{"metric": "accuracy"}],
    },
}


def study(**spec: Any) -> OptimizationStudy:
    return OptimizationStudy.model_validate({**BASE, "spec": {**BASE["spec"], **spec}})


@pytest.mark.parametrize(
    "change", [{"budget": {"trials": 5, "parallelism": 1, "maxDuration": "1h"}}, {"suspend": True}]
)
def test_budget_and_suspend_may_change(change: dict[str, Any]) -> None:
    assert immutable_difference(study(), study(**change)) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"objectives": [{"metric": "accuracy", "maxDrop": 0.1}]}, "spec.objectives[0].maxDrop"),
        ({"model": {"uri": "other.keras"}}, "spec.model.uri"),
        ({"dataset": {"evaluation": {"uri": "e.npz"}, "scale": 2}}, "spec.dataset.scale"),
        ({"dataset": {"evaluation": {"uri": "e.npz"}, "test": {"uri": "t"}}}, "spec.dataset.test"),
        ({"search": {"seed": 1}}, "spec.search.seed"),
        ({"space": {"sparsity": {"max": 0.5}}}, "spec.space.sparsity.max"),
        ({"benchmark": {"halfWidth": 0.1}}, "spec.benchmark.halfWidth"),
        ({"devices": [{"name": "a"}]}, "spec.devices"),
        ({"training": {"epochs": 3}}, "spec.training.epochs"),
    ],
)
def test_any_other_field_that_differs_is_named(change: dict[str, Any], path: str) -> None:
    (fault,) = immutable_difference(study(), study(**change))

    assert fault.path == path
    assert "only budget and suspend may change" in fault.message


def test_every_difference_is_named_at_once() -> None:
    found = immutable_difference(study(), study(search={"seed": 1}, model={"uri": "x"}, suspend=True))

    assert [f.path for f in found] == ["spec.model.uri", "spec.search.seed"]


def test_writing_a_default_down_is_no_change() -> None:
    assert (
        immutable_difference(
            study(), study(search={"sampler": "auto"}, dataset={**BASE["spec"]["dataset"], "scale": 1})
        )
        == []
    )


def test_a_study_of_another_name_is_another_study() -> None:
    other = OptimizationStudy.model_validate({**BASE, "metadata": {"name": "t"}})

    assert [f.path for f in immutable_difference(study(), other)] == ["metadata.name"]


def test_a_study_without_devices_has_one_named_cpu() -> None:
    (device,) = study().spec.effective_devices

    assert (device.name, device.effective_runtime, device.threads) == ("cpu", "litert", 1)


def test_an_inline_device_runs_litert_unless_it_says_otherwise() -> None:
    spec = study(devices=[{"name": "a"}, {"name": "b", "runtime": "tflm"}, {"name": "c", "pool": "p"}]).spec

    assert [d.effective_runtime for d in spec.effective_devices] == ["litert", "tflm", None]


@pytest.mark.parametrize(
    ("objective", "devices", "device"),
    [
        ({"metric": "latency"}, [], "cpu"),
        ({"metric": "latency", "device": "cpu"}, [], "cpu"),
        ({"metric": "peakMemory"}, [{"name": "pi"}], "pi"),
        ({"metric": "latencyRatio", "device": "b"}, [{"name": "a"}, {"name": "b"}], "b"),
        ({"metric": "modelSize"}, [{"name": "a"}, {"name": "b"}], None),
    ],
)
def test_an_objective_knows_its_device(
    objective: dict[str, str], devices: list[Any], device: str | None
) -> None:
    assert study(devices=devices).spec.device_of(Objective.model_validate(objective)) == device


@pytest.mark.parametrize("device", [None, "c"])
def test_a_device_that_cannot_be_told_is_an_error(device: str | None) -> None:
    spec = study(devices=[{"name": "a"}, {"name": "b"}]).spec

    with pytest.raises(ValueError, match="expected one of a, b"):
        spec.device_of(Objective(metric="latency", device=device))


def test_times_are_in_seconds_whatever_their_unit() -> None:
    spec = study(
        budget={"maxDuration": "6h"}, benchmark={"maxDuration": "500ms"}, evaluation={"maxDuration": 30}
    ).spec

    assert (spec.budget.seconds, spec.benchmark.seconds, spec.evaluation.seconds) == (21600, 0.5, 30)
    assert study().spec.budget.seconds is None
