"""`longtail compare`: compare runs, or predictions of other tools, class by class."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from longtail.cli._options import File, GroupOptions, given_of
from longtail.errors import InputError

if TYPE_CHECKING:
    from longtail.report.comparison import Comparison
    from longtail.report.comparison.together import Thumbnails


def main(
    runs: Annotated[tuple[Path, ...], Parameter(metavar="RUN_OR_FILE")],
    /,
    *,
    counts: Annotated[str | None, Parameter(metavar="FILE")] = None,
    output: File = None,
    table: File = None,
    groups: GroupOptions = GroupOptions(),
) -> None:
    """Compare runs, or predictions of other tools, class by class, and write an HTML page.

    Args:
        runs: 2 to 8 folders of finished runs, or CSV or NPZ files of predictions. The first one is the reference.
        counts: File with the training images per class, if the predictions lack them.
        output: HTML file to write. Default: comparison.html.
        table: CSV file of the scores of every class.
        groups: Options of the groups of classes.

    Examples:
        longtail compare runs/ce runs/balms
        longtail compare runs/ce runs/balms runs/elm --output three.html --table classes.csv
        longtail compare runs/first other_tool.csv
    """
    from longtail.cli._output import console, out
    from longtail.report.comparison import Comparison, write_comparison
    from longtail.report.comparison.summary import changes_table, overview_table
    from longtail.report.comparison.table import write_table

    found = Comparison.of(runs, counts, given_of(groups))  # fails before the images are read
    found = Comparison(found.contenders, found.classes, _thumbnails(found))
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


def _thumbnails(found: "Comparison") -> "Thumbnails | None":
    """Return the test images of the first run whose data set is available and unchanged."""
    from longtail.cli._output import console
    from longtail.data.load import load_data
    from longtail.run import Run
    from longtail.run.fit import choose_device

    for each in found.contenders:
        if not each.result:
            continue
        try:
            test = load_data(Run(each.place).config.data, choose_device("cpu")).test
        except InputError as error:
            console.print(f"note: no example images, because the data cannot be read: {error}")
            return None
        same = test.targets.cpu().equal(each.predictions.targets)
        return getattr(test.images, "thumbnail", None) if same else None  # features have no thumbnails
    return None
