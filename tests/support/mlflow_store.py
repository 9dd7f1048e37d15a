"""What a person would look up in MLflow."""

from typing import Any

from paretune.tracking.records import SHA256, STUDY_UID, TRIAL
from paretune.tracking.view import StudyView


class Store:
    """The runs, models and versions of one study."""

    def __init__(self, client: Any, view: StudyView) -> None:
        self.client, self.view = client, view
        self.experiment = client.get_experiment_by_name(view.study.spec.tracking.experiment or view.name)

    def runs(self) -> list[Any]:
        where = f"tags.`{STUDY_UID}` = '{self.view.uid}'"
        return list(self.client.search_runs([self.experiment.experiment_id], where, max_results=500))

    def study(self) -> Any:
        (run,) = [run for run in self.runs() if TRIAL not in run.data.tags]
        return run

    def trials(self) -> dict[int, Any]:
        found = [run for run in self.runs() if TRIAL in run.data.tags]
        by_number = {int(run.data.tags[TRIAL]): run for run in found}
        assert len(by_number) == len(found), "a trial has two runs"
        return by_number

    def models(self) -> dict[str, Any]:
        where = f"tags.`{STUDY_UID}` = '{self.view.uid}'"
        found = self.client.search_logged_models([self.experiment.experiment_id], where)
        assert len({m.tags[SHA256] for m in found}) == len(found), "a file has two models"
        return {m.tags[SHA256]: m for m in found}

    def versions(self) -> list[Any]:
        name = self.view.study.spec.tracking.registered_model or self.view.name
        return list(self.client.search_model_versions(f"name = '{name}'"))
