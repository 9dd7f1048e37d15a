"""Child process: loads a .tflite, runs it once and reports its own peak memory as one line of JSON.

`python -m paretune_benchmark.probe PATH THREADS`. A file that brings down the runtime brings down this
process only. Exit status 0: `{"peak": BYTES, "seconds": S}`; 3: `{"error": MESSAGE}`.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from paretune_contract.failure import StageError

REFUSED = 3
_PR_SET_PDEATHSIG = 1


def peak_resident_bytes() -> int:
    """Peak resident set of this process image.

    On Linux VmHWM, since getrusage counts what the parent had before exec, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def main() -> int:
    """Run the model named on the command line once."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the runtime prints is no reply
    path, threads = Path(sys.argv[1]), int(sys.argv[2])
    from .runtime import Model

    try:
        seconds = Model(path, threads, path.name).run(1)
    except StageError as error:
        reply.write(json.dumps({"error": error.message}))
        return REFUSED
    finally:
        reply.flush()
    reply.write(json.dumps({"peak": peak_resident_bytes(), "seconds": seconds}))
    reply.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
