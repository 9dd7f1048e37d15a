"""What tfmot cannot do to a layer, said before it is tried."""

from collections.abc import Sequence

from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import ClusteringStage, SparsityPattern
from paretune_contract.training import TFMOT_CLUSTERS, TFMOT_CLUSTERS_BESIDE_ZEROS

from ...layers import LayerPlan


def must_be_able(plans: Sequence[LayerPlan]) -> None:
    """Refuse plans that tfmot cannot carry out.

    Raises:
        StageError: STEP_FAILED, naming the layer, the setting and what would be right.
    """
    for plan in plans:
        name = plan.layer.name
        if plan.sparsity.pattern is SparsityPattern.BLOCK:
            raise _cannot(
                f"sparsity.pattern is 1x4 in layer {name!r}, and it has no blocks for convolutions; take "
                "unstructured or 2:4"
            )
        k = plan.clustering.clusters
        fewest = TFMOT_CLUSTERS_BESIDE_ZEROS if plan.zeros > 0 else TFMOT_CLUSTERS
        if clusters_early(plan) and k < fewest:
            sparse = " in a sparse layer" if plan.zeros > 0 else ""
            raise _cannot(
                f"clustering.clusters is {k} in layer {name!r}, and it makes {fewest} or more{sparse}"
            )


def clusters_early(plan: LayerPlan) -> bool:
    """Whether a layer is clustered while training."""
    return plan.clustering.stage is ClusteringStage.TRAINING and plan.clustering.clusters > 0


def _cannot(what: str) -> StageError:
    return StageError(Reason.STEP_FAILED, f"training.trainer is tfmot: {what}, or training.trainer: file")
