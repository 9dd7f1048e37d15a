"""Objects as artifacts of an MLflow tracking server, by its artifact proxy (`mlflow server
--serve-artifacts`).

They lie below the folder `paretune/` of the server's artifact root, beside those of its experiments. The
server puts an upload in place when it has all of it. It lists one folder at a time, and removes a folder with
all that is in it.
"""

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from paretune_contract.failure import Reason, StageError

from .credentials import Credentials
from .errors import NotThere
from .files import whole_file
from .mlflow_http import Missing, MlflowServer, ServerFault, save
from .objects import ObjectInfo, check_name, check_prefix
from .retries import PATIENCE, Patience, persist

ROOT = "paretune"
_SLOWEST = 4 << 20
"""Bytes a second; a server that keeps artifacts in a bucket is silent for as long as it takes to bring them
there."""
_LONGEST = 900.0

_T = TypeVar("_T")


class MlflowStore:
    """Objects below `root` of a server's artifacts.

    Args:
        uri: address of the server.
        credentials: see `MlflowServer`.
        patience: how long it may be away.
        root: folder of the server's artifacts.

    Raises:
        Refused: the address or the credentials are none.
    """

    def __init__(
        self,
        uri: str,
        credentials: Credentials | None = None,
        patience: Patience = PATIENCE,
        root: str = ROOT,
    ) -> None:
        self._server = MlflowServer(uri, credentials)
        self._patience = patience
        self._root = check_name(root)

    @property
    def uri(self) -> str:
        return self._server.uri

    def put(self, name: str, path: Path) -> None:
        def attempt() -> None:
            with path.open("rb") as file:
                size = path.stat().st_size
                self._server.upload(self._path(name), file, size, self._patient_for(size))

        self._uploaded(name, attempt)

    def put_bytes(self, name: str, data: bytes) -> None:
        timeout = self._patient_for(len(data))
        self._uploaded(name, lambda: self._server.upload(self._path(name), data, len(data), timeout))

    def get(self, name: str, target: Path, limit_bytes: int) -> None:
        def attempt() -> None:
            with whole_file(target) as file:
                self._download(name, file, limit_bytes)

        self._persist(attempt)

    def get_bytes(self, name: str, limit_bytes: int) -> bytes:
        def attempt() -> bytes:
            buffer = io.BytesIO()
            self._download(name, buffer, limit_bytes)
            return buffer.getvalue()

        return self._persist(attempt)

    def exists(self, name: str) -> bool:
        check_name(name)
        return self._persist(lambda: self._is_file(name))

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        prefix = check_prefix(prefix, empty=True)
        found: list[ObjectInfo] = []
        folders = [prefix]
        while folders:
            folder = folders.pop()
            start = f"{folder}/" if folder else ""
            for name, is_folder, size in self._persist(functools.partial(self._listing, folder)):
                if is_folder:
                    folders.append(start + name)
                else:
                    found.append(ObjectInfo(start + name, size))
        return tuple(sorted(found, key=lambda info: info.name))

    def delete(self, name: str) -> None:
        def attempt() -> None:
            if self._is_file(name):  # MLflow would remove a folder of this name
                self._server.remove(self._path(name), self._patience.timeout)

        check_name(name)
        self._persist(attempt)

    def delete_prefix(self, prefix: str) -> int:
        prefix = check_prefix(prefix)
        if not (found := self.list(prefix)):
            return 0
        self._persist(lambda: self._server.remove(self._path(prefix), self._patient_for(len(found) << 20)))
        for left in self.list(prefix):  # not every store behind MLflow removes folders
            self.delete(left.name)
        return len(found)

    # --- below ----------------------------------------------------------------------------------------------

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        return persist(self.uri, attempt, self._patience)

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def _patient_for(self, size: int) -> float:
        return min(self._patience.timeout + size / _SLOWEST, max(_LONGEST, self._patience.timeout))

    def _uploaded(self, name: str, attempt: Callable[[], None]) -> None:
        check_name(name)
        try:
            self._persist(attempt)
        except StageError as error:
            # A server that refuses an upload closes the connection at once, and its answer is lost under way;
            # it refuses a question in plain words.
            if error.reason is Reason.STORE_UNAVAILABLE:
                persist(self.uri, lambda: self._is_file(name), Patience(1, 0, self._patience.timeout))
            raise

    def _download(self, name: str, file: BinaryIO, limit_bytes: int) -> None:
        path = self._path(name)
        try:
            with self._server.download(path, self._patience.timeout) as response:
                save(response, file, name, limit_bytes)
        except Missing as error:
            raise NotThere(name, self.uri) from error
        except ServerFault as error:
            if not self._is_file(name):
                raise NotThere(name, self.uri) from error
            raise

    def _listing(self, folder: str) -> Sequence[tuple[str, bool, int]]:
        path = f"{self._root}/{folder}" if folder else self._root
        return [
            (name, is_folder, size)
            for name, is_folder, size in self._server.listing(path, self._patience.timeout)
            if not name.startswith(".")  # uploads under way
        ]

    def _is_file(self, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        return any(found == last and not is_folder for found, is_folder, _ in self._listing(folder))
