"""DLSA: constructing balance from imbalance with flow filters (Xu et al., ECCV 2022).

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. `DLSA` fits everything; the other names are its parts.
"""

from longtail.posthoc.dlsa.correction import DLSA, Group
from longtail.posthoc.dlsa.filter import (
    ClusterBalance,
    FlowFilter,
    FlowOutput,
    cluster_purity,
    imbalance,
    likelihood_weights,
    tally_clusters,
    weighted_likelihood,
)
from longtail.posthoc.dlsa.flow import MADE, FlowBatchNorm, GaussianMixture
from longtail.posthoc.dlsa.head import DLSAHead
from longtail.posthoc.dlsa.settings import ClassifierSettings, DLSASettings, FilterSettings
from longtail.posthoc.dlsa.training import FilterEpoch, FilterHistory, fit_classifier, train_filter

__all__ = [
    "DLSA",
    "MADE",
    "ClassifierSettings",
    "ClusterBalance",
    "DLSAHead",
    "DLSASettings",
    "FilterEpoch",
    "FilterHistory",
    "FilterSettings",
    "FlowBatchNorm",
    "FlowFilter",
    "FlowOutput",
    "GaussianMixture",
    "Group",
    "cluster_purity",
    "fit_classifier",
    "imbalance",
    "likelihood_weights",
    "tally_clusters",
    "train_filter",
    "weighted_likelihood",
]
