"""`kubectl paretune fetch`: a model, from the study's store to here."""

import hashlib
from pathlib import Path

import click
from paretune_contract.failure import StageError
from paretune_contract.task import CLAIMS, Store, candidate_name
from paretune_store.errors import NotThere, Refused, TooLarge
from paretune_store.objects import ObjectStore
from paretune_store.retries import Patience

from ...api.trial import TrialArtifact
from ...cluster.reading import Cluster
from ...cluster.tasks import claim_of
from ..errors import BadInput, Failed
from .artifacts import TRACKING, away, opened, store_of_study
from .options import in_cluster
from .study import ReadStudy, read_study

PATIENCE = Patience(attempts=2, first_pause=0.5, timeout=30.0)


@click.command(short_help="Bring a trial's model here, checked.")
@click.argument("study")
@click.argument("trial")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write. Default: TRIAL.tflite.",
)
@click.option(
    "--tracking-uri",
    envvar=TRACKING,
    metavar="URI",
    help="The study's MLflow server as it is reached from here, such as http://localhost:5000.",
)
@in_cluster
def fetch(cluster: Cluster, study: str, trial: str, output: Path | None, tracking_uri: str | None) -> None:
    """Bring the model of a TRIAL of STUDY here and check it against the sha256 in its record.

    TRIAL is a number, a name, `knee` or `best-METRIC` (as `best-accuracy`). After the end of a study, the
    store has the front and the baseline, unless the study says `retain: all`.

    The store is asked with your own credentials: s3 and gs as their tools find them (AWS_*, GOOGLE_*), MLflow
    by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN. An MLflow inside the
    cluster is reached through `kubectl port-forward service/mlflow 5000` and
    `--tracking-uri http://localhost:5000`.
    """
    read = read_study(cluster, study)
    record = read.trial(trial)
    artifact = record.status.artifact
    if artifact is None:
        message = f": {record.status.message}" if record.status.message else ""
        raise BadInput(f"trial {record.number}: has made no model ({record.status.state.value}{message})")
    path = output or Path(f"{record.metadata.name}.tflite")
    if not path.parent.is_dir():
        raise BadInput(f"--output {path}: there is no folder {path.parent}")
    store = store_of_study(read, tracking_uri)
    _not_on_a_volume(read, store, artifact)
    try:
        _download(store, opened(read, store, PATIENCE), artifact, path)
    except StageError as error:
        raise away(error, read, store, trial) from error
    click.echo(f"{path}: {artifact.bytes:,} bytes, sha256 {artifact.sha256}")


def _download(store: Store, objects: ObjectStore, artifact: TrialArtifact, path: Path) -> None:
    coming = path.with_name(f".{path.name}.part")
    try:
        objects.get(candidate_name(store, artifact.sha256), coming, artifact.bytes)
        with coming.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != artifact.sha256:
            raise Failed(
                f"{objects.uri}: the file has sha256 {found}, and the record says {artifact.sha256}; the "
                "store's copy is damaged or was replaced, and nothing was written"
            )
        coming.replace(path)
    except NotThere as error:
        raise BadInput(
            f"{error}; models off the front are removed at a study's end (`spec.artifacts.retain: all` keeps "
            "them), and --tracking-uri must name the study's own server"
        ) from error
    except TooLarge as error:
        raise Failed(f"{objects.uri}: {error}, as the record says; the store's copy was replaced") from error
    except Refused as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise BadInput(f"--output {path}: {error.strerror}") from error
    finally:
        coming.unlink(missing_ok=True)


def _not_on_a_volume(read: ReadStudy, store: Store, artifact: TrialArtifact) -> None:
    claim = claim_of(read.study.spec.artifacts.uri)
    if claim is None:
        return
    namespace = read.raw["metadata"]["namespace"]
    root = store.uri.removeprefix(f"{CLAIMS}/{claim.name}").strip("/")
    name = "/".join(part for part in (root, candidate_name(store, artifact.sha256)) if part)
    raise BadInput(
        [
            f"study {read.name}: its artifacts are on the volume claim {claim.name}, which only pods reach. "
            f"With a pod in namespace {namespace} that mounts it at /artifacts:",
            f"  kubectl cp -n {namespace} POD:/artifacts/{name} model.tflite",
            f"  echo '{artifact.sha256}  model.tflite' | sha256sum --check",
        ]
    )
