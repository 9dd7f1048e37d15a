"""Bytes of a finished file as it travels: packed into a container, and out of it again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import paretune_codec
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import CODER
from paretune_contract.stages import Artifact

CONTAINER = "model.ptz"
"""Name of a file's container among the files of its step."""


def packed(tflite: bytes) -> bytes:
    """The file in a container of `CODER`: a .ptz of version 1, made with the codec's own effort.

    Effort is counted in decisions of the context mixer, not in seconds, so every machine makes the same
    container. It covers all weights of files up to some hundred kilobytes, and of larger ones the tensors
    that gain most, sparse and clustered ones; the others go to static tables, within 2% of it. Above 4 MiB
    zstd, which is one of the coders, looks less hard for matches. Above 64 MiB it has the whole file, and so
    it has when scales and structure take more than a million decisions (about 75,000 channels). On one core
    of a shared server packing and unpacking took 1 to 5 s for 50 to 300 KB of int8, 4 s for 5 MB, 12 to 15 s
    for 25 MB, at most 36 s for 63 MB, and 20 s for 250 MB; float takes less.
    """
    return paretune_codec.pack(tflite)


def download_size(artifact: Artifact, container: Path, pack: Callable[[bytes], bytes] = packed) -> int:
    """Bytes of the .tflite in its container, which is written to `container` and unpacked again.

    Args:
        artifact: the finished file.
        container: where the .ptz is written.
        pack: how it is made.

    Raises:
        StageError: INTERNAL when what comes out of the container is not the file.
    """
    container.write_bytes(pack(Path(artifact.path).read_bytes()))
    coded = container.read_bytes()
    try:
        found = hashlib.sha256(paretune_codec.unpack(coded, max_bytes=artifact.bytes)).hexdigest()
    except paretune_codec.CorruptPtz as error:
        raise _not_the_file(artifact, str(error)) from error
    if found != artifact.sha256:
        raise _not_the_file(artifact, f"its sha256 is {found}, expected {artifact.sha256}")
    return len(coded)


def _not_the_file(artifact: Artifact, why: str) -> StageError:
    return StageError(
        Reason.INTERNAL,
        f"{artifact.path}: its container of coder {CODER} does not give it back, so its download size is "
        f"unknown: {why}",
    )
