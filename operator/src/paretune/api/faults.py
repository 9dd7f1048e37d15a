"""What is wrong with a document: where, what stands there, and what would be right."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

_SHOWN = 80


@dataclass(frozen=True)
class Fault:
    """One fault of a document.

    Attributes:
        path: where it is, as the user wrote it: `spec.objectives[0].metric`; empty for the whole document.
        value: what stands there; None where nothing does.
        message: what would be right.
        line: line in the text, from 1; 0 where it is not known.
    """

    path: str
    value: Any
    message: str
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        line = f" (line {self.line})" if self.line else ""
        return f"{where}{shown(self.value)}{self.message}{line}"


class ManifestError(Exception):
    """A manifest has faults; its text has one on each line, after the name of the source.

    Args:
        faults: all of them, at least one.
        source: name of the file, for the message.
    """

    def __init__(self, faults: Iterable[Fault], source: str = "") -> None:
        self.faults = tuple(faults)
        self.source = source
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(f"{prefix}{fault}" for fault in self.faults))

    def __reduce__(self) -> tuple[type["ManifestError"], tuple[tuple[Fault, ...], str]]:
        return (ManifestError, (self.faults, self.source))


def shown(value: Any) -> str:
    """A value as it opens a fault's sentence: `"latencyy": `; nothing for None and for whole sections."""
    if value is None or isinstance(value, dict | list | tuple):
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return (text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…") + ": "


def path_text(location: Sequence[str | int]) -> str:
    """`("spec", "objectives", 0, "metric")` as `spec.objectives[0].metric`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "a").replace("-", "a").isalnum():
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known word, or nothing."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    plain = word.replace("_", "").replace("-", "").lower()
    near = [lowered[plain]] if plain in lowered else get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def listed(words: Iterable[Any]) -> str:
    """Words for a sentence: `a, b, c`."""
    return ", ".join(str(word) for word in words)
