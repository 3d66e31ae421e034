"""Former place of `longtail.report.charts`."""

from longtail.report.charts import MAX_CELLS, confusion_shares
from longtail.report.style import NAMED_CLASSES, smoothed

__all__ = ["MAX_CELLS", "NAMED_CLASSES", "confusion_shares", "smoothed"]
