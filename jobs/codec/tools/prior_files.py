"""The table as source of the Python package and of the decoder in C: both from the same values."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path

CODEC = Path(__file__).parents[1]
MODULE = CODEC / "src/paretune_codec/prior_table.py"
HEADER = CODEC / "c/ptz_prior.h"
PARTS = (
    "NUMBERS", "DENSITIES", "ZEROS", "ZERO_CLASSES", "ZERO_SIZES", "SIGNS", "MAGNITUDES", "LENGTHS", "DIGITS",
)  # fmt: skip
"""Names of the parts in C, in the order of `paretune_codec.initial.PARTS`."""

States = Sequence[tuple[int, int]]
Weights = Sequence[Sequence[int]]


def packed(classes: Sequence[int]) -> str:
    """Two classes a byte, the first in the low half, in base64."""
    even = [*classes, *[0] * (len(classes) % 2)]
    return b64encode(bytes(a | b << 4 for a, b in zip(even[::2], even[1::2], strict=True))).decode()


def python_module(classes: str, states: States, weights: Weights) -> str:
    """Source of `paretune_codec.prior_table`; `classes` as `packed` gives them."""
    rows = "\n".join(f'    "{classes[i : i + 100]}"' for i in range(0, len(classes), 100))
    return _MODULE.format(
        states="\n".join(f"    ({p}, {uses})," for p, uses in states),
        weights="\n".join(f"    ({', '.join(map(str, mixer))})," for mixer in weights),
        rows=rows,
    )


def c_header(classes: str, states: States, weights: Weights, firsts: Sequence[int]) -> str:
    """Source of jobs/codec/c/ptz_prior.h; `firsts` are where the parts begin."""
    data = b64decode(classes)
    rows = "\n".join(
        "    " + ", ".join(f"0x{b:02x}" for b in data[i : i + 20]) + "," for i in range(0, len(data), 20)
    )
    return _HEADER.format(
        parts="\n".join(f"#define PTZ_{name} {first}" for name, first in zip(PARTS, firsts, strict=True)),
        p=", ".join(str(p) for p, _ in states),
        uses=", ".join(str(uses) for _, uses in states),
        weights=",\n    ".join(", ".join(map(str, mixer)) for mixer in weights),
        rows=rows,
    )


_MODULE = '''"""What slots and mixers begin with; learned from many small networks.

Made by jobs/codec/tools/make_prior.py; not written by hand. It is part of version 1 of the format.
"""

STATES = (
{states}
)
"""Probability of 65536, and number of uses, of each class of slots."""
WEIGHTS = (
{weights}
)
"""Of the mixers of `Numbers`, in its order."""
CLASSES = (
{rows}
)
"""Of the slots of `initial`, four bits each, the first in the low half of a byte; base64."""
'''
_HEADER = """/* What slots and mixers begin with: prior_table.py in C, made by tools/make_prior.py. */
#ifndef PTZ_PRIOR_H
#define PTZ_PRIOR_H
#include <stdint.h>

/* Where the slots of each kind begin in ptz_prior. */
{parts}

static const uint16_t ptz_prior_p[16] = {{{p}}};
static const uint8_t ptz_prior_uses[16] = {{{uses}}};
/* Of the mixers of flags (16 of 3), lengths (4), digits (3), text (5), ranks (4). */
static const int32_t ptz_prior_weights[] = {{
    {weights}}};
/* The class of each slot: four bits, the first in the low half of a byte. */
static const uint8_t ptz_prior[] = {{
{rows}
}};
#endif
"""
