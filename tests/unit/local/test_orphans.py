"""A process whose parent died before it could ask to be told ends by itself."""

import os
import subprocess
import sys

from paretune_contract.serving import PARENT

SCRIPT = "from paretune_contract.serving import end_with_parent; end_with_parent(); print('goes on')"


def run(parent: int) -> str:
    environment = {**os.environ, PARENT: str(parent)}
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    ).stdout.strip()


def test_a_process_whose_parent_is_gone_ends_before_it_begins() -> None:
    assert run(parent=2**22) == ""


def test_a_process_whose_parent_lives_goes_on() -> None:
    assert run(parent=os.getpid()) == "goes on"
