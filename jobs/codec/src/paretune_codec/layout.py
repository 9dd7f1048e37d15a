"""Vtables: where the fields of a table stand, and the two ways in which builders place them."""

from dataclasses import dataclass, field

from paretune_codec.errors import Unmodelled
from paretune_codec.schema import FIELDS, NAMES, SIZES


@dataclass(slots=True)
class Layout:
    """A vtable: the size of its tables and the offset of each slot, 0 for fields that are absent."""

    offsets: tuple[int, ...]
    table_size: int
    position: int | None = None
    """Where it stands in the file; None until the walk comes past."""
    waiting: list[int] = field(default_factory=list)
    """Tables that were decoded before it."""

    @property
    def size(self) -> int:
        """Bytes of the vtable itself."""
        return 4 + 2 * len(self.offsets)

    @property
    def mask(self) -> int:
        """One bit for each of the first 16 slots whose field is present."""
        return sum(1 << i for i, offset in enumerate(self.offsets[:16]) if offset)

    def end(self, kind: int) -> int:
        """Where the last field ends, counted from the start of a table of this kind."""
        ends = [o + SIZES.get(w, 4) for o, w in zip(self.offsets, FIELDS[kind], strict=False) if o]
        return max(ends, default=4)

    def between(self, kind: int) -> list[int]:
        """The bytes of a table of this kind that belong to no field and have one after them."""
        left = set(range(4, self.end(kind)))
        for offset, word in zip(self.offsets, FIELDS[kind], strict=False):
            if offset:
                left.difference_update(range(offset, offset + SIZES.get(word, 4)))
        return sorted(left)


def arranged(sizes: list[tuple[int, int]], rule: int, end: int) -> tuple[dict[int, int], int]:
    """Offsets of the fields (slot, size), and the table's size, as a builder that works from the end makes
    them.

    Rule 0 takes the fields by slot, rule 1 the largest first and of these the last slot first. `end` is
    where the table ends, modulo 8.
    """
    ordered = sizes if rule == 0 else sorted(sizes, key=lambda one: (-one[1], -one[0]))
    position = bottom = (1 << 20) + end
    places = {}
    for slot, size in ordered:
        position = (position - size) // size * size
        places[slot] = position
    position = (position - 4) // 4 * 4
    return {slot: place - position for slot, place in places.items()}, bottom - position


def rule_of(sizes: list[tuple[int, int]], layout: Layout) -> tuple[int, int]:
    """The rule and the end that make a layout; rule 2 when none does."""
    wanted = {slot: layout.offsets[slot] for slot, _ in sizes}
    for rule in (0, 1):
        for end in (0, 4, 2, 6, 1, 5, 3, 7):
            if arranged(sizes, rule, end) == (wanted, layout.table_size):
                return rule, end
    return 2, 0


def check(layout: Layout, kind: int) -> None:
    """Whether the fields of a table of this kind lie side by side within it.

    Raises:
        Unmodelled: when they do not, or when there are fields that are not known.
    """
    words = FIELDS[kind]
    if len(layout.offsets) > len(words):
        raise Unmodelled(f"table {NAMES[kind]} has fields that are not known")
    end = 4
    for offset, word in sorted((o, w) for o, w in zip(layout.offsets, words, strict=False) if o):
        if offset < end or word == "-":
            raise Unmodelled(f"fields of table {NAMES[kind]} overlap")
        end = offset + SIZES.get(word, 4)
    if not end <= layout.table_size < 1 << 16:
        raise Unmodelled(f"fields of table {NAMES[kind]} lie outside it")
