"""`longtail compare`: compare runs, or predictions of other tools, class by class."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longtail.cli._options import File, GroupOptions, given_of


def main(
    runs: Annotated[tuple[Path, ...], Parameter(metavar="RUN_OR_FILE")],
    /,
    *,
    counts: Annotated[str | None, Parameter(metavar="FILE")] = None,
    names: Annotated[tuple[str, ...], Parameter(metavar="NAME")] = (),
    output: File = None,
    table: File = None,
    groups: GroupOptions = GroupOptions(),
) -> None:
    """Compare runs, or predictions of other tools, class by class, and write an HTML page.

    Args:
        runs: 2 to 8 folders of finished runs, or CSV or NPZ files of predictions. The first one is the reference.
        counts: File with the training images per class, if the predictions lack them.
        names: Name of each run on the page, in their order. Default: their methods.
        output: HTML file to write. Default: comparison.html.
        table: CSV file of the scores of every class.
        groups: Options of the groups of classes.

    Examples:
        longtail compare runs/ce runs/balms
        longtail compare runs/ce runs/balms runs/elm --output three.html --table classes.csv
        longtail compare runs/first other_tool.csv --names ours theirs
    """
    from longtail.cli._output import console, out
    from longtail.report.comparison import Comparison, changes_table, overview_table, write_table
    from longtail.report.comparison_page import write_comparison
    from longtail.report.images import load_thumbnails

    found = Comparison.of(runs, counts, given_of(groups), names=names)  # fails before the images are read
    thumbnails, reason = load_thumbnails([side.run for side in found.sides if side.run])
    if reason:
        console.print(f"note: no example images: {reason}")
    found = Comparison(found.sides, found.classes, thumbnails)
    for warning in found.warnings:
        console.print(f"warning: {warning}")
    # files first: the reader of stdout may close it early, as in `| head`
    written = {"comparison": write_comparison(found, output or Path("comparison.html"))}
    if table is not None:
        written["table"] = write_table(found, table)
    for part in (overview_table(found), *map(changes_table, found.pairs)):
        out.print(part)
    for what, place in written.items():
        out.print(f"{what}: {place}")
