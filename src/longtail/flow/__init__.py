"""Flow filters: normalizing flows over a mixture that learn which features look rare (DLSA, ECCV 2022)."""

from longtail.flow.batch_norm import FlowBatchNorm
from longtail.flow.filter import FlowFilter, FlowOutput
from longtail.flow.made import MADE
from longtail.flow.mixture import GaussianMixture
from longtail.flow.objectives import ClusterBalance, cluster_purity, likelihood_weights, weighted_likelihood
from longtail.flow.settings import FilterSettings
from longtail.flow.training import FilterEpoch, FilterHistory, train_filter

__all__ = [
    "MADE",
    "ClusterBalance",
    "FilterEpoch",
    "FilterHistory",
    "FilterSettings",
    "FlowBatchNorm",
    "FlowFilter",
    "FlowOutput",
    "GaussianMixture",
    "cluster_purity",
    "likelihood_weights",
    "train_filter",
    "weighted_likelihood",
]
