"""Rules on how the numbers of quantization are chosen: algorithms, calibration samples, bias correction."""

from collections.abc import Collection, Iterator
from typing import Any

from paretune_contract.settings import INTEGER_SCHEMES, STATIC_SCHEMES

from ..faults import Fault, listed
from .plain import Plain, entries, given, is_number, names_of, section, text, words


def number_faults(spec: Plain, schemes: Collection[str] | None) -> Iterator[Fault]:
    """What is asked for, and cannot be.

    Args:
        spec: of the study.
        schemes: that it lists; None where it lists none, or some that there are not.
    """
    space = section(spec, "space")
    quantization, calibration = section(space, "quantization"), given(spec, "calibration")
    others = [a for a in words(quantization, "algorithms") or () if a != "minMax"]
    samples = [n for n in _values(quantization, "calibrationSamples") if is_number(n) and n]
    corrects = any(value is True for value in _values(quantization, "biasCorrection"))
    asked = (
        ("algorithms", listed(others), INTEGER_SCHEMES, "gptq" in others),
        ("calibrationSamples", listed(samples), STATIC_SCHEMES, bool(samples)),
        ("biasCorrection", corrects, INTEGER_SCHEMES, corrects),
    )
    for field, value, able, needs in asked:
        at = f"spec.space.quantization.{field}"
        if value and schemes is not None and not set(schemes) & able:
            yield Fault(at, value, f"needs one of {names_of(able)} among space.quantization.schemes")
        if needs and not calibration:
            shown = "gptq" if field == "algorithms" else value
            yield Fault(at, shown, "needs dataset.calibration: give it, or leave it out")
    if others:
        at = "spec.space.quantization.algorithms"
        why = "weights that are trained as integers have integers of their own"
        yield from _trained_faults(space, at, listed(others), f"{why}; leave it out, or")
    if corrects:
        yield from _corrected_faults(space)


def layer_number_faults(at: str, quantization: Plain, *, calibration: bool) -> Iterator[Fault]:
    """What the quantization of one layer, at a path, cannot say."""
    whole = {
        "calibrationSamples": "one calibration is for the whole model",
        "biasCorrection": "biases are corrected in the whole model",
    }
    for field, why in whole.items():
        if quantization.get(field):
            yield Fault(
                f"{at}.{field}", quantization[field], f"{why}; expected in space.quantization.{field}"
            )
    if text(quantization, "algorithm") == "gptq" and not calibration:
        yield Fault(f"{at}.algorithm", "gptq", "gptq rounds by what dataset.calibration shows: give it")


def _trained_faults(space: Plain, at: str, value: Any, why: str) -> Iterator[Fault]:
    """What has no meaning where all integers are trained."""
    if words(section(space, "quantization"), "training") == ["aware"]:
        yield Fault(at, value, f"{why} give none beside aware in space.quantization.training")
    if words(section(space, "rate"), "stages") == ["training"]:
        yield Fault(at, value, f"{why} give none beside training in space.rate.stages")


def _corrected_faults(space: Plain) -> Iterator[Fault]:
    at, why = (
        "spec.space.quantization.biasCorrection",
        "biases of weights that are trained as integers are not corrected; leave true out, or",
    )
    yield from _trained_faults(space, at, True, why)
    for i, layer in entries(space, "layers"):
        if text(section(layer, "quantization"), "training") == "aware":
            yield Fault(at, True, f"{why} training aware in space.layers[{i}]")


def _values(plain: Plain, name: str) -> list[Any]:
    found = plain.get(name)
    return list(found) if isinstance(found, list | tuple) else []
