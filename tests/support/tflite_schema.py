"""The table of TensorFlow Lite's schema that the container's coder knows, made from the generated reader.

`PYTHONPATH=tests python -m support.tflite_schema` writes it anew into jobs/codec. A table that changed
needs a new version of the format: files written with the old one must stay readable.
"""

import re
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

ROOT = Path(__file__).parents[2]
SCALARS = {
    "Bool": "b", "Int8": "b", "Uint8": "b", "Byte": "b", "Int16": "h", "Uint16": "h",
    "Int32": "i", "Uint32": "i",
    "Int64": "l", "Uint64": "l", "Float32": "f", "Float64": "d",
}  # fmt: skip
UNIONS = ("BuiltinOptions", "BuiltinOptions2", "QuantizationDetails", "SparseIndexVector")
ROOT_TABLE = "Model"


def tables() -> list[str]:
    """One line per table: its name, then one word per field in the order of the slots."""
    source = Path(schema.__file__).read_text()
    names = [
        ROOT_TABLE,
        *(n for n in re.findall(r"^class (\w+)T\(object\):", source, re.M) if n != ROOT_TABLE),
    ]
    return [f"{name} {' '.join(_fields(source, name, names))}".strip() for name in names]


def unions() -> list[list[str]]:
    """For each union the names of its members by number; the first is NONE."""
    found = []
    for union in UNIONS:
        members = {v: k for k, v in vars(getattr(schema, union)).items() if isinstance(v, int)}
        found.append([members.get(i, "NONE") for i in range(max(members) + 1)])
    return found


def _fields(source: str, name: str, names: list[str]) -> list[str]:
    slots = {}
    adder = re.compile(rf"^def {name}Add(\w+)\(builder, \w+\):\n    builder\.Prepend(\w+)Slot\((\d+),", re.M)
    writer = source[source.index(f"\ndef {name}Start(builder):") : source.index(f"\ndef {name}End(builder):")]
    for field, kind, slot in adder.findall(writer):
        slots[int(slot)] = SCALARS[kind] if kind in SCALARS else _reference(source, name, field, names)
    return [slots.get(i, "-") for i in range(max(slots, default=-1) + 1)]


def _reference(source: str, name: str, field: str, names: list[str]) -> str:
    body = source[source.index(f"class {name}T(object):") :]
    attribute = field[0].lower() + field[1:]
    (kind,) = re.findall(rf"self\.{attribute} = {attribute}  # type: (.*)$", body, re.M)[:1]
    if kind.startswith("Union"):
        options = {
            "arraySegments": "SparseIndexVector",
            "arrayIndices": "SparseIndexVector",
            "details": "QuantizationDetails",
        }
        union = options.get(attribute) or attribute[0].upper() + attribute[1:]
        return f"u{UNIONS.index(union)}"
    inner = re.sub(r"Optional\[(.*)\]$", r"\1", kind)
    if inner == "str":
        return "s"
    vector = re.fullmatch(r"List\[(\w+)\]", inner)
    if vector is None:
        return f"t{names.index(inner.removesuffix('T'))}"
    if vector[1] == "str":
        return "S"
    if vector[1] in {"int", "float", "bool"}:
        size = re.search(
            rf"def {name}Start{field}Vector\(builder, numElems\):\n    return builder.StartVector\((\d)",
            source,
        )
        assert size is not None
        return "F" if vector[1] == "float" else {"1": "B", "2": "H", "4": "I", "8": "L"}[size[1]]
    return f"v{names.index(vector[1].removesuffix('T'))}"


def python_module() -> str:
    """Source of `paretune_codec.schema`."""
    lines = "\n".join(f'    "{line}",' for line in tables())
    members = "\n".join(f"    (\n{_wrapped(numbers)}\n    ),  # {union}" for union, numbers in _numbered())
    return _PYTHON.format(tables=lines, unions=members)


def c_header() -> str:
    """Source of jobs/codec/c/ptz_schema.h."""
    lines = "\n".join(f'    "{line.partition(" ")[2]}", /* {line.split()[0]} */' for line in tables())
    arrays = "\n".join(
        f"static const uint8_t ptz_union_{i}[] = {{ /* {union} */\n{_wrapped(numbers)}\n}};"
        for i, (union, numbers) in enumerate(_numbered())
    )
    names = [line.split()[0] for line in tables()]
    known = "\n".join(
        f"#define PTZ_{n.upper()} {names.index(n)}"
        for n in ("Model", "Tensor", "Buffer", "QuantizationParameters")
    )
    return _C.format(tables=lines, arrays=arrays, known=known, count=len(names))


def _numbered() -> list[tuple[str, list[int]]]:
    names = [line.split()[0] for line in tables()]
    return [
        (union, [names.index(m) if m != "NONE" else 255 for m in members])
        for union, members in zip(UNIONS, unions(), strict=True)
    ]


def _wrapped(numbers: list[int]) -> str:
    rows = [numbers[i : i + 20] for i in range(0, len(numbers), 20)]
    return "\n".join("        " + ", ".join(map(str, row)) + "," for row in rows)


_PYTHON = '''"""TensorFlow Lite's schema as version 1 of the format knows it: the fields of every table.

Made by tests/support/tflite_schema.py; not written by hand. One line per table: its name, then a word for
each slot: b h i l f d scalars of 1, 2, 4, 8, 4 (float), 8 (double) bytes; B H I L F vectors of such; s a
string; S a vector of strings; tN the table number N; vN a vector of tables; uN the union number N, whose type
stands in the slot before; - a slot that no longer exists.
"""

# fmt: off
TABLES = (
{tables}
)
UNIONS = (
{unions}
)
"""For each union the number of the table behind each type; 255 is none."""
# fmt: on

NAMES = tuple(line.split()[0] for line in TABLES)
FIELDS = tuple(tuple(line.split()[1:]) for line in TABLES)
MODEL, TENSOR = NAMES.index("Model"), NAMES.index("Tensor")
BUFFER, QUANTIZATION = NAMES.index("Buffer"), NAMES.index("QuantizationParameters")
SIZES = {{"b": 1, "h": 2, "i": 4, "l": 8, "f": 4, "d": 8}}
"""Bytes of the scalars."""
'''

_C = """/* TensorFlow Lite's schema as version 1 knows it; made by tests/support/tflite_schema.py. */
#ifndef PTZ_SCHEMA_H
#define PTZ_SCHEMA_H
#include <stdint.h>

#define PTZ_TABLES {count}
{known}

static const char *const ptz_fields[PTZ_TABLES] = {{
{tables}
}};
{arrays}
static const uint8_t *const ptz_unions[4] = {{ptz_union_0, ptz_union_1, ptz_union_2, ptz_union_3}};
static const uint8_t ptz_union_sizes[4] = {{sizeof ptz_union_0, sizeof ptz_union_1, sizeof ptz_union_2,
                                           sizeof ptz_union_3}};
#endif
"""


if __name__ == "__main__":
    codec = ROOT / "jobs/codec"
    (codec / "src/paretune_codec/schema.py").write_text(python_module())
    (codec / "c/ptz_schema.h").write_text(c_header())
