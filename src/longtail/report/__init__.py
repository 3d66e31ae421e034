"""Pages, charts and tables of results."""

from longtail.report.classes import Classes
from longtail.report.run import write_report, write_report_for
from longtail.report.tables import Table, groups_table, scores_table

__all__ = ["Classes", "Table", "groups_table", "scores_table", "write_report", "write_report_for"]
