"""Images and labels: where they come from, how many of each class, how they become batches."""

from longtail.data.counts import ClassCounts
from longtail.data.dataset import Dataset, Images, LoadReport, Part, Split
from longtail.data.profiles import long_tailed_counts, long_tailed_indices

__all__ = [
    "ClassCounts",
    "Dataset",
    "Images",
    "LoadReport",
    "Part",
    "Split",
    "long_tailed_counts",
    "long_tailed_indices",
]
