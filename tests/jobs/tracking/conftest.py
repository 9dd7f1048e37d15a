from collections.abc import Iterator
from pathlib import Path

import pytest
from paretune.tracking.connection import connected, default_uri
from support.mlflow_server import tracking_server


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One sqlite store for all tests, since its first migration takes seconds."""
    return default_uri(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="session")
def migrated(uri: str) -> Path:
    """The database of that store."""
    with connected(uri) as client:
        client.search_experiments(max_results=1)
    return Path(uri.removeprefix("sqlite:///"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[str]:
    """A real tracking server that serves artifacts by proxy, for all tests; its database is a copy."""
    with tracking_server(tmp_path_factory.mktemp("server"), migrated) as address:
        yield address


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no dead server."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
