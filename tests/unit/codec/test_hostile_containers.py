"""Damaged containers are refused with one exception, in bounded time, or give the right bytes."""

import time

import numpy as np
import pytest
from paretune_codec import CorruptPtz, pack, unpack
from support.made_int8 import clustered_floats, int8_network
from support.ptz_prior import network

SECONDS = 8.0


def _outcome(container: bytes, file: bytes) -> str:
    try:
        result = unpack(container, max_bytes=1 << 20, max_decisions=300_000)
    except CorruptPtz:
        return "refused"
    assert result == file
    return "right"


@pytest.fixture(scope="module")
def originals() -> list[tuple[bytes, bytes]]:
    """Containers of every method and coder, with their files."""
    files = [
        int8_network(0, "dead"), int8_network(1, "dense", names=False), clustered_floats(),
        network(names=False), b"no tflite " * 30, np.random.default_rng(0).bytes(400),
    ]  # fmt: skip
    return [(pack(file, effort=effort), file) for file in files for effort in (0, 9_000)]


def test_truncated_containers_are_refused(originals: list[tuple[bytes, bytes]]) -> None:
    for container, file in originals:
        for length in {
            *range(30),
            *range(30, len(container), max(1, len(container) // 12)),
            len(container) - 1,
        }:
            assert _outcome(container[:length], file) == "refused"


def test_mutated_containers_are_refused_or_right(originals: list[tuple[bytes, bytes]]) -> None:
    rng = np.random.default_rng(1)
    end = time.monotonic() + SECONDS
    outcomes = []
    for round_ in range(40):
        for container, file in originals:
            damaged = bytearray(container)
            for _ in range(int(rng.integers(1, 4))):
                # Half of the changes hit the beginning, where lengths and structure are.
                reach = len(damaged) if rng.random() < 0.5 else min(len(damaged), 300)
                place = int(rng.integers(0, reach))
                action = rng.integers(0, 4)
                if action == 0:
                    damaged[place] ^= 1 << int(rng.integers(0, 8))
                elif action == 1:
                    damaged[place] = int(rng.choice([0, 1, 127, 128, 255]))
                elif action == 2:
                    del damaged[place : place + int(rng.integers(1, 9))]
                else:
                    damaged[place:place] = rng.bytes(int(rng.integers(1, 9)))
                if not damaged:
                    break
            outcomes.append(_outcome(bytes(damaged), file))
        if time.monotonic() > end:
            assert round_ > 0, "mutations take too long"
            break

    assert outcomes.count("refused") > 0.9 * len(outcomes)


def test_noise_behind_a_header_is_refused_in_bounded_time() -> None:
    rng = np.random.default_rng(2)
    for method in range(4):
        for _ in range(40):
            header = b"PTZ\x01" + bytes([method]) + rng.bytes(16) + b"\xff\xff\x07"
            begin = time.monotonic()
            with pytest.raises(CorruptPtz):
                unpack(header + rng.bytes(int(rng.integers(0, 2000))), max_decisions=100_000)
            assert time.monotonic() - begin < 10


def test_a_claimed_length_beyond_the_limit_allocates_nothing() -> None:
    with pytest.raises(CorruptPtz, match="the limit is"):
        unpack(b"PTZ\x01\x02" + bytes(16) + b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(50))
    with pytest.raises(CorruptPtz, match="a length is too large"):
        unpack(b"PTZ\x01\x02" + bytes(16) + b"\xff" * 12)
