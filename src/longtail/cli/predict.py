"""`longtail predict`: classify images with a trained run."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import Device, Threads
from longtail.errors import InputError, first_ten

if TYPE_CHECKING:
    from longtail.run import Predicted


def main(
    run: Path,
    images: Annotated[tuple[Path, ...], Parameter(metavar="IMAGE")],
    /,
    *,
    output: Annotated[Path, Parameter(metavar="FILE")] = Path("predictions.csv"),
    on_bad_image: Literal["fail", "skip"] = "fail",
    follow_links: bool = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Classify images with a trained run.

    The CSV file holds the path, the class, its probability, and the next four most probable classes of each image.

    Args:
        run: Folder of a finished run.
        images: Images, or folders of images.
        output: CSV file to write; an existing one is replaced. Default: predictions.csv.
        on_bad_image: Stop at an unreadable image (fail, the default), or leave it out (skip).
        follow_links: Follow symbolic links that lead out of the folders of images.
        device: Device: cpu, cuda, cuda:1, ... Default: auto.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail predict runs/first new_photos/ --output answers.csv
    """
    from longtail._io import write_text
    from longtail._logging import progress_bar
    from longtail.cli._output import console, out, require_writable
    from longtail.data.files import check_all, find_images
    from longtail.data.scan import Selection
    from longtail.run import Run
    from longtail.run.fit import choose_device

    if not (run / "config.yaml").exists() and any((image / "config.yaml").exists() for image in images):
        raise InputError(f"{run} holds no run (no config.yaml); the run comes first: longtail predict RUN IMAGE ...")
    prepare(threads)
    require_writable(output)
    where = choose_device(device)
    finished = Run.load(run)
    found = find_images(images, Selection(follow_links=follow_links))
    checked = check_all(found, on_bad_image, how=finished.decoding)
    for error in checked.bad:
        console.print(f"left out: {error.path}: {error.reason}")
    paths = [found[index] for index in checked.readable.tolist()]
    if not paths:
        listed = first_ten(f"{error.path}: {error.reason}" for error in checked.bad)
        raise InputError(f"none of the {len(found)} images can be read:\n{listed}")
    with progress_bar("classifying", len(paths), images_per_unit=1) as bar:
        predicted = finished.predict(paths, where, on_batch=bar.advance)
    write_text(output, _table(paths, predicted))
    unread = f"; {len(checked.bad)} could not be read" if checked.bad else ""
    out.print(f"{len(paths)} images -> {output}{unread}")


def _table(paths: Sequence[Path], predicted: "Predicted") -> str:
    """Return the CSV: path, class, probability, then class_2, probability_2, ... of the next classes."""
    names = predicted.class_names
    top = predicted.probabilities.topk(min(5, len(names)), dim=1)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    ranks = ["", *(f"_{rank}" for rank in range(2, top.values.shape[1] + 1))]
    lines.writerow(["path", *(word + rank for rank in ranks for word in ("class", "probability"))])
    for path, values, labels in zip(paths, top.values.tolist(), top.indices.tolist(), strict=True):
        name = os.fsencode(path).decode(errors="replace")  # a file name need not be UTF-8
        pairs = zip(labels, values, strict=True)
        lines.writerow([name, *(cell for label, value in pairs for cell in (names[label], f"{value:.6f}"))])
    return text.getvalue()
