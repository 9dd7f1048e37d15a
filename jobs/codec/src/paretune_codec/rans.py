"""Range asymmetric numeral systems (rANS) over bytes with one fixed table: 32-bit states, 16-bit words.

Symbol i belongs to lane i % lanes; lanes are independent states that take their words from one stream, in
the order of the symbols, so that many of them can be worked on at once.
"""

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from paretune_codec.errors import CorruptPtz

BITS = 14
TOTAL = 1 << BITS
LOWEST = 1 << 16
"""States are from here to 2**32 - 1."""
Bytes = NDArray[np.uint8]


def frequencies(counts: list[int]) -> list[int]:
    """Counts scaled to a sum of `TOTAL`; what occurs has at least 1."""
    total = sum(counts)
    scaled = [max(1, n * TOTAL // total) if n else 0 for n in counts]
    order = sorted(range(len(counts)), key=lambda s: (-scaled[s], s))
    left = TOTAL - sum(scaled)
    for s in order:  # the most frequent ones take what rounding left over or took too much
        change = left if left > 0 else max(left, -(scaled[s] // 2))
        scaled[s] += change
        left -= change
        if not left:
            break
    return scaled


def lanes_of(count: int) -> int:
    """How many lanes the encoder uses for so many symbols."""
    return 1 if count < 1 << 16 else 64


def encode(symbols: Bytes, table: list[int], lanes: int) -> bytes:
    """The final states (4 bytes each, little end first), then the words (2 bytes each)."""
    if lanes < 8:
        return _encode_one_by_one(symbols, table, lanes)
    frequency = np.array(table, np.uint64)
    first = np.concatenate([[0], np.cumsum(frequency)[:-1]]).astype(np.uint64)
    states = np.full(lanes, LOWEST, np.uint64)
    words: list[NDArray[np.uint16]] = []
    steps = -(-len(symbols) // lanes)
    for step in range(steps - 1, -1, -1):
        part = symbols[step * lanes : (step + 1) * lanes]
        state, f = states[: len(part)], frequency[part]
        full = state >= f << np.uint64(32 - BITS)
        words.append((state[full] & np.uint64(0xFFFF)).astype("<u2"))
        state = np.where(full, state >> np.uint64(16), state)
        states[: len(part)] = (state // f << np.uint64(BITS)) + state % f + first[part]
    head = states.astype("<u4").tobytes()
    return head + b"".join(word.tobytes() for word in reversed(words))


def decode(data: bytes, table: list[int], lanes: int, count: int) -> Bytes:
    """`count` symbols.

    Raises:
        CorruptPtz: when the table does not sum up, or the data is too short or too long.
    """
    if sum(table) != TOTAL:
        raise CorruptPtz("a table of frequencies does not sum up")
    if len(data) < 4 * lanes or len(data) % 2:
        raise CorruptPtz("states are missing")
    symbol_of = np.repeat(np.arange(256, dtype=np.uint8), table)
    if lanes < 8:
        return _decode_one_by_one(data, table, symbol_of.tolist(), lanes, count)
    frequency = np.array(table, np.uint64)
    first = np.concatenate([[0], np.cumsum(frequency)[:-1]]).astype(np.uint64)
    states = np.frombuffer(data, "<u4", lanes).astype(np.uint64)
    words = np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.uint64)
    result = np.empty(count, np.uint8)
    used = 0
    for start in range(0, count, lanes):
        n = min(lanes, count - start)
        state = states[:n]
        place = state & np.uint64(TOTAL - 1)
        symbol = symbol_of[place.astype(np.int64)]
        state = frequency[symbol] * (state >> np.uint64(BITS)) + place - first[symbol]
        low = state < LOWEST
        need = int(low.sum())
        if used + need > len(words):
            raise CorruptPtz("words are missing")
        state[low] = state[low] << np.uint64(16) | words[used : used + need]
        used += need
        states[:n] = state
        result[start : start + n] = symbol
    if used != len(words) or (states != LOWEST).any():
        raise CorruptPtz("words are left over")
    return result


def _encode_one_by_one(symbols: Bytes, table: list[int], lanes: int) -> bytes:
    first = _firsts(table)
    states = [LOWEST] * lanes
    words = []
    for i, symbol in zip(range(len(symbols) - 1, -1, -1), symbols[::-1].tolist(), strict=True):
        state, n = states[i % lanes], table[symbol]
        if state >= n << 32 - BITS:
            words.append(state & 0xFFFF)
            state >>= 16
        states[i % lanes] = (state // n << BITS) + state % n + first[symbol]
    return np.array(states, "<u4").tobytes() + np.array(words[::-1], "<u2").tobytes()


def _firsts(table: list[int]) -> list[int]:
    return [0, *accumulate(table[:-1])]


def _decode_one_by_one(data: bytes, table: list[int], symbol_of: list[int], lanes: int, count: int) -> Bytes:
    first = _firsts(table)
    states = np.frombuffer(data, "<u4", lanes).tolist()
    words = np.frombuffer(data, "<u2", offset=4 * lanes).tolist()
    result = bytearray(count)
    used, left = 0, len(words)
    for i in range(count):
        state = states[i % lanes]
        place = state & TOTAL - 1
        symbol = result[i] = symbol_of[place]
        state = table[symbol] * (state >> BITS) + place - first[symbol]
        if state < LOWEST:
            if used == left:
                raise CorruptPtz("words are missing")
            state = state << 16 | words[used]
            used += 1
        states[i % lanes] = state
    if used != left or any(state != LOWEST for state in states):
        raise CorruptPtz("words are left over")
    return np.frombuffer(bytes(result), np.uint8)
