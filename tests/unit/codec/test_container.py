"""The container gives the very file back, whatever the file is."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import zstandard
from paretune_codec import CorruptPtz, NotPtz, container, pack, unpack
from paretune_codec.mixing import UNBOUNDED, Coder
from paretune_codec.prior import primed
from paretune_codec.structure import Walk
from support.made_int8 import clustered_floats, int8_network
from support.made_tflite import image_classifier
from support.ptz_prior import network

KINDS = ["sparse", "clustered", "dense", "dead", "zero"]
STORED, ZSTD, NATIVE = 0, 1, 3


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return image_classifier(tmp_path_factory.mktemp("made") / "model.tflite").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [True, False])
def test_an_int8_file_comes_back_bit_for_bit_and_smaller_than_with_zstd(kind: str, names: bool) -> None:
    file = int8_network(1, kind, names)
    container = pack(file)

    assert unpack(container) == file
    assert container[4] == NATIVE
    assert len(container) < 0.85 * len(zstandard.ZstdCompressor(level=22).compress(file)) or kind == "dense"
    assert len(container) < len(zstandard.ZstdCompressor(level=22).compress(file))


def test_a_float_file_comes_back_bit_for_bit_and_smaller_than_with_zstd(float_file: bytes) -> None:
    container = pack(float_file)

    assert unpack(container) == float_file
    assert container[4] == NATIVE
    assert len(container) < len(zstandard.ZstdCompressor(level=22).compress(float_file))


@pytest.mark.parametrize("effort", [0, 1_000_000])
def test_clustered_floats_take_the_bits_of_their_ranks(effort: int) -> None:
    file = clustered_floats()
    container = pack(file, effort=effort)

    assert unpack(container) == file
    assert len(container) < len(file) / 4 / 8 * 3.7 + 700


def test_what_stands_around_the_constants_takes_few_bytes() -> None:
    container = pack(int8_network(2, "zero", names=False))

    assert len(container) < 720  # of which 390 biases take 440


def test_scales_do_not_count_as_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with a scale for each of many channels are taken apart, too."""
    file = int8_network(2, "zero")
    coder = Coder(decisions=UNBOUNDED)
    Walk(primed(coder), bytearray(file)).run()
    needed = UNBOUNDED - coder.decisions

    monkeypatch.setattr(container, "STRUCTURE_DECISIONS", needed)
    assert pack(file)[4] == NATIVE
    monkeypatch.setattr(container, "STRUCTURE_DECISIONS", needed - 1)
    assert pack(file)[4] == ZSTD


def test_the_header_is_magic_version_method_digest_and_length() -> None:
    file = int8_network()
    container = pack(file)

    assert container[:4] == b"PTZ\x01"
    assert container[5:21] == hashlib.sha256(file).digest()[:16]
    assert container[21] == len(file) & 127 | 128
    assert container[22] == len(file) >> 7 & 127 | 128


def test_the_same_file_makes_the_same_container() -> None:
    file = int8_network(3, "dead")

    assert (
        pack(file, effort=9_000)
        == pack(bytearray(file), effort=9_000)
        == pack(memoryview(file), effort=9_000)
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"TFL3",
        b"\0" * 8 + b"TFL3",
        b"hello world " * 40,
        bytes(range(256)),
        b"\x10\0\0\0TFL3" + b"\xff" * 300,
    ],
    ids=range(7),
)
def test_what_is_no_tflite_comes_back_too(data: bytes) -> None:
    container = pack(data)

    assert unpack(container) == data
    assert len(container) <= len(data) + 26


def test_noise_is_stored() -> None:
    noise = np.random.default_rng(0).bytes(3000)

    assert pack(noise)[4] == STORED
    assert unpack(pack(noise)) == noise


def test_a_text_falls_back_to_zstd() -> None:
    text = Path(__file__).read_bytes()

    assert pack(text)[4] == ZSTD
    assert unpack(pack(text)) == text
    assert pack(text, zstd=False)[4] == STORED


def test_bytes_after_the_flatbuffer_are_kept() -> None:
    file = int8_network() + b"\0\0\0and more"

    assert unpack(pack(file)) == file


def test_truncated_files_come_back() -> None:
    file = int8_network(names=False)
    for length in range(1, len(file), len(file) // 11):
        assert unpack(pack(file[:length], effort=0)) == file[:length]


def test_damaged_files_come_back() -> None:
    """Whatever the flatbuffer turns into, it is described or stored, never changed."""
    rng = np.random.default_rng(7)
    file = network(names=False)
    for _ in range(20):
        damaged = bytearray(file)
        for place in rng.integers(0, len(file), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        assert unpack(pack(bytes(damaged), effort=0)) == damaged


def test_less_effort_makes_a_longer_container_that_is_read_as_well() -> None:
    file = int8_network(0, "sparse")
    little = pack(file, effort=0)

    assert unpack(little) == file
    assert len(little) > len(pack(file))


def test_without_zstd_nothing_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    container = pack(int8_network(0, "dense"), zstd=False)
    monkeypatch.setattr(zstandard, "ZstdDecompressor", None)

    assert unpack(container) == int8_network(0, "dense")


def test_a_file_longer_than_the_limit_is_refused() -> None:
    container = pack(int8_network())

    with pytest.raises(CorruptPtz, match=r"the file has \d+ bytes, the limit is 1000"):
        unpack(container, max_bytes=1000)


def test_a_container_that_takes_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(CorruptPtz, match="more decisions than the limit allows"):
        unpack(pack(int8_network()), max_decisions=1000)


def test_other_files_are_no_containers() -> None:
    with pytest.raises(NotPtz, match="begins with b'PK"):
        unpack(b"PK\x03\x04" + bytes(100))
    with pytest.raises(NotPtz, match="has version 9, known is 1"):
        unpack(b"PTZ\x09" + bytes(100))
    with pytest.raises(CorruptPtz, match="header is incomplete"):
        unpack(b"PTZ\x01")


def test_a_changed_digest_is_noticed() -> None:
    container = bytearray(pack(int8_network()))
    container[7] ^= 1

    with pytest.raises(CorruptPtz, match="has another SHA-256"):
        unpack(bytes(container))


def test_a_container_of_version_1_is_read_for_ever() -> None:
    """Made when the format was fixed: a decoder that cannot read it needs a new version byte."""
    container = (Path(__file__).parent / "version1.ptz").read_bytes()
    digest = "9aca45c983da5e8a9231d1cc7daa3ab041daf6be2722e99bc7fa4dccaef86e54"

    assert hashlib.sha256(unpack(container)).hexdigest() == digest
