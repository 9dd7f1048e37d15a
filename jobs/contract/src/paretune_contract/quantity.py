"""Times and sizes as people write them: `20ms`, `6h`, `64KiB`, `"0.02"`, or whole seconds or bytes."""

import re

MAX_LENGTH = 32
"""Characters of the longest quantity."""
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h|d)?$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|kB|KB|MB|GB|KiB|MiB|GiB|k|M|G|Ki|Mi|Gi)?$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h|d|B|kB|KB|MB|GB|KiB|MiB|GiB|k|M|G|Ki|Mi|Gi)?$"

_DURATION = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_SIZE = {
    "": 1, "B": 1, "k": 10**3, "kB": 10**3, "KB": 10**3, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9,
    "Ki": 2**10, "KiB": 2**10, "Mi": 2**20, "MiB": 2**20, "Gi": 2**30, "GiB": 2**30,
}  # fmt: skip
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")


def seconds(value: int | str) -> float:
    """Seconds of a duration such as 30, `"0.02"`, `20ms`, `6h`.

    Raises:
        ValueError: when it is no duration.
    """
    return _parsed(value, _DURATION, "a duration: whole seconds or a string such as 20ms, 1.5s, 90m, 6h")


def size_bytes(value: int | str) -> float:
    """Bytes of a size such as 4096, `64KiB`, `1.5MB`.

    Raises:
        ValueError: when it is no size.
    """
    return _parsed(value, _SIZE, "a size: whole bytes or a string such as 64KiB, 1.5MB, 2GiB")


def plain_number(value: int | str) -> float:
    """A number without unit such as 2 or `"0.02"`.

    Raises:
        ValueError: when it is no such number.
    """
    return _parsed(value, {"": 1.0}, 'a number: an integer or a string such as "0.02"')


def _parsed(value: int | str, units: dict[str, float] | dict[str, int], form: str) -> float:
    known = isinstance(value, int | str) and not isinstance(value, bool)
    match = _FORM.fullmatch(str(value)[: MAX_LENGTH + 1]) if known else None
    if not match or len(match[0]) > MAX_LENGTH or match[2] not in units:
        raise ValueError(f"{value!r} is not {form}")
    return float(match[1]) * units[match[2]]


_SHOWN = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def show_seconds(value: float) -> str:
    """`0.00123` as `1.23 ms`: three digits, or whole seconds from 1,000 s on."""
    unit, scale = next((u, s) for u, s in _SHOWN if value >= s * 0.9995 or u == "µs")
    number = value / scale
    return f"{number:,.0f} {unit}" if number >= 999.5 else f"{number:.3g} {unit}"


def show_bytes(value: float) -> str:
    """`98496` as `98,496 B`."""
    return f"{value:,.0f} B"
