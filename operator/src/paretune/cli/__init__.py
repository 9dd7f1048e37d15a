"""The command line: `paretune init | validate | plan | run | report | explain | export | apply | ...`."""

import click

from .apply import apply
from .errors import ended
from .explain import explain
from .export import export
from .gc import gc
from .init import init
from .pack import pack_file, unpack_file
from .plan import plan
from .replay import replay
from .report import report
from .run import run
from .validate import validate


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 2 bad input, 3 nothing feasible, 130 interrupted, 1 anything else.",
)
@click.version_option(package_name="paretune", prog_name="paretune")
def paretune() -> None:
    """Find the versions of a TensorFlow model that are worth shipping: small, fast and still accurate.

    Begin with `paretune init model.keras --data eval.npz > study.yaml`, look at `paretune plan study.yaml`,
    then `paretune run study.yaml`.
    """


for command in (
    init, validate, plan, run, report, explain, export, apply, pack_file, unpack_file, replay, gc,
):  # fmt: skip
    paretune.add_command(command)


def main() -> None:
    """Entry point. Turns what went wrong into a sentence and an exit code."""
    ended(lambda: paretune.main(standalone_mode=False))
