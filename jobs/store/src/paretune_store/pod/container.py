"""The frame of a container: reads its task, does one command, ends with a code and a termination message."""

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from paretune_contract.failure import WORLD_REASONS, Reason, StageError
from paretune_contract.stages import Result
from paretune_contract.task import GIVE_UP, TASK, TRY_AGAIN, Task
from paretune_contract.termination import failed, to_message

from ..errors import NotThere, Refused, TooLarge
from .place import Place

Command = Callable[[Task, Place], Result | None]
"""Does a container's part. What it returns becomes the termination message; None leaves none."""
_TERMINATED = 128 + signal.SIGTERM


def main(
    program: str, about: str, commands: Mapping[str, Command], arguments: Sequence[str] | None = None
) -> int:
    """Do the command that the arguments name, and return the exit code.

    Args:
        program: as it was called, for `--help`.
        about: what it does, for `--help`.
        commands: by name; the first line of a docstring is its help.
        arguments: of the command line; None: of this process.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=about,
        epilog=f"The task is read from the environment variable {TASK}. Exit codes: 0; {TRY_AGAIN}: another "
        f"attempt may work; {GIVE_UP}: it would end alike. The termination message says why.",
    )
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        choices.add_parser(name, help=(command.__doc__ or "").partition("\n")[0])
    chosen = commands[parser.parse_args(arguments).command]
    signal.signal(signal.SIGTERM, _end)  # the first process of a container is deaf to it otherwise
    place = Place.of()
    try:
        result = chosen(read_task(), place)
        message = None if result is None else to_message(result)
        code = 0
    except Exception as error:  # every end has a message
        code, reason, text = verdict(error)
        say(f"{reason.value}: {text}")
        message = failed(reason, text)
    if message is not None:
        leave(place, message)
    return code


def verdict(error: Exception) -> tuple[int, Reason, str]:
    """Exit code, reason and sentence for what went wrong.

    A store that refuses is not the trial's fault, but only its owner can cure it: StoreUnavailable, without
    another attempt.
    """
    match error:
        case StageError():
            code = TRY_AGAIN if error.reason in WORLD_REASONS else GIVE_UP
            return code, error.reason, error.message
        case Refused():
            return GIVE_UP, Reason.STORE_UNAVAILABLE, str(error)
        case NotThere():
            return GIVE_UP, Reason.INTERNAL, f"{error}; was it removed from the store?"
        case TooLarge():
            return GIVE_UP, Reason.INTERNAL, str(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return TRY_AGAIN, Reason.STORE_UNAVAILABLE, f"no space left on this node: {error}"
        case _:
            traceback.print_exception(error)
            return GIVE_UP, Reason.INTERNAL, f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}"


def read_task(environment: Mapping[str, str] = os.environ) -> Task:
    """The task in the environment.

    Raises:
        StageError: INTERNAL when there is none, or it is not understood.
    """
    text = environment.get(TASK)
    if not text:
        raise StageError(
            Reason.INTERNAL, f"the environment variable {TASK} is not set; expected a task as JSON"
        )
    try:
        task = Task.model_validate_json(text)
        _ = task.stage
    except ValueError as error:
        raise StageError(Reason.INTERNAL, f"{TASK} is not understood: {error}") from error
    return task


def leave(place: Place, message: str) -> None:
    """Write the termination message. Where that fails the message is answered from the store later."""
    try:
        place.termination_log.write_text(message)
    except OSError as error:
        say(f"the termination message was not written: {place.termination_log}: {error.strerror}")
        say(message)


def say(text: str) -> None:
    """A line for the container's log."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
    raise SystemExit(_TERMINATED)
