"""What ends a command, with its exit code."""

import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

import click


class BadInput(Exception):
    """Exit 2: each line names what is wrong and what would be right."""

    exit_code = 2

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))


class NothingFeasible(BadInput):
    """Exit 3: the study finished, and no trial meets the constraints."""

    exit_code = 3


class Failed(BadInput):
    """Exit 1: the study could not go on."""

    exit_code = 1


def ended(command: Callable[[], object]) -> NoReturn:
    """Run a command to its end: what went wrong becomes a sentence and an exit code."""
    try:
        code = command()
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BadInput as error:
        for line in error.lines:
            click.echo(line, err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `paretune plan | head`
        sys.stderr.close()
        sys.exit(0)
