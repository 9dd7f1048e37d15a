"""`paretune validate`: every fault of a manifest at once."""

import json
import sys
from pathlib import Path

import click

from ..api.manifest import faults
from .errors import BadInput


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Faults as a JSON list of {path, value, message}.")
def validate(file: Path, as_json: bool) -> None:
    """Say everything that is wrong with a study's manifest: path, value, and what would be right.

    FILE is a manifest, or - for standard input. Exit code 2 when there are faults.
    """
    text, base = read_manifest(file)
    found = faults(text, base=base)
    if as_json:
        click.echo(
            json.dumps([{"path": f.path, "value": f.value, "message": f.message} for f in found], default=str)
        )
    if found:
        raise BadInput([] if as_json else [f"{file}: {fault}" for fault in found])
    if not as_json:
        click.echo(f"{file}: valid")


def read_manifest(file: Path) -> tuple[str, Path]:
    """Text of a manifest and the folder to which its relative URIs are relative.

    Raises:
        BadInput: when it cannot be read.
    """
    if str(file) == "-":
        return sys.stdin.read(), Path.cwd()
    try:
        return file.read_text(), file.parent
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not a text file"
        raise BadInput(f"{file}: {cause}; expected a YAML file with kind: OptimizationStudy") from error
