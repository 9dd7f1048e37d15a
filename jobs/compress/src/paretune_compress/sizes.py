"""Bytes of a finished file, as it is and as it travels."""

from pathlib import Path

import zstandard

CODER = "zstd-22"
"""Name of the coder behind `downloadSize`: zstd at level 22 with a window over the whole file."""
_SMALLEST_WINDOW, _LARGEST_WINDOW = 10, 30


def model_size(path: Path) -> int:
    """Bytes of the .tflite."""
    return path.stat().st_size


def download_size(path: Path) -> int:
    """Bytes of the .tflite after lossless coding with `CODER`."""
    return len(encode(path.read_bytes()))


def encode(data: bytes) -> bytes:
    """The data as one zstd frame without checksum (RFC 8878)."""
    window = min(_LARGEST_WINDOW, max(_SMALLEST_WINDOW, len(data).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        22,
        source_size=len(data),
        window_log=window,
        enable_ldm=len(data) > 2**27,
        write_checksum=False,
        write_content_size=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def decode(data: bytes) -> bytes:
    """What `encode` was given."""
    window = 2**_LARGEST_WINDOW
    return zstandard.ZstdDecompressor(max_window_size=window).decompress(data)
