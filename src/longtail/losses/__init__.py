"""Loss functions for class-imbalanced data: `loss = BalancedSoftmax(class_counts)`, then `loss(logits, targets)`."""

from longtail.losses.ala import ALALoss
from longtail.losses.balanced_sigmoid import BalancedSigmoid
from longtail.losses.balanced_softmax import BalancedSoftmax

# base class of custom components; not in `__all__`, which lists the names that recipes may use
from longtail.losses.base import Loss as Loss
from longtail.losses.cdt import CDTLoss
from longtail.losses.class_balanced import ClassBalancedLoss
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.equalization import EqualizationLoss
from longtail.losses.focal import FocalLoss
from longtail.losses.gcl import GCLLoss
from longtail.losses.influence_balanced import InfluenceBalancedLoss
from longtail.losses.label_aware_smoothing import LabelAwareSmoothing
from longtail.losses.lade import LADELoss
from longtail.losses.ldam import LDAMLoss
from longtail.losses.logit_adjusted import LogitAdjustedLoss
from longtail.losses.seesaw import SeesawLoss
from longtail.losses.vs import VSLoss
from longtail.losses.weighted import WeightedCrossEntropy

__all__ = [
    "ALALoss",
    "BalancedSigmoid",
    "BalancedSoftmax",
    "CDTLoss",
    "ClassBalancedLoss",
    "CrossEntropy",
    "EqualizationLoss",
    "FocalLoss",
    "GCLLoss",
    "InfluenceBalancedLoss",
    "LADELoss",
    "LDAMLoss",
    "LabelAwareSmoothing",
    "LogitAdjustedLoss",
    "SeesawLoss",
    "VSLoss",
    "WeightedCrossEntropy",
]
