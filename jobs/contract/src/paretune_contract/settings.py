"""The settings of one trial: what is done to the model.

The same document stands in `OptimizationTrial.spec.settings`, in stage requests and in cache keys, so its
canonical form is unique: defaults are left out and keys are sorted.
"""

import hashlib
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from .base import Document


class Scheme(StrEnum):
    """How weights and activations are stored and computed."""

    NONE = "none"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"  # int8 weights, float activations quantized at run time
    INT8 = "int8"  # int8 weights and activations
    INT16X8 = "int16x8"  # int8 weights, int16 activations
    INT4 = "int4"  # int4 weights where the operator allows it, int8 activations


STATIC_SCHEMES = frozenset({Scheme.INT8, Scheme.INT16X8, Scheme.INT4})
"""Schemes that need `dataset.calibration`."""
INTEGER_SCHEMES = STATIC_SCHEMES | {Scheme.DYNAMIC}
"""Schemes with integer weights, hence with a granularity."""
FEWEST_BITS = 4
"""Bits of a weight below which there is no format."""


class Granularity(StrEnum):
    """Scope of one weight scale."""

    CHANNEL = "channel"
    TENSOR = "tensor"


class QuantizationTraining(StrEnum):
    """Whether the network is fine-tuned as the integers that its quantization makes of it."""

    NONE = "none"
    AWARE = "aware"


class Algorithm(StrEnum):
    """How the integers of a weight are chosen when a float network is quantized."""

    MIN_MAX = "minMax"  # the nearest, on a scale that reaches to the largest weight; see `Quantization`
    OCTAV = "octav"  # the nearest, on a scale that clips large weights (Sakr et al. 2022)
    MSE = "mse"  # the nearest, on a scale that follows from the weights' root mean square
    GPTQ = "gptq"  # on the scale of minMax, each taking up the errors of those before (Frantar et al. 2022)


REACHED = {
    Algorithm.OCTAV: frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}),
    Algorithm.MSE: frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}),
    Algorithm.GPTQ: frozenset({"CONV_2D", "FULLY_CONNECTED"}),
}
"""Operators whose weights an algorithm quantizes; minMax takes the others."""
MOST_CALIBRATED = 512
"""Samples that `calibration_samples` 0 stands for at most: more of them move the ranges no further."""


class InputOutput(StrEnum):
    """Type of the model's inputs and outputs after static quantization."""

    FLOAT32 = "float32"
    INT8 = "int8"


class SparsityPattern(StrEnum):
    """Which weights may become zero."""

    NONE = "none"
    UNSTRUCTURED = "unstructured"
    TWO_OF_FOUR = "2:4"
    BLOCK = "1x4"  # four neighbors along the input channels at a time
    CHANNEL = "channel"  # whole channels, which are then removed


LEVELED_PATTERNS = frozenset({SparsityPattern.UNSTRUCTURED, SparsityPattern.BLOCK, SparsityPattern.CHANNEL})
"""Patterns with a level."""
PATTERNS_WITH_ZEROS = frozenset(
    {SparsityPattern.UNSTRUCTURED, SparsityPattern.TWO_OF_FOUR, SparsityPattern.BLOCK}
)
"""Patterns that leave zeros in the file."""
DIVISIBLE_PATTERNS = frozenset({SparsityPattern.UNSTRUCTURED, SparsityPattern.BLOCK})
"""Patterns whose level may differ from layer to layer: 2:4 has none, and channels go through many layers."""


class LevelOf(StrEnum):
    """What the level of pattern channel is a share of."""

    CHANNELS = "channels"
    MACS = "macs"  # of the multiply-accumulates of one inference


class SparsityEncoding(StrEnum):
    """How the file holds weights with zeros among them."""

    DENSE = "dense"
    SPARSE = "sparse"  # the values that are not zero, and their places; float weights only


class ClusteringStage(StrEnum):
    """When weights are drawn together: while training, or in the int8 domain of the finished file."""

    NONE = "none"
    TRAINING = "training"
    INT8 = "int8"


class Allocation(StrEnum):
    """How zeros, clusters and 4-bit weights are divided among the layers."""

    UNIFORM = "uniform"  # alike in all layers
    SENSITIVITY = "sensitivity"  # most where a probe of each layer found that they cost least


class Quantization(Document):
    """Quantization of weights and activations."""

    scheme: Scheme = Field(Scheme.NONE, description="Number formats of weights and activations.")
    granularity: Granularity = Field(
        Granularity.CHANNEL,
        description="One weight scale per output channel or per tensor; integer schemes only.",
    )
    training: QuantizationTraining = Field(
        QuantizationTraining.NONE,
        description="aware: weights are fine-tuned as integers with learned scales, and stored as these; "
        "integer schemes only.",
    )
    io: InputOutput = Field(
        InputOutput.FLOAT32, description="Type of inputs and outputs; static schemes only."
    )
    bits: Annotated[float, Field(ge=0, lt=8)] = Field(
        0.0,
        description="Mean bits of a weight in the layers that take int4, above 4: some of them stay int8. "
        "For scheme int4 with allocation sensitivity; 0: all of them are int4.",
    )
    algorithm: Algorithm = Field(
        Algorithm.MIN_MAX,
        description="How weights become integers; integer schemes without training aware only. minMax: the "
        "nearest integers, on a scale that reaches to the largest weight, and with four bits to where the "
        "squared error is least. octav, mse: on a scale that clips the largest weights. gptq: on the scale "
        "of minMax, rounded so that the layer's outputs on dataset.calibration change least. Layers that an "
        "algorithm does not reach take minMax.",
    )
    calibration_samples: Annotated[int, Field(ge=0, le=65_536)] = Field(
        0,
        description="Samples that set the ranges of activations, evenly spread over dataset.calibration; 0: "
        "all of it, at most 512. Static schemes only.",
    )
    bias_correction: bool = Field(
        False,
        description="Biases take up the mean error of each layer's outputs on dataset.calibration. Integer "
        "schemes only, and not for weights that are trained as integers (training aware, or a rate).",
    )

    @field_validator("bits")
    @classmethod
    def _between_the_two_formats(cls, bits: float) -> float:
        if 0 < bits < FEWEST_BITS:
            raise ValueError(
                f"{bits:g} bits; expected {FEWEST_BITS} to 8, since weights are int4 or int8, or 0"
            )
        return bits


class Sparsity(Document):
    """Zeros among the weights of the layers that are pruned."""

    pattern: SparsityPattern = Field(SparsityPattern.NONE, description="Which weights may become zero.")
    level: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Share of zeros in the pruned layers, for pattern channel the share of channels that are "
        "removed; 2:4 has none (it is one half).",
    )
    level_of: LevelOf = Field(
        LevelOf.CHANNELS,
        description="For pattern channel. macs: so many channels go, of all layers alike, that this share of "
        "the model's multiply-accumulates goes with them.",
    )
    encoding: SparsityEncoding = Field(
        SparsityEncoding.DENSE,
        description="sparse: the file holds the weights without their zeros, wherever that is smaller; for "
        "schemes none and float16 and patterns that leave zeros, run by litert only.",
    )


class Clustering(Document):
    """A bound on the number of distinct weights in each tensor."""

    stage: ClusteringStage = Field(ClusteringStage.NONE, description="When weights are clustered.")
    clusters: Annotated[int, Field(ge=0, le=256)] = Field(0, description="Distinct weights in each tensor.")


class Rate(Document):
    """Rate-aware training: bytes are asked for, and pruning and levels follow from what they cost."""

    ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Entropy-coded bytes of the trained weights as a share of their bytes in float32; "
        "0: no rate-aware training. For integer schemes, with one scale per tensor; no other sparsity than "
        "removed channels, and no clustering, goes with it.",
    )


class LayerSettings(Document):
    """Settings for the layers whose weight tensor's name matches; later entries win."""

    match: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="Regular expression searched in the layer's name as `paretune plan` prints it."
    )
    quantization: Quantization | None = Field(
        None, description="Quantization of these layers; absent: as the rest. `io` is the whole model's."
    )
    sparsity: Sparsity | None = Field(None, description="Sparsity of these layers; absent: as the rest.")
    clustering: Clustering | None = Field(
        None, description="Clustering of these layers; absent: as the rest."
    )


class Settings(Document):
    """Everything that is done to the model in one trial. The default is to leave it as it is."""

    quantization: Quantization = Field(
        default_factory=Quantization, description="Quantization of weights and activations."
    )
    sparsity: Sparsity = Field(default_factory=Sparsity, description="Zeros among the weights.")
    clustering: Clustering = Field(
        default_factory=Clustering, description="A bound on the number of distinct weights in each tensor."
    )
    allocation: Allocation = Field(
        Allocation.UNIFORM,
        description="uniform: level, clusters and int4 as they stand, in all layers alike. sensitivity: they "
        "are means over the weights, and each layer gets what a probe of it suggests.",
    )
    rate: Rate = Field(default_factory=Rate, description="A budget of entropy-coded bytes to train for.")
    layers: Annotated[tuple[LayerSettings, ...], Field(max_length=64)] = Field(
        (), description="Settings for single layers; later entries win."
    )

    @model_validator(mode="before")
    @classmethod
    def _meaningless_parts_take_their_default(cls, data: Any) -> Any:
        return _normalised(data) if isinstance(data, dict) else data

    def canonical(self) -> dict[str, Any]:
        """Settings as a plain dict: defaults left out, keys sorted. `{}` is the untouched model."""
        plain: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        # `{}` in a layer's entry says "leave this layer alone" and stays; on top it is the default.
        return {k: _sorted(plain[k]) for k in sorted(plain) if plain[k] not in ({}, [])}

    def digest(self) -> str:
        """sha256 (hex) of the canonical form."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()

    def sentence(self) -> str:
        """The settings in a few words: `int8 per tensor, 50% sparse, 16 clusters (int8)`."""
        words: list[str] = []
        q = self.quantization
        if q.scheme is not Scheme.NONE:
            tensor = " per tensor" if q.granularity is Granularity.TENSOR else ""
            mean = f" at {q.bits:g} bits a weight" if q.bits else ""
            aware = ", quantization-aware" if q.training is QuantizationTraining.AWARE else ""
            io = ", int8 inputs" if q.io is InputOutput.INT8 else ""
            by = f" by {q.algorithm.value}" if q.algorithm is not Algorithm.MIN_MAX else ""
            corrected = ", biases corrected" if q.bias_correction else ""
            samples = f", {q.calibration_samples} calibration samples" if q.calibration_samples else ""
            words.append(f"{q.scheme.value}{mean}{tensor}{by}{aware}{corrected}{samples}{io}")
        if self.sparsity.pattern is SparsityPattern.UNSTRUCTURED:
            words.append(f"{self.sparsity.level:.0%} sparse")
        elif self.sparsity.pattern is SparsityPattern.BLOCK:
            words.append(f"{self.sparsity.level:.0%} sparse in blocks of four")
        elif self.sparsity.pattern is SparsityPattern.CHANNEL:
            whole = "MACs" if self.sparsity.level_of is LevelOf.MACS else "channels"
            words.append(f"{self.sparsity.level:.0%} of {whole} removed")
        elif self.sparsity.pattern is SparsityPattern.TWO_OF_FOUR:
            words.append("2:4 sparse")
        if self.sparsity.encoding is SparsityEncoding.SPARSE:
            words.append("stored sparsely")
        if self.clustering.stage is not ClusteringStage.NONE:
            words.append(f"{self.clustering.clusters} clusters ({self.clustering.stage.value})")
        if self.allocation is Allocation.SENSITIVITY:
            words.append("allocated by sensitivity")
        if self.rate.ratio:
            words.append(f"trained for {self.rate.ratio:.2%} of the weights' bytes")
        if self.layers:
            words.append(f"{len(self.layers)} layer override{'s' if len(self.layers) > 1 else ''}")
        return ", ".join(words) or "untouched"


def _normalised(data: dict[str, Any]) -> dict[str, Any]:
    """Drop sub-settings without meaning, so that equal treatments have equal documents."""
    out = {**data, **{key: normalise(data.get(key)) for key, normalise in _PARTS.items()}}
    out["rate"] = _rate(data.get("rate"), out["quantization"])
    rated = out["rate"].ratio > 0
    if rated:  # zeros and levels come out of the training itself, which trains integers anyway
        own = {
            "granularity": Granularity.TENSOR,
            "training": QuantizationTraining.NONE,
            "algorithm": Algorithm.MIN_MAX,
        }
        out["quantization"] = out["quantization"].model_copy(update=own)
        out["clustering"] = Clustering()
        if out["sparsity"].pattern is not SparsityPattern.CHANNEL:
            out["sparsity"] = Sparsity()
    out["allocation"] = _allocation(data.get("allocation"), out)
    if out["allocation"] is Allocation.UNIFORM:
        out["quantization"] = out["quantization"].model_copy(update={"bits": 0.0})
    layers = data.get("layers")
    if isinstance(layers, list | tuple):
        found = (_normalised_layer(layer, rated) for layer in layers)
        out["layers"] = [layer for layer in found if layer is not None]
    _check_bias_correction(out)
    return out


def _check_bias_correction(parts: dict[str, Any]) -> None:
    """Trained integers come with biases of their own, which nobody but the training should move."""
    if not parts["quantization"].bias_correction:
        return
    aware = [
        field
        for field, q in (
            ("quantization", parts["quantization"]),
            *((f"layers[{i}].quantization", layer.quantization) for i, layer in enumerate(_layers(parts))),
        )
        if q is not None and q.training is QuantizationTraining.AWARE
    ]
    trained = f"rate.ratio is {parts['rate'].ratio:g}" if parts["rate"].ratio else ""
    trained = trained or (f"{aware[0]}.training is aware" if aware else "")
    if trained:
        raise ValueError(
            f"quantization.biasCorrection is true, and {trained}: these weights are trained as integers, and "
            "their biases with them; leave one of both out"
        )


def _layers(parts: dict[str, Any]) -> list[LayerSettings]:
    layers = parts.get("layers")
    return [layer for layer in layers if isinstance(layer, LayerSettings)] if isinstance(layers, list) else []


def _normalised_layer(data: Any, rated: bool) -> Any:
    """One entry of `layers` without what has no meaning there; None for an entry that says nothing."""
    layer = data if isinstance(data, LayerSettings) else LayerSettings.model_validate(data)
    parts = {key: getattr(layer, key) for key in _PARTS}
    if parts["quantization"] is not None:  # inputs and outputs, and means over the layers, are the model's
        whole: dict[str, Any] = {
            "io": InputOutput.FLOAT32,
            "bits": 0.0,
            "calibration_samples": 0,
            "bias_correction": False,
        }
        if rated:
            whole |= {"training": QuantizationTraining.NONE, "algorithm": Algorithm.MIN_MAX}
        parts["quantization"] = parts["quantization"].model_copy(update=whole)
    if parts["sparsity"] is not None:  # one encoding for the whole file
        dense = {"encoding": SparsityEncoding.DENSE}
        parts["sparsity"] = parts["sparsity"].model_copy(update=dense)
    given = {key: _PARTS[key](part) for key, part in parts.items() if part is not None}
    return LayerSettings(match=layer.match, **given) if given else None


def _quantization(data: Any) -> Quantization:
    q = Quantization.model_validate(data or {})
    aware = q.scheme in INTEGER_SCHEMES and q.training is QuantizationTraining.AWARE
    return Quantization(
        scheme=q.scheme,
        granularity=q.granularity if q.scheme in INTEGER_SCHEMES else Granularity.CHANNEL,
        training=q.training if q.scheme in INTEGER_SCHEMES else QuantizationTraining.NONE,
        io=q.io if q.scheme in STATIC_SCHEMES else InputOutput.FLOAT32,
        bits=min(round(q.bits, 3), 7.999) if q.scheme is Scheme.INT4 and q.bits > FEWEST_BITS else 0.0,
        algorithm=q.algorithm if q.scheme in INTEGER_SCHEMES and not aware else Algorithm.MIN_MAX,
        calibration_samples=q.calibration_samples if q.scheme in STATIC_SCHEMES else 0,
        bias_correction=q.bias_correction and q.scheme in INTEGER_SCHEMES,
    )


def _sparsity(data: Any) -> Sparsity:
    s = Sparsity.model_validate(data or {})
    level = min(round(s.level, 6), 0.999999)
    encoding = s.encoding if s.pattern in PATTERNS_WITH_ZEROS else SparsityEncoding.DENSE
    level_of = s.level_of if s.pattern is SparsityPattern.CHANNEL else LevelOf.CHANNELS
    if s.pattern in LEVELED_PATTERNS and level > 0:
        return Sparsity(pattern=s.pattern, level=level, level_of=level_of, encoding=encoding)
    if s.pattern is SparsityPattern.TWO_OF_FOUR:
        return Sparsity(pattern=s.pattern, encoding=encoding)
    return Sparsity()


def _clustering(data: Any) -> Clustering:
    c = Clustering.model_validate(data or {})
    return c if c.stage is not ClusteringStage.NONE and c.clusters > 0 else Clustering()


def _rate(data: Any, quantization: Quantization) -> Rate:
    rate = Rate.model_validate(data or {})
    return Rate(ratio=round(rate.ratio, 6)) if quantization.scheme in INTEGER_SCHEMES else Rate()


def _allocation(data: Any, parts: dict[str, Any]) -> Allocation:
    """Sensitivity only where there is something to divide among the layers."""
    divisible = (
        parts["sparsity"].pattern in DIVISIBLE_PATTERNS
        or parts["clustering"].clusters > 0
        or (parts["quantization"].bits > 0 and not parts["rate"].ratio)
    )
    return Allocation(data or Allocation.UNIFORM) if divisible else Allocation.UNIFORM


_PARTS: dict[str, Callable[[Any], Any]] = {
    "quantization": _quantization,
    "sparsity": _sparsity,
    "clustering": _clustering,
}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sorted(value[k]) for k in sorted(value)}
    if isinstance(value, list):
        return [_sorted(v) for v in value]
    return value
