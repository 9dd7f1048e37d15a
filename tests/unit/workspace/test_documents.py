"""What the documents say can be relied on: links lead somewhere, examples validate, commands exist."""

import re
import subprocess
from pathlib import Path

import pytest
from paretune.api.manifest import faults

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("operator/*.md")])
STUDIES = sorted(ROOT.glob("docs/examples/**/study*.yaml"))


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+://", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)

    assert not broken


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.parent.name)
def test_an_example_is_valid_but_for_files_that_its_user_brings(study: Path) -> None:
    text = study.read_text()
    uris = set(re.findall(r"^[^#\n]*\buri: ([\w./-]+)", text, re.MULTILINE))
    missing = [fault for fault in faults(text, base=study.parent) if str(fault.value) in uris]
    others = [str(fault) for fault in faults(text, base=study.parent) if fault not in missing]

    assert not others
    assert all(not (study.parent / str(fault.value)).exists() for fault in missing)


def test_make_help_names_every_target_that_the_readme_shows() -> None:
    shown = set(re.findall(r"^\$ make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    told = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout

    assert {"demo", "test", "lint", "bench"} <= shown
    assert shown <= set(re.findall(r"^  make ([a-z-]+)", told, re.MULTILINE))
