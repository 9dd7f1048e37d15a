"""What tfmot cannot do to a layer, said before it is tried."""

from collections.abc import Sequence

from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import ClusteringStage, SparsityPattern

from ...layers import LayerPlan

FEWEST_CLUSTERS, FEWEST_BESIDE_ZERO = 2, 3


def must_be_able(plans: Sequence[LayerPlan]) -> None:
    """Refuse plans that tfmot cannot carry out.

    Raises:
        StageError: STEP_FAILED, naming the layer, the setting and what would be right.
    """
    clustered = [p for p in plans if clusters_early(p)]
    for plan in plans:
        name = plan.layer.name
        if plan.sparsity.pattern is SparsityPattern.BLOCK:
            raise _cannot(
                f"sparsity.pattern is 1x4 in layer {name!r}, and it has no blocks for convolutions; take "
                "unstructured or 2:4"
            )
    for plan in clustered:
        name, k = plan.layer.name, plan.clustering.clusters
        fewest = FEWEST_BESIDE_ZERO if plan.zeros > 0 else FEWEST_CLUSTERS
        if k < fewest:
            sparse = " in a sparse layer" if plan.zeros > 0 else ""
            raise _cannot(
                f"clustering.clusters is {k} in layer {name!r}, and it makes {fewest} or more{sparse}"
            )
        if not plan.aware and any(p.aware for p in plans):
            raise _cannot(
                f"clustering.stage is training in layer {name!r} while other layers are trained as integers; "
                "set quantization.training to aware there too"
            )


def clusters_early(plan: LayerPlan) -> bool:
    """Whether a layer is clustered while training."""
    return plan.clustering.stage is ClusteringStage.TRAINING and plan.clustering.clusters > 0


def _cannot(what: str) -> StageError:
    return StageError(Reason.STEP_FAILED, f"training.trainer is tfmot: {what}, or training.trainer: file")
