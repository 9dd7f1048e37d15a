"""A finished run whose stages were simulated, with the documents that `paretune apply` reads."""

import json
import shutil
from pathlib import Path

from paretune.local.accept import intake_request
from paretune.local.workdir import WorkDirectory

from .simulated import SimulatedStages, simulated_engine, simulated_intake, simulated_study

TRIALS = 12


def simulated_run(folder: Path) -> WorkDirectory:
    """The work directory of a finished study."""
    simulated_engine(folder, SimulatedStages(), simulated_study(TRIALS)).run()
    return _documents(WorkDirectory(folder))


def copied_run(finished: WorkDirectory, folder: Path) -> WorkDirectory:
    """The same run elsewhere."""
    shutil.copytree(finished.root, folder)
    return _documents(WorkDirectory(folder))


def _documents(work: WorkDirectory) -> WorkDirectory:
    """Manifest and intake; the files of model and data, which nobody reads, lie in the folder itself."""
    study = simulated_study(TRIALS)
    document = study.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document |= {"apiVersion": study.api_version, "kind": study.kind}
    work.manifest.write_text(json.dumps(document))
    request = intake_request(study, work.root, work.cache)
    work.write_intake(request, simulated_intake(work.root))
    for uri in (request.model_uri, *(one.uri for one in request.dataset.values())):
        Path(uri).touch()
    return work
