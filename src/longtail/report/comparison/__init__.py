"""Runs side by side: which classes got better, which worse, and what are they now taken for."""

from longtail.report.comparison.contenders import Contender, read_contenders
from longtail.report.comparison.page import write_comparison
from longtail.report.comparison.pair import Pair
from longtail.report.comparison.together import Comparison

__all__ = ["Comparison", "Contender", "Pair", "read_contenders", "write_comparison"]
