"""The table of values in the chart's README, in helm-docs' format: `python tests/support/chart_readme.py`.

A value is described by the comment `# -- ...` above it. One so described is a row, with all below it; others
are looked into.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts/paretune"
BEGIN, END = "<!-- values: made by tests/support/chart_readme.py -->", "<!-- /values -->"


@dataclass(frozen=True)
class Value:
    """A key of values.yaml, as a path with dots."""

    key: str
    default: Any
    description: str

    def row(self) -> str:
        """The value as a row of the table."""
        kinds = {dict: "object", list: "list", bool: "bool", int: "int", str: "string"}
        kind = kinds[type(self.default)]
        default = json.dumps(self.default).replace("|", "\\|")
        return f"| {self.key} | {kind} | `{default}` | {self.description.replace('|', chr(92) + '|')} |"


def values(chart: Path = CHART) -> list[Value]:
    """All values in the order of the file.

    Raises:
        ValueError: when a value has no description; the message names it.
    """
    text = (chart / "values.yaml").read_text()
    return list(_described(yaml.safe_load(text), _descriptions(text), ()))


def readme(chart: Path = CHART) -> str:
    """The README with its table made anew."""
    rows = "\n".join(value.row() for value in values(chart))
    table = f"| Key | Type | Default | Description |\n|---|---|---|---|\n{rows}"
    before, _, rest = (chart / "README.md").read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _described(tree: dict[str, Any], texts: dict[str, str], path: tuple[str, ...]) -> Iterator[Value]:
    for name, value in tree.items():
        key = ".".join((*path, name))
        if key in texts:
            yield Value(key, value, texts[key])
        elif isinstance(value, dict) and value:
            yield from _described(value, texts, (*path, name))
        else:
            raise ValueError(f"values.yaml: {key} has no comment `# -- ...` above it")


def _descriptions(text: str) -> dict[str, str]:
    """Descriptions by key, read from lines: comments are lost when YAML is parsed."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    comment: list[str] | None = None
    for line in text.splitlines():
        if said := re.match(r" *# (-- )?(.*)", line):
            if said[1]:
                comment = [said[2]]
            elif comment is not None:
                comment.append(said[2])
        elif named := re.match(r"( *)([A-Za-z]\w*):", line):
            indent = len(named[1])
            path = [*(part for part in path if part[0] < indent), (indent, named[2])]
            if comment is not None:
                found[".".join(name for _, name in path)] = " ".join(comment)
            comment = None
        else:
            comment = None
    return found


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
