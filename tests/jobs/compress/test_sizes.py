"""The download size is that of a container which gave the file back."""

import hashlib
from pathlib import Path

import paretune_codec
import pytest
from paretune_compress.sizes import CONTAINER, download_size, packed
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import CODER
from paretune_contract.stages import Artifact
from support.made_int8 import int8_network


def artifact(folder: Path, data: bytes) -> Artifact:
    file = folder / "candidate.tflite"
    file.write_bytes(data)
    return Artifact(path=str(file), sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


@pytest.mark.parametrize("data", [b"", b"a", bytes(100_000), int8_network(0, "clustered")], ids=range(4))
def test_the_container_gives_back_the_file_and_its_length_is_the_size(tmp_path: Path, data: bytes) -> None:
    size = download_size(artifact(tmp_path, data), tmp_path / CONTAINER)

    coded = (tmp_path / CONTAINER).read_bytes()
    assert size == len(coded) <= len(data) + 26
    assert paretune_codec.unpack(coded) == data


def test_zeros_and_few_levels_make_a_file_smaller(tmp_path: Path) -> None:
    sizes = {
        kind: download_size(artifact(tmp_path, int8_network(0, kind)), tmp_path / CONTAINER)
        for kind in ("zero", "sparse", "clustered", "dense")
    }

    assert sizes["zero"] < sizes["sparse"] < sizes["clustered"] < sizes["dense"]


def test_a_file_longer_than_the_codec_unpacks_by_itself_is_sized_too(tmp_path: Path) -> None:
    """The codec's own limit is for containers from strangers."""
    data = bytes(paretune_codec.MAX_BYTES + 1)

    assert download_size(artifact(tmp_path, data), tmp_path / CONTAINER) < len(data) // 1000


def damaged(tflite: bytes) -> bytes:
    container = bytearray(packed(tflite))
    container[7] ^= 1
    return bytes(container)


def of_another_file(tflite: bytes) -> bytes:
    return packed(tflite[:-1] + bytes([tflite[-1] ^ 1]))


def of_a_longer_file(tflite: bytes) -> bytes:
    return packed(tflite + b"more")


def none_at_all(tflite: bytes) -> bytes:
    return tflite


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        (damaged, "the container is damaged: what it holds has another SHA-256"),
        (of_another_file, "its sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}"),
        (of_a_longer_file, r"the file has \d+ bytes, the limit is \d+"),
        (none_at_all, "not a .ptz container"),
    ],
)
def test_a_container_that_does_not_give_the_file_back_is_a_fault_of_ours_that_names_the_file(
    tmp_path: Path, pack, why: str
) -> None:
    one = artifact(tmp_path, int8_network(0, "sparse"))

    with pytest.raises(
        StageError, match=f"candidate.tflite: its container of coder {CODER} .*: {why}"
    ) as told:
        download_size(one, tmp_path / CONTAINER, pack)
    assert told.value.reason is Reason.INTERNAL


def test_the_name_of_the_coder_stands_for_a_version_of_the_container_and_an_effort() -> None:
    """Either changes sizes: whoever changes one here changes the other there."""
    assert (CODER, paretune_codec.VERSION, paretune_codec.EFFORT) == ("paretune-1", 1, 600_000)
