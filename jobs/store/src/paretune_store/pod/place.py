"""Where a container finds things."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paretune_contract import task as contract
from paretune_contract import termination
from paretune_contract.failure import Reason, StageError


@dataclass(frozen=True)
class Place:
    """Folders and files of a container.

    Attributes:
        work: shared by the containers of a pod.
        secrets, claims: below them a folder for each mounted Secret and claim.
        termination_log: what is written there becomes the termination message.
        patience: text of how long to keep trying while the store does not answer; empty: the default.
    """

    work: Path
    secrets: Path
    claims: Path
    termination_log: Path
    patience: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Place":
        """The place that the environment names, by default the one in a pod."""

        def path(variable: str, default: str) -> Path:
            return Path(environment.get(variable) or default).absolute()

        return cls(
            work=path(contract.WORK_VARIABLE, contract.WORK),
            secrets=path(contract.SECRETS_VARIABLE, contract.SECRETS),
            claims=path(contract.CLAIMS_VARIABLE, contract.CLAIMS),
            termination_log=path(contract.TERMINATION_LOG_VARIABLE, termination.PATH),
            patience=environment.get(contract.UPLOAD_SECONDS_VARIABLE, ""),
        )

    @property
    def request(self) -> Path:
        """The stage's request."""
        return self.work / contract.REQUEST

    @property
    def result(self) -> Path:
        """The stage's result."""
        return self.work / contract.RESULT

    @property
    def log(self) -> Path:
        """The last lines that the stage printed."""
        return self.work / contract.LOG

    @property
    def repeated(self) -> Path:
        """Is there when `fetch` found the result of an earlier attempt."""
        return self.work / "repeated"

    @property
    def uris(self) -> Path:
        """Local path -> URI of what `fetch` downloaded for a user."""
        return self.work / "uris.json"

    @property
    def cache(self) -> Path:
        """Steps, those that came from the store and those made here."""
        return self.work / "cache"

    @property
    def candidates(self) -> Path:
        """Finished files."""
        return self.work / "candidates"

    @property
    def intake(self) -> Path:
        """What intake left in the store, as far as it is needed."""
        return self.work / "intake"

    @property
    def upload_seconds(self) -> float:
        """How long `upload` keeps trying while the store does not answer.

        Raises:
            StageError: INTERNAL when the environment says something else than seconds.
        """
        if not self.patience:
            return contract.UPLOAD_SECONDS
        try:
            seconds = float(self.patience)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < 1e9:
            raise StageError(
                Reason.INTERNAL,
                f"{contract.UPLOAD_SECONDS_VARIABLE}: {self.patience!r} is no time; expected seconds: 1800",
            )
        return seconds
