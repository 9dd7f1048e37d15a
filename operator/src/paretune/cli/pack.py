"""`paretune pack` and `paretune unpack`: any .tflite as an entropy-coded container, and back."""

from pathlib import Path

import click
from paretune_codec import CorruptPtz, pack, unpack
from paretune_store.files import atomic_write

from .errors import BadInput
from .output_file import free_file

SUFFIX = ".ptz"

_SOURCE = click.Path(path_type=Path, dir_okay=False, exists=True)
_OUTPUT = click.Path(path_type=Path, dir_okay=False)


@click.command("pack")
@click.argument("tflite", type=_SOURCE)
@click.option("--output", "-o", type=_OUTPUT, help="Default: TFLITE with the ending .ptz.")
@click.option("--for-c", is_flag=True, help="Use only coders that the decoder in C has (no zstd).")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def pack_file(tflite: Path, output: Path | None, for_c: bool, force: bool) -> None:
    """Write a .tflite as a .ptz container, which gives back the very bytes.

    Any .tflite will do, whoever made it; docs/formats/ptz.md has the format, jobs/codec/c a decoder for
    microcontrollers. Large dense models take some seconds.
    """
    content = tflite.read_bytes()
    if content[4:8] != b"TFL3":
        raise BadInput(f"{tflite}: not a .tflite file: bytes 4 to 8 are {content[4:8]!r}, expected b'TFL3'")
    file = free_file(output or tflite.with_suffix(SUFFIX), force)
    packed = pack(content, zstd=not for_c)
    atomic_write(file, packed)
    click.echo(f"{file}: {len(packed):,} bytes, {len(packed) / len(content):.3f} of {len(content):,}")


@click.command("unpack")
@click.argument("ptz", type=_SOURCE)
@click.option("--output", "-o", type=_OUTPUT, help="Default: PTZ with the ending .tflite.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
def unpack_file(ptz: Path, output: Path | None, force: bool) -> None:
    """Write the .tflite that a .ptz container holds."""
    file = free_file(output or ptz.with_suffix(".tflite"), force)
    try:
        content = unpack(ptz.read_bytes())
    except CorruptPtz as error:
        raise BadInput(f"{ptz}: {error}") from error
    atomic_write(file, content)
    click.echo(f"{file}: {len(content):,} bytes")
