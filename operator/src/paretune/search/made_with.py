"""What a study's candidates were made from and with, beside their settings."""

from collections.abc import Mapping

from paretune_contract.base import TolerantDocument
from paretune_contract.dataset import Scaling, Split
from paretune_contract.model import ModelInfo
from paretune_contract.stages import IntakeResult
from paretune_contract.training import ResolvedTraining
from pydantic import Field


class MadeFrom(TolerantDocument):
    """The model that every candidate starts from."""

    source_sha256: str = Field(description="sha256 (hex) of the source; a folder's over its files.")
    sha256: str = Field(description="sha256 (hex) of the float .tflite that it became.")

    def same(self, model: ModelInfo) -> bool:
        """Whether a model is this one. One source may become two files, by two converters."""
        return self.source_sha256 == model.source_sha256 or self.sha256 == model.sha256


class MadeWith(TolerantDocument):
    """Enough, with a trial's settings, to make its file again."""

    model: MadeFrom
    data: dict[Split, str] = Field(
        default_factory=dict, description="sha256 (hex) over the arrays of each part; never of `test`."
    )
    scaling: Scaling = Field(default_factory=Scaling, description="How data become the model's inputs.")
    training: ResolvedTraining | None = Field(
        None, description="How fine-tuning is done; absent where there is nothing to train with."
    )
    seed: int = Field(0, description="Seed of fine-tuning; the search has its own.")
    threads: int | None = Field(
        None, description="Threads of a compress stage: TensorFlow adds up in another order with others."
    )
    versions: dict[str, str] = Field(
        default_factory=dict, description="Versions of Python and of the libraries, by distribution."
    )


def made_with(intake: IntakeResult, versions: Mapping[str, str], threads: int | None) -> MadeWith:
    """The document for what an intake found.

    Raises:
        ValueError: when the intake has no model.
    """
    if intake.model is None:
        raise ValueError("intake found no model")
    return MadeWith(
        model=MadeFrom(source_sha256=intake.model.source_sha256, sha256=intake.model.sha256),
        data={split: info.digest for split, info in intake.data.items() if split is not Split.TEST},
        scaling=intake.scaling,
        training=intake.training,
        threads=threads,
        versions=dict(versions),
    )
