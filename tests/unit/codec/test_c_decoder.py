"""The decoder in C reads what Python writes, and refuses the rest without a fault."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from paretune_codec import CorruptPtz, pack, unpack
from support.made_int8 import clustered_floats, int8_network
from support.made_tflite import image_classifier
from support.ptz_prior import network

SOURCE = Path(__file__).parents[3] / "jobs/codec/c"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(
    COMPILER is None and "CI" not in os.environ,
    reason="needs a C compiler, `cc`; with CI set it must be there",
)
STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
CHECKED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def _compiled(folder: Path, *options: str) -> Path:
    program = folder / "unpack"
    sources = [str(SOURCE / "main.c"), str(SOURCE / "ptz.c")]
    done = subprocess.run(
        [COMPILER or "cc", *options, "-o", str(program), *sources],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decoder with the compiler's checks of memory and arithmetic, where it has them."""
    folder = tmp_path_factory.mktemp("c")
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    probe = [COMPILER or "cc", *CHECKED, "-o", str(folder / "empty"), str(empty)]
    has_checks = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return _compiled(folder, *STRICT, *(CHECKED if has_checks else []))


def _unpacked(program: Path, container: bytes, folder: Path, *more: str) -> bytes | None:
    """What the decoder makes; None when it refuses."""
    given, made = folder / "in.ptz", folder / "out.tflite"
    given.write_bytes(container)
    made.unlink(missing_ok=True)
    done = subprocess.run(
        [str(program), str(given), str(made), *more], text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    assert "ERROR" not in done.stderr, done.stderr
    return made.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize("more", [[], ["by tensor"]], ids=["whole", "by tensor"])
@pytest.mark.parametrize("effort", [0, 1_000_000])
@pytest.mark.parametrize("kind", ["clustered", "dense", "dead"])
def test_int8_files_come_back(program: Path, tmp_path: Path, kind: str, effort: int, more: list[str]) -> None:
    file = int8_network(4, kind, names=kind != "dead")

    assert _unpacked(program, pack(file, effort=effort, zstd=False), tmp_path, *more) == file


def test_other_files_come_back(program: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(500)
    files = [
        image_classifier(tmp_path / "m.tflite").read_bytes(),
        clustered_floats(),
        network(names=True),
        noise,
        b"",
    ]
    for file in files:
        for effort in (0, 1_000_000):
            assert _unpacked(program, pack(file, zstd=False, effort=effort), tmp_path) == file


def test_what_zstd_coded_is_refused(program: Path, tmp_path: Path) -> None:
    container = pack(b"no tflite " * 100)

    assert container[4] == 1
    assert _unpacked(program, container, tmp_path) is None


def test_damaged_containers_are_refused_without_a_fault(program: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    originals = [
        (pack(file, effort=effort, zstd=False), file)
        for file, effort in ((int8_network(5, "dead"), 10**6), (int8_network(6, "clustered"), 0))
    ]
    refused = 0
    for i in range(60):
        container, file = originals[i % 2]
        damaged = bytearray(container)
        for _ in range(int(rng.integers(1, 3))):
            reach = len(damaged) if rng.random() < 0.5 else 300
            damaged[int(rng.integers(22, reach))] = int(rng.integers(0, 256))
        made = _unpacked(
            program, bytes(damaged[: rng.integers(30, len(damaged))] if i % 5 == 0 else damaged), tmp_path
        )
        refused += made is None
        assert made in (None, file)
        if made is None and i % 4 == 0 and i % 5:
            with pytest.raises(CorruptPtz):
                unpack(bytes(damaged), max_decisions=300_000)

    assert refused > 45


def test_it_compiles_for_small_machines(tmp_path: Path) -> None:
    """With the limits of a microcontroller the decoder's state stays small."""
    probe = tmp_path / "size.c"
    probe.write_text(
        '#include "ptz.h"\n#include <stdio.h>\nint main(void) { printf("%zu", sizeof(ptz)); return 0; }\n'
    )
    limits = [
        "TENSORS=64",
        "CONSTANTS=32",
        "PLACES=192",
        "LAYOUTS=48",
        "KEYS=96",
        "COLUMNS=576",
        "CLASSES=512",
    ]
    options = [f"-DPTZ_MAX_{limit}" for limit in limits]
    program = tmp_path / "size"
    subprocess.run(
        [COMPILER or "cc", *STRICT, *options, f"-I{SOURCE}", "-o", str(program), str(probe)], check=True
    )
    size = int(subprocess.run([str(program)], text=True, capture_output=True, check=True).stdout)

    assert size < 128 * 1024
