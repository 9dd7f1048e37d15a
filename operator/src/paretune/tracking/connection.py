"""The way to MLflow: quiet, without telemetry, and impatient with a server that does not answer."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .redact import redact, redact_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS = "mlartifacts"

_DEFAULTS = {
    # A dead server must cost seconds: MLflow's own defaults try for four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_HASTY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
_LOGGERS = ("mlflow", "alembic", "urllib3", "sqlalchemy")
_SILENCE = ("Connection refused", "timed out", "timeout", "Max retries", "Name or service")
_ITS_OWN = frozenset({"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"})
_process = threading.RLock()


def default_uri(workdir: Path) -> str:
    """The embedded store of a work directory: `sqlite:///<workdir>/mlflow.db`."""
    return f"sqlite:///{workdir.resolve() / 'mlflow.db'}"


def artifact_root(uri: str) -> str | None:
    """Where an embedded store keeps its artifacts: beside its database. A server knows its own place."""
    parts = urlsplit(uri)
    if parts.scheme != "sqlite" or not parts.path.strip("/"):
        return None
    return (Path(parts.path[1:]).resolve().parent / ARTIFACTS).as_uri()


def ui_command(uri: str) -> str:
    """The command that opens the MLflow UI on a store, or the address where it is a server."""
    return (
        redact(uri)
        if urlsplit(uri).scheme in {"http", "https"}
        else f"mlflow ui --backend-store-uri {redact(uri)}"
    )


@contextlib.contextmanager
def connected(uri: str) -> Iterator["MlflowClient"]:
    """A client of one store; the process's environment is as before afterwards.

    Credentials are MLflow's business: it reads MLFLOW_TRACKING_USERNAME and the like from the environment.
    What the user has set there wins over the defaults here. One connection at a time in a process, since
    MLflow keeps the address in a global.
    """
    with _process:
        before = {key: os.environ.get(key) for key in (*_DEFAULTS, "MLFLOW_TRACKING_URI")}
        os.environ.update({key: value for key, value in _DEFAULTS.items() if key not in os.environ})
        try:
            import mlflow
            from mlflow.tracking import get_tracking_uri, is_tracking_uri_set

            levels = {name: logging.getLogger(name).level for name in _LOGGERS}
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            earlier = get_tracking_uri() if is_tracking_uri_set() else None
            try:
                # The embedded registry resolves models:/ URIs by the global address, not by the client's.
                mlflow.set_tracking_uri(uri)
                client = mlflow.MlflowClient(
                    tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri
                )
                _knock(client, uri, before)
                yield client
            finally:
                mlflow.set_tracking_uri(earlier)
                for name, level in levels.items():
                    logging.getLogger(name).setLevel(level)
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


def _knock(client: "MlflowClient", uri: str, user: Mapping[str, str | None]) -> None:
    """Ask a server for next to nothing with next to no patience, before anything that may take longer."""
    if urlsplit(uri).scheme not in {"http", "https"}:
        return
    hasty = {key: value for key, value in _HASTY.items() if user[key] is None}
    usual = {key: os.environ[key] for key in hasty}
    os.environ.update(hasty)
    try:
        client.search_experiments(max_results=1)
    finally:
        os.environ.update(usual)


def unanswered(error: BaseException) -> bool:
    """The store did not answer, or failed without a reason that lies in what it was asked."""
    from requests.exceptions import RequestException  # MLflow's own client

    if isinstance(error, RequestException | OSError) or _silent(str(error)):
        return True
    status = getattr(error, "get_http_status_code", int)()
    return status == 429 or (status >= 500 and getattr(error, "error_code", "") in _ITS_OWN)


def _silent(text: str) -> bool:
    return any(sign in text for sign in _SILENCE)


def explain(error: BaseException, uri: str) -> str:
    """What went wrong with a store in one sentence, without secrets, and the cure where it is known."""
    text = redact_text(" ".join(str(error).split()))
    place = redact(uri)
    if ("No module named" in text and "sqlalchemy" in text) or "mlflow[db]" in text:
        return (
            f"MLflow at {place}: an embedded store needs the whole of mlflow: pip install 'paretune[local]'"
        )
    if "403" in text and "host" in text.lower():
        return (
            f"MLflow at {place} refuses this host name (403); start the server with --allowed-hosts naming it"
        )
    if _silent(text):
        return f"MLflow at {place} does not answer"
    return f"MLflow at {place}: {type(error).__name__}: {text[:300]}"
