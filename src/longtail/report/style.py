"""What all charts share: colors, axes, the order of the classes, and the conversion to SVG text.

Charts are as wide as half a page. Their text stays text, so it is sharp at any size and can be searched. No window
system is used.

Shapes: C = classes.
"""

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from longtail.report.classes import Classes
from longtail.report.wording import clean

Array = npt.NDArray[Any]

# the palette of Okabe and Ito (2008), which color-blind readers can tell apart
INK, MUTED, RULE = "#1c1e21", "#5d6168", "#d5d7da"
GROUP_COLORS = {"many": "#0072b2", "medium": "#009e73", "few": "#d55e00"}
GAIN, LOSS = "#cc79a7", "#e69f00"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK, MUTED)
"""Colors of up to eight methods or runs in one chart."""

# groups also differ by shape and dash, for print in black and white
GROUP_MARKERS = {"many": "o", "medium": "s", "few": "^"}
GROUP_DASHES = {"many": "-", "medium": "--", "few": ":"}

# CSS variable that replaces each color inside a page, which has a light and a dark theme
THEME_NAMES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    **{color: f"--{name}" for name, color in GROUP_COLORS.items()},
}

WIDTH = 5.6
"""Width of a chart in inches."""
NAMED_CLASSES = 20
"""With more classes, an axis shows ranks instead of names."""
LONGEST_NAME = 16
"""Characters of a class name on an axis."""

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
    "text.parse_math": False,  # a class may be named "$x"
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
    """Provide an empty figure in the shared style. Draw on it and save it inside the block.

    Args:
        height: Height of the figure in inches.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # the viewer's fonts draw the text: a script that ours lacks costs only the exact width of a label
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def to_svg(figure: Figure, name: str, note: str = "") -> str:
    """Convert a figure to SVG text, for a file or a page. Equal figures give equal text.

    Args:
        figure: Figure made by `drawing`.
        name: Prefix of the identifiers, unique among the charts of a page.
        note: Warning written below the chart.
    """
    if note:
        figure.supxlabel(note, x=0.99, ha="right", fontsize=9, color=MUTED)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"\n\s*", "", svg[svg.index("<svg") :])
    svg = re.sub(r'<g id="[^"]*"/>', "", svg)
    return re.sub(r'<g id="[^"]*">', "<g>", svg)  # these names repeat between figures, and nothing refers to them


def themed(svg: str, alt: str) -> Markup:
    """Prepare a chart for a page: width of its column, colors of the reader's theme, coordinates to 0.01 point.

    Args:
        svg: Text from `to_svg`.
        alt: Plain text for readers who cannot see the chart.
    """
    for color, variable in THEME_NAMES.items():
        svg = svg.replace(f": {color}", f": var({variable})")
    svg = re.sub("<style.*?</style>", "", svg, count=1)  # it would apply to the whole page
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda found: _DECIMALS.sub(r"\1", found[0]), svg)
    svg = re.sub(r' style="[^"]*"', lambda found: re.sub("([:;]) ", r"\1", found[0]), svg)
    head, body = svg.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    assert view_box, "matplotlib writes a viewBox"
    return Markup(f'<svg role="img" aria-label="{escape(alt)}" {view_box[0]}>{body}')


_DECIMALS = re.compile(r"(\d\.\d\d)\d+")


def group_color(name: str) -> str:
    """Return the color of a shot group; the text color for anything that covers all classes."""
    return GROUP_COLORS.get(name, INK)


def shortened(name: str, length: int = LONGEST_NAME) -> str:
    """Shorten a class name to fit on an axis.

    Example:
        >>> shortened("great gray shrike")
        'great gray shri…'
    """
    name = " ".join(clean(name).split())
    return name if len(name) <= length else name[: length - 1] + "…"


def percent_axis(axes: Axes, label: str, which: str = "y") -> None:
    """Set the range of an axis to 0 to 100 percent."""
    axes.set(**{f"{which}lim": (0, 100), f"{which}ticks": range(0, 101, 20), f"{which}label": label})


def plain_numbers() -> FuncFormatter:
    """Return a formatter for ticks as 1, 10, 1,000. Each axis needs its own."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def plain_log(axes: Axes, low: float, high: float) -> None:
    """Make the vertical axis logarithmic from `low` to `high`, with ticks as 1, 10, 100, 1,000."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(plain_numbers())
    axes.yaxis.set_minor_formatter(NullFormatter())


def in_order(classes: Classes, values: Sequence[float | None]) -> Array:
    """Sort one value per class from the most to the least frequent class, None as NaN. Shape (C,)."""
    return np.array([np.nan if values[c] is None else values[c] for c in classes.order.tolist()], float)


def neighbors(classes: Classes, wanted: int) -> list[Array]:
    """Split the ranks of the classes into about `wanted` parts, none of which spans two groups."""
    spans = group_spans(classes)
    ranks = [
        (np.arange(start + 1, end + 1), max(1, round(wanted * (end - start) / len(classes)))) for _, start, end in spans
    ]
    return [part for own, pieces in ranks for part in np.array_split(own, pieces)]


def means(parts: list[Array], values_C: Array) -> tuple[Array, Array]:
    """Compute mean rank and mean value of each part, without parts that have no value."""
    known = [(part, values_C[part - 1]) for part in parts]
    known = [(part, values) for part, values in known if not np.isnan(values).all()]
    return np.array([part.mean() for part, _ in known]), np.array([np.nanmean(values) for _, values in known])


def group_spans(classes: Classes) -> list[tuple[str, int, int]]:
    """Return name, first and last rank of the groups along an axis of classes, half-open and from 0."""
    ends = list(itertools.accumulate(int(classes.masks[name].sum()) for name in classes.filled))
    return list(zip(classes.filled, [0, *ends[:-1]], ends, strict=True))


def class_axis(axes: Axes, classes: Classes, groups: bool = False) -> None:
    """Label the horizontal axis with class names, or with ranks if there are many; `groups` also names the groups."""
    axes.set_xlim(0.4, len(classes) + 0.6)
    for name, start, end in group_spans(classes) if groups else ():
        if end < len(classes):
            axes.axvline(end + 0.5, color=RULE, linewidth=1)
        if end - start >= len(classes) / 8:  # a shorter span has no room for the word
            place = ((start + end) / 2 + 0.5, 1)
            axes.annotate(
                f"{name}-shot", place, (0, 5), ("data", "axes fraction"), "offset points", ha="center", color=MUTED
            )
    if len(classes) <= NAMED_CLASSES:
        names = [shortened(classes.names[c]) for c in classes.order.tolist()]
        turned = max(map(len, names)) * len(names) > 60
        axes.set_xticks(range(1, len(names) + 1), names, rotation=90 if turned else 0)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xlabel("class, by number of training images (rank)")
        axes.xaxis.set_major_formatter(plain_numbers())


def smoothed(values_C: Array) -> Array:
    """Compute a Gaussian running mean with a bandwidth of a twentieth of the classes, ignoring NaN.

    Args:
        values_C: Value of each class in the order in which they are drawn; NaN if unknown.

    Returns:
        Shape (C,); NaN where no class within reach has a value.

    Example:
        >>> smoothed(np.array([1.0, np.nan, 3.0]))[1]
        np.float64(2.0)
    """
    bandwidth = max(1.0, len(values_C) / 20)
    reach = np.arange(-int(3 * bandwidth), int(3 * bandwidth) + 1)
    kernel = np.exp(-0.5 * (reach / bandwidth) ** 2)
    known_C = ~np.isnan(values_C)
    middle = slice(len(reach) // 2, len(reach) // 2 + len(values_C))
    weight_C = np.convolve(known_C, kernel)[middle]
    total_C = np.convolve(np.where(known_C, values_C, 0.0), kernel)[middle]
    smoothed_C: Array = np.divide(total_C, weight_C, out=np.full(len(values_C), np.nan), where=weight_C > 1e-9)
    return smoothed_C
