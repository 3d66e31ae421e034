"""`longtail data get` and `longtail data export`: download a data set, or write one as a folder of PNG files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longtail.cli._options import DataOptions, Folder, given_of


def get(name: str, /, *, root: Folder = None) -> None:
    """Download a data set.

    Args:
        name: Data set: cifar10 or cifar100.
        root: Folder to download to. Default: $LONGTAIL_DATA, or ~/.cache/longtail.

    Examples:
        longtail data get cifar100
        longtail data get cifar10 --root datasets/
    """
    from longtail._logging import progress_bar
    from longtail.cli._output import out
    from longtail.data.download import download_data
    from longtail.data.files import data_root

    with progress_bar(f"downloading {name}", 1) as bar:
        place = download_data(name, root or data_root(), on_progress=bar.moved_to)
    out.print(f"{name} -> {place}")


def export(
    data: str = "digits-lt",
    /,
    *,
    target: Annotated[Path, Parameter(metavar="FOLDER")],
    options: DataOptions = DataOptions(),
) -> None:
    """Write a data set as PNG files, one folder per class, and a CSV file that lists them.

    Args:
        data: Name of a data set (longtail list data), or a path. Default: digits-lt.
        target: Folder to write. It must be empty or missing.
        options: Options of the data set.

    Examples:
        longtail data export digits-lt --target digits_folder
    """
    from longtail._logging import progress_bar
    from longtail.cli._output import out
    from longtail.data.export import export_dataset
    from longtail.data.load import load_data
    from longtail.run.fit import choose_device
    from longtail.run.resolve import data_config

    config = data_config(data, given_of(options))
    loaded = load_data(config, choose_device("cpu"))
    with progress_bar("writing", 1) as bar:
        place = export_dataset(loaded, target, on_progress=bar.moved_to)
    out.print(f"{config.name} -> {place}")
