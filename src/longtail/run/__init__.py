"""Runs: resolve a configuration, train, and read a finished run folder."""

from longtail.run.run import Predicted, Run
from longtail.run.trained import Trained

__all__ = ["Predicted", "Run", "Trained"]
