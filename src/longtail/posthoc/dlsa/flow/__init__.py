"""Flow filters: normalizing flows over a mixture that learn which features look rare (DLSA, ECCV 2022)."""

from longtail.posthoc.dlsa.flow.batch_norm import FlowBatchNorm
from longtail.posthoc.dlsa.flow.filter import FlowFilter, FlowOutput
from longtail.posthoc.dlsa.flow.made import MADE
from longtail.posthoc.dlsa.flow.mixture import GaussianMixture
from longtail.posthoc.dlsa.flow.objectives import (
    ClusterBalance,
    cluster_purity,
    likelihood_weights,
    weighted_likelihood,
)
from longtail.posthoc.dlsa.flow.settings import FilterSettings
from longtail.posthoc.dlsa.flow.training import FilterEpoch, FilterHistory, train_filter

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
