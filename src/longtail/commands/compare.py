"""What `compare` does, once its arguments are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longtail._logging import console
from longtail.commands.output import out
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.report.comparison import Comparison, write_comparison
from longtail.report.comparison.summary import changes_table, overview_table
from longtail.report.comparison.table import write_table
from longtail.report.comparison.together import Thumbnails
from longtail.run.fit import choose_device
from longtail.run.folder import load_config


def compare(
    *,
    places: Sequence[Path],
    counts: str | None,
    output: Path | None,
    table: Path | None,
    groups: Mapping[str, Any],
) -> None:
    """Write the page that compares runs, or predictions of other tools, and print the short of it."""
    found = Comparison.of(places, counts, groups)  # refuse before the images are read
    found = Comparison(found.contenders, found.classes, _thumbnails(found))
    for warning in found.warnings:
        console.print(f"warning: {warning}")
    # files first: a reader of our output may go before its end, as in `| head`
    written = {"comparison": write_comparison(found, output or Path("comparison.html"))}
    if table is not None:
        written["table"] = write_table(found, table)
    for part in (overview_table(found), *map(changes_table, found.pairs)):
        out.print(part)
    for what, place in written.items():
        out.print(f"{what}: {place}")


def _thumbnails(found: Comparison) -> Thumbnails | None:
    """The test images of the first run whose data are at hand and have not changed."""
    for each in found.contenders:
        if not each.result:
            continue
        try:
            test = load_data(load_config(each.place).data, choose_device("cpu")).test
        except InputError as error:
            console.print(f"without example images, as the data can not be read: {error}")
            return None
        same = test.targets.cpu().equal(each.predictions.targets)
        return getattr(test.images, "thumbnail", None) if same else None  # features have no picture
    return None
