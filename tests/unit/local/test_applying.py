"""A recipe followed with stages that answer by formula: what they are asked, and what is said meanwhile."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paretune.local.applying import Applied, Job, NotTheSame, follow
from paretune.local.calls import StageFailed, Watcher
from paretune.local.capacity import cores_here
from paretune.local.recipes import Recipe
from paretune.local.sources import Sources
from paretune.local.workdir import WorkDirectory
from paretune.local.workers import Call
from paretune.search.front import FrontStudy
from paretune.search.made_with import made_with
from paretune_contract.dataset import DataRequest, Split
from paretune_contract.failure import Reason
from paretune_contract.settings import Settings
from paretune_contract.stages import CompressRequest, IntakeRequest, IntakeResult, Result
from support.simulated import SimulatedStages, simulated_intake

INT8 = Settings.model_validate({"quantization": {"scheme": "int8"}})
SPARSE = Settings.model_validate({"sparsity": {"pattern": "unstructured", "level": 0.5}})
EVALUATED = frozenset({Split.CALIBRATION, Split.EVALUATION})
Change = Callable[[IntakeResult], IntakeResult]


class Answering(SimulatedStages):
    """Simulated stages that answer intake too, and keep what they were asked."""

    def __init__(self, folder: Path, change: Change = lambda intake: intake, epochs: bool = False) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self._folder, self._change, self._epochs = folder, change, epochs
        self._answers = 0

    def submit(self, call: Call) -> None:
        self.requests.append(call.request)
        self._calls.append(call)

    def wait(self, seconds: float) -> list[tuple[Call, Result]]:
        call = self._calls[0]
        if self._epochs and isinstance(call.request, CompressRequest) and not call.log.exists():
            call.log.write_text("Created a delegate\nepoch 1/2: loss 0.5\nepoch 2/2: lo")
            return []
        if self._epochs and isinstance(call.request, CompressRequest):
            with call.log.open("a") as log:
                log.write("ss 0.25\n")
        return super().wait(seconds)

    def _result(self, call: Call) -> Result:
        if isinstance(call.request, CompressRequest):
            return super()._result(call)
        assert isinstance(call.request, IntakeRequest)
        found = simulated_intake(self._folder)
        data = {split: info for split, info in found.data.items() if split in call.request.dataset}
        training = found.training if Split.TRAIN in data else None
        return self._change(found.model_copy(update={"data": data, "training": training}))


class Heard(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.worked: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def working(self, what: str, seconds: float) -> None:
        self.worked.append(what)


def other_model(intake: IntakeResult) -> IntakeResult:
    assert intake.model is not None
    other = {"sha256": "2" * 64, "source_sha256": "2" * 64}
    return intake.model_copy(update={"model": intake.model.model_copy(update=other)})


class Place:
    """A folder in which recipes are followed."""

    def __init__(self, folder: Path) -> None:
        self.work = WorkDirectory(folder)
        self.work.create()
        self.heard = Heard()
        self.requests: list[Any] = []

    def follow(
        self, recipe: Recipe, splits: frozenset[Split] = frozenset(), *, change: Change = lambda i: i,
        epochs: bool = False, **job: Any,
    ) -> Applied:  # fmt: skip
        data = {split: DataRequest(uri=f"{split.value}.npz") for split in splits}
        sources = Sources(data=data, metrics=("accuracy",))
        stages = Answering(self.work.root, change, epochs)
        self.requests = stages.requests
        job = {"sources": sources, "cache": self.work.cache, **job}
        return follow(Job(recipe, "model.keras", work=self.work, **job), self.heard, lambda _: stages)

    def compress_request(self) -> CompressRequest:
        return next(r for r in self.requests if isinstance(r, CompressRequest))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def recorded(settings: Settings, threads: int | None = 1, **training: Any) -> Recipe:
    """A recipe of the simulated model."""
    made = made_with(simulated_intake(Path()), {"litert-quantizer": "0.11.0"}, threads)
    if training:
        assert made.training is not None
        made = made.model_copy(update={"training": made.training.model_copy(update=training)})
    study = FrontStudy(name="s", uid="u", seed=0, made_with=made)
    return Recipe(settings, trial=7, study=study, sha256="ab" * 32)


def test_on_its_own_model_a_recipe_is_followed_with_the_recorded_training(place: Place) -> None:
    applied = place.follow(recorded(SPARSE, epochs=9), frozenset({Split.TRAIN}))
    request = place.compress_request()
    assert applied.same_model is True
    assert request.training is not None
    assert request.training.epochs == 9
    assert request.threads == 1
    assert request.settings == SPARSE
    assert applied.made_with.training == request.training


def test_on_another_model_training_is_resolved_anew_and_takes_all_cores(place: Place) -> None:
    applied = place.follow(recorded(SPARSE, epochs=9), frozenset({Split.TRAIN}), change=other_model)
    request = place.compress_request()
    assert applied.same_model is False
    assert request.training == simulated_intake(Path()).training
    assert request.threads == len(cores_here())


def test_with_other_training_data_training_is_resolved_anew(place: Place) -> None:
    def change(intake: IntakeResult) -> IntakeResult:
        info = intake.data[Split.TRAIN].model_copy(update={"digest": "other"})
        return intake.model_copy(update={"data": {**intake.data, Split.TRAIN: info}})

    place.follow(recorded(SPARSE, epochs=9), frozenset({Split.TRAIN}), change=change)
    training = place.compress_request().training
    assert training is not None
    assert training.epochs == 2


@pytest.mark.parametrize(
    ("recorded_threads", "asked", "used"), [(10_000, None, 0), (1, 3, 3), (None, None, 0)]
)
def test_threads_are_the_recorded_ones_as_far_as_there_are_cores_unless_asked(
    place: Place, recorded_threads: int | None, asked: int | None, used: int
) -> None:
    place.follow(recorded(INT8, threads=recorded_threads), EVALUATED, threads=asked)
    assert place.compress_request().threads == (used or len(cores_here()))


def test_with_evaluation_data_the_float_model_is_evaluated_too(place: Place) -> None:
    applied = place.follow(recorded(INT8), EVALUATED)
    assert applied.float_model is not None
    assert applied.float_model.metrics["accuracy"].value > applied.result.metrics["accuracy"].value
    first, second = (r for r in place.requests if isinstance(r, CompressRequest))
    assert (first.settings, second.settings) == (INT8, Settings())
    assert first.reference == second.reference
    assert first.reference is not None
    assert first.reference.sha256 == applied.model.sha256


def test_without_evaluation_data_nothing_is_evaluated(place: Place) -> None:
    applied = place.follow(recorded(INT8), frozenset({Split.CALIBRATION}))
    assert applied.float_model is None
    assert place.compress_request().metrics == ()


def test_the_untouched_model_is_evaluated_once(place: Place) -> None:
    place.follow(recorded(Settings()), frozenset({Split.EVALUATION}))
    assert sum(isinstance(r, CompressRequest) for r in place.requests) == 1


def test_a_model_that_cannot_be_trained_is_refused_with_the_operators_in_its_way(place: Place) -> None:
    def change(intake: IntakeResult) -> IntakeResult:
        assert intake.model is not None
        model = intake.model.model_copy(update={"untrainable": ("CUSTOM",)})
        return intake.model_copy(update={"model": model, "training": None})

    with pytest.raises(
        StageFailed, match="sparsity needs fine-tuning, and no gradient passes through CUSTOM"
    ):
        place.follow(recorded(SPARSE), frozenset({Split.TRAIN}), change=change)
    assert not any(isinstance(r, CompressRequest) for r in place.requests)


def test_when_the_same_model_is_expected_another_one_goes_no_further(place: Place) -> None:
    with pytest.raises(NotTheSame, match=r"model\.keras is not the model of trial 7"):
        place.follow(recorded(INT8), EVALUATED, change=other_model, same_only=True)
    assert not any(isinstance(r, CompressRequest) for r in place.requests)


def test_whether_the_model_is_the_same_is_unknown_where_nothing_records_it(place: Place) -> None:
    recipe = replace(recorded(INT8), study=None)
    assert place.follow(recipe, EVALUATED, same_only=True).same_model is None


def test_layers_of_the_recipe_are_looked_for_before_data_are_read(place: Place) -> None:
    def change(intake: IntakeResult) -> Any:
        return Result(reason=Reason.LAYER_NOT_FOUND, message="space.layers[0].match: '^x' matches no layer")

    settings = Settings.model_validate({"layers": [{"match": "^x", "sparsity": {"pattern": "2:4"}}]})
    with pytest.raises(StageFailed, match=r"^settings\.layers\[0\]\.match: '\^x'"):
        place.follow(recorded(settings), frozenset({Split.TRAIN}), change=change)
    assert place.requests[0].layers == ("^x",)


def test_epochs_are_told_as_the_log_has_them(place: Place) -> None:
    place.follow(recorded(SPARSE), frozenset({Split.TRAIN}), epochs=True)
    assert place.heard.said == [
        "Reading model and data",
        "Compressing: 50% sparse",
        "  epoch 1/2: loss 0.5",
        "  epoch 2/2: loss 0.25",
    ]
    assert place.heard.worked == ["Compressing: 50% sparse"]


def test_a_failure_that_explains_little_brings_the_end_of_its_log(place: Place) -> None:
    def change(intake: IntakeResult) -> Any:
        (place.work.logs / "intake.log").write_text("one\ntwo\n")
        return Result(reason=Reason.CRASHED, message="The stage process ended with SIGSEGV")

    with pytest.raises(StageFailed) as failed:
        place.follow(recorded(INT8), EVALUATED, change=change)
    assert failed.value.tail == ("one", "two")
    shutil.rmtree(place.work.logs)
