"""Scores of a classifier on long-tailed data, from logits or predicted labels."""

from longtail.evaluation.bootstrap import Difference, paired_bootstrap
from longtail.evaluation.calibration import Reliability, brier_score, confidences, reliability, reliability_by_group
from longtail.evaluation.geometry import (
    Compactness,
    class_centroids,
    class_means,
    compactness,
    empirical_cdf,
    largest_norm,
    logit_margins,
    max_intra_class_distances,
    mean_intra_class_distances,
    nearest_centroid_distances,
)
from longtail.evaluation.metrics import confusion_matrix, shot_groups
from longtail.evaluation.predictions import (
    Predictions,
    group_options,
    merged_groups,
    read_predictions,
    read_result,
    save_predictions,
)
from longtail.evaluation.prior_shift import (
    Abstention,
    abstention_threshold,
    estimate_prior_bbse,
    estimate_prior_em,
)
from longtail.evaluation.reading import read_training_counts
from longtail.evaluation.scores import (
    Scores,
    adjust_to_prior,
    evaluate_logits,
    evaluate_predictions,
    example_weights,
    long_tailed_prior,
)

__all__ = [
    "Abstention",
    "Compactness",
    "Difference",
    "Predictions",
    "Reliability",
    "Scores",
    "abstention_threshold",
    "adjust_to_prior",
    "brier_score",
    "class_centroids",
    "class_means",
    "compactness",
    "confidences",
    "confusion_matrix",
    "empirical_cdf",
    "estimate_prior_bbse",
    "estimate_prior_em",
    "evaluate_logits",
    "evaluate_predictions",
    "example_weights",
    "group_options",
    "largest_norm",
    "logit_margins",
    "long_tailed_prior",
    "max_intra_class_distances",
    "mean_intra_class_distances",
    "merged_groups",
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
