"""Rules on `spec.space`: what it asks for, the data must allow."""

from collections.abc import Iterator

from paretune_contract.settings import (
    INTEGER_SCHEMES,
    PATTERNS_WITH_ZEROS,
    STATIC_SCHEMES,
    Scheme,
    SparsityPattern,
)
from pydantic import BaseModel

from ..faults import Fault, listed
from ..study import ClusterRange, RatioRange
from .numbers import number_faults
from .plain import Plain, given, is_number, names_of, section, text, words


def space_faults(spec: Plain) -> Iterator[Fault]:
    space, train, calibration = section(spec, "space"), given(spec, "train"), given(spec, "calibration")
    quantization, clustering = section(space, "quantization"), section(space, "clustering")
    schemes, stages = words(quantization, "schemes"), words(clustering, "stages")
    patterns = words(section(space, "sparsity"), "patterns")
    sparse = [p for p in patterns or () if p != "none"]
    static = [s for s in schemes or () if s in STATIC_SCHEMES]
    if sparse and not train:
        yield Fault(
            "spec.space.sparsity.patterns",
            listed(sparse),
            "sparsity needs fine-tuning: give dataset.train, or leave it out, or say [none]",
        )
    yield from _level_faults(section(space, "sparsity"))
    yield from _encoding_faults(section(space, "sparsity"), schemes, train)
    if "training" in (stages or ()) and not train:
        yield Fault(
            "spec.space.clustering.stages",
            "training",
            "clustering while training needs dataset.train: give it, or leave training out",
        )
    if static and not calibration:
        yield Fault(
            "spec.space.quantization.schemes",
            listed(static),
            "static schemes need dataset.calibration: give it, or leave them out",
        )
    certain = schemes is not None and set(schemes) <= set(Scheme)
    if certain and "int8" in (stages or ()) and not set(schemes or ()) & INTEGER_SCHEMES:
        yield Fault(
            "spec.space.clustering.stages",
            "int8",
            f"clustering in the finished integer file needs one of {names_of(INTEGER_SCHEMES)} among "
            "space.quantization.schemes",
        )
    if "aware" in (words(quantization, "training") or ()):
        if not train:
            yield Fault(
                "spec.space.quantization.training",
                "aware",
                "quantization-aware training needs dataset.train: give it, or leave aware out",
            )
        if certain and not set(schemes or ()) & INTEGER_SCHEMES:
            yield Fault(
                "spec.space.quantization.training",
                "aware",
                f"quantization-aware training needs one of {names_of(INTEGER_SCHEMES)} among "
                "space.quantization.schemes",
            )
    ints = "int8" in (words(quantization, "io") or ())
    if certain and ints and not set(schemes or ()) & STATIC_SCHEMES:
        yield Fault(
            "spec.space.quantization.io",
            "int8",
            f"int8 inputs need one of {names_of(STATIC_SCHEMES)} among space.quantization.schemes",
        )
    yield from number_faults(spec, set(schemes or ()) if certain else None)
    if "sensitivity" in (words(space, "allocation") or ()) and not calibration:
        yield Fault(
            "spec.space.allocation",
            "sensitivity",
            "the probe of the layers runs on dataset.calibration: give it, or leave sensitivity out",
        )
    rate = section(space, "rate")
    if "training" in (words(rate, "stages") or ()):
        if not train:
            yield Fault(
                "spec.space.rate.stages",
                "training",
                "rate-aware training needs dataset.train: give it, or leave training out",
            )
        if certain and not set(schemes or ()) & INTEGER_SCHEMES:
            yield Fault(
                "spec.space.rate.stages",
                "training",
                f"rate-aware training needs one of {names_of(INTEGER_SCHEMES)} among "
                "space.quantization.schemes",
            )
    yield from _range_faults("spec.space.clustering.clusters", section(clustering, "clusters"), ClusterRange)
    yield from _range_faults("spec.space.rate.ratio", section(rate, "ratio"), RatioRange)


def _level_faults(sparsity: Plain) -> Iterator[Fault]:
    at, level_of, patterns = "spec.space.sparsity.levelOf", "macs", words(sparsity, "patterns")
    if text(sparsity, "levelOf") == level_of and patterns and "channel" not in patterns:
        yield Fault(at, level_of, "needs channel among space.sparsity.patterns; leave it out")


def _encoding_faults(sparsity: Plain, schemes: list[str] | None, train: bool) -> Iterator[Fault]:
    at, encoding, patterns = "spec.space.sparsity.encodings", "sparse", words(sparsity, "patterns")
    if encoding not in (words(sparsity, "encodings") or ()):
        return
    if not train:
        yield Fault(
            at,
            encoding,
            "sparse files need zeros, and zeros fine-tuning: give dataset.train, or leave sparse out",
        )
    if patterns and set(patterns) <= set(SparsityPattern) - PATTERNS_WITH_ZEROS:
        yield Fault(
            at,
            encoding,
            f"sparse files need zeros: one of {names_of(PATTERNS_WITH_ZEROS)} among space.sparsity.patterns",
        )
    if schemes and set(schemes) <= INTEGER_SCHEMES:
        yield Fault(
            at,
            encoding,
            "sparse files hold float weights: none or float16 among space.quantization.schemes",
        )


def _range_faults(path: str, given_range: Plain, kind: type[BaseModel]) -> Iterator[Fault]:
    low, high = (given_range.get(end, kind.model_fields[end].default) for end in ("min", "max"))
    if is_number(low) and is_number(high) and low > high:
        end, other, value = ("min", "max", high) if "min" in given_range else ("max", "min", low)
        relation = "at most" if end == "min" else "at least"
        yield Fault(f"{path}.{end}", given_range[end], f"{other} is {value}; expected {relation} that")
