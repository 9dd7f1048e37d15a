"""What MLflow says of a study that was deleted: its runs stay, with a tag that tells when."""

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .connection import connected, explain, unanswered
from .records import STUDY_DELETED, STUDY_UID
from .sync import SyncReport
from .writer import StoreRefusesError, pages, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EXPERIMENTS_PER_SEARCH, _PAGE = 100, 500


def tag_deleted(uid: str, when: str, uri: str, *, seconds: float = math.inf) -> SyncReport:
    """Tag the runs of a study as those of a deleted one. Never raises; runs that have the tag keep it.

    A run that was still going is marked as killed, since nobody will end it.

    Args:
        uid: the study.
        when: time of the deletion (RFC 3339).
        uri: MLflow tracking URI.
        seconds: nothing new is begun after this time, counted from the store's first answer.
    """
    written = left = 0
    try:
        with connected(uri) as client:
            until = time.monotonic() + seconds
            for run in list(_runs(client, uid)):
                if time.monotonic() >= until:
                    left += 1
                    continue
                if run.info.status == "RUNNING":
                    client.set_terminated(run.info.run_id, status="KILLED")
                client.set_tag(run.info.run_id, STUDY_DELETED, when)
                written += 1
    except StoreRefusesError as error:
        return SyncReport(written, left, str(error))
    except Exception as error:  # MLflow raises errors of any library below it
        return SyncReport(written, left + 1, explain(error, uri), unanswered(error))
    return SyncReport(written, left)


def _runs(client: "MlflowClient", uid: str) -> Iterator[Any]:
    """Runs of the study without the tag. They may be in any experiment: its name is gone with the study."""
    where = f"tags.`{STUDY_UID}` = '{quoted(uid)}'"
    experiments = [
        experiment.experiment_id
        for experiment in pages(lambda token: client.search_experiments(max_results=_PAGE, page_token=token))
    ]
    for start in range(0, len(experiments), _EXPERIMENTS_PER_SEARCH):
        some = experiments[start : start + _EXPERIMENTS_PER_SEARCH]
        for run in pages(partial(_search, client, some, where)):
            if STUDY_DELETED not in run.data.tags:
                yield run


def _search(client: "MlflowClient", experiments: list[str], where: str, token: str | None) -> Any:
    return client.search_runs(experiments, where, max_results=_PAGE, page_token=token)
