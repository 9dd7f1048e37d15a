"""What the coder knows before it begins, from two made-up networks that it has read."""

from functools import cache
from typing import Any

from paretune_codec.mixing import Coder
from paretune_codec.numbers import Numbers
from paretune_codec.structure import Walk


def primed(coder: Coder) -> Numbers:
    """Numbers through `coder`, with the slots, mixers and texts that the made-up networks leave."""
    numbers = Numbers(coder)
    numbers.learn(_learned())
    return numbers


def encoded(files: list[bytes]) -> tuple[tuple[int, ...], bytes]:
    """Lengths of the flatbuffers, and the stream that describes them one after the other."""
    coder = Coder()
    numbers = Numbers(coder)
    for file in files:
        Walk(numbers, bytearray(file)).run()
    return tuple(map(len, files)), coder.finish()


@cache
def _learned() -> Any:
    from paretune_codec.prior_stream import LENGTHS, STREAM

    numbers = Numbers(Coder(STREAM))
    for length in LENGTHS:
        Walk(numbers, bytearray(length)).run()
    return numbers.knowledge()
