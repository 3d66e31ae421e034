"""Stages of a recipe: each turns a model into a better-balanced model."""

from longtail.config.stage import PreparedStage as PreparedStage
from longtail.config.stage import Stage as Stage
from longtail.stages.adjust import Adjust
from longtail.stages.filter import Filter
from longtail.stages.meta import RetrainMeta
from longtail.stages.retrain import Retrain
from longtail.stages.risda import RetrainRISDA
from longtail.stages.solve import Solve
from longtail.stages.train import Train

__all__ = [
    "Adjust",
    "Filter",
    "Retrain",
    "RetrainMeta",
    "RetrainRISDA",
    "Solve",
    "Train",
]
