"""Latency is reported by its ratio to the reference: the pace of the machine is no finding."""

import pytest
from paretune.plan.transitions import steadied
from paretune_contract.measurement import Measurement


def measured(latency: float, ratio: float) -> dict[str, Measurement]:
    return {
        "latency/cpu": Measurement.exact(latency),
        "latencyRatio/cpu": Measurement(value=ratio, low=ratio * 0.9, high=ratio * 1.1),
    }


def test_a_candidate_measured_while_the_machine_ran_at_half_pace_is_not_slower() -> None:
    baseline = measured(0.010, 1.0)
    quiet, busy = (steadied(measured(0.008 * pace, 0.8), "cpu", baseline) for pace in (1, 2))
    assert quiet == busy
    assert quiet["latency/cpu"].value == pytest.approx(0.008)
    assert quiet["latency/cpu"].low == pytest.approx(0.0072)
    assert quiet["latency/cpu"].high == pytest.approx(0.0088)


def test_the_reference_itself_keeps_what_was_measured() -> None:
    assert steadied(measured(0.010, 1.001), "cpu", {})["latency/cpu"].value == 0.010


def test_other_metrics_are_left_alone() -> None:
    metrics = {**measured(0.01, 0.5), "peakMemory/cpu": Measurement.exact(5)}
    assert steadied(metrics, "cpu", measured(0.02, 1))["peakMemory/cpu"] == Measurement.exact(5)
