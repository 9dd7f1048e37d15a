"""`paretune gc`: bound the work directory."""

import json
from pathlib import Path

import click
from paretune_contract.quantity import show_bytes, size_bytes
from paretune_store.steps import GcReport, StepCache

from ..local.workdir import Locked, WorkDirectory
from ..search.front import FrontDocument
from .errors import BadInput
from .workdir_option import existing, workdir_option


@click.command()
@workdir_option
@click.option(
    "--cache-size", default="0", show_default=True, help="Keep this much of the step cache, e.g. 2GiB."
)
@click.option(
    "--all-candidates", is_flag=True, help="Keep the files of all candidates, not only of the front."
)
@click.option("--json", "as_json", is_flag=True, help="What was freed, as JSON.")
def gc(workdir: Path | None, cache_size: str, all_candidates: bool, as_json: bool) -> None:
    """Free disk space: cached steps, and candidates that are not on the front.

    Records, front, report, the front's models and the baseline stay. Steps that are needed again are made
    again.
    """
    work, _ = existing(workdir)
    limit = cache_bytes(cache_size)
    try:
        with work.locked():
            report = clean_cache(work, work.cache, limit)
            candidates = 0 if all_candidates else drop_candidates(work)
    except Locked as error:
        raise BadInput(str(error)) from error
    freed = {"cache": report.freed, "candidates": candidates, "cacheKept": report.kept_bytes}
    if as_json:
        click.echo(json.dumps(freed))
    else:
        click.echo(
            f"Freed {show_bytes(report.freed)} of cached steps and {show_bytes(candidates)} of candidates; "
            f"{show_bytes(report.kept_bytes)} of steps remain."
        )


def clean_cache(work: WorkDirectory, cache: Path, limit: int) -> GcReport:
    """Bound the step cache; what the study's intake points to stays."""
    steps, intake = StepCache(cache), work.read_intake()
    needed = [intake.model.path] if intake and intake.model else []
    needed += [info.folder for info in intake.data.values()] if intake else []
    return steps.gc(limit, keep=steps.keys_of(Path(path) for path in needed))


def cache_bytes(text: str) -> int:
    """`--cache-size` in bytes.

    Raises:
        BadInput: when it is no size.
    """
    try:
        return int(size_bytes(text))
    except ValueError as error:
        raise BadInput(f"--cache-size {error}") from error


def drop_candidates(work: WorkDirectory) -> int:
    """Remove candidates that are neither on the front nor the baseline nor still needed; bytes freed."""
    keep = {t.status.artifact.sha256 for t in work.read_trials() if t.status.artifact and not t.final}
    if work.front.exists():
        front = FrontDocument.model_validate_json(work.front.read_text())
        keep |= {m.artifact.sha256 for m in (front.baseline, *front.front) if m.artifact}
    freed = 0
    for file in work.candidates.glob("*.tflite"):
        if file.stem not in keep:
            freed += file.stat().st_size
            file.unlink()
    return freed
