import pytest
from paretune.tracking.wording import (
    compare,
    gains_and_costs,
    label,
    show,
    show_interval,
    shown_beside,
    versus,
)
from paretune_contract.measurement import Measurement


def near(value: float, spread: float = 0.01) -> Measurement:
    return Measurement(value=value, low=value - spread, high=value + spread)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accuracy", 0.912, "91.20%"),
        ("downloadSize", 30112, "30,112 B"),
        ("latency/cpu", 0.00123, "1.23 ms"),
        ("latencyRatio/cpu", 0.517, "0.52x"),
        ("peakMemory/cpu", 2048, "2,048 B"),
        ("meanSquaredError", 0.01234567, "0.01235"),
    ],
)
def test_a_value_has_its_unit(name: str, value: float, shown: str) -> None:
    assert show(name, value) == shown


def test_fractions_are_compared_in_points_and_the_rest_by_ratio() -> None:
    assert compare("accuracy", 0.908, 0.912) == "−0.40 points"
    assert compare("downloadSize", 29, 100) == "0.29x"
    assert compare("downloadSize", 1, 100) == "0.01x"
    assert compare("meanSquaredError", 0.1, 0.0) == "+0.1"


def test_an_exact_number_has_no_interval() -> None:
    assert show_interval("downloadSize", Measurement.exact(10)) == ""
    assert show_interval("accuracy", near(0.9)) == "89.00 – 91.00%"


def test_a_latency_is_compared_by_its_interleaved_rounds() -> None:
    metrics = {"latency/cpu": near(0.9, 0), "latencyRatio/cpu": near(0.5, 0)}
    assert versus("latency/cpu", metrics, {"latency/cpu": near(1.0, 0)}) == "0.50x"


def test_latency_ratios_are_left_out_beside_their_latency_only() -> None:
    assert shown_beside(["latency/cpu", "latencyRatio/cpu", "latencyRatio/pi"]) == [
        "latency/cpu",
        "latencyRatio/pi",
    ]


def test_the_sentence_on_a_model_names_gains_costs_and_what_stays() -> None:
    goals = {"accuracy": "maximize", "downloadSize": "minimize", "modelSize": "minimize"}
    baseline = {"accuracy": near(0.9), "downloadSize": near(1000, 0), "modelSize": near(50, 0)}
    metrics = {"accuracy": near(0.89), "downloadSize": near(290, 0), "modelSize": near(50, 0)}
    assert gains_and_costs(goals, metrics, baseline) == (
        "download size 0.29x (290 B) against the baseline, at the cost of accuracy −1.00 points (89.00%); "
        "model size as before."
    )


def test_a_model_that_is_only_better_costs_nothing() -> None:
    goals = {"downloadSize": "minimize"}
    sentence = gains_and_costs(goals, {"downloadSize": near(1, 0)}, {"downloadSize": near(2, 0)})
    assert sentence == "download size 0.50x (1 B) against the baseline, at no cost."


def test_a_metric_of_a_device_names_it() -> None:
    assert label("latency/pi") == "latency on pi"
