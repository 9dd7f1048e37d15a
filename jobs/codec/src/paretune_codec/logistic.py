"""The integer functions behind every probability: squash, stretch, and the adaptive rates.

Probabilities are 16-bit integers, p / 65536 that a bit is 1. The logistic domain is in units of 1/256: x
stands for ln(p / (1 - p)) * 256. No floating-point number takes part: every machine gets the same bits.
"""

# 65536 / (1 + exp(-i / 2)) for i = -24..24, rounded.
KNOTS = (
    0, 1, 1, 2, 3, 5, 8, 13, 22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625,
    24743, 32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438,
    65476, 65500, 65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65536,
)  # fmt: skip
END = 3072
"""The logistic domain is -END..END."""
LOWEST, HIGHEST = 16, 65520


def _squash(x: int) -> int:
    knot, rest = divmod(x + END, 128)
    if rest == 0:
        return min(HIGHEST, max(LOWEST, KNOTS[knot]))
    value = KNOTS[knot] + ((KNOTS[knot + 1] - KNOTS[knot]) * rest >> 7)
    return min(HIGHEST, max(LOWEST, value))


def _stretch() -> list[int]:
    """The inverse of squash for probabilities of 12 bits: the lowest x that reaches the middle of each."""
    table, x = [], -END
    for p in range(4096):
        while x < END and SQUASH[x + END] < 16 * p + 8:
            x += 1
        table.append(x)
    return table


SQUASH = [_squash(x) for x in range(-END, END + 1)]
"""SQUASH[x + END] is the probability of x."""
STRETCH = _stretch()
"""STRETCH[p >> 4] is x of the probability p."""
RATE = [655360 // (10 * n + 13) for n in range(256)]
"""How far, in 1/65536, a slot that was used n times moves towards the bit just seen."""
TRUST = [2560 * n // (10 * n + 4) for n in range(256)]
"""Weight, in 1/256, of the opinion of a slot that was used n times."""
