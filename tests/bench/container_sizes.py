"""Bytes and seconds of .ptz containers beside general compressors: files as arguments, or made-up networks.

The decoder in C is timed when there is a compiler, brotli measured when it is installed. Where the file is
beyond the limits that this decoder is compiled with, `-` stands in place of its seconds.
"""

import lzma
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard
from paretune_codec import pack, unpack

SOURCE = Path(__file__).parents[2] / "jobs/codec/c"
COLUMNS = ("file", "bytes", "zstd-22", "brotli", "xz", "ptz", "pack s", "unpack s", "C s")


def _brotli(data: bytes) -> str:
    try:
        import brotli
    except ImportError:
        return "-"
    return str(len(brotli.compress(data, quality=11, lgwin=24)))


def xz(data: bytes) -> bytes:
    """LZMA as small as it gets."""
    return lzma.compress(data, format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = action()
    return result, time.perf_counter() - begin


def decoder(folder: Path) -> Path | None:
    if shutil.which("cc") is None:
        return None
    program = folder / "unpack"
    subprocess.run(
        ["cc", "-O2", "-o", str(program), str(SOURCE / "main.c"), str(SOURCE / "ptz.c")], check=True
    )
    return program


def _seconds_in_c(program: Path | None, file: bytes, folder: Path) -> str:
    if program is None:
        return "-"
    given, made = folder / "in.ptz", folder / "out.tflite"
    given.write_bytes(pack(file, zstd=False))
    done, seconds = _timed(
        lambda: subprocess.run([str(program), str(given), str(made)], capture_output=True, check=False)
    )
    if done.returncode == 1:
        return "-"
    assert done.returncode == 0
    assert made.read_bytes() == file
    return f"{seconds:.3f}"


def files(names: list[str]) -> list[tuple[str, bytes]]:
    if names:
        return [("/".join(Path(name).parts[-4:])[-44:], Path(name).read_bytes()) for name in names]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.made_int8 import int8_network

    return [(kind, int8_network(0, kind)) for kind in ("sparse", "clustered", "dense", "dead")]


def main() -> None:
    """Print one row for each file."""
    unpack(pack(b"warm"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = decoder(folder)
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
        for label, file in files(sys.argv[1:]):
            container, packing = _timed(lambda file=file: pack(file))
            result, unpacking = _timed(lambda container=container: unpack(container))
            assert result == file
            zstd = len(zstandard.ZstdCompressor(level=22).compress(file))
            row = (
                label, len(file), zstd, _brotli(file), len(xz(file)), len(container), f"{packing:.2f}",
                f"{unpacking:.2f}", _seconds_in_c(program, file, folder),
            )  # fmt: skip
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
