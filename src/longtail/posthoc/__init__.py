"""Post-hoc corrections of a trained classifier: `fit(features, labels, ...)`, then `predict_logits(features)`."""

from longtail.posthoc.base import PostHoc
from longtail.posthoc.dlsa import DLSA, ClassifierSettings, DLSASettings, FilterSettings
from longtail.posthoc.logit_adjustment import LogitAdjustment, adjust_logits
from longtail.posthoc.nearest_class_mean import NearestClassMean
from longtail.posthoc.tau_normalization import TauNormalization

CORRECTIONS = ("LogitAdjustment", "NearestClassMean", "TauNormalization")

__all__ = [
    "CORRECTIONS",
    "DLSA",
    "ClassifierSettings",
    "DLSASettings",
    "FilterSettings",
    "LogitAdjustment",
    "NearestClassMean",
    "PostHoc",
    "TauNormalization",
    "adjust_logits",
]
