"""Credentials as files of a mounted Secret: the file's name is the key, such as AWS_ACCESS_KEY_ID."""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from .errors import Refused

Credentials = Mapping[str, str]

LARGEST_VALUE = 1 << 20
"""Kubernetes bounds a whole Secret by 1 MiB."""
_KEY = re.compile(r"[A-Za-z0-9_.-]+")
_PUBLIC = re.compile(
    r"(AWS|GOOGLE|MLFLOW)_.*(REGION|ENDPOINT|URI|URL|BUCKET|USERNAME|ALLOW_HTTP|SIGNATURE|TLS|STYLE)"
)
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def read_credentials(folder: Path) -> dict[str, str]:
    """Keys and values of a mounted Secret; one line end after a value is taken off.

    Names that begin with a dot are Kubernetes' own (`..data` and the folder that it links to) and are left
    out.

    Raises:
        Refused: there is no such folder, or a file in it can't be read as text.
    """
    found: dict[str, str] = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            if not _KEY.fullmatch(path.name) or path.stat().st_size > LARGEST_VALUE:
                raise Refused(
                    str(path), "it is no value of a Secret", "mount a Secret of keys such as AWS_REGION"
                )
            found[path.name] = path.read_text().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Refused(
            str(path), "it is no text in UTF-8", "put the credential's text into the Secret"
        ) from None
    except OSError as error:
        cure = "mount the Secret there, readable by this user"
        raise Refused(str(folder), f"credentials can't be read: {error.strerror}", cure) from error
    return found


def credentials_of(name: str, secrets: Path) -> dict[str, str] | None:
    """The credentials that a task names, or None when it names none: then the environment has them.

    Args:
        name: folder below `secrets`, or empty.
        secrets: where Secrets are mounted.

    Raises:
        Refused: there is no such folder.
    """
    if not name:
        return None
    if "/" in name or name.startswith(".") or "\0" in name:
        raise Refused(str(secrets), f"{name!r} is no name of a Secret", "name the Secret alone")
    return read_credentials(secrets / name)


def hidden(text: str, credentials: Credentials) -> str:
    """`text` with every secret value in it replaced."""
    for key, value in credentials.items():
        if len(value) > 3 and not _PUBLIC.fullmatch(key):
            text = text.replace(value, "***")
    return text


def environment(prefix: str) -> dict[str, str]:
    """Variables of the environment that begin with `prefix`."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


def ca_file(credentials: Credentials, *first: str) -> Path | None:
    """The file of certificates to trust beside the system's: from the first variable that is set.

    Args:
        credentials: looked at before the environment.
        first: variables that come before SSL_CERT_FILE, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.

    Raises:
        Refused: the variable names no file.
    """
    for name in (*first, *_CA_VARIABLES):
        if path := credentials.get(name) or os.environ.get(name):
            if not Path(path).is_file():
                raise Refused(path, f"{name} names no file", "let it name a PEM file of CA certificates")
            return Path(path)
    return None


def tls(credentials: Credentials, *first: str) -> ssl.SSLContext:
    """TLS that trusts the system's certificates and those of `ca_file`.

    Raises:
        Refused: the file is no PEM file.
    """
    context = ssl.create_default_context()
    if (path := ca_file(credentials, *first)) is not None:
        try:
            context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            cure = "let the variable name a PEM file of CA certificates"
            raise Refused(str(path), f"it holds no certificates: {error}", cure) from error
    return context
