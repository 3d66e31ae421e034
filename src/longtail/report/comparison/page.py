"""The page of a comparison: one file that needs no network and loads nothing; every text of a run is escaped."""

from pathlib import Path

from longtail.report.comparison.sections import about_section, overview_section, pair_section
from longtail.report.comparison.together import Comparison
from longtail.report.document import asset, document, write_page
from longtail.report.markup import Html, join, tag
from longtail.report.wording import DASH, several
from longtail.version import __version__

MOST_ROWS = 10_000  # of all tables of classes together, so that a browser takes the page at once


def write_comparison(comparison: Comparison, target: Path) -> Path:
    """Write the page, whole or not at all.

    Args:
        comparison: what stands on it.
        target: the file to write.

    Returns:
        Path of the page.

    Raises:
        InputError: if it cannot be written there.

    Example:
        >>> import tempfile
        >>> from longtail.evaluation import Predictions, save_predictions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = [Path(folder) / name for name in ("ce.npz", "balms.npz")]
        ...     for file, labels in zip(files, ([0, 0], [0, 1]), strict=True):
        ...         save_predictions(file, Predictions([0, 1], [500, 5], predicted=labels))
        ...     write_comparison(Comparison.of(files), Path(folder) / "comparison.html").name
        'comparison.html'
    """
    return write_page(target, page(comparison))


def page(comparison: Comparison) -> str:
    """The whole page as text."""
    rows = MOST_ROWS // len(comparison.pairs)
    pairs = (pair_section(comparison, index, rows) for index in range(len(comparison.pairs)))
    main = tag("main", overview_section(comparison), *pairs, about_section(comparison))
    css = asset("page.css") + asset("compare.css", "longtail.report.comparison")
    body = join([_masthead(comparison), main, _footer()])
    script = asset("tables.js") + asset("compare.js", "longtail.report.comparison")
    return document(comparison.title, body, css, script)


def _masthead(comparison: Comparison) -> Html:
    links = {"overview": "Side by side"}
    links |= {f"pair-{index}": pair.other.label for index, pair in enumerate(comparison.pairs, 1)}
    links["about"] = "About"
    counts = comparison.classes.counts
    facts = (
        several(len(comparison.classes), "class", "classes"),
        several(int(counts.sum()), "training image"),
        several(len(comparison.reference.predictions), "test image"),
    )
    warnings = (tag("p", warning, class_="warning", role="note") for warning in comparison.warnings)
    return tag(
        "header",
        tag("p", "Comparison of classifiers on long-tailed data", class_="kicker"),
        tag("h1", comparison.title),
        tag("p", " · ".join(facts), class_="subtitle"),
        *warnings,
        tag("nav", *(tag("a", text, href=f"#{key}") for key, text in links.items()), aria_label="Sections"),
    )


def _footer() -> Html:
    dash = f"“{DASH}” stands where there is nothing to measure."
    return tag("footer", f"Written by longtail {__version__}. Percentages run from 0 to 100; {dash}")
