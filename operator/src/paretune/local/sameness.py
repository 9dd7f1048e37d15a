"""Why the same settings on the same model gave other bytes."""

from collections.abc import Iterable, Iterator

from paretune_contract.dataset import Split

from ..search.made_with import MadeWith

ASIDE = frozenset({"mlflow", "optuna"})
"""Libraries that take no part in making a file."""
NOTHING_KNOWN = (
    "nothing that is recorded is different; another processor may round otherwise, and so may another number "
    "of threads, where the study ran with several"
)


def differences(then: MadeWith, now: MadeWith, read: Iterable[Split]) -> tuple[str, ...]:
    """What is different now, of all that may change the bytes of a file.

    Args:
        then: how the recorded file was made.
        now: how the new one was made.
        read: the parts of the data that the settings read; others do not matter.
    """
    return tuple(_differences(then, now, frozenset(read)))


def _differences(then: MadeWith, now: MadeWith, read: frozenset[Split]) -> Iterator[str]:
    if then.model.sha256 != now.model.sha256:
        yield "the source became another float .tflite"
    for split in sorted(read):
        if split in then.data and then.data[split] != now.data.get(split):
            yield f"other {split.value} data"
    if then.scaling != now.scaling:
        yield (
            f"scale {now.scaling.scale} and offset {now.scaling.offset} "
            f"(were {then.scaling.scale} and {then.scaling.offset})"
        )
    if Split.TRAIN in read:
        yield from _of_training(then, now)
    for name, was in then.versions.items():
        here = now.versions.get(name)
        if name not in ASIDE and here != was:
            yield f"{name} {here or 'is not here'} (was {was})"


def _of_training(then: MadeWith, now: MadeWith) -> Iterator[str]:
    before = then.training.model_dump(mode="json", by_alias=True, exclude={"origin"}) if then.training else {}
    after = now.training.model_dump(mode="json", by_alias=True, exclude={"origin"}) if now.training else {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"training.{name} {after.get(name)} (was {before.get(name)})"
    if then.seed != now.seed:
        yield f"seed {now.seed} (was {then.seed})"
    if then.threads is not None and then.threads != now.threads:
        yield f"threads {now.threads} (were {then.threads})"
