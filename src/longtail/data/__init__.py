"""Data sets: images, labels and class counts, from named sets, folders, tables, lists and feature files.

Importing this package loads torch and NumPy only. Readers and writers are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from longtail.data.counts import ClassCounts
from longtail.data.dataset import Dataset, Images, LoadReport, Part, Split
from longtail.data.resident import ResidentImages
from longtail.data.splits import balanced_holdout, long_tailed_counts, long_tailed_indices

if TYPE_CHECKING:
    from longtail.config.schema import DataConfig
    from longtail.data.download import download_data
    from longtail.data.export import export_dataset
    from longtail.data.formats.features import FeatureSet, load_features, write_features
    from longtail.data.inspect import inspect_data
    from longtail.data.load import load_data
    from longtail.data.stream import StreamedImages

__all__ = [
    "ClassCounts",
    "DataConfig",
    "Dataset",
    "FeatureSet",
    "Images",
    "LoadReport",
    "Part",
    "ResidentImages",
    "Split",
    "StreamedImages",
    "balanced_holdout",
    "download_data",
    "export_dataset",
    "inspect_data",
    "load_data",
    "load_features",
    "long_tailed_counts",
    "long_tailed_indices",
    "write_features",
]

_LAZY = {
    "DataConfig": "longtail.config.schema",
    "FeatureSet": "longtail.data.formats.features",
    "StreamedImages": "longtail.data.stream",
    "download_data": "longtail.data.download",
    "export_dataset": "longtail.data.export",
    "inspect_data": "longtail.data.inspect",
    "load_data": "longtail.data.load",
    "load_features": "longtail.data.formats.features",
    "write_features": "longtail.data.formats.features",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
