"""`python -m paretune.tracking.serve`: writes to one MLflow server what it is asked to, one line at a time.

A process of its own keeps the client's globals, its credentials and a server that does not answer away from
the operator and from other servers. A request is a line of JSON on standard input, the reply one on standard
output; the process ends with its input or its parent.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from paretune_contract.serving import end_with_parent

from .connection import explain
from .deletion import tag_deleted
from .document import from_json
from .redact import redact_text
from .sync import SyncReport, sync
from .wanted import Detail, Parts

SHOW, DELETED = "show", "deleted"


def answer(request: dict[str, Any]) -> SyncReport:
    """Do what one request says. Never raises."""
    try:
        if request["do"] == DELETED:
            return tag_deleted(
                request["uid"], request["time"], request["uri"], seconds=float(request["seconds"])
            )
        return sync(
            from_json(Path(request["view"]).read_bytes()),
            Path(request["ledger"]),
            request["uri"],
            verify=bool(request["verify"]),
            detail=Detail(request["detail"]),
            parts=Parts.RUNS,
            seconds=float(request["seconds"]),
        )
    except Exception as error:  # a fault of ours must not look like a dead server
        return SyncReport(0, 1, redact_text(explain(error, str(request.get("uri", "")))))


def main() -> None:
    """Answer requests until standard input ends."""
    end_with_parent()
    os.nice(10)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    for line in sys.stdin:
        replies.write(json.dumps(dataclasses.asdict(answer(json.loads(line)))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
