"""Flags, numbers and text through the coder, with contexts that are hashed into one bank.

A context is four small numbers; its slot is a hash of them. Two contexts that fall on one slot share it,
which costs bits and nothing else.
"""

from typing import Any

from paretune_codec.errors import CorruptPtz, Unmodelled
from paretune_codec.initial import NOTHING, NUMBERS, Initial
from paretune_codec.mixing import Coder, Slots

SLOTS = 8192
LARGEST = 0xFFFFFFFFFFFFFFFE
"""Largest number that `unsigned` codes: 64 bits, less the one value that its code has no room for."""
MOST_RECENT = 15
WINDOW = 4096
"""How far back text is compared."""
_SHARE, _LEARNING = 24000, 16


def slot(a: int, b: int, c: int = 0, d: int = 0) -> int:
    """Slot of the context (a, b, c, d); each is taken modulo 2**32."""
    x = (a * 0x9E3779B1 + b * 0x85EBCA6B + c * 0xC2B2AE35 + d * 0x27D4EB2F) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (x ^ x >> 13) & (SLOTS - 1)


def weights(count: int) -> list[int]:
    """Fresh weights of a mixer with `count` opinions."""
    return [_SHARE] * count


class Numbers:
    """Codes values with the contexts they are given. `decoding` says which way: then every `value` is
    ignored. `initial` is what slots and mixers begin with.
    """

    def __init__(self, coder: Coder, initial: Initial = NOTHING) -> None:
        self.coder = coder
        self.initial = initial
        self.bank = Slots(SLOTS)
        initial.fill(self.bank, 0, NUMBERS)
        self.decoding = coder.decoding
        self._flag = [weights(3) for _ in range(16)]
        self._length = weights(4)
        self._digits = weights(3)
        self._text = weights(5)
        self._rank = weights(4)
        self._recent: dict[int, list[int]] = {}
        self._history = bytearray()
        self._starts: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        for mixer, learned in zip(self.mixers, initial.weights, strict=False):
            mixer[:] = learned

    def knowledge(self) -> Any:
        """A copy of all that is known by now; `learn` takes it over."""
        return (
            self.bank.p[:], self.bank.uses[:], [m[:] for m in self.mixers],
            dict(self._last), dict(self._steps),
            bytes(self._history), dict(self._starts), {k: v[:] for k, v in self._recent.items()},
        )  # fmt: skip

    def learn(self, knowledge: Any) -> None:
        """Know what `knowledge` says, and nothing else."""
        p, uses, mixers, last, steps, history, starts, recent = knowledge
        self.bank.p[:], self.bank.uses[:] = p, uses
        for mixer, kept in zip(self.mixers, mixers, strict=True):
            mixer[:] = kept
        self._last, self._steps, self._starts = dict(last), dict(steps), dict(starts)
        self._history = bytearray(history)
        self._recent = {k: v[:] for k, v in recent.items()}

    def mark(self) -> Any:
        """All that is known by now, and where encoding stands; `rewind` goes back to it."""
        return self.coder.mark(), self.knowledge()

    def rewind(self, mark: Any) -> None:
        """Forget what was coded since `mark`."""
        coder, knowledge = mark
        self.coder.rewind(coder)
        self.learn(knowledge)

    @property
    def mixers(self) -> list[list[int]]:
        """The weights of all mixers: of the flags by key, of lengths, digits, text and ranks."""
        return [*self._flag, self._length, self._digits, self._text, self._rank]

    def flag(self, key: int, a: int, b: int, value: int) -> int:
        """One bit, in the context of its key, of a, and of (a, b). Keys are 0 to 15."""
        contexts = (slot(9, key), slot(1, key, a), slot(2, key, a, b))
        return self.coder.bit(self.bank, contexts, self._flag[key], value, (), _LEARNING)

    def unsigned(self, key: int, value: int, a: int = 0, b: int = 0) -> int:
        """A number from 0 to `LARGEST`: how many binary digits value + 1 has, then the digits after the
        first.
        """
        bit, bank, length = self.coder.bit, self.bank, self._length
        value += 1
        if not self.decoding and not 0 < value <= LARGEST + 1:
            raise Unmodelled(f"{value - 1} is no number that can be coded")
        digits = value.bit_length() - 1
        n = 0
        while bit(
            bank,
            (slot(3, 0, n), slot(3, key, n), slot(4, key, n, a), slot(5, key, n, b)),
            length,
            int(n < digits),
            (),
            _LEARNING,
        ):
            n += 1
            if n > 63:
                raise CorruptPtz("a number is longer than 64 bits")
        result = 1
        for i in range(n - 1, -1, -1):
            if n - i > 12:
                return (result << i + 1 | self.coder.even(i + 1, value & (2 << i) - 1)) - 1
            place = result if n - i <= 6 else 64 + i
            contexts = (
                slot(6, key, n, place),
                slot(7, key, n, place + (a << 8)),
                slot(8, key, n, place + (b << 8)),
            )
            result = result << 1 | bit(bank, contexts, self._digits, value >> i & 1, (), _LEARNING)
        return result - 1

    def signed(self, key: int, value: int, a: int = 0, b: int = 0) -> int:
        """A number of 64 bits with sign: 0, -1, 1, -2, ... are coded as 0, 1, 2, 3, ..."""
        folded = self.unsigned(key, value * 2 if value >= 0 else -value * 2 - 1, a, b)
        return -(folded + 1) // 2 if folded & 1 else folded // 2

    def step(self, key: int, value: int, a: int = 0) -> int:
        """A number of 64 bits by its difference from the last one of the same key, modulo 2**64."""
        last = self._last.get(key, 0)
        before = self._steps.get(key, 0)
        difference = self.signed(key, wrap(value - last), before & 0xFF, a)
        self._steps[key] = difference
        result = self._last[key] = wrap(last + difference)
        return result

    def recent(self, key: int, value: int, i: int, before: int) -> int:
        """A number of 64 bits with sign, by how long ago it was the last time, when that is not long.

        `i` is its place in a vector, `before` the number before it there.
        """
        known = self._recent.setdefault(key, [])
        for rank, candidate in enumerate(known):
            contexts = (
                slot(15, key, rank),
                slot(16, key, rank, i),
                slot(17, key, candidate, before),
                slot(18, key, candidate, i),
            )
            if self.coder.bit(self.bank, contexts, self._rank, int(value == candidate), (), _LEARNING):
                known.insert(0, known.pop(rank))
                return candidate
        result = self.signed(key, value, i, before & 0xFF)
        known.insert(0, result)
        del known[MOST_RECENT:]
        return result

    def last(self, key: int) -> int:
        """What `step` or `remember` had last for the key."""
        return self._last.get(key, 0)

    def remember(self, key: int, value: int) -> None:
        """Let `last` answer with `value`."""
        self._last[key] = value

    def float_bits(self, key: int, value: int) -> int:
        """The bits of a float32: those of the last one of the key, or an exponent near to its, and a
        fraction.
        """
        last = self._last.get(key, 0)
        if self.flag(8, key, 0, int(value == last)):
            return last
        exponent = (last >> 23) + self.signed(key + 1, (value >> 23) - (last >> 23))
        if not 0 <= exponent < 512:
            raise CorruptPtz("a float has an impossible exponent")
        fraction = 0
        if not self.flag(9, key, 0, int(value & 0x7FFFFF == 0)):
            fraction = self.coder.even(23, value & 0x7FFFFF)
        result = self._last[key] = exponent << 23 | fraction
        return result

    def text(self, key: int, value: bytes, length: int) -> bytes:
        """`length` bytes, each in the contexts of those before it and of what followed them the last
        time.
        """
        history, start = self._history, len(self._history)
        bit, bank, shares = self.coder.bit, self.bank, self._text
        one = two = three = run = 0
        found = self._starts.get(key, start)  # begin as the last text of this key began
        for i in range(length):
            here = len(history)
            if not here - WINDOW <= found < here:
                found, run = here, 0
            expected = history[found] if found < here else 256
            byte = value[i] if i < len(value) else 0
            node = 1
            for place in range(7, -1, -1):
                contexts = (
                    slot(10, key, node),
                    slot(11, one, node),
                    slot(12, two << 8 | one, node),
                    slot(13, three << 16 | two << 8 | one, node),
                    slot(14, expected, node, min(run, 15)),
                )
                node = node << 1 | bit(bank, contexts, shares, byte >> place & 1, (), _LEARNING)
            byte = node & 255
            history.append(byte)
            three, two, one = two, one, byte
            if byte == expected:
                found, run = found + 1, run + 1
            else:
                run = 0
                place = history.rfind(history[-4:], max(0, here + 1 - WINDOW), here) if here >= 3 else -1
                found = place + 4 if place >= 0 else here + 1
        self._starts[key] = start
        return bytes(history[start:])


def wrap(value: int) -> int:
    """The number of 64 bits with sign that equals `value` modulo 2**64."""
    return ((value + (1 << 63)) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)
