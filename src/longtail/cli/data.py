"""`longtail data get`, `export` and `prepare`: download a data set, write one as PNG files, or with smaller images."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtail.cli._options import DataOptions, DefiniteInteger, Folder, given_of


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


def prepare(
    data: str,
    /,
    *,
    output: Annotated[Path, Parameter(metavar="FOLDER")],
    size: DefiniteInteger = 224,
    form: Annotated[Literal["auto", "jpeg", "png", "webp"], Parameter(name="--format")] = "auto",
    quality: DefiniteInteger = 95,
    options: DataOptions = DataOptions(),
) -> None:
    """Write a copy of a data set of large images whose shorter side is 8/7 of the size that the network sees.

    Classes, splits and paths are kept. Run the command again to continue after an interruption.

    Args:
        data: Folder, table or list of images.
        output: Folder to write.
        size: Side of the square images that the network will see, in pixels.
        form: Format of the reduced images: jpeg, lossless png or webp, or (auto) jpeg for JPEG and png for others.
        quality: Quality of JPEG files, 1 to 100.
        options: Options of the data set.

    Examples:
        longtail data prepare photos/ --output photos-224/
        longtail train photos-224/
    """
    from longtail._logging import progress_bar
    from longtail.cli._output import out
    from longtail.config import recipes
    from longtail.data.prepare import prepare_dataset

    config = recipes.data_config(data, given_of(options))
    with progress_bar("reducing images", 1) as bar:
        done = prepare_dataset(config, size, output, form=form, quality=quality, on_progress=bar.moved_to)
    for error in done.bad:
        out.print(f"left out: {error.path} ({error.reason})")
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(done.counts.items()))
    out.print(f"{config.name} -> {done.place}: {counts}, {len(done.bad):,} left out")
