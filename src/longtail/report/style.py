"""One look for all figures, and their way to SVG text.

Figures are drawn at the width of a half page, in real text, so that they stay sharp and can be searched; no window
system is ever touched.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from longtail.report.markup import clean
from longtail.report.palette import GROUP_COLOURS, INK, MUTED, RULE, THEME_NAMES

Array = npt.NDArray[Any]

WIDTH = 5.6  # inches
LONGEST_NAME = 16  # characters of a class name on an axis

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x"
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "longtail",
}


@contextmanager
def drawing(height: float) -> Iterator[Figure]:
    """An empty figure in the shared style, `height` inches high; draw and save it inside the block."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # the viewer's fonts draw the text: a script that ours lacks costs only the exact width of a label
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def to_svg(figure: Figure, name: str, note: str = "") -> str:
    """The figure as SVG text that stands alone or inside a page, the same bytes for the same figure.

    Args:
        figure: made by `drawing`.
        name: told apart from other figures of one page by this.
        note: a warning every reader of the figure must see, written below it.
    """
    if note:
        figure.supxlabel(note, x=0.99, ha="right", fontsize=9, color=MUTED)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"\n\s*", "", svg[svg.index("<svg") :])
    return re.sub(r'<g id="[^"]*">', "<g>", svg)  # named alike in every figure, and nothing refers to them


def themed(svg: str, alt: str) -> str:
    """A figure made ready for the page: as wide as its column, in the colours of the reader's theme, with `alt` text.

    Args:
        svg: from `to_svg`.
        alt: what a reader who cannot see the figure should know, escaped.
    """
    for colour, variable in THEME_NAMES.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    svg = re.sub("<style.*?</style>", "", svg, count=1)  # it would reach beyond the figure
    head, body = svg.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    assert view_box, "matplotlib writes a viewBox"
    return f'<svg role="img" aria-label="{alt}" {view_box[0]}>{body}'


def group_colour(name: str) -> str:
    """The colour of a shot group; ink for anything that covers all classes."""
    return GROUP_COLOURS.get(name, INK)


def shortened(name: str, length: int = LONGEST_NAME) -> str:
    """A class name that fits an axis.

    Example:
        >>> shortened("great grey shrike")
        'great grey shri…'
    """
    name = " ".join(clean(name).split())
    return name if len(name) <= length else name[: length - 1] + "…"


def percent_axis(axes: Axes, label: str, which: str = "y") -> None:
    """Run an axis from 0 to 100 percent."""
    axes.set(**{f"{which}lim": (0, 100), f"{which}ticks": range(0, 101, 20), f"{which}label": label})


def plain_numbers() -> FuncFormatter:
    """Ticks as 1, 10, 1,000."""  # an own one for each axis, which keeps it
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def plain_log(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis from `low` to `high` with plain numbers: 1, 10, 100, 1,000."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(plain_numbers())
    axes.yaxis.set_minor_formatter(NullFormatter())
