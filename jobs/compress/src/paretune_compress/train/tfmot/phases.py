"""The phases of a training, each over a Keras model that tfmot has wrapped for it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from paretune_contract.settings import SparsityPattern

from ...flatbuffer import Array
from ...layers import LayerPlan
from ..epochs import Trained
from ..learned_steps import integer_formats
from ..parametrization import TYPICAL, unit_of
from ..schedule import UPDATES
from .keras_model import Built, Weights
from .library import keras, tfmot
from .limits import clusters_early
from .quantizers import CENTROIDS, AsBuilt, Form, LayerConfig

Layer = Any
NEVER = 2**31 - 2
"""A step at which no mask changes any more."""


class Phase(ABC):
    """One of pruning, clustering and quantization.

    Args:
        plans: what is done to each layer.
    """

    def __init__(self, plans: Sequence[LayerPlan]) -> None:
        self._plans = {p.layer.weight_tensor: p for p in plans}
        self.model: Any = None

    def begin(self, built: Built) -> None:
        """Wrap the layers of a model that nothing else uses; from here on `model` is what is trained."""
        self._built = built
        self.model = self._wrapped(built)

    def units(self, weights: Mapping[int, Array]) -> dict[Any, Array]:
        """What variables count in where this is not one, by their reference, as in `Parametrization`.

        Args:
            weights: as they are stored, by tensor index; all that the model began with.
        """
        found: dict[Any, Array] = {}
        for wrapper, _, place in self._places():
            variable, stored = self._kernel_variable(wrapper, place), weights[place.kernel]
            inputs = int(variable.shape[-2])
            found[variable.ref()] = place.to_keras(unit_of(stored), inputs)
            if (centroids := self._centroids(wrapper, place)) is not None:
                spread = max(float(np.std(stored)), 1e-12) / TYPICAL
                found[centroids.ref()] = np.full(centroids.shape, spread, np.float32)
        return found

    def final(self) -> Trained:
        """Weights as they are stored, with what this phase does to them, and their grids."""
        weights: dict[int, Array] = {}
        grids: dict[int, list[float]] = {}
        for wrapper, layer, place in self._places():
            kernel, steps = self._kernel(wrapper, place)
            if steps is not None:
                grids[place.kernel] = [float(s) for s in steps]
            weights[place.kernel] = place.from_keras(kernel + np.float32(0))  # no zero is negative
            if place.bias is not None:
                weights[place.bias] = layer.bias.numpy()
        return Trained(weights, grids)

    def _plan(self, layer: Layer) -> LayerPlan | None:
        place = self._built.weights.get(layer.name)
        return self._plans.get(place.kernel) if place is not None else None

    def _places(self) -> Iterator[tuple[Layer, Layer, Weights]]:
        """Layers with weights: the wrapper, the layer inside (or itself), and where its weights stand."""
        for wrapper in self.model.layers:
            layer = getattr(wrapper, "layer", wrapper)
            if layer.name in self._built.weights:
                yield wrapper, layer, self._built.weights[layer.name]

    @abstractmethod
    def _wrapped(self, built: Built) -> Any:
        """The model with wrapped layers."""

    @abstractmethod
    def _kernel_variable(self, wrapper: Layer, place: Weights) -> Any:
        """The variable behind a layer's kernel."""

    def _centroids(self, wrapper: Layer, place: Weights) -> Any:
        """The variable with a layer's centroids; None where it has none."""
        del wrapper, place
        return None

    @abstractmethod
    def _kernel(self, wrapper: Layer, place: Weights) -> tuple[Array, Array | None]:
        """A layer's kernel as it is now, and its steps if it has any."""


class Pruning(Phase):
    """`prune_low_magnitude`: zeros grow to their share, and stay. With nothing to prune, plain training.

    Args:
        plans: what is done to each layer.
        ramp: steps until the levels are reached.
    """

    def __init__(self, plans: Sequence[LayerPlan], ramp: int) -> None:
        super().__init__(plans)
        self._every = max(1, ramp // UPDATES)
        self._end = max(1, ramp // self._every * self._every)  # the level is reached at an update
        self._steps = tfmot.sparsity.keras.UpdatePruningStep()

    def _wrapped(self, built: Built) -> Any:
        model = keras.models.clone_model(built.model, clone_function=self._pruned)
        self._steps.set_model(model)
        self._steps.on_train_begin()
        return model

    def _pruned(self, layer: Layer) -> Layer:
        plan = self._plan(layer)
        if plan is None or not plan.zeros:
            return layer
        prune = tfmot.sparsity.keras.prune_low_magnitude
        if plan.sparsity.pattern is SparsityPattern.TWO_OF_FOUR:
            return prune(layer, sparsity_m_by_n=(2, 4))
        ramp = tfmot.sparsity.keras.PolynomialDecay(0.0, plan.zeros, 0, self._end, frequency=self._every)
        return prune(layer, pruning_schedule=ramp)

    def _kernel_variable(self, wrapper: Layer, place: Weights) -> Any:
        return getattr(getattr(wrapper, "layer", wrapper), place.attribute)

    def _kernel(self, wrapper: Layer, place: Weights) -> tuple[Array, Array | None]:
        self._steps.on_epoch_end(None)  # the optimizer moves masked weights too
        return self._kernel_variable(wrapper, place).numpy(), None


class Clustering(Phase):
    """`cluster_weights`, with zero among the centroids of a sparse layer; other sparse layers keep theirs."""

    def _wrapped(self, built: Built) -> Any:
        model = keras.models.clone_model(built.model, clone_function=self._clustered)
        self._steps = tfmot.sparsity.keras.UpdatePruningStep()
        self._steps.set_model(model)
        self._steps.on_train_begin()
        for layer in self._steps.prunable_layers:
            for weight, mask, _ in layer.pruning_vars:
                mask.assign((weight.numpy() != 0).astype(np.float32))
        return model

    def _clustered(self, layer: Layer) -> Layer:
        plan = self._plan(layer)
        if plan is None:
            return layer
        if clusters_early(plan) and _distinct(layer, sparse=plan.zeros > 0) > plan.clustering.clusters:
            return tfmot.clustering.keras.cluster_weights(
                layer, number_of_clusters=plan.clustering.clusters, preserve_sparsity=plan.zeros > 0
            )
        if plan.zeros:
            as_it_is = tfmot.sparsity.keras.ConstantSparsity(plan.zeros, begin_step=NEVER)
            return tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=as_it_is)
        return layer

    def _kernel_variable(self, wrapper: Layer, place: Weights) -> Any:
        if hasattr(wrapper, "original_clusterable_weights"):
            return wrapper.original_clusterable_weights[place.attribute]
        return getattr(getattr(wrapper, "layer", wrapper), place.attribute)

    def _centroids(self, wrapper: Layer, place: Weights) -> Any:
        return getattr(wrapper, "cluster_centroids", {}).get(place.attribute)

    def _kernel(self, wrapper: Layer, place: Weights) -> tuple[Array, Array | None]:
        if hasattr(wrapper, "original_clusterable_weights"):
            wrapper.update_clustered_weights_associations()
            return np.asarray(wrapper.get_weight_from_layer(place.attribute)), None
        self._steps.on_epoch_end(None)
        return self._kernel_variable(wrapper, place).numpy(), None


class Quantizing(Phase):
    """`quantize_apply`: kernels as integers, with the zeros and clusters that they have by now.

    Args:
        plans: what is done to each layer.
        activations: whether these are rounded too.
    """

    def __init__(self, plans: Sequence[LayerPlan], *, activations: bool) -> None:
        super().__init__(plans)
        self._formats = integer_formats(plans)
        self._activations = activations

    def _wrapped(self, built: Built) -> Any:
        quantization = tfmot.quantization.keras
        annotated = keras.models.clone_model(
            built.model,
            clone_function=lambda layer: quantization.quantize_annotate_layer(layer, self._config(layer)),
        )
        return quantization.quantize_apply(annotated, AsBuilt())

    def _config(self, layer: Layer) -> LayerConfig:
        output = self._activations and layer.name in self._built.kept
        place, plan = self._built.weights.get(layer.name), self._plan(layer)
        if place is None:
            return LayerConfig(output=output)
        own = self._formats.get(place.kernel)
        channels = place.shape[own.axis] if own is not None and own.axis is not None else 0
        form = Form(
            bits=own.bits if own is not None else 0,
            channels=channels,
            masked=plan is not None and plan.zeros > 0,
            clustered=plan is not None and clusters_early(plan),
        )
        return LayerConfig(place.attribute, form, output=output)

    def _kernel_variable(self, wrapper: Layer, place: Weights) -> Any:  # noqa: ARG002
        return wrapper.quantize_config.kernel

    def _centroids(self, wrapper: Layer, place: Weights) -> Any:  # noqa: ARG002
        return wrapper.quantize_config.quantizer.built.get(CENTROIDS)

    def _kernel(self, wrapper: Layer, place: Weights) -> tuple[Array, Array | None]:
        value, steps = wrapper.quantize_config.final()
        if steps is None:
            return value, None
        along = steps.astype(np.float64)
        if len(steps) > 1:  # output channels last; those of a depthwise kernel in its last two axes
            along = along.reshape(value.shape[-2:] if place.attribute != "kernel" else -1)
        return (np.rint(value / along) * along).astype(np.float32), steps


def _distinct(layer: Layer, *, sparse: bool) -> int:
    """Most distinct values that a kernel can have: where it keeps its zeros, those count as one."""
    kernel = layer.kernel.numpy()
    return int(np.count_nonzero(kernel)) + 1 if sparse else int(kernel.size)
