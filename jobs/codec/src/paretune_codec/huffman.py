"""Canonical Huffman codes of at most 15 bits over bytes."""

import heapq

import numpy as np
from numpy.typing import NDArray

from paretune_codec.errors import CorruptPtz

LONGEST = 15
Bytes = NDArray[np.uint8]


def lengths_of(counts: list[int]) -> list[int]:
    """Bits of each symbol's code; 0 for symbols that do not occur."""
    used = [(n, s) for s, n in enumerate(counts) if n]
    if len(used) == 1:
        return [int(n > 0) for n in counts]
    while True:
        lengths = _tree(used, len(counts))
        if max(lengths) <= LONGEST:
            return lengths
        used = [((n + 1) // 2, s) for n, s in used]


def _tree(used: list[tuple[int, int]], size: int) -> list[int]:
    lengths = [0] * size
    heap = [(n, s, [s]) for n, s in used]
    heapq.heapify(heap)
    serial = size
    while len(heap) > 1:
        one, two = heapq.heappop(heap), heapq.heappop(heap)
        for s in one[2] + two[2]:
            lengths[s] += 1
        heapq.heappush(heap, (one[0] + two[0], serial, one[2] + two[2]))
        serial += 1
    return lengths


def codes_of(lengths: list[int]) -> list[int]:
    """The canonical codes: shorter ones first, of equal lengths the lower symbol first."""
    codes, code = [0] * len(lengths), 0
    for length in range(1, LONGEST + 1):
        code <<= 1
        for s, n in enumerate(lengths):
            if n == length:
                codes[s] = code
                code += 1
    return codes


def size_of(counts: list[int], lengths: list[int]) -> int:
    """Bytes of the coded symbols."""
    return (sum(n * b for n, b in zip(counts, lengths, strict=True)) + 7) // 8


def encode(symbols: Bytes, lengths: list[int]) -> bytes:
    """The codes one after the other, the highest bit of each byte first."""
    size = np.array(lengths, np.int64)[symbols]
    code = np.array(codes_of(lengths), np.int64)[symbols]
    ends = np.cumsum(size)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for place in range(int(size.max(initial=0))):
        chosen = size > place  # the bit that stands `place` before the last one
        bits[ends[chosen] - 1 - place] = code[chosen] >> place & 1
    return np.packbits(bits).tobytes()


def decode(data: bytes, lengths: list[int], count: int) -> Bytes:
    """`count` symbols.

    Raises:
        CorruptPtz: when the lengths are no code, or the data is too short.
    """
    if any(n > LONGEST for n in lengths) or not any(lengths):
        raise CorruptPtz("a Huffman code has impossible lengths")
    if sum(1 << LONGEST - n for n in lengths if n) > 1 << LONGEST:
        raise CorruptPtz("a Huffman code has too many short codes")
    longest = max(lengths)
    table = [0] * (1 << longest)
    for s, (code, n) in enumerate(zip(codes_of(lengths), lengths, strict=True)):
        if n:
            first, width = code << longest - n, 1 << longest - n
            table[first : first + width] = [s << 4 | n] * width
    if count > len(data) * 8:
        raise CorruptPtz("Huffman codes are missing")
    result = bytearray(count)
    window = bits = position = 0
    for i in range(count):
        while bits < longest:
            window = (window << 8 | (data[position] if position < len(data) else 0)) & 0xFFFFFFFF
            position += 1
            bits += 8
        entry = table[window >> bits - longest & (1 << longest) - 1]
        if not entry:
            raise CorruptPtz("bits that are no Huffman code")
        bits -= entry & 15
        result[i] = entry >> 4
    if position - bits // 8 > len(data):
        raise CorruptPtz("Huffman codes are missing")
    return np.frombuffer(bytes(result), np.uint8)
