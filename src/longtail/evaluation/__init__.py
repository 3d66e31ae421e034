"""From logits to every number of a result."""

from longtail.evaluation.bootstrap import Difference, paired_bootstrap
from longtail.evaluation.calibration import Reliability, brier_score, confidences, reliability, reliability_by_group
from longtail.evaluation.geometry import (
    Compactness,
    class_centroids,
    compactness,
    largest_norm,
    max_intra_class_distances,
    mean_intra_class_distances,
    nearest_centroid_distances,
)
from longtail.evaluation.margins import class_means, empirical_cdf, logit_margins
from longtail.evaluation.metrics import confusion_matrix, shot_groups
from longtail.evaluation.predictions import Predictions, read_predictions, save_predictions
from longtail.evaluation.priors import adjust_to_prior, example_weights, long_tailed_prior
from longtail.evaluation.result_file import group_options, read_result
from longtail.evaluation.scores import Scores, evaluate_logits, evaluate_predictions
from longtail.evaluation.training_counts import read_training_counts

__all__ = [
    "Compactness",
    "Difference",
    "Predictions",
    "Reliability",
    "Scores",
    "adjust_to_prior",
    "brier_score",
    "class_centroids",
    "class_means",
    "compactness",
    "confidences",
    "confusion_matrix",
    "empirical_cdf",
    "evaluate_logits",
    "evaluate_predictions",
    "example_weights",
    "group_options",
    "largest_norm",
    "logit_margins",
    "long_tailed_prior",
    "max_intra_class_distances",
    "mean_intra_class_distances",
    "nearest_centroid_distances",
    "paired_bootstrap",
    "read_predictions",
    "read_result",
    "read_training_counts",
    "reliability",
    "reliability_by_group",
    "save_predictions",
    "shot_groups",
]
