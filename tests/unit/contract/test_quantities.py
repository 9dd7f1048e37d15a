"""Times and sizes as people write them."""

from typing import Any

import pytest
from paretune_contract.quantity import plain_number, seconds, show_bytes, show_seconds, size_bytes


@pytest.mark.parametrize(
    ("written", "meant"),
    [(30, 30.0), ("30", 30.0), ("0.02", 0.02), ("20ms", 0.02), ("1.5s", 1.5), ("250us", 25e-5),
     ("90m", 5400.0), ("6h", 21600.0), ("2d", 172800.0)],
)  # fmt: skip
def test_durations_are_seconds(written: int | str, meant: float) -> None:
    assert seconds(written) == pytest.approx(meant)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (4096, 4096),
        ("64KiB", 65536),
        ("64Ki", 65536),
        ("1.5MB", 1_500_000),
        ("2GiB", 2**31),
        ("3k", 3000),
        ("7B", 7),
    ],
)
def test_sizes_are_bytes(written: int | str, meant: float) -> None:
    assert size_bytes(written) == meant


@pytest.mark.parametrize(
    "wrong", [0.02, True, None, "", "ms", "-5s", "1e3", "20 ms", "20ms\n", "20MS", "٣s", "9" * 5000]
)
def test_what_is_no_duration_is_refused_with_the_form(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration: whole seconds or a string such as 20ms"):
        seconds(wrong)


def test_a_size_is_no_duration_and_a_duration_no_size() -> None:
    with pytest.raises(ValueError, match="'64KiB' is not a duration"):
        seconds("64KiB")
    with pytest.raises(ValueError, match="'20ms' is not a size"):
        size_bytes("20ms")
    with pytest.raises(ValueError, match="'20ms' is not a number"):
        plain_number("20ms")


def test_a_plain_number_may_be_text() -> None:
    assert plain_number("0.02") == 0.02


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 µs"), (2e-6, "2 µs"), (0.00123, "1.23 ms"), (0.0009999, "1 ms"), (0.9999, "1 s"),
     (1.5, "1.5 s"), (999.4, "999 s"), (999.6, "1,000 s"), (21600.0, "21,600 s")],
)  # fmt: skip
def test_durations_are_shown_without_exponents(value: float, text: str) -> None:
    assert show_seconds(value) == text


def test_bytes_are_shown_in_full() -> None:
    assert show_bytes(98496) == "98,496 B"
