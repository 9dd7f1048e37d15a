"""What front.json says of how candidates were made."""

from pathlib import Path

import pytest
from paretune.search.front import FrontDocument, front_document
from paretune.search.made_with import made_with
from paretune.search.objectives import resolve
from paretune_contract.dataset import Split
from paretune_contract.stages import IntakeResult
from support.simulated import SimulatedStages, simulated_engine, simulated_intake, simulated_study
from unit.search.toy_study import search, spec, study


def test_a_study_on_this_machine_says_what_its_candidates_were_made_from(tmp_path: Path) -> None:
    engine = simulated_engine(tmp_path, SimulatedStages(), simulated_study(3))
    engine.run()
    front = FrontDocument.model_validate_json((tmp_path / "front.json").read_text())
    made, intake = front.study.made_with, simulated_intake(tmp_path)
    assert made is not None
    assert intake.model is not None
    assert made.model.same(intake.model)
    assert made.training == intake.training
    assert made.threads == engine.capacity.compress_cores
    assert made.data == {s: s.value for s in (Split.TRAIN, Split.CALIBRATION, Split.EVALUATION)}


def test_a_front_without_it_is_read_as_before() -> None:
    document = front_document(study(spec()), "u", 0, resolve(spec()), search(spec(), 5))
    plain = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert plain["study"] == {"name": "toy", "uid": "u", "seed": 0}
    assert FrontDocument.model_validate(plain).study.made_with is None


def test_one_source_that_two_converters_read_is_one_model(tmp_path: Path) -> None:
    intake = simulated_intake(tmp_path)
    made = made_with(intake, {}, None)
    assert intake.model is not None
    assert made.model.same(intake.model.model_copy(update={"sha256": "2" * 64}))
    assert made.model.same(intake.model.model_copy(update={"source_sha256": "2" * 64}))
    other = {"sha256": "2" * 64, "source_sha256": "2" * 64}
    assert not made.model.same(intake.model.model_copy(update=other))


def test_an_intake_without_a_model_says_nothing() -> None:
    with pytest.raises(ValueError, match="no model"):
        made_with(IntakeResult(), {}, None)
