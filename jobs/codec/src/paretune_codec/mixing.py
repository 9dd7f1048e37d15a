"""The binary arithmetic coder whose probabilities are mixed from many contexts; the same code for both
ways.

A decision is one bit. Each of its contexts owns a slot: a probability and how often it was used. The slots'
opinions are added in the logistic domain with weights that learn, and the sum is the bit's probability.
"""

from collections.abc import Sequence
from operator import mul

from paretune_codec.errors import CorruptPtz
from paretune_codec.logistic import END, RATE, SQUASH, STRETCH, TRUST

UNBOUNDED = 1 << 62
MOST_USES = 250
"""A slot counts no further; from then on it forgets."""
_ERROR_SCALE = 17


class Slots:
    """A bank of slots, all unused."""

    __slots__ = ("p", "uses")

    def __init__(self, size: int) -> None:
        self.p = [32768] * size
        self.uses = bytearray(size)


class Coder:
    """Arithmetic coder over 32 bits. With `data` it decodes, without it encodes.

    `decisions` is how many bits may still be coded: time is bounded by it.
    """

    __slots__ = ("_code", "_data", "_high", "_low", "_out", "_position", "decisions")

    def __init__(self, data: bytes | None = None, decisions: int = UNBOUNDED) -> None:
        self._low, self._high = 0, 0xFFFFFFFF
        self._out = bytearray()
        self._data = data
        self._position = 4
        self._code = 0 if data is None else int.from_bytes((data[:4] + bytes(4))[:4], "big")
        self.decisions = decisions

    @property
    def decoding(self) -> bool:
        """Whether bits come out of `data`."""
        return self._data is not None

    @property
    def length(self) -> int:
        """Bytes that encoding has surely come to."""
        return len(self._out)

    def mark(self) -> tuple[int, int, int, int]:
        """Where encoding stands; `rewind` goes back to it."""
        return self._low, self._high, len(self._out), self.decisions

    def rewind(self, mark: tuple[int, int, int, int]) -> None:
        """Forget what was encoded since `mark`."""
        self._low, self._high, length, self.decisions = mark
        del self._out[length:]

    def bit(  # noqa: PLR0912  called a million times for a file
        self,
        bank: Slots,
        contexts: Sequence[int],
        weights: list[int],
        value: int,
        direct: Sequence[int] = (),
        learning: int = 3,
    ) -> int:
        """Code one bit; returns it. `value` is ignored when decoding.

        `direct` are opinions in the logistic domain that own no slot; a slot that was never used starts
        from the probability of the context before it, and the first from the first direct opinion.
        `weights`, one for each opinion, learn in place, the faster the higher `learning` is.
        """
        if self.decisions <= 0:
            raise CorruptPtz("more decisions than the limit allows")
        self.decisions -= 1
        p, uses = bank.p, bank.uses
        opinions = list(direct)
        if opinions:
            x = opinions[0]
            before = SQUASH[(-END if x < -END else END if x > END else x) + END]
        else:
            before = 32768
        for slot in contexts:
            n = uses[slot]
            if n:
                before = p[slot]
                opinions.append(STRETCH[before >> 4] * TRUST[n] >> 8)
            else:
                p[slot] = before
                opinions.append(0)
        x = sum(map(mul, opinions, weights)) >> 16
        q = SQUASH[(-END if x < -END else END if x > END else x) + END]
        value = self._split(q, value)
        if value:
            for slot in contexts:
                n = uses[slot]
                p[slot] += (65535 - p[slot]) * RATE[n] >> 16
                if n < MOST_USES:
                    uses[slot] = n + 1
            error = (65536 - q) * learning
        else:
            for slot in contexts:
                n = uses[slot]
                p[slot] += -p[slot] * RATE[n] >> 16
                if n < MOST_USES:
                    uses[slot] = n + 1
            error = -q * learning
        for i, x in enumerate(opinions):
            if x:
                weights[i] += x * error + 65536 >> _ERROR_SCALE
        return value

    def even(self, count: int, value: int) -> int:
        """Code `count` bits that nothing is known of, the highest first; returns the number they form."""
        result = 0
        for i in range(count - 1, -1, -1):
            if self.decisions <= 0:
                raise CorruptPtz("more decisions than the limit allows")
            self.decisions -= 1
            result = result << 1 | self._split(32768, value >> i & 1)
        return result

    def _split(self, q: int, value: int) -> int:
        """The arithmetic coder's step for a bit that is 1 with probability q / 65536."""
        low, high = self._low, self._high
        middle = low + ((high - low) * q >> 16)
        data = self._data
        if data is not None:
            value = 1 if self._code <= middle else 0
        if value:
            high = middle
        else:
            low = middle + 1
        while (low ^ high) >> 24 == 0:
            if data is None:
                self._out.append(high >> 24)
            else:
                position = self._position
                following = data[position] if position < len(data) else 0
                self._code = (self._code << 8 & 0xFFFFFFFF) | following
                self._position = position + 1
            low = low << 8 & 0xFFFFFFFF
            high = (high << 8 & 0xFFFFFFFF) | 255
        self._low, self._high = low, high
        return value

    def finish(self) -> bytes:
        """What was encoded: the shortest bytes that, with zeros after them, decode to it."""
        for count in range(5):
            unit = 1 << 8 * (4 - count)
            value = (self._low + unit - 1) // unit * unit
            if value <= self._high:
                break
        return (bytes(self._out) + value.to_bytes(4, "big")[:count]).rstrip(b"\0")
