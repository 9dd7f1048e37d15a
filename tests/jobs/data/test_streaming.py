"""Sets larger than memory: everything streams."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

LARGE = 4 << 30
BOUND = 1 << 30

SCRIPT = """
import json, resource, sys
from pathlib import Path
import numpy as np
from paretune_compress.data import PreparedSplit, prepare
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.model import TensorInfo
from paretune_store.steps import StepCache

folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
inputs = (TensorInfo(name="x", shape=(1, 256, 256, 1), dtype="FLOAT32"),)
info = prepare(DataRequest(uri=str(folder)), Split.TRAIN, inputs, StepCache(cache))
split = PreparedSplit(info, Scaling(scale=0.5, offset=1.0))
seen = total = 0
for batch in split.batches(64):
    seen += len(batch.inputs["x"])
    total += float(batch.inputs["x"][:, 0, 0, 0].sum())
order = np.random.default_rng(0).permutation(split.samples)
shuffled = 0.0
for batch in split.batches(64, indices=order):
    shuffled += float(batch.inputs["x"][:, 0, 0, 0].sum())
if sys.platform == "linux":  # getrusage would count what the parent held when it forked
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seen": seen, "total": total, "shuffled": shuffled, "peak": peak}))
"""


def test_a_set_of_4_gb_streams_through_in_less_than_1_gb(tmp_path: Path) -> None:
    samples = LARGE // (256 * 256 * 4)
    folder = tmp_path / "set"
    folder.mkdir()
    with (folder / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (samples, 256, 256, 1)}
        npy_format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + LARGE)  # a sparse file: its zeros take no room
        file.seek(start + (samples - 1) * 256 * 256 * 4)
        file.write(np.float32(8).tobytes())
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["seen"] == samples
    assert report["total"] == report["shuffled"] == samples * 1.0 + 8 * 0.5
    assert report["peak"] < BOUND
