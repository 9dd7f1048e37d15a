"""Coders that learn nothing while they go: stored bytes, zstd, and tables of Huffman codes or rANS
frequencies.

They are fast, and on dense kernels within a few hundredths of the best. Their bytes stand in a part of the
container of their own, one piece after the other; tables and lengths go through the arithmetic coder.
"""

from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from paretune_codec import huffman, rans
from paretune_codec.errors import CorruptPtz
from paretune_codec.numbers import Numbers

Bytes = NDArray[np.uint8]
_STORED, _HUFFMAN, _RANS = 0, 1, 2
_KEY_LENGTH, _KEY_CODE, _KEY_BITS, _KEY_FREQUENCY, _KEY_LANES = 32, 33, 34, 35, 36


class Side:
    """The pieces of the part for static coders: appended when encoding, taken one by one when decoding."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._position = 0
        self._pieces: list[bytes] = []
        self.length = 0
        """Bytes of the pieces that were put."""

    @property
    def count(self) -> int:
        """Pieces that were put; `rewind` goes back to so many."""
        return len(self._pieces)

    def put(self, piece: bytes) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self.length += len(piece)

    def rewind(self, count: int) -> None:
        """Forget the pieces after the first `count`."""
        self.length -= sum(map(len, self._pieces[count:]))
        del self._pieces[count:]

    def take(self, length: int) -> bytes:
        """The next piece.

        Raises:
            CorruptPtz: when fewer bytes are left.
        """
        if length > len(self._data) - self._position:
            raise CorruptPtz("a part of the container is missing")
        self._position += length
        return self._data[self._position - length : self._position]

    @property
    def content(self) -> bytes:
        """All pieces."""
        return b"".join(self._pieces)

    @property
    def is_spent(self) -> bool:
        """Whether every byte was taken."""
        return self._position == len(self._data)


@dataclass(frozen=True, slots=True)
class Plane:
    """How one byte of every element is coded, at what cost in bytes (its table's is a guess)."""

    coder: int
    cost: float
    table: list[int]


def level_of(length: int) -> int:
    """zstd's level for a file of `length` bytes and the constants in it.

    On clustered kernels 22 takes a second and a half for each MiB, 12 a fifteenth of a second, 3 a hundredth.
    """
    return 22 if length < 1 << 22 else 12 if length < 1 << 28 else 3


def compressed(data: bytes, level: int) -> bytes:
    """One zstd frame without magic, checksum and content size."""
    window = min(27, max(10, len(data).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(data),
        window_log=window,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=False,
        write_content_size=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def decompressed(data: bytes, length: int) -> bytes:
    """What `compressed` was given.

    Raises:
        CorruptPtz: when the frame is damaged or holds another number of bytes.
    """
    window = 1 << min(27, max(10, length.bit_length()))
    decoder = zstandard.ZstdDecompressor(max_window_size=window, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    try:
        with decoder.stream_reader(data) as reader:  # which trusts no length that the frame claims
            result: bytes = reader.read(length + 1)
    except zstandard.ZstdError as error:
        raise CorruptPtz(f"a zstd frame is damaged: {error}") from error
    if len(result) != length:
        raise CorruptPtz("a zstd frame has the wrong length")
    return result


def planes_of(data: bytes, size: int) -> list[Bytes]:
    """The first bytes of all elements, the second ones, and so on."""
    array = np.frombuffer(data, np.uint8)
    return [np.ascontiguousarray(array[i::size]) for i in range(size)]


def plan(data: bytes, size: int) -> list[Plane]:
    """The cheapest coder of each plane."""
    return [_plan_of(plane) for plane in planes_of(data, size)]


def _plan_of(plane: Bytes) -> Plane:
    counts = np.bincount(plane, minlength=256)
    listed = counts.tolist()
    used = int((counts > 0).sum())
    options = [Plane(_STORED, len(plane), [])]
    lengths = huffman.lengths_of(listed)
    options.append(Plane(_HUFFMAN, 4 + 0.5 * used + huffman.size_of(listed, lengths), lengths))
    table = rans.frequencies(listed)
    shares = counts[counts > 0] * (rans.BITS - np.log2(np.array(table)[counts > 0]))
    states = 2 + 2 * rans.lanes_of(len(plane))
    options.append(Plane(_RANS, 4 + 1.0 * used + states + float(shares.sum()) / 8, table))
    return min(options, key=lambda option: option.cost)


def code_planes(
    numbers: Numbers, side: Side, data: bytes, size: int, length: int, plans: list[Plane]
) -> bytes:
    """Code `length` bytes of elements of `size` bytes plane by plane; `data` and `plans` only when
    encoding.
    """
    whole = np.zeros(length, np.uint8)
    given = planes_of(data, size) if not numbers.decoding else []
    for i in range(size):
        count = len(whole[i::size])
        if numbers.decoding:
            whole[i::size] = _decode_plane(numbers, side, count, i)
        else:
            _encode_plane(numbers, side, given[i], plans[i], i)
    return whole.tobytes()


def _encode_plane(numbers: Numbers, side: Side, plane: Bytes, plan: Plane, i: int) -> None:
    numbers.unsigned(_KEY_CODE, plan.coder, i)
    if plan.coder == _STORED:
        side.put(plane.tobytes())
        return
    _code_table(numbers, plan.coder, plan.table)
    if plan.coder == _HUFFMAN:
        piece = huffman.encode(plane, plan.table)
    else:
        lanes = rans.lanes_of(len(plane))
        numbers.unsigned(_KEY_LANES, lanes.bit_length() - 1)
        piece = rans.encode(plane, plan.table, lanes)
    numbers.unsigned(_KEY_LENGTH, len(piece))
    side.put(piece)


def _decode_plane(numbers: Numbers, side: Side, count: int, i: int) -> Bytes:
    coder = numbers.unsigned(_KEY_CODE, 0, i)
    if coder == _STORED:
        return np.frombuffer(side.take(count), np.uint8)
    if coder not in (_HUFFMAN, _RANS):
        raise CorruptPtz("a plane has an unknown coder")
    table = _code_table(numbers, coder, [0] * 256)
    if coder == _HUFFMAN:
        return huffman.decode(side.take(numbers.unsigned(_KEY_LENGTH, 0)), table, count)
    shift = numbers.unsigned(_KEY_LANES, 0)
    if shift > 8:
        raise CorruptPtz("too many lanes")
    return rans.decode(side.take(numbers.unsigned(_KEY_LENGTH, 0)), table, 1 << shift, count)


def _code_table(numbers: Numbers, coder: int, table: list[int]) -> list[int]:
    """The table's 256 entries in the order of the symbols as numbers with sign, from -128 to 127."""
    key = _KEY_BITS if coder == _HUFFMAN else _KEY_FREQUENCY
    made = [0] * 256
    one = two = 0
    for s in range(256):
        entry = made[s ^ 128] = numbers.unsigned(key, table[s ^ 128], one, two * 32 + one)
        if entry > rans.TOTAL:
            raise CorruptPtz("a table has an impossible entry")
        two, one = one, entry if coder == _HUFFMAN else entry.bit_length()
    return made
