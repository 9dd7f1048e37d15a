"""The container: a header, and the file by one of three methods."""

import hashlib
from collections.abc import Callable

from paretune_codec import static
from paretune_codec.constants import Constants
from paretune_codec.errors import CorruptPtz, NotPtz, Unmodelled
from paretune_codec.mixing import UNBOUNDED, Coder
from paretune_codec.numbers import Numbers
from paretune_codec.prior import formerly_primed, primed
from paretune_codec.scales import Scales
from paretune_codec.structure import Walk
from paretune_codec.view import graphs

MAGIC = b"PTZ"
VERSION = 1
DIGEST_BYTES = 16
STORED, ZSTD, FORMER, NATIVE = 0, 1, 2, 3
"""Methods. The former native one, whose coder began with less, is only read."""
EFFORT = 600_000
"""Decisions that `pack` may spend on constants: a few seconds."""
MAX_BYTES = 1 << 28
MAX_DECISIONS = 8_000_000
"""Limits of `unpack` that hold unless it is given others."""
STRUCTURE_DECISIONS = 1_000_000
"""What may go into the flatbuffer around scales and constants; files with more, of about a thousand tensors
with long names, are left to zstd as a whole."""
SCALE_DECISIONS = 3_000_000
"""What may go into scales and zero points: about 75,000 channels."""
LARGEST_NATIVE = 1 << 26
"""Longest file that is taken apart, in bytes."""


def pack(tflite: bytes, *, effort: int = EFFORT, zstd: bool = True) -> bytes:
    """The file as a container, never more than 26 bytes longer than it.

    `effort` is how many binary decisions may go into constants, at about 5 microseconds each, two or three
    times; constants for which they do not suffice are left to faster coders. From 4 million on `unpack`
    needs a higher `max_decisions`. Without `zstd` the decoder in C reads whatever is made. The same bytes
    and settings make the same container, with the same release of zstd. Any bytes can be packed; what is no
    .tflite, or one that is built in an unusual way, is packed as a whole.
    """
    tflite = bytes(tflite)
    options = [(STORED, tflite)]
    level = static.level_of(len(tflite)) if zstd else 0
    if zstd:
        options.append((ZSTD, static.compressed(tflite, level)))
    native = _encode(tflite, effort, level) if 12 <= len(tflite) <= LARGEST_NATIVE else None
    if native is not None:
        options.append((NATIVE, native))
    method, payload = min(options, key=lambda option: len(option[1]))
    digest = hashlib.sha256(tflite).digest()[:DIGEST_BYTES]
    return MAGIC + bytes([VERSION, method]) + digest + _varint(len(tflite)) + payload


def unpack(ptz: bytes, *, max_bytes: int = MAX_BYTES, max_decisions: int = MAX_DECISIONS) -> bytes:
    """The very file that was packed.

    Memory stays within a small multiple of `max_bytes` (the longest file that is made), time within
    about 8 microseconds for each of `max_decisions` and one for each byte of the file.

    Raises:
        NotPtz: when the bytes are no container of a known version.
        CorruptPtz: when the container is damaged or goes beyond the limits.
    """
    ptz = bytes(ptz)
    if ptz[:3] != MAGIC:
        raise NotPtz(f"not a .ptz container: it begins with {ptz[:3]!r}, expected {MAGIC!r}")
    if len(ptz) < 5 + DIGEST_BYTES + 1:
        raise CorruptPtz("the container is truncated: its header is incomplete")
    if ptz[3] != VERSION:
        raise NotPtz(f"the container has version {ptz[3]}, known is {VERSION}")
    method, digest = ptz[4], ptz[5 : 5 + DIGEST_BYTES]
    length, position = _read_varint(ptz, 5 + DIGEST_BYTES)
    if length > max_bytes:
        raise CorruptPtz(f"the file has {length} bytes, the limit is {max_bytes}")
    payload = ptz[position:]
    if method == STORED:
        result = payload
    elif method == ZSTD:
        result = static.decompressed(payload, length)
    elif method == NATIVE:
        result = _decode(payload, length, max_decisions)
    elif method == FORMER:
        result = _decode(payload, length, max_decisions, formerly_primed)
    else:
        raise CorruptPtz(f"the container has the unknown method {method}")
    if len(result) != length or hashlib.sha256(result).digest()[:DIGEST_BYTES] != digest:
        raise CorruptPtz("the container is damaged: what it holds has another SHA-256")
    return result


def _encode(tflite: bytes, effort: int, level: int) -> bytes | None:
    """The payload of the native method; None when the file is not built as it describes.

    `level` is zstd's for constants, 0 when they may not use it.
    """
    data = bytearray(tflite)
    coder, side = Coder(decisions=STRUCTURE_DECISIONS), static.Side()
    numbers = primed(coder)
    try:
        found = Walk(numbers, data).run()
        subgraphs = graphs(data)
        coder.decisions = SCALE_DECISIONS
        Scales(numbers, data).run(subgraphs)
        coder.decisions = UNBOUNDED
        Constants(numbers, side, data, effort, level).run(subgraphs, found)
        payload = _varint(len(side.content)) + side.content + coder.finish()
        return payload if _decode(payload, len(tflite), UNBOUNDED) == tflite else None
    except (Unmodelled, CorruptPtz):
        return None


def _decode(
    payload: bytes, length: int, max_decisions: int, prime: Callable[[Coder], Numbers] = primed
) -> bytes:
    size, position = _read_varint(payload, 0)
    if size > len(payload) - position:
        raise CorruptPtz("the container is truncated")
    side = static.Side(payload[position : position + size])
    if length > LARGEST_NATIVE:
        raise CorruptPtz("the file is longer than the native method allows")
    data = bytearray(length)
    numbers = prime(Coder(payload[position + size :], max_decisions))
    found = Walk(numbers, data).run()
    subgraphs = graphs(data)
    Scales(numbers, data).run(subgraphs)
    Constants(numbers, side, data).run(subgraphs, found)
    if not side.is_spent:
        raise CorruptPtz("the container has bytes that nothing refers to")
    return bytes(data)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that another byte follows."""
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number and where it ends."""
    value = 0
    for shift in range(0, 63, 7):
        if position >= len(data):
            raise CorruptPtz("the container is truncated: a length is incomplete")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise CorruptPtz("a length is too large")
