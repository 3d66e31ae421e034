"""`longtail predict`: classify images with a trained run."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import Device, Number, Threads
from longtail.errors import InputError, first_ten

if TYPE_CHECKING:
    from longtail.run import Predicted, Run


def main(
    run: Path,
    images: Annotated[tuple[Path, ...], Parameter(metavar="IMAGE")],
    /,
    *,
    output: Annotated[Path, Parameter(metavar="FILE")] = Path("predictions.csv"),
    on_bad_image: Literal["fail", "skip"] = "fail",
    follow_links: bool = False,
    test_prior: Annotated[str | None, Parameter(metavar="PRIOR")] = None,
    max_risk: Number = None,
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
        test_prior: Class frequencies among the images, to which the probabilities are shifted: uniform, train, estimate
            (from these images), forward-K, backward-K, or a file with counts per class.
        max_risk: Mark the answers below the confidence at which at most this share of the answers on the test split
            of the run is wrong, in a column `abstain`.
        device: Device: cpu, cuda, cuda:1, ... Default: auto.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail predict runs/first new_photos/ --output answers.csv
    """
    from longtail._io import write_text
    from longtail._logging import progress_bar
    from longtail.cli._output import console, out, require_writable
    from longtail.data.counts import ClassCounts
    from longtail.data.files import check_all, find_images
    from longtail.data.scan import Selection
    from longtail.ranges import check_number
    from longtail.run import Run
    from longtail.run.fit import choose_device
    from longtail.run.priors import named_prior

    if not (run / "config.yaml").exists() and any((image / "config.yaml").exists() for image in images):
        raise InputError(f"{run} holds no run (no config.yaml); the run comes first: longtail predict RUN IMAGE ...")
    check_number("max_risk", max_risk, optional=True, at_least=0, at_most=1)
    prepare(threads)
    require_writable(output)
    where = choose_device(device)
    finished = Run.load(run)
    if test_prior is not None and test_prior != "estimate":
        named_prior(test_prior, ClassCounts(finished.predictions().class_counts), finished.class_names)
    found = find_images(images, Selection(follow_links=follow_links))
    checked = check_all(found, on_bad_image, how=finished.decoding)
    for error in checked.bad:
        console.print(f"left out: {error.path}: {error.reason}")
    paths = [found[index] for index in checked.readable.tolist()]
    if not paths:
        listed = first_ten(f"{error.path}: {error.reason}" for error in checked.bad)
        raise InputError(f"none of the {len(found)} images can be read:\n{listed}")
    with progress_bar("classifying", len(paths), images_per_unit=1) as bar:
        predicted = finished.predict(paths, where, on_batch=bar.advance, test_prior=test_prior)
    if test_prior is not None:
        console.print(f"class prior: {_described(predicted)}")
    threshold = None if max_risk is None else _threshold(finished, max_risk, predicted)
    write_text(output, _table(paths, predicted, threshold))
    unread = f"; {len(checked.bad)} could not be read" if checked.bad else ""
    out.print(f"{len(paths)} images -> {output}{unread}")


def _described(predicted: "Predicted") -> str:
    """Return the most frequent classes of the prior that the probabilities were shifted to."""
    assert predicted.prior is not None
    top = predicted.prior.topk(min(5, len(predicted.class_names)))
    named = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return ", ".join(f"{predicted.class_names[index]} {share:.1%}" for index, share in named)


def _threshold(run: "Run", max_risk: float, predicted: "Predicted") -> float:
    """Return the confidence from which on at most a share of the answers on the test split of a run is wrong."""
    from longtail.cli._output import console
    from longtail.evaluation import abstention_threshold, adjust_to_prior

    held_out = run.predictions()
    assert held_out.logits is not None  # a run stores its logits
    logits_NC = held_out.logits
    if predicted.prior is not None:
        logits_NC = adjust_to_prior(logits_NC, run.model_prior, predicted.prior)
    found = abstention_threshold(logits_NC.softmax(dim=1), held_out.targets, max_risk)
    console.print(
        f"abstaining below a confidence of {found.threshold:.3f}: on the test split of the run, "
        f"{found.coverage:.1%} of the images are answered, and {found.risk:.1%} of the answers are wrong"
    )
    return found.threshold


def _table(paths: Sequence[Path], predicted: "Predicted", threshold: float | None) -> str:
    """Return the CSV: path, class, probability, then class_2, probability_2, ... of the next classes, and `abstain`."""
    names = predicted.class_names
    top = predicted.probabilities.topk(min(5, len(names)), dim=1)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    ranks = ["", *(f"_{rank}" for rank in range(2, top.values.shape[1] + 1))]
    abstain = [] if threshold is None else ["abstain"]
    lines.writerow(["path", *(word + rank for rank in ranks for word in ("class", "probability")), *abstain])
    for path, values, labels in zip(paths, top.values.tolist(), top.indices.tolist(), strict=True):
        name = os.fsencode(path).decode(errors="replace")  # a file name need not be UTF-8
        pairs = zip(labels, values, strict=True)
        answer = [] if threshold is None else ["yes" if values[0] < threshold else "no"]
        cells = (cell for label, value in pairs for cell in (names[label], f"{value:.6f}"))
        lines.writerow([name, *cells, *answer])
    return text.getvalue()
