"""What tfmot cannot train, as far as a search can know before a file is there."""

from collections.abc import Sequence

from paretune_contract.settings import PATTERNS_WITH_ZEROS, ClusteringStage, LayerSettings, SparsityPattern
from paretune_contract.training import TFMOT_CLUSTERS, TFMOT_CLUSTERS_BESIDE_ZEROS

WAY_OUT = "training.trainer: file"


def why_no_pattern(pattern: SparsityPattern, forced: Sequence[LayerSettings] = ()) -> str:
    """Why a sparsity pattern is not for tfmot, or not beside what `space.layers` asks for; else nothing."""
    if pattern is SparsityPattern.BLOCK:
        return f"training.trainer is tfmot, which has no blocks for convolutions; {WAY_OUT} has them"
    for i, layer in enumerate(forced):
        k = trained_clusters(layer)
        few = 0 < k < TFMOT_CLUSTERS_BESIDE_ZEROS
        if pattern in PATTERNS_WITH_ZEROS and layer.sparsity is None and few:
            return (
                f"space.layers[{i}] asks for {k} clusters and leaves its sparsity open, and training.trainer "
                f"is tfmot, which makes {TFMOT_CLUSTERS_BESIDE_ZEROS} or more beside zeros; {WAY_OUT} makes "
                "them"
            )
    return ""


def why_no_clusters(layer: LayerSettings) -> str:
    """Why the clusters that an entry of `space.layers` asks for are not for tfmot; else nothing."""
    sparse = layer.sparsity is not None and layer.sparsity.pattern in PATTERNS_WITH_ZEROS
    fewest = TFMOT_CLUSTERS_BESIDE_ZEROS if sparse else TFMOT_CLUSTERS
    if not 0 < trained_clusters(layer) < fewest:
        return ""
    where = " in a layer with zeros" if sparse else ""
    return f"training.trainer is tfmot, which makes {fewest} or more{where}; {WAY_OUT} makes them"


def why_no_two_clusters() -> str:
    """Why clusters of which zero would be one of two are left out where a layer has zeros."""
    return (
        f"beside zeros training.trainer tfmot makes {TFMOT_CLUSTERS_BESIDE_ZEROS} or more in training; "
        f"{WAY_OUT} makes them"
    )


def trained_clusters(layer: LayerSettings) -> int:
    """Clusters that an entry of `space.layers` has made while training; 0: none of its own."""
    clustering = layer.clustering
    early = clustering is not None and clustering.stage is ClusteringStage.TRAINING
    return clustering.clusters if clustering is not None and early else 0
