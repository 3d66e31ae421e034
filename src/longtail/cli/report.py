"""`longtail report`: write the HTML report of a run, or of predictions of any tool."""

from longtail.cli._options import File, GroupOptions, given_of
from longtail.cli.evaluate import Counts, Target, load_predictions


def main(
    target: Target,
    /,
    *,
    counts: Counts = None,
    output: File = None,
    groups: GroupOptions = GroupOptions(),
) -> None:
    """Write the HTML report of a run, or of predictions that any tool wrote (CSV or NPZ).

    Args:
        target: Folder of a run, or a CSV or NPZ file of predictions.
        counts: File with the training images per class, for predictions without them, or to replace those of a run.
        output: HTML file to write. Default: report.html in the run, or next to the predictions.
        groups: Options of the groups of classes. Default: those of the run.

    Examples:
        longtail report runs/first
        longtail report predictions.npz --counts counts.csv --output page.html
    """
    from longtail.cli._output import console, out
    from longtail.report import write_report, write_report_for

    predictions, options = load_predictions(target, counts, given_of(groups))
    if not target.is_dir():
        page = output or target.with_suffix(".html")
        write_report_for(predictions, predictions.scores(**options), page, target.name, **options)
        out.print(f"report: {page}")
        return
    from longtail.report.images import load_thumbnails
    from longtail.run import Run

    run = Run.load(target)
    thumbnails, reason = load_thumbnails([run])
    if reason:
        console.print(f"note: no example images: {reason}")
    page = write_report(run, thumbnails, output, predictions=predictions if counts else None, groups=options)
    out.print(f"report: {page}")
