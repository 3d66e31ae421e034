"""From a result to pages and pictures for people."""

from longtail.report.classes import Classes
from longtail.report.html import write_report, write_report_for
from longtail.report.table import groups_table, scores_table

__all__ = ["Classes", "groups_table", "scores_table", "write_report", "write_report_for"]
