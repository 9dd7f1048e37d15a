"""Objectives in base units and their constraints."""

import pytest
from paretune.api import Goal
from paretune.search.objectives import feasible, resolve, sentence, violations
from unit.search.toy_study import spec, values

BASELINE = values(accuracy=0.88, downloadSize=100_000, latency__cpu=0.01)


def test_an_objective_on_the_only_device_carries_its_name():
    (latency,) = resolve(spec([{"metric": "latency", "atMost": "20ms"}]))
    assert (latency.name, latency.device, latency.at_most) == ("latency/cpu", "cpu", 0.02)
    assert latency.goal is Goal.MINIMIZE


def test_bounds_are_in_bytes_and_seconds_and_plain_numbers():
    manifest = spec(
        [
            {"metric": "downloadSize", "atMost": "64KiB"},
            {"metric": "peakMemory", "atMost": 4096},
            {"metric": "meanSquaredError", "atMost": "0.02"},
        ]
    )
    assert [o.at_most for o in resolve(manifest)] == [65536, 4096, 0.02]


def test_a_missing_device_among_several_is_named():
    manifest = spec([{"metric": "latency"}], devices=[{"name": "pi"}, {"name": "mcu"}])
    with pytest.raises(ValueError, match=r"spec\.objectives\[0\].*pi, mcu"):
        resolve(manifest)


def test_the_sentence_says_what_is_missed_and_by_how_much():
    objectives = resolve(
        spec([{"metric": "accuracy", "maxDrop": 0.01}, {"metric": "downloadSize", "maxRatio": 0.3}])
    )
    text = sentence(objectives, values(accuracy=0.861, downloadSize=40_000), BASELINE)
    assert text == (
        "accuracy 0.861 is below 0.87 = baseline 0.88 - 0.01; "
        "downloadSize 40,000 B is above 30,000 B = 0.3 x baseline 100,000 B"
    )


@pytest.mark.parametrize(
    ("objective", "metrics", "fits"),
    [
        ({"metric": "accuracy", "maxDrop": 0.01}, {"accuracy": 0.87}, True),
        ({"metric": "accuracy", "maxDrop": 0.01}, {"accuracy": 0.8699}, False),
        ({"metric": "accuracy", "atLeast": 0.9}, {"accuracy": 0.9}, True),
        ({"metric": "accuracy", "atLeast": 0.9}, {"accuracy": 0.89}, False),
        ({"metric": "latency", "atMost": "10ms"}, {"latency__cpu": 0.0101}, False),
        ({"metric": "downloadSize", "maxRatio": 0.5}, {"downloadSize": 50_000}, True),
        ({"metric": "downloadSize", "maxRatio": 0.5}, {"downloadSize": 50_001}, False),
    ],
)
def test_a_bound_itself_is_feasible_and_what_lies_beyond_is_not(objective, metrics, fits):
    objectives = resolve(spec([objective]))
    found = violations(objectives, values(**metrics), BASELINE)
    assert feasible(objectives, values(**metrics), BASELINE) is fits
    assert all((v <= 0) is fits for v in found.values())
    assert len(found) == 1


def test_the_ratio_of_latencies_is_the_one_from_interleaved_rounds():
    objectives = resolve(spec([{"metric": "latency", "maxRatio": 1.0}]))
    slow_machine = values(latency__cpu=0.02, latencyRatio__cpu=0.9)
    assert feasible(objectives, slow_machine, BASELINE)
    assert not feasible(objectives, values(latency__cpu=0.02), BASELINE)


def test_what_was_not_measured_is_not_judged():
    objectives = resolve(
        spec([{"metric": "accuracy", "maxDrop": 0.01}, {"metric": "downloadSize", "atMost": 10}])
    )
    assert violations(objectives, values(accuracy=0.1), None) == {}
    assert list(violations(objectives, values(downloadSize=20), BASELINE)) == ["downloadSize:atMost"]


def test_violations_of_size_and_accuracy_weigh_alike():
    objectives = resolve(
        spec([{"metric": "accuracy", "atLeast": 0.9}, {"metric": "downloadSize", "atMost": 100}])
    )
    found = violations(objectives, values(accuracy=0.89, downloadSize=110), None)
    assert found["accuracy:atLeast"] == pytest.approx(0.1)
    assert found["downloadSize:atMost"] == pytest.approx(0.1)


def test_a_metric_of_ones_own_is_bounded_relative_to_its_bound():
    (objective,) = resolve(spec([{"metric": "psnr", "goal": "maximize", "atLeast": 30}]))
    assert violations([objective], values(psnr=27), None) == {"psnr:atLeast": pytest.approx(0.1)}
    assert objective.loss(27) == -27
