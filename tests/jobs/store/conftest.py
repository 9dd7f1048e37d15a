"""One tracking server for all tests of this folder, since its start takes up to a minute."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mlflow_server import tracking_server


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address, and the folder of the artifacts that it serves."""
    folder = tmp_path_factory.mktemp("tracking")
    (folder / "empty.db").touch()
    with tracking_server(folder, folder / "empty.db") as uri:
        yield uri, folder / "served"
