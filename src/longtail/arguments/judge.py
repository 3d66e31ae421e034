"""Arguments of `evaluate`, `predict` and `report`."""

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from longtail.arguments.common import add_group_arguments, groups
from longtail.arguments.parser import Command, Parser


def _evaluate_arguments(parser: Parser) -> None:
    _add_target(parser)
    parser.add_argument(
        "--test-prior", type=str, help="score as if classes were so frequent: uniform, train, forward-50"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, per class too")
    add_group_arguments(parser)


def _report_arguments(parser: Parser) -> None:
    _add_target(parser)
    parser.add_argument("--output", type=Path, help="the page; default: beside the predictions")
    add_group_arguments(parser)


def _add_target(parser: Parser) -> None:
    parser.add_argument("target", type=Path, help="a run's folder, or a CSV or NPZ of predictions")
    parser.add_argument(
        "--counts", type=str, help="file with the training images per class, where predictions lack them"
    )


def _predict_arguments(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("images", type=Path, nargs="+", help="images, or folders of them")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("predictions.csv"),
        help="the CSV to write, over any other; default: %(default)s",
    )
    parser.add_argument(
        "--on-bad-image", type=Literal["fail", "skip"], default="fail", help="skip leaves unreadable images out"
    )
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, ...; default: auto")


def _evaluate(given: Namespace, line: str) -> None:
    from longtail.commands.judge import evaluate

    how = {"test_prior": given.test_prior, "groups": groups(given), "as_json": given.json}
    evaluate(target=given.target, counts=given.counts, **how)


def _report(given: Namespace, line: str) -> None:
    from longtail.commands.judge import report

    report(target=given.target, counts=given.counts, output=given.output, groups=groups(given))


def _predict(given: Namespace, line: str) -> None:
    from longtail.commands.judge import predict

    options = {"on_bad_image": given.on_bad_image, "device": given.device}
    predict(run=given.run, images=given.images, output=given.output, **options)


EVALUATE = Command(
    "evaluate",
    "score a run, or predictions of any tool",
    "Score a run, or predictions that any tool wrote (CSV or NPZ).",
    "evaluate RUN_OR_FILE [options]",
    """\
  longtail evaluate runs/first
  longtail evaluate runs/first --test-prior backward-50
  longtail evaluate predictions.csv --counts counts.csv""",
    _evaluate_arguments,
    _evaluate,
)

PREDICT = Command(
    "predict",
    "classify images with a trained run",
    "Classify images with a trained run; writes path, class, probability and the top five.",
    "predict RUN IMAGE [IMAGE ...] [options]",
    "  longtail predict runs/first new_photos/ --output answers.csv",
    _predict_arguments,
    _predict,
)

REPORT = Command(
    "report",
    "write the HTML page of a run or of predictions",
    "Write the HTML page of a run, or of predictions that any tool wrote.",
    "report RUN_OR_FILE [options]",
    """\
  longtail report runs/first
  longtail report predictions.npz --counts counts.csv --output page.html""",
    _report_arguments,
    _report,
)
