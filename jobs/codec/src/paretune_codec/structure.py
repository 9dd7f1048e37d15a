"""The flatbuffer around the constants: its objects in the order of the file, and their fields.

Objects are tables, vectors and strings. Each is named by the reference that leads to it, of those that were
met and not yet followed; its place follows from the end of the object before and its alignment. The
contents of constants, and the scales and zero points of tensors, are left for later, when all tensors and
operators are known.

Reading and writing are the same walk: every value is taken from the file when encoding, and put there when
decoding.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from paretune_codec.errors import CorruptPtz, Unmodelled
from paretune_codec.layout import Layout, arranged, check, rule_of
from paretune_codec.numbers import Numbers
from paretune_codec.schema import BUFFER, FIELDS, MODEL, QUANTIZATION, SIZES, TENSOR, UNIONS

IDENTIFIER = b"TFL3"
ELEMENTS = {"B": 1, "H": 2, "I": 4, "L": 8, "F": 4}
MOST_PENDING = 255
LARGEST_TEXT = 1 << 16
"""Longest string, and longest stretch that no reference leads to, in bytes."""
ELEMENT_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 10: 8, 12: 8, 15: 4, 16: 2}
"""Bytes of an element by the number of the tensor's type."""

# Keys of flags.
_GAP, _RANK, _END, _ALSO, _TABLE, _PRESENT, _LAYOUT, _OTHER = range(8)
# Keys of numbers; those of fields come after them, 16 for each field.
_KEY_GAP, _KEY_PAD, _KEY_SLOTS, _KEY_SIZE, _KEY_OFFSET, _KEY_ELEMENT, _KEY_BETWEEN, _KEY_FIELDS = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    64,
)
_LENGTH, _TEXT = 14, 15
_NEW_IS_SHARED, _VTABLE_IS_HERE = 1 << 30, 1 << 30 | 1


@dataclass(slots=True, eq=False)
class Reference:
    """References of one field that nobody followed yet: one, or those of a vector's elements that are
    left.
    """

    word: str
    key: int
    aux: int
    places: list[int]
    first: int = 0
    """Of a single reference the index of the object that holds it."""
    near: int = 0
    """The element that was followed last out of order."""
    elements: int = -1
    """Of a tensor's shape: how many elements its constant has; -1 when that is not known."""
    taken: list[int] = field(init=False)
    """The number, in its vector, of each place that is left."""

    def __post_init__(self) -> None:
        self.taken = list(range(len(self.places)))

    def target(self, data: bytearray, at: int) -> int:
        """Where the reference leads, in a file that is there."""
        place = self.places[at]
        return place + int.from_bytes(data[place : place + 4], "little")


@dataclass(frozen=True, slots=True, order=True)
class Ahead:
    """A reference of the file that is encoded, by what it leads to."""

    target: int
    place: int
    reference: Reference = field(compare=False)


@dataclass(frozen=True, slots=True)
class Constant:
    """Where the bytes of a buffer stand."""

    buffer: int
    position: int
    length: int


@dataclass(slots=True)
class Found:
    """What a walk leaves to be coded, in the order of the file."""

    constants: list[Constant] = field(default_factory=list)
    lengths: dict[int, int] = field(default_factory=dict)


class Walk:
    """One pass over the file `data`, which is filled when decoding.

    Raises:
        Unmodelled: when encoding a file that is not built as described.
        CorruptPtz: when decoding bits that describe no file.
    """

    def __init__(self, numbers: Numbers, data: bytearray) -> None:
        self._numbers = numbers
        self._data = data
        self._decoding = numbers.decoding
        self._position = 8
        self._pending: list[Reference] = []
        self._ahead: list[Ahead] = []
        self._layouts: list[Layout] = []
        self._known: dict[int, int] = {}  # position of a vtable -> its number, when encoding
        self._used: dict[int, list[int]] = {}
        self._masks: dict[int, int] = {}  # the last two layouts of a kind, by what is present
        self._last = 0
        self.found = Found()

    def run(self) -> Found:
        """Walk from the root to the end of the file."""
        if len(self._data) < 12:
            raise self._wrong("the file is too short")
        if self._decoding:
            self._data[4:8] = IDENTIFIER
        elif self._data[4:8] != IDENTIFIER:
            raise Unmodelled("the file is no TensorFlow Lite flatbuffer")
        self._push(Reference(f"t{MODEL}", 0, 0, [0]))
        while self._pending:
            self._next()
        if any(layout.position is None for layout in self._layouts):
            raise self._wrong("a vtable is missing")
        rest = len(self._data) - self._position
        if rest and not self._numbers.flag(_OTHER, 0, 0, int(not any(self._data[self._position :]))):
            self._text(_KEY_GAP, rest)
        return self.found

    # Which object comes next.

    def _next(self) -> None:
        numbers = self._numbers
        reference, at = self._choose(None if self._decoding else heappop(self._ahead), self._last)
        target = 0 if self._decoding else reference.target(self._data, at)
        index = reference.first + reference.taken[at]
        places = [self._take(reference, at)]
        while self._pending:
            other = self._ahead[0] if self._ahead and self._ahead[0].target == target else None
            if not numbers.flag(_ALSO, _kind(reference.word), 0, int(other is not None)):
                break
            if other is not None:
                heappop(self._ahead)
            also, at = self._choose(other, 0)
            if also.word != reference.word:
                raise self._wrong("two references of different kinds lead to one place")
            places.append(self._take(also, at))
        if reference.word[0] == "t":
            start = self._table(int(reference.word[1:]), reference, target, index)
        elif reference.word == "s":
            start = self._string(reference, target)
        else:
            start = self._vector(reference, target, index)
        self._last = reference.key
        if self._decoding:
            for place in places:
                self._put(place, 4, start - place)

    def _choose(self, wanted: Ahead | None, context: int) -> tuple[Reference, int]:
        """Code which reference is followed, the newest first, and which of its elements."""
        numbers = self._numbers
        rank = len(self._pending) - 1
        while rank:
            hit = wanted is not None and self._pending[rank] is wanted.reference
            if numbers.flag(_RANK, self._pending[rank].key, context, int(hit)):
                break
            rank -= 1
        reference = self._pending[rank]
        last = len(reference.places) - 1
        at = 0 if wanted is None else reference.places.index(wanted.place)
        if not last or numbers.flag(_END, reference.key, 0, int(at == last)):
            return reference, last
        if numbers.flag(_END, reference.key, 1, int(at == 0)):
            return reference, 0
        at = reference.near + numbers.signed(_KEY_ELEMENT, at - reference.near, reference.key)
        if not 0 <= at <= last:
            raise self._wrong("a vector has no such element")
        reference.near = at
        return reference, at

    def _take(self, reference: Reference, at: int) -> int:
        place = reference.places.pop(at)
        reference.taken.pop(at)
        if not reference.places:
            self._pending.remove(reference)
        return place

    def _push(self, reference: Reference) -> None:
        if len(self._pending) >= MOST_PENDING:
            raise self._wrong("too many references are open")
        self._pending.append(reference)
        if not self._decoding:
            for at, place in enumerate(reference.places):
                heappush(self._ahead, Ahead(reference.target(self._data, at), place, reference))

    def _begin(self, start: int, size: int, align: int, offset: int = 0) -> int:
        """Code where the next object starts: after a stretch of bytes that is not described, or after
        zeros.

        `start + offset` is expected to be a multiple of `align`. Returns the start; `size` bytes fit from
        it.
        """
        numbers, here = self._numbers, self._position
        expected = -(here + offset) % align
        gap = 0
        if not self._decoding:
            pad = start - here
            if pad < 0:
                raise Unmodelled("objects overlap")
            plain = not (pad - expected) % 4 and pad < 64 and not any(self._data[here:start])
            gap = 0 if plain else pad
        if numbers.flag(_GAP, 0, self._last, int(gap > 0)):
            self._text(_KEY_GAP, 1 + numbers.unsigned(_KEY_GAP, gap - 1))
        else:
            residue = (here + offset & 15) >> 2
            more = numbers.signed(_KEY_PAD, (start - here - expected) // 4, align * 4 + residue, self._last)
            self._position = here + expected + more * 4
            if self._position < here:
                raise self._wrong("objects overlap")
        if self._position + size > len(self._data):
            raise self._wrong("an object ends behind the file")
        return self._position

    # Tables.

    def _table(self, kind: int, reference: Reference, target: int, index: int) -> int:
        number = vtable = -1
        if not self._decoding:
            vtable = target - self._get(target, 4, signed=True)
            number = self._known.get(vtable, -1)
        layout = self._choose_layout(kind, reference, number, vtable)
        here = layout.position is None
        if here:
            here = bool(
                self._numbers.flag(
                    _TABLE,
                    _VTABLE_IS_HERE,
                    kind * 4 + min(len(reference.places), 3),
                    int(vtable + layout.size == target),
                )
            )
        before = layout.size if here else 0
        align, offset = 4, before
        for slot_offset, word in zip(layout.offsets, FIELDS[kind], strict=False):
            if slot_offset and SIZES.get(word) == 8:
                align, offset = 8, before + slot_offset
                break
        start = self._begin(target - before, before + layout.end(kind), align, offset) + before
        if here:
            layout.position = start - before
            if self._decoding:
                self._write_layout(layout, start - before)
        if self._decoding:
            if layout.position is None:
                layout.waiting.append(start)
            else:
                self._put(start, 4, start - layout.position)
        self._position = start + layout.end(kind)
        self._fields(kind, layout, start, reference, index)
        return start

    def _choose_layout(self, kind: int, reference: Reference, number: int, vtable: int) -> Layout:
        """Code which vtable a table has: one that its kind had before, the last used first, or another."""
        numbers, used = self._numbers, self._used.setdefault(kind, [])
        last = self._masks.get(kind, 0)
        context = last * 257 + (reference.aux & 255)
        for candidate in used:
            if numbers.flag(
                _TABLE, kind << 16 | self._layouts[candidate].mask, context, int(candidate == number)
            ):
                used.remove(candidate)
                used.insert(0, candidate)
                self._masks[kind] = (last << 16 | self._layouts[candidate].mask) & 0xFFFFFFFF
                return self._layouts[candidate]
        wanted = None
        if not self._decoding:
            wanted = self._layouts[number] if number >= 0 else self._read_layout(vtable)
            check(wanted, kind)
        made = self._describe(kind, wanted)
        self._masks[kind] = (last << 16 | made.mask) & 0xFFFFFFFF
        for candidate, known in enumerate(self._layouts):
            if (known.offsets, known.table_size) != (made.offsets, made.table_size) or candidate in used:
                continue
            if numbers.flag(_TABLE, _NEW_IS_SHARED, 0, int(candidate == number)):
                used.insert(0, candidate)
                return known
        if number >= 0:
            raise Unmodelled("a vtable is shared in an unusual way")
        used.insert(0, len(self._layouts))
        self._known[vtable] = len(self._layouts)
        self._layouts.append(made)
        return made

    def _read_layout(self, position: int) -> Layout:
        if position < 8:
            raise Unmodelled("a vtable outside the file")
        size, table_size = self._get(position, 2), self._get(position + 2, 2)
        if size < 4 or size % 2:
            raise Unmodelled("a vtable of impossible size")
        return Layout(tuple(self._get(position + i, 2) for i in range(4, size, 2)), table_size)

    def _describe(self, kind: int, layout: Layout | None) -> Layout:
        """Code the contents of a vtable."""
        numbers, words = self._numbers, FIELDS[kind]
        offsets = layout.offsets if layout else ()
        present, before = [], 0
        for i in range(len(words)):
            before = numbers.flag(_PRESENT, kind * 32 + i, before, int(i < len(offsets) and offsets[i] > 0))
            if before:
                present.append(i)
        slots = present[-1] + 1 if present else 0
        if not numbers.flag(_OTHER, 1, 0, int(len(offsets) == slots)):
            slots = numbers.unsigned(_KEY_SLOTS, len(offsets))
            if slots > len(words) or (present and slots <= present[-1]):
                raise self._wrong("a vtable of impossible size")
        sizes = [(i, SIZES.get(words[i], 4)) for i in present]
        rule, end = rule_of(sizes, layout) if layout else (2, 0)
        if numbers.flag(_LAYOUT, 0, 0, int(rule < 2)):
            rule = numbers.flag(_LAYOUT, 1, 0, rule & 1)
            node = 1
            for place in (2, 1, 0):
                node = node << 1 | numbers.flag(_LAYOUT, 8 + node, 0, end >> place & 1)
            made, size = arranged(sizes, rule, node & 7)
        else:
            size = 4 + numbers.unsigned(_KEY_SIZE, layout.table_size - 4 if layout else 0)
            made = {i: 4 + numbers.unsigned(_KEY_OFFSET, offsets[i] - 4 if layout else 0) for i in present}
        result = Layout(tuple(made.get(i, 0) for i in range(slots)), size)
        if self._decoding:
            try:
                check(result, kind)
            except Unmodelled as error:
                raise CorruptPtz(str(error)) from error
        return result

    def _write_layout(self, layout: Layout, position: int) -> None:
        self._put(position, 2, layout.size)
        self._put(position + 2, 2, layout.table_size)
        for i, offset in enumerate(layout.offsets):
            self._put(position + 4 + 2 * i, 2, offset)
        for start in layout.waiting:
            self._put(start, 4, start - position)

    def _fields(self, kind: int, layout: Layout, start: int, reference: Reference, index: int) -> None:
        words = FIELDS[kind]
        between = [start + i for i in layout.between(kind)]
        unused = bytes(self._data[i] for i in between)
        if between and not self._numbers.flag(_OTHER, 3, kind, int(not any(unused))):
            unused = self._numbers.text(_KEY_BETWEEN, unused, len(unused))
            if self._decoding:
                for place, byte in zip(between, unused, strict=True):
                    self._data[place] = byte
        aux, scalars = reference.aux, dict[int, int]()
        made = []
        for i, (offset, word) in enumerate(zip(layout.offsets, words, strict=False)):
            if not offset:
                continue
            key = kind * 32 + i
            if word in SIZES:
                scalars[i] = self._scalar(start + offset, word, key, aux)
                if len(scalars) == 1:
                    aux = scalars[i] & 0xFF
                continue
            leads_to = self._member(word, scalars.get(i - 1, 0)) if word[0] == "u" else word
            made.append(Reference(leads_to, key, 0, [start + offset], index))
        for one in made:
            one.aux = aux
            if kind == TENSOR and one.key & 31 == 0:
                one.elements = self._elements(scalars)
            self._push(one)

    def _member(self, word: str, member: int) -> str:
        """The table behind a union of this type."""
        members = UNIONS[int(word[1:])]
        if not 0 < member < len(members) or members[member] >= len(FIELDS):
            raise self._wrong("a union of unknown type")
        return f"t{members[member]}"

    def _elements(self, scalars: dict[int, int]) -> int:
        """Elements of the constant of a tensor with these fields: type is slot 1, buffer slot 2."""
        size = ELEMENT_BYTES.get(scalars.get(1, 0), 0)
        length = self.found.lengths.get(scalars.get(2, 0), 0)
        return length // size if size and length else -1

    def _scalar(self, place: int, word: str, key: int, aux: int) -> int:
        numbers, size = self._numbers, SIZES[word]
        signed = word not in "bf"
        value = 0 if self._decoding else self._get(place, size, signed)
        number_key = _KEY_FIELDS + key * 16
        if word == "f":
            value = numbers.float_bits(number_key, value)
        elif word == "b":
            value = numbers.unsigned(number_key, value, aux, self._last)
        else:
            value = numbers.step(number_key, value, aux)
        self._put_checked(place, size, value, signed)
        return value

    # Vectors and strings.

    def _head(
        self, reference: Reference, target: int, align: int, size: int, extra: int = 0
    ) -> tuple[int, int]:
        """Code start and length of a vector with elements of `size` bytes, and `extra` bytes after them."""
        numbers = self._numbers
        length = 0 if self._decoding else self._get(target, 4)
        key = _KEY_FIELDS + reference.key * 16 + _LENGTH
        length = numbers.unsigned(key, length, reference.aux, numbers.last(key))
        numbers.remember(key, length)
        start = self._begin(target, 4 + length * size + extra, align, 4)
        if self._decoding:
            self._put(start, 4, length)
        self._position = start + 4
        return start, length

    def _string(self, reference: Reference, target: int) -> int:
        start, length = self._head(reference, target, 4, 1, extra=1)
        self._text(_KEY_FIELDS + reference.key * 16 + _TEXT, length)
        if self._data[self._position]:
            raise Unmodelled("a string does not end with a zero")
        self._position += 1
        return start

    def _vector(self, reference: Reference, target: int, index: int) -> int:
        word, key = reference.word, reference.key
        size = ELEMENTS.get(word, 4)
        is_constant = key == BUFFER * 32
        start, length = self._head(reference, target, 16 if is_constant else max(4, size), size)
        place = start + 4
        self._position = place + length * size
        if is_constant:
            if length:
                self.found.constants.append(Constant(index, place, length))
                self.found.lengths[index] = length
        elif word[0] in "vS":
            if length:
                inner = "s" if word == "S" else "t" + word[1:]
                self._push(Reference(inner, key, reference.aux, [place + 4 * i for i in range(length)]))
        elif key in (QUANTIZATION * 32 + 2, QUANTIZATION * 32 + 3):
            pass  # scales and zero points come later
        elif word == "B":
            self._position = place
            self._text(_KEY_FIELDS + key * 16 + _TEXT, length)
        else:
            self._items(reference, place, length, size)
        return start

    def _items(self, reference: Reference, place: int, length: int, size: int) -> None:
        """The elements of a vector of numbers."""
        numbers, key = self._numbers, _KEY_FIELDS + reference.key * 16
        signed = reference.word != "F"
        left, before = reference.elements, 0
        for i in range(length):
            value = 0 if self._decoding else self._get(place, size, signed)
            if not signed:
                value = numbers.float_bits(key, value)
            elif left > 0 and i == length - 1 and numbers.flag(_OTHER, 2, 0, int(value == left)):
                value = left
            elif reference.key == TENSOR * 32:
                value = numbers.recent(key, value, min(i, 4), before)
            else:
                value = numbers.step(key + min(i, 4), value, reference.aux)
            before = value
            left = left // value if left > 0 and value > 0 and left % value == 0 else -1
            self._put_checked(place, size, value, signed)
            place += size

    def _text(self, key: int, length: int) -> None:
        """Bytes of no known structure."""
        place = self._position
        if length > LARGEST_TEXT or place + length > len(self._data):
            raise self._wrong("a text is too long")
        text = self._numbers.text(key, bytes(self._data[place : place + length]), length)
        if self._decoding:
            self._data[place : place + length] = text
        self._position = place + length

    def _get(self, place: int, size: int, signed: bool = False) -> int:
        if place < 0 or place + size > len(self._data):
            raise Unmodelled("a reference leads behind the file")
        return int.from_bytes(self._data[place : place + size], "little", signed=signed)

    def _put(self, place: int, size: int, value: int) -> None:
        self._data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _put_checked(self, place: int, size: int, value: int, signed: bool) -> None:
        if not self._decoding:
            return
        low, high = (-(1 << 8 * size - 1), 1 << 8 * size - 1) if signed else (0, 1 << 8 * size)
        if not low <= value < high:
            raise CorruptPtz("a value does not fit its field")
        self._put(place, size, value)

    def _wrong(self, what: str) -> Exception:
        return CorruptPtz(what) if self._decoding else Unmodelled(what)


def _kind(word: str) -> int:
    return "tsvSBHILF".index(word[0])
