"""What the coder knows before it begins: a table that was learned from many small networks."""

from base64 import b64decode
from functools import cache
from typing import Any

from paretune_codec import prior_table as table
from paretune_codec.initial import SLOTS, Initial
from paretune_codec.mixing import Coder
from paretune_codec.numbers import Numbers
from paretune_codec.structure import Walk


def primed(coder: Coder) -> Numbers:
    """Numbers through `coder` that begin, as the matrices after them, with what the table says."""
    return Numbers(coder, _learned())


@cache
def _learned() -> Initial:
    classes = [c for byte in b64decode(table.CLASSES) for c in (byte & 15, byte >> 4)][:SLOTS]
    p, uses = zip(*table.STATES, strict=True)
    return Initial([p[c] for c in classes], bytes(uses[c] for c in classes), table.WEIGHTS)


def formerly_primed(coder: Coder) -> Numbers:
    """Numbers as containers of the former native method have them: with what two made-up networks leave."""
    numbers = Numbers(coder)
    numbers.learn(_left_by_networks())
    return numbers


def encoded(files: list[bytes]) -> tuple[tuple[int, ...], bytes]:
    """Lengths of the flatbuffers, and the stream that describes them one after the other."""
    coder = Coder()
    numbers = Numbers(coder)
    for file in files:
        Walk(numbers, bytearray(file)).run()
    return tuple(map(len, files)), coder.finish()


@cache
def _left_by_networks() -> Any:
    from paretune_codec.prior_stream import LENGTHS, STREAM

    numbers = Numbers(Coder(STREAM))
    for length in LENGTHS:
        Walk(numbers, bytearray(length)).run()
    return numbers.knowledge()
