"""What a probe found: the costs of each layer, and how they were measured."""

import math
from enum import StrEnum

from paretune_contract.base import Document
from paretune_contract.dataset import Split

from .curves import LEAST, Curve, filled
from .treatments import ALL, Kind

FULL_BITS = 8
"""Bits of a weight that nothing is taken from, and of 256 clusters."""
MODERATE, TEMPER = (0.2, 0.3, 0.4, 0.5), 0.5
"""Shares of zeros at which sensitivity is read where fine-tuning follows, and the power that it counts with:
on two networks 0 and 0.5 came out about alike, 1 worse, and the costs themselves worse still."""
OPERATIONS = frozenset({"BiasAdd", "Conv2D", "MatMul", "convolution", "depthwise", "conv2d_transpose"})
"""What a layer with weights is made of, in the names that TensorFlow gives."""


class Measure(StrEnum):
    """What a cost is."""

    DIVERGENCE = "divergence"  # of the outputs' probabilities from the float model's, in nats, or
    # for outputs that are none the mean squared error in units of the variance
    WEIGHTS = "weights"  # squared error of the weights, relative to their squares


class Cost(Document):
    """What a treatment costs; the amount counts bits of a weight, share of zeros, or distinct weights."""

    amount: float
    cost: float


class LayerCosts(Document):
    """One layer's costs when it alone is treated; without an entry where it cannot take a treatment.

    costs: in the unit of the table's measure.
    errors: squared error of the weights relative to their squares, for every option.
    """

    name: str
    weights: int
    costs: dict[Kind, tuple[Cost, ...]]
    errors: dict[Kind, tuple[Cost, ...]]

    def tuned_zeros(self) -> Curve | None:
        """Cost by share of zeros where fine-tuning follows, 0 to 0.98; None where the layer is not pruned.

        What single layers cost without it says little then: most of it is learned again, and what is left
        depends on how much of the layer is. So the curve is the logarithm of the part of the sum of squares
        that stays, with its sign turned (in the order of its slopes weights have their LAMP score, Lee et al.
        2021, "Layer-adaptive sparsity for the magnitude-based pruning"), times the square root of the
        layer's sensitivity.
        """
        found, zeros = self.errors.get(Kind.SPARSITY, ()), self.zeros()
        if zeros is None or not found:
            return None
        ratios = [
            math.log(max(zeros.cost(e.amount), LEAST) / max(e.cost, LEAST))
            for e in found
            if e.amount in MODERATE
        ]
        scale = math.exp(TEMPER * sum(ratios) / max(1, len(ratios)))
        points = ((e.amount, -scale * math.log(max(1 - e.cost, LEAST))) for e in found)
        return Curve(self.weights, ((0.0, 0.0), *points))

    def zeros(self) -> Curve | None:
        """Cost by share of zeros, 0 to 0.98; None where the layer is not pruned.

        Where options were left out, a power law runs through those that were tried.
        """
        found = [(c.amount, c.cost) for c in self.costs.get(Kind.SPARSITY, ())]
        if not found:
            return None
        return Curve(self.weights, ((0.0, 0.0), *filled(found, ALL[Kind.SPARSITY], math.log)))

    def saved_bits(self) -> Curve | None:
        """Cost by the bits that clusters save of eight, log2(256 / clusters); None where there are none.

        Where options were left out, the logarithm of the cost runs straight between those that were tried.
        """
        found = [(FULL_BITS - math.log2(c.amount), c.cost) for c in self.costs.get(Kind.CLUSTERS, ())]
        if not found:
            return None
        wanted = [FULL_BITS - math.log2(k) for k in ALL[Kind.CLUSTERS]]
        points = filled(found, wanted, float)
        return Curve(self.weights, ((0.0, min(self.of_bits(FULL_BITS), points[0][1])), *points))

    def of_bits(self, bits: int) -> float:
        """Cost of weights of so many bits; 0 where it was not measured, as for eight in a thin probe."""
        return next((c.cost for c in self.costs.get(Kind.BITS, ()) if c.amount == bits), 0.0)

    def typical(self) -> float:
        """One number to compare layers by: what half of the weights cost, for each weight."""
        zeros, saved = self.zeros(), self.saved_bits()
        cost = zeros.cost(0.5) if zeros else saved.cost(FULL_BITS / 2) if saved else self.of_bits(4)
        return cost / self.weights


class Sensitivity(Document):
    """The table of a probe.

    measure: what the costs are.
    split, samples: part of the data set that the model ran on, and how many samples of it.
    complete: every option was tried; else lines run between those that were.
    """

    measure: Measure
    split: Split | None = None
    samples: int = 0
    complete: bool = True
    layers: tuple[LayerCosts, ...]

    def of_layer(self, name: str) -> LayerCosts | None:
        """Costs of a layer; None where it was not probed."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def sentence(self) -> str:
        """What there is to know, in a line: the least and the most sensitive layer, and how it was found."""
        words = []
        if len(self.layers) > 1:
            order = sorted(self.layers, key=LayerCosts.typical)
            words.append(f"least sensitive: {short(order[0].name)}, most: {short(order[-1].name)}")
        if self.measure is Measure.WEIGHTS:
            words.append("from the weights alone, without running the model")
        elif self.split is not None:
            words.append(f"{self.samples} samples of dataset.{self.split.value}")
        if not self.complete:
            words.append("not every option was tried, the model is too large for that")
        return "; ".join(words)


def short(name: str) -> str:
    """A layer's name without what converters put around it: of `model/activation_3/Relu;...;
    model/conv2d_3/BiasAdd;...` that is conv2d_3."""
    for path in name.split(";"):
        *scope, operation = path.split("/")
        if scope and operation.rstrip("0123456789") in OPERATIONS:
            return scope[-1]
    return name.split(";", maxsplit=1)[0]
