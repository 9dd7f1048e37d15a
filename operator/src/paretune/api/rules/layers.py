"""Rules on `spec.space.layers`."""

import re
from collections.abc import Iterator

from paretune_contract.settings import STATIC_SCHEMES

from ..faults import Fault
from .numbers import layer_number_faults
from .plain import Plain, entries, given, section, text


def layer_faults(spec: Plain) -> Iterator[Fault]:
    for i, layer in entries(section(spec, "space"), "layers"):
        at, match = f"spec.space.layers[{i}]", text(layer, "match")
        if match is not None:
            try:
                re.compile(match)
            except (re.error, RecursionError, OverflowError) as error:
                yield Fault(f"{at}.match", match, f"no regular expression: {error}")
        quantization, sparsity = section(layer, "quantization"), section(layer, "sparsity")
        clustering = section(layer, "clustering")
        if all(layer.get(part) is None for part in ("quantization", "sparsity", "clustering")):
            yield Fault(
                at, None, "says nothing about its layers; expected quantization, sparsity or clustering"
            )
        if quantization.get("io") is not None:
            yield Fault(
                f"{at}.quantization.io",
                quantization["io"],
                "inputs and outputs are the whole model's; expected in space.quantization.io",
            )
        if quantization.get("bits"):
            yield Fault(
                f"{at}.quantization.bits",
                quantization["bits"],
                "mean bits are the whole model's; expected scheme int4 or int8 for these layers",
            )
        yield from layer_number_faults(
            f"{at}.quantization", quantization, calibration=given(spec, "calibration")
        )
        scheme = text(quantization, "scheme")
        if scheme in STATIC_SCHEMES and not given(spec, "calibration"):
            yield Fault(f"{at}.quantization.scheme", scheme, "static schemes need dataset.calibration")
        if text(quantization, "training") == "aware" and not given(spec, "train"):
            yield Fault(
                f"{at}.quantization.training", "aware", "quantization-aware training needs dataset.train"
            )
        yield from _layer_sparsity_faults(f"{at}.sparsity", sparsity, given(spec, "train"))
        stage = text(clustering, "stage")
        if stage == "training" and not given(spec, "train"):
            yield Fault(f"{at}.clustering.stage", stage, "clustering while training needs dataset.train")
        if stage in ("training", "int8") and not clustering.get("clusters"):
            yield Fault(
                f"{at}.clustering.clusters",
                clustering.get("clusters"),
                f"stage {stage} needs it; expected such as 16",
            )


def _layer_sparsity_faults(at: str, sparsity: Plain, train: bool) -> Iterator[Fault]:
    pattern, level = text(sparsity, "pattern"), sparsity.get("level")
    if pattern in ("unstructured", "2:4", "1x4") and not train:
        yield Fault(f"{at}.pattern", pattern, "sparsity needs dataset.train for fine-tuning")
    if pattern in ("unstructured", "1x4") and not level:
        yield Fault(f"{at}.level", level, f"pattern {pattern} needs a level above 0; expected such as 0.5")
    if pattern == "channel":
        yield Fault(
            f"{at}.pattern",
            pattern,
            "channels tie layers together: pattern channel is for the whole model, in "
            "space.sparsity.patterns",
        )
    if text(sparsity, "encoding") == "sparse":
        yield Fault(
            f"{at}.encoding",
            "sparse",
            "the encoding is the whole file's; expected in space.sparsity.encodings",
        )
    if text(sparsity, "levelOf") == "macs":
        yield Fault(
            f"{at}.levelOf",
            "macs",
            "channels are removed from the whole model; expected in space.sparsity.levelOf",
        )
    if level and pattern in (None, "none", "2:4") and (pattern is not None or "pattern" not in sparsity):
        yield Fault(f"{at}.level", level, "a level is for patterns unstructured and 1x4; leave it out")
