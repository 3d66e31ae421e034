"""Arguments of `figure`."""

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from longtail.arguments.parser import Command, Parser

# what a figure may take beside its runs; each refuses what it has no use for
_OPTIONS = (
    "part",
    "classes",
    "tail",
    "heads",
    "metric",
    "images_per_class",
    "seed",
    "seeds",
    "epochs",
    "weight",
    "iterations",
)


def _figure_arguments(parser: Parser) -> None:
    parser.add_argument("figure", nargs="?", help="its name; without one, all are listed")
    parser.add_argument("runs", type=Path, nargs="*", default=[], help="folders of finished runs")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the files; default: %(default)s")
    parser.add_argument("--labels", type=str, nargs="+", help="what to call the runs; default: by their methods")
    group = parser.add_argument_group("what is shown (each figure takes some of these)")
    group.add_argument(
        "--part",
        type=Literal["test", "train"],
        help="of the images; default: test, of embeddings and label-space: train",
    )
    group.add_argument("--classes", type=str, nargs="+", help="names of the classes of the panels")
    group.add_argument("--tail", type=str, help="tail-confusion: name of the tail class")
    group.add_argument("--heads", type=str, nargs="+", help="tail-confusion: names of the head classes")
    group.add_argument(
        "--metric", type=Literal["top1", "balanced", "many", "medium", "few"], help="sweeps: default: balanced"
    )
    group.add_argument("--images-per-class", type=int, help="tsne: at most; default: 60")
    group.add_argument("--seed", type=int, help="tsne: of the images and the layout; default: 0")
    group = parser.add_argument_group("figures that train a toy")
    group.add_argument("--seeds", type=int, help="two-moons: how many; default: 3")
    group.add_argument("--epochs", type=int, help="two-moons: of training; default: 100")
    group.add_argument("--weight", type=float, help="two-moons: of the pull (lambda); default: 0.1")
    group.add_argument("--iterations", type=int, nargs="+", help="toy-boundaries: at which to look")


def _figure(given: Namespace, line: str) -> None:
    from longtail.commands.figure import figure

    options = {key: given[key] for key in _OPTIONS if given[key] is not None}
    figure(name=given.figure, runs=given.runs, labels=given.labels, options=options, folder=given.out)


FIGURE = Command(
    "figure",
    "draw a figure of the source papers from finished runs",
    "Draw a figure of the source papers from finished runs: SVG, PDF, PNG, and a CSV of the numbers behind it.",
    "figure [NAME [RUN ...]] [options]",
    """\
  longtail figure
  longtail figure group-bars runs/ce runs/elm-0 runs/elm-1 --out paper/figures
  longtail figure margin-cdfs runs/ce runs/elm --classes apple bridge train
  longtail figure tail-confusion runs/ce runs/smart --labels baseline SMART
  longtail figure two-moons --seeds 5""",
    _figure_arguments,
    _figure,
)
