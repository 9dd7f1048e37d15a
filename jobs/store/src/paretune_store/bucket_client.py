"""Clients of s3:// and gs:// with credentials of the environment or of a Secret."""

import datetime
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from .credentials import Credentials, ca_file, hidden
from .errors import Refused
from .retries import Patience

_METADATA_SERVICE = ("169.254.169.254", "metadata.google.internal")
"""obstore asks these for credentials when it finds no others."""
_HINTS = {
    "ConnectionRefused": "connection refused",
    "dns error": "unknown host name",
    "TimedOut": "timed out",
}
"""What obstore tells in its debug output alone."""
_STATUS = re.compile(r"status code: (\d{3})")
_TEMPORARY = (408, 429)
_KEYS_OF_AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_NOT_OBSTORES = frozenset({"aws_ca_bundle", "aws_profile", "aws_allow_http"})
_CONNECT = "10s"
_LONGEST = "2h"
"""One object; silence is bounded by `Patience.timeout`."""


class Cause(Enum):
    """Why a request to a bucket failed."""

    MISSING = auto()
    NO_BUCKET = auto()
    DENIED = auto()
    NO_CREDENTIALS = auto()
    UNTRUSTED = auto()
    WRONG = auto()
    NETWORK = auto()


def cause_of(error: BaseException) -> Cause | None:
    """The cause of an exception of obstore, or None for another one.

    Single objects have exceptions of their own; for lists and deletions of many, obstore has one for all, and
    the server's status is in its text.
    """
    from obstore import exceptions

    if not isinstance(error, exceptions.BaseError | FileNotFoundError | PermissionError):
        return None
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    denied = exceptions.PermissionDeniedError | exceptions.UnauthenticatedError | PermissionError
    wrong = exceptions.InvalidPathError | exceptions.UnknownConfigurationKeyError
    causes = {
        Cause.NO_BUCKET: "NoSuchBucket" in text,
        Cause.NO_CREDENTIALS: any(host in text for host in _METADATA_SERVICE),
        Cause.UNTRUSTED: "InvalidCertificate(" in text,
        Cause.MISSING: isinstance(error, FileNotFoundError | exceptions.NotFoundError),
        Cause.DENIED: isinstance(error, denied) or "AccessDenied" in text or status in (401, 403),
        Cause.WRONG: isinstance(error, wrong)
        or "incorrectly configured region" in text
        or (300 <= status < 500 and status not in _TEMPORARY),
    }
    return next((cause for cause, found in causes.items() if found), Cause.NETWORK)


UNTRUSTED_CURE = "let SSL_CERT_FILE or AWS_CA_BUNDLE name the file of your CA's certificates"


def open_bucket(bucket: str, credentials: Credentials | None, patience: Patience, *, prefix: str = "") -> Any:
    """A store of obstore. Nobody is asked yet.

    Args:
        bucket: `s3://NAME` or `gs://NAME`.
        credentials: variables such as AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and GOOGLE_SERVICE_ACCOUNT_KEY;
            those of the environment do not count beside them. None: those of the environment.
        patience: attempts of each request.
        prefix: below which its objects are.

    Raises:
        Refused: a credential is missing or no such one is known.
    """
    from obstore import exceptions
    from obstore.store import GCSStore, S3Store

    given = credentials or {}
    if "@" in urllib.parse.urlsplit(given.get("AWS_ENDPOINT_URL", "")).netloc:
        raise Refused(bucket, "AWS_ENDPOINT_URL holds credentials", f"give them as {_KEYS_OF_AWS}")
    common: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": _client_options(given, patience),
        "retry_config": _retries(patience),
    }
    name = bucket.split("://", 1)[1]
    try:
        if bucket.startswith("gs://"):
            return GCSStore(name, config=_google(bucket, credentials), **common)
        config, static = _aws(bucket, credentials)
        # Keys as configuration would be mixed with a session token of the environment; a provider is asked
        # alone.
        return S3Store(name, config=config, credential_provider=static and (lambda: static), **common)
    except (exceptions.BaseError, ValueError, TypeError) as error:
        cure = "correct the variables of the Secret or environment (AWS_*, GOOGLE_*)"
        raise Refused(bucket, first_line(error, given), cure) from error


def first_line(error: BaseException, credentials: Mapping[str, str]) -> str:
    """What an error says, without obstore's debug output and without secrets."""
    text = str(error)
    lines = text.strip().splitlines()
    hint = next((f": {hint}" for word, hint in _HINTS.items() if word in text), "")
    return hidden((lines[0] if lines else type(error).__name__)[:300] + hint, credentials)


def _aws(bucket: str, credentials: Credentials | None) -> tuple[dict[str, str], dict[str, Any] | None]:
    """Configuration, and the keys that replace every other source of credentials."""
    if credentials is None:
        return {}, None
    config = {
        name.lower(): value
        for name, value in credentials.items()
        if name.upper().startswith("AWS_") and name.lower() not in _NOT_OBSTORES
    }
    key, secret = config.pop("aws_access_key_id", ""), config.pop("aws_secret_access_key", "")
    token = config.pop("aws_session_token", "") or config.pop("aws_token", "")
    if key and secret:
        return config, {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": token or None,
            "expires_at": None,
        }
    if config.get("aws_skip_signature", "").lower() in ("1", "true"):
        return config, None
    found = ", ".join(sorted(credentials)) or "none"
    raise Refused(bucket, f"the Secret lacks {_KEYS_OF_AWS}; its keys are {found}", "add them to it")


def _google(bucket: str, credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        return {}
    config = {
        name.lower(): value
        for name, value in credentials.items()
        if name.upper().startswith("GOOGLE_") and name.upper() != "GOOGLE_APPLICATION_CREDENTIALS"
    }
    if content := credentials.get("GOOGLE_APPLICATION_CREDENTIALS"):
        if content.lstrip().startswith("{"):
            config["google_service_account_key"] = content
        else:
            config["google_application_credentials"] = content
    if key := config.get("google_service_account_key"):
        _check_service_account(bucket, key)
    if not config:
        found = ", ".join(sorted(credentials)) or "none"
        cause = f"the Secret lacks GOOGLE_SERVICE_ACCOUNT_KEY; its keys are {found}"
        raise Refused(bucket, cause, "add the JSON of a service account's key to it")
    return config


def _check_service_account(bucket: str, key: str) -> None:
    try:
        kind = json.loads(key).get("type", "service_account")
    except (ValueError, AttributeError):
        kind = "no JSON object"
    if kind != "service_account":
        cure = "put the JSON of a service account's key there"
        raise Refused(bucket, f"the Google credentials in the Secret are {kind!r}", cure)


def _client_options(credentials: Credentials, patience: Patience) -> dict[str, Any]:
    options: dict[str, Any] = {
        "connect_timeout": _CONNECT,
        "read_timeout": datetime.timedelta(seconds=patience.timeout),
        "timeout": _LONGEST,
    }
    # Options given here replace those of the environment, so this one is passed on by hand.
    endpoint = credentials.get("AWS_ENDPOINT_URL") or credentials.get("AWS_ENDPOINT") or ""
    allowed = credentials.get("AWS_ALLOW_HTTP") or os.environ.get("AWS_ALLOW_HTTP", "")
    if endpoint.startswith("http://") or allowed.lower() in ("1", "true"):
        options["allow_http"] = True
    if (path := ca_file(credentials, "AWS_CA_BUNDLE")) is not None:
        options["root_certificate"] = path.read_bytes()
    return options


def _retries(patience: Patience) -> dict[str, Any]:
    return {
        "max_retries": patience.attempts - 1,
        "backoff": {
            "init_backoff": datetime.timedelta(seconds=patience.first_pause),
            "max_backoff": datetime.timedelta(seconds=patience.first_pause * 2**patience.attempts),
            "base": 2,
        },
        "retry_timeout": datetime.timedelta(seconds=patience.total),
    }
