"""What the settings mean for each layer: overrides resolved, and only what the layer can take."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretune_contract.failure import Reason, StageError
from paretune_contract.model import LayerInfo
from paretune_contract.settings import (
    INTEGER_SCHEMES,
    REACHED,
    Algorithm,
    Clustering,
    ClusteringStage,
    Granularity,
    Quantization,
    QuantizationTraining,
    Scheme,
    Settings,
    Sparsity,
    SparsityEncoding,
    SparsityPattern,
)

TWO_OF_FOUR_SHARE = 0.5
KEPT_OPERATORS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
"""Operators for which every quantization scheme must work; others are quantized where the tool can."""


@dataclass(frozen=True)
class LayerPlan:
    """One layer and what is done to it.

    A layer that cannot be pruned has the default `sparsity`, one that cannot be clustered the default
    `clustering`. `scheme` is the scheme as the layer takes it: int8 where int4 is asked and the operator has
    none, or where the layer is tiny and no override insists. `aware`: its weights are trained as integers.
    `algorithm` is what was asked, and `reached` says whether it can quantize the layer's operator.
    """

    layer: LayerInfo
    scheme: Scheme
    granularity: Granularity
    sparsity: Sparsity
    clustering: Clustering
    aware: bool = False
    algorithm: Algorithm = Algorithm.MIN_MAX

    @property
    def reached(self) -> bool:
        """Whether an algorithm other than minMax is asked, and quantizes this operator."""
        return self.layer.operator in REACHED.get(self.algorithm, ())

    @property
    def zeros(self) -> float:
        """Share of zeros that the layer shall have at least."""
        if self.sparsity.pattern is SparsityPattern.TWO_OF_FOUR:
            return TWO_OF_FOUR_SHARE
        zeros = self.sparsity.pattern in (SparsityPattern.UNSTRUCTURED, SparsityPattern.BLOCK)
        return self.sparsity.level if zeros else 0.0


@dataclass(frozen=True)
class Share:
    """What an allocation gives to one layer in place of the settings that all share; None: as all.

    scheme: int4 or int8; level: share of zeros; clusters: distinct weights.
    """

    scheme: Scheme | None = None
    level: float | None = None
    clusters: int | None = None


def resolve_layers(
    settings: Settings, layers: Sequence[LayerInfo], shares: Mapping[int, Share] | None = None
) -> tuple[LayerPlan, ...]:
    """The plan for each layer, in the order of `layers`.

    Tensors with clusters from training are quantized per tensor even where `channel` is asked: with a scale
    for each channel the same float value becomes another integer in each, and the clusters are gone.

    Args:
        settings: of the trial.
        layers: of the float model.
        shares: what an allocation gives to single layers, by their place in `layers`; overrides win over it.

    Raises:
        StageError: LAYER_NOT_FOUND when an override matches no layer; NO_EFFECT when no layer that it
            matches can take it, when integers shall be clustered and there are none, or when integers shall
            be stored sparsely.
    """
    base = settings.quantization
    # Four bits ruin a stem or a last layer and save next to nothing there: only an override asks for them.
    spared = base.model_copy(update={"scheme": Scheme.INT8}) if base.scheme is Scheme.INT4 else base
    chosen: list[tuple[Quantization, Sparsity, Clustering]] = [
        _shared(base if layer.prunable else spared, settings, (shares or {}).get(i, Share()))
        for i, layer in enumerate(layers)
    ]
    for n, override in enumerate(settings.layers):
        field = f"settings.layers[{n}]"
        hits = _hits(override.match, layers, field)
        if not hits:
            some = ", ".join(repr(layer.name) for layer in layers[:3])
            raise StageError(
                Reason.LAYER_NOT_FOUND,
                f"{field}.match: {override.match!r} matches none of the model's {len(layers)} layers "
                f"(the first are {some}); `paretune plan` prints them all",
            )
        for i in hits:
            q, s, c = chosen[i]
            chosen[i] = (override.quantization or q, override.sparsity or s, override.clustering or c)
        _must_take(
            field,
            override.sparsity,
            override.clustering,
            override.quantization,
            [_plan(layers[i], *chosen[i]) for i in hits],
        )
    plans = tuple(_plan(layer, *settings_) for layer, settings_ in zip(layers, chosen, strict=True))
    if not settings.layers:
        _must_take("settings", settings.sparsity, settings.clustering, base, plans)
    for plan in plans:
        if plan.clustering.stage is ClusteringStage.INT8 and plan.scheme not in INTEGER_SCHEMES:
            raise StageError(
                Reason.NO_EFFECT,
                f"clustering.stage is int8, but quantization.scheme {plan.scheme.value} leaves no integers "
                f"in {plan.layer.name!r}; integer schemes are dynamic, int8, int16x8 and int4",
            )
        if settings.sparsity.encoding is SparsityEncoding.SPARSE and plan.scheme in INTEGER_SCHEMES:
            raise StageError(
                Reason.NO_EFFECT,
                f"sparsity.encoding is sparse, but the weights of {plan.layer.name!r} are integers "
                f"(quantization.scheme {plan.scheme.value}), which LiteRT does not run from a sparse file; "
                "expected scheme none or float16 in all layers, or encoding dense",
            )
    return plans


def two_of_four_fits(layer: LayerInfo) -> bool:
    """2:4 and 1x4 run along the input channels, the last axis of stored weights; they must come in fours."""
    return layer.prunable and layer.weight_shape[-1] % 4 == 0


def overridden(settings: Settings, layers: Sequence[LayerInfo], part: str) -> frozenset[int]:
    """Places in `layers` of those for which an override says something about a part, such as `sparsity`.

    Raises:
        StageError: LAYER_NOT_FOUND when an override is no regular expression.
    """
    return frozenset(
        i
        for n, override in enumerate(settings.layers)
        if getattr(override, part) is not None
        for i in _hits(override.match, layers, f"settings.layers[{n}]")
    )


def _shared(
    base: Quantization, settings: Settings, share: Share
) -> tuple[Quantization, Sparsity, Clustering]:
    q, s, c = base, settings.sparsity, settings.clustering
    if share.scheme is not None:
        q = q.model_copy(update={"scheme": share.scheme})
    if share.level is not None:
        s = s.model_copy(update={"level": share.level})
    if share.clusters is not None:
        c = c.model_copy(update={"clusters": share.clusters})
    return q, s, c


def _hits(pattern: str, layers: Sequence[LayerInfo], field: str) -> list[int]:
    try:
        return [i for i, layer in enumerate(layers) if re.search(pattern, layer.name) is not None]
    except re.error as error:
        raise StageError(
            Reason.LAYER_NOT_FOUND, f"{field}.match: {pattern!r} is no regular expression: {error}"
        ) from error


def _plan(layer: LayerInfo, q: Quantization, s: Sparsity, c: Clustering) -> LayerPlan:
    scheme = Scheme.INT8 if q.scheme is Scheme.INT4 and not layer.int4 else q.scheme
    in_fours = s.pattern in (SparsityPattern.TWO_OF_FOUR, SparsityPattern.BLOCK)
    pruned = two_of_four_fits(layer) if in_fours else layer.prunable
    sparsity = s if pruned and (s.pattern is SparsityPattern.TWO_OF_FOUR or s.level > 0) else Sparsity()
    clustered = layer.clusterable and c.clusters > 0 and c.stage is not ClusteringStage.NONE
    granularity = q.granularity if scheme in INTEGER_SCHEMES else Granularity.CHANNEL
    if clustered and c.stage is ClusteringStage.TRAINING and scheme in INTEGER_SCHEMES:
        granularity = Granularity.TENSOR
    if scheme is Scheme.DYNAMIC and layer.operator == "DEPTHWISE_CONV_2D":
        granularity = Granularity.CHANNEL  # the runtime's kernel reads one scale for each channel, or rubbish
    aware = layer.trainable and scheme in INTEGER_SCHEMES and q.training is QuantizationTraining.AWARE
    algorithm = q.algorithm if scheme in INTEGER_SCHEMES and not aware else Algorithm.MIN_MAX
    return LayerPlan(layer, scheme, granularity, sparsity, c if clustered else Clustering(), aware, algorithm)


def _must_take(
    field: str,
    sparsity: Sparsity | None,
    clustering: Clustering | None,
    quantization: Quantization | None,
    plans: Sequence[LayerPlan],
) -> None:
    # Which channels can go is seen when they do: the graph decides, not the layer.
    in_place = sparsity is not None and sparsity.pattern is not SparsityPattern.CHANNEL
    if sparsity is not None and in_place and sparsity.pattern is not SparsityPattern.NONE:
        asked = sparsity.level > 0 or sparsity.pattern is SparsityPattern.TWO_OF_FOUR
        if asked and not any(p.zeros > 0 for p in plans):
            raise StageError(
                Reason.NO_EFFECT,
                f"{field}.sparsity: no layer can be pruned {sparsity.pattern.value}; depthwise and tiny "
                "layers are left alone, and 2:4 and 1x4 want input channels in multiples of four",
            )
    clusters = clustering.clusters if clustering and clustering.stage is not ClusteringStage.NONE else 0
    if clusters and not any(p.clustering.clusters for p in plans):
        raise StageError(
            Reason.NO_EFFECT,
            f"{field}.clustering: no layer can be clustered; depthwise and tiny layers are left alone",
        )
    aware = quantization is not None and quantization.training is QuantizationTraining.AWARE
    if aware and not any(p.aware for p in plans):
        raise StageError(
            Reason.NO_EFFECT,
            f"{field}.quantization.training: no gradient reaches the weights of any of these layers, so none "
            "can be trained as integers",
        )
    algorithm = quantization.algorithm if quantization is not None else Algorithm.MIN_MAX
    if algorithm is not Algorithm.MIN_MAX and not any(p.reached for p in plans):
        found = ", ".join(sorted({p.layer.operator for p in plans})) or "none"
        raise StageError(
            Reason.NO_EFFECT,
            f"{field}.quantization.algorithm: {algorithm.value} quantizes "
            f"{', '.join(sorted(REACHED[algorithm]))}, and of the layers ({found}) it reaches none; expected "
            f"{Algorithm.MIN_MAX.value}",
        )
    int4 = quantization is not None and quantization.scheme is Scheme.INT4
    if int4 and not any(p.scheme is Scheme.INT4 for p in plans):
        raise StageError(
            Reason.NO_EFFECT,
            f"{field}.quantization.scheme: int4 weights exist for CONV_2D and FULLY_CONNECTED only, "
            "and no such layer is there",
        )
