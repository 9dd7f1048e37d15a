"""Bytes and seconds of coders on the same tensors: the integer kernels of files, or of made-up networks.

General compressors get all kernels of a file as one stream; Huffman, rANS and the codec code each by itself,
tables included. Huffman and rANS are measured by allowing the codec nothing else. Seconds are of decoding:
the kernels alone in Python, the whole container in C, where there is a compiler. brotli and nncodec
(DeepCABAC) are measured when they are installed.
"""

import hashlib
import importlib.util
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from container_sizes import decoder as compiled
from container_sizes import files, xz
from paretune_codec import huffman, rans, static
from paretune_codec.constants import INT4, INT8, PLANES, UINT8, Constants, Job, Plan
from paretune_codec.container import DIGEST_BYTES, EFFORT, MAGIC, NATIVE, VERSION
from paretune_codec.mixing import Coder
from paretune_codec.prior import primed
from paretune_codec.scales import Scales
from paretune_codec.structure import Walk
from paretune_codec.view import graphs

SMALLEST = 64
"""Elements of a kernel at least."""
HUFFMAN, RANS = 1, 2
UNARY = 10
"""Magnitudes up to this are unary in DeepCABAC, NNCodec's default."""
Choose = Callable[[Plan, bytes, Job], Plan]


@dataclass
class Result:
    """Bytes of the kernels in one coder, and seconds of decoding; None where there are none."""

    name: str
    bytes: int | None
    seconds: float | None = None
    seconds_in_c: float | None = None


class Kernels(Constants):
    """The constants of a file; notes bytes and seconds of its kernels, coded as `choose` says."""

    choose: Choose | None = None
    bytes = 0
    seconds = 0.0
    contents: list[tuple[Job, bytes]]

    def _plans(self, *arguments: Any) -> dict[int, Plan]:
        plans = super()._plans(*arguments)
        self.contents = []
        return plans

    def _constant(self, job: Job, plan: Plan | None) -> list[int]:
        if job.type not in (INT8, UINT8, INT4) or job.role != 1 or job.count < SMALLEST:
            return super()._constant(job, plan)
        if plan is not None:
            content = self._content(job.constant)
            self.contents.append((job, content))
            if self.choose is not None:
                plan = self.choose(plan, content, job)
        before, begin = self._written(), time.perf_counter()
        classes = super()._constant(job, plan)
        self.seconds += time.perf_counter() - begin
        self.bytes += self._written() - before
        return classes

    def _written(self) -> int:
        return self._numbers.coder.length + self._side.length


def _only(coder: int) -> Choose:
    def choose(plan: Plan, content: bytes, job: Job) -> Plan:
        counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256).tolist()
        table = huffman.lengths_of(counts) if coder == HUFFMAN else rans.frequencies(counts)
        return Plan([PLANES], [static.Plane(coder, 0.0, table)])

    return choose


def _coded(name: str, file: bytes, choose: Choose | None, program: Path | None) -> tuple[Result, Kernels]:
    """The file in a container with its kernels coded by `choose`, and back again."""
    coder, side, data = Coder(), static.Side(), bytearray(file)
    numbers = primed(coder)
    found = Walk(numbers, data).run()
    Scales(numbers, data).run(graphs(data))
    kernels = Kernels(numbers, side, data, EFFORT)
    kernels.choose = choose
    kernels.run(graphs(data), found)
    stream = coder.finish()

    data = bytearray(len(file))
    numbers = primed(Coder(stream))
    found = Walk(numbers, data).run()
    Scales(numbers, data).run(graphs(data))
    back = Kernels(numbers, static.Side(side.content), data)
    back.run(graphs(data), found)
    assert data == file
    payload = _varint(len(side.content)) + side.content + stream
    return Result(name, kernels.bytes, back.seconds, _seconds_in_c(payload, file, program)), kernels


def _seconds_in_c(payload: bytes, file: bytes, program: Path | None) -> float | None:
    """None without a compiler, and where the file is beyond the decoder's limits."""
    if program is None:
        return None
    given, made = program.with_name("in.ptz"), program.with_name("out.tflite")
    header = MAGIC + bytes([VERSION, NATIVE]) + hashlib.sha256(file).digest()[:DIGEST_BYTES]
    given.write_bytes(header + _varint(len(file)) + payload)
    begin = time.perf_counter()
    done = subprocess.run([str(program), str(given), str(made)], capture_output=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode == 1:
        return None
    assert done.returncode == 0
    assert made.read_bytes() == file
    return seconds


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def _general(
    name: str, data: bytes, pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> Result:
    packed = pack(data)
    begin = time.perf_counter()
    result = unpack(packed)
    seconds = time.perf_counter() - begin
    assert result == data
    return Result(name, len(packed), seconds)


def _brotli(data: bytes) -> Result:
    try:
        import brotli
    except ImportError:
        return Result("brotli-11", None)
    return _general("brotli-11", data, lambda d: brotli.compress(d, quality=11, lgwin=24), brotli.decompress)


def _deepcabac(contents: Sequence[tuple[Job, bytes]]) -> Result:
    """The integers as they are, each tensor by itself: by rows or columns, empty ones marked or not.

    Its extension alone is loaded: the package around it asks for torch and an old NumPy.
    """
    found = importlib.util.find_spec("nncodec")
    if found is None or not found.submodule_search_locations:
        return Result("DeepCABAC", None)
    [path] = Path(found.submodule_search_locations[0]).glob("extensions/deepCABAC*.so")
    spec = importlib.util.spec_from_file_location("deepCABAC", path)
    assert spec is not None
    assert spec.loader is not None
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    total, seconds = 0, 0.0
    for job, content in contents:
        values = _integers(job, content)
        ways = [
            _nnc(extension, np.ascontiguousarray(m), skips) for m in (values, values.T) for skips in (0, 1)
        ]
        length, spent = min(ways)
        total, seconds = total + length, seconds + spent
    return Result("DeepCABAC", total, seconds_in_c=seconds)


def _nnc(extension: Any, values: Any, skips: int) -> tuple[int, float]:
    """Bytes of an int32 matrix, and seconds of decoding it. skips: empty rows are marked (1) or not (0)."""
    off, none = extension.HdspMode.AlwaysOff, np.zeros(1, np.int8)
    empty = np.array([not row.any() for row in values], np.int32) * skips
    encoder = extension.Encoder()
    encoder.initCtxModels(UNARY, 1)
    encoder.encodeLayer(values, 0, 0, skips, 0, skips, empty, off, none, 0, 0)
    stream = encoder.finish()
    begin = time.perf_counter()
    decoder = extension.Decoder()
    decoder.setStream(stream)
    decoder.initCtxModels(UNARY)
    result = np.zeros_like(values)
    decoder.decodeLayer(result, 0, 0, skips, 0, off, none, 0, 0)
    seconds = time.perf_counter() - begin
    assert np.array_equal(result, values)
    return len(stream.tobytes()), seconds


def _integers(job: Job, content: bytes) -> Any:
    """int32 [rows, columns]."""
    if job.type == INT4:
        raw = np.frombuffer(content, np.uint8)
        values = np.stack([raw & 15, raw >> 4], axis=1).ravel().astype(np.int32)
        values = np.where(values > 7, values - 16, values)
    else:
        values = np.frombuffer(content, np.int8 if job.type == INT8 else np.uint8).astype(np.int32)
    rows, columns, _ = job.matrix()
    return values.reshape(columns, rows).T.copy() if job.is_depthwise else values.reshape(rows, columns)


def measured(file: bytes, program: Path | None) -> list[Result]:
    """A result of each coder; none for files without integer kernels."""
    ours, kernels = _coded("ours", file, None, program)
    data = b"".join(content for _, content in kernels.contents)
    if not data:
        return []
    zstd = zstandard.ZstdCompressor(level=22)
    return [
        Result("raw", len(data)),
        _general("zstd-22", data, zstd.compress, zstandard.ZstdDecompressor().decompress),
        _brotli(data),
        _general("xz", data, xz, lzma.decompress),
        _coded("canonical Huffman", file, _only(HUFFMAN), program)[0],
        _coded("static rANS", file, _only(RANS), program)[0],
        _deepcabac(kernels.contents),
        ours,
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main() -> None:
    """Print one table for each file."""
    with tempfile.TemporaryDirectory() as name:
        program = compiled(Path(name))
        for label, file in files(sys.argv[1:]):
            results = measured(file, program)
            print(f"\n{label}: {'kernels' if results else 'no integer kernels'}\n")
            if not results:
                continue
            print("| coder | bytes | bits a weight byte | Python s | C s |\n|---|---|---|---|---|")
            for r in results:
                bits = None if r.bytes is None else 8 * r.bytes / (results[0].bytes or 1)
                cells = (
                    r.name,
                    "-" if r.bytes is None else r.bytes,
                    _cell(bits),
                    _cell(r.seconds),
                    _cell(r.seconds_in_c),
                )
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
