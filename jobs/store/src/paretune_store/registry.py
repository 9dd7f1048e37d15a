"""Models of MLflow's registry: from `models:/NAME/VERSION` to the file or SavedModel in the version's
artifacts."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from .buckets import download as download_from_bucket
from .buckets import relative_name
from .credentials import Credentials, environment
from .errors import TooLarge, Unreadable
from .files import whole_file
from .mlflow_http import Missing, MlflowServer, artifact_path, save
from .uris import Location, Place, locate

SERVER = "MLFLOW_TRACKING_URI"
SUFFIXES = (".tflite", ".keras", ".h5")
_SAVED_MODEL = "saved_model.pb"
_TIMEOUT = 60.0
_MOST_FILES = 10_000
_API = "/api/2.0/mlflow"


def download(location: Location, folder: Path, limit_bytes: int, credentials: Credentials | None) -> Path:
    """Stream a registered model to `folder`, under the name that it has in the artifacts.

    Args:
        location: of `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        folder: where it goes.
        limit_bytes: most bytes, over all files.
        credentials: MLFLOW_TRACKING_URI and what `MlflowServer` takes, and those of the bucket where the
            server does not serve its artifacts itself. None: from the environment.

    Returns:
        The `.tflite`, `.keras` or `.h5` file, or the folder of a SavedModel.

    Raises:
        Unreadable: there is no such version, it has no model of these kinds or several, or it exceeds the
            limit.
        Refused: address or credentials are wrong.
        NetworkFault: the server did not answer.
    """
    server = _server(credentials)
    uri = _artifacts_of(server, location)
    if (root := artifact_path(uri)) is None:
        return _from_bucket(uri, folder, limit_bytes, credentials)
    sizes = _files(server, root)
    model = model_inside(sizes)
    wanted = {name: size for name, size in sizes.items() if name == model or name.startswith(f"{model}/")}
    if (total := sum(wanted.values())) > limit_bytes:
        raise Unreadable(f"it has {total:,} bytes; the limit is {limit_bytes:,}")
    target = folder / (PurePosixPath(model).name or "model")
    left = limit_bytes
    for name, size in wanted.items():
        path = target / name.removeprefix(f"{model}/") if name != model else target
        try:
            with whole_file(path) as file, server.download(f"{root}/{name}", _TIMEOUT) as response:
                save(response, file, name, left)
        except Missing as error:
            raise Unreadable(f"its file {name} is gone from the server") from error
        except TooLarge as error:
            raise Unreadable(str(error)) from error
        left -= size
    return target


def model_inside(names: Iterable[str]) -> str:
    """The one model among the files of an artifact folder: a file, or the folder of a SavedModel.

    Raises:
        Unreadable: there is none, or more than one; which.
    """
    found = {name for name in names if name.endswith(SUFFIXES)}
    found |= {str(PurePosixPath(name).parent) for name in names if PurePosixPath(name).name == _SAVED_MODEL}
    if len(found) == 1 and (model := found.pop()) != ".":
        return model
    kinds = "a .tflite, .keras or .h5 file or a SavedModel in a folder of its own"
    if not found:
        raise Unreadable(f"its artifacts have no model of a kind that is read: {kinds}")
    several = ", ".join(sorted(found)[:5])
    raise Unreadable(
        f"its artifacts have several models ({several}); name one by the s3, gs or https URI of its file"
    )


def _server(credentials: Credentials | None) -> MlflowServer:
    given = environment("MLFLOW_") if credentials is None else credentials
    uri = given.get(SERVER) or environment("MLFLOW_").get(SERVER, "")
    if not uri:
        raise Unreadable(
            f"{SERVER} is not set; put the address of the registry into the Secret or environment"
        )
    return MlflowServer(uri, credentials)


def _artifacts_of(server: MlflowServer, location: Location) -> str:
    name, version = location.bucket, location.key
    try:
        if version.startswith("@"):
            query = {"name": name, "alias": version[1:]}
            found = server.json("GET", f"{_API}/registered-models/alias", query, _TIMEOUT)
            version = str(_field(found, "model_version", "version"))
        query = {"name": name, "version": version}
        uri = _field(
            server.json("GET", f"{_API}/model-versions/get-download-uri", query, _TIMEOUT), "artifact_uri"
        )
        if uri.startswith("models:/m-"):  # a logged model, which has its artifacts itself
            identity = uri.removeprefix("models:/").strip("/")
            found = server.json("GET", f"{_API}/logged-models/{identity}", {}, _TIMEOUT)
            uri = _field(found, "model", "info", "artifact_uri")
    except Missing:
        raise Unreadable(f"the registry at {server.uri} has no such model and version") from None
    return uri


def _field(answer: Mapping[str, object], *names: str) -> str:
    found: object = answer
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, str | int):
        raise Unreadable(f"the registry's answer has no {'.'.join(names)}")
    return str(found)


def _files(server: MlflowServer, root: str) -> dict[str, int]:
    found: dict[str, int] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        for last, is_folder, size in server.listing(f"{root}/{folder}".rstrip("/"), _TIMEOUT):
            name = f"{folder}/{last}" if folder else last
            relative_name(f"/{name}", "/")  # raises when it is no safe file name
            if is_folder:
                folders.append(name)
            else:
                found[name] = size
            if len(found) + len(folders) > _MOST_FILES:
                raise Unreadable(f"it has more than {_MOST_FILES:,} files")
    return found


def _from_bucket(uri: str, folder: Path, limit_bytes: int, credentials: Credentials | None) -> Path:
    location = locate(uri)
    if location.place is not Place.BUCKET:
        raise Unreadable(
            f"the server keeps it at {uri[:200]}, which can't be reached from here; serve artifacts with "
            "--serve-artifacts, or keep them in a bucket"
        )
    everything = folder / ".download"
    try:
        download_from_bucket(location, everything, limit_bytes, credentials)
        names = [path.relative_to(everything).as_posix() for path in everything.rglob("*") if path.is_file()]
        model = model_inside(names)
        target = folder / PurePosixPath(model).name
        (everything / model).rename(target)
    finally:
        shutil.rmtree(everything, ignore_errors=True)
    return target
