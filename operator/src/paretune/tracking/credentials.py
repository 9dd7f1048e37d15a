"""What MLflow's client needs to log in, from a mounted Secret into the environment of one process."""

from collections.abc import Collection, Mapping
from pathlib import Path

NAMES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Files of the folder that are read; MLflow's own names, see mlflow.org/docs/latest/self-hosting/security."""


def read_credentials(folder: Path | None) -> dict[str, str]:
    """Content of the files that are there, trailing newlines off; nothing without a folder.

    Raises:
        OSError: when a file is there and cannot be read.
    """
    found = {}
    for name in NAMES if folder is not None else ():
        path = Path(folder or ".") / name
        if path.is_file() and (value := path.read_text().rstrip("\r\n")):
            found[name] = value
    return found


def environment(base: Mapping[str, str], credentials: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that talks to one server: these credentials, and those of no other."""
    return {**{key: value for key, value in base.items() if key not in NAMES}, **credentials}


def hide(text: str, secrets: Collection[str]) -> str:
    """A message without any of the secrets, should a server have repeated one."""
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return text
