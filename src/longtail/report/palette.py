"""Former place of the colors of `longtail.report.style`."""

from longtail.report.style import GROUP_COLORS, GROUP_MARKERS, INK, MUTED, RULE

GROUP_COLOURS = GROUP_COLORS

__all__ = ["GROUP_COLOURS", "GROUP_MARKERS", "INK", "MUTED", "RULE"]
