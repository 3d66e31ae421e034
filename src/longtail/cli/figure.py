"""`longtail figure`: draw a figure of the source papers, or list the figures."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from longtail.cli._options import Integer, Integers, Number
from longtail.errors import InputError

SHOWN = Parameter(group="Content (each figure takes some of these)")
TOY = Parameter(group="Figures that train a toy model")


def main(
    figure: Annotated[str | None, Parameter(metavar="NAME")] = None,
    runs: Annotated[tuple[Path, ...], Parameter(metavar="RUN")] = (),
    /,
    *,
    out: Annotated[Path, Parameter(metavar="FOLDER")] = Path("figures"),
    labels: Annotated[tuple[str, ...], Parameter(metavar="LABEL")] = (),
    part: Annotated[Literal["test", "train"] | None, SHOWN] = None,
    classes: Annotated[tuple[str, ...], SHOWN, Parameter(metavar="CLASS")] = (),
    tail: Annotated[str | None, SHOWN, Parameter(metavar="CLASS")] = None,
    heads: Annotated[tuple[str, ...], SHOWN, Parameter(metavar="CLASS")] = (),
    metric: Annotated[Literal["top1", "balanced", "many", "medium", "few"] | None, SHOWN] = None,
    images_per_class: Annotated[Integer, SHOWN] = None,
    seed: Annotated[Integer, SHOWN] = None,
    seeds: Annotated[Integer, TOY] = None,
    epochs: Annotated[Integer, TOY] = None,
    weight: Annotated[Number, TOY] = None,
    iterations: Annotated[Integers, TOY] = (),
) -> None:
    """Draw a figure of the source papers from finished runs: SVG, PDF, PNG, and a CSV of its numbers.

    Args:
        figure: Name of the figure. Without it, the figures are listed.
        runs: Folders of finished runs.
        out: Folder of the files. Default: figures.
        labels: Labels of the runs. Default: their methods.
        part: Split of the images. Default: test; of tsne and label-space: train.
        classes: Names of the classes, one panel each.
        tail: Name of the tail class, of tail-confusion.
        heads: Names of the head classes, of tail-confusion.
        metric: Metric of the sweeps. Default: balanced.
        images_per_class: Most images per class, of tsne. Default: 60.
        seed: Seed of the images and the layout, of tsne. Default: 0.
        seeds: Number of seeds, of two-moons. Default: 3.
        epochs: Number of epochs, of two-moons. Default: 100.
        weight: Weight lambda of the embedding loss, of two-moons. Default: 0.1.
        iterations: Iterations to draw, of toy-boundaries.

    Examples:
        longtail figure
        longtail figure group-bars runs/ce runs/elm-0 runs/elm-1 --out paper/figures
        longtail figure margin-cdfs runs/ce runs/elm --classes apple bridge train
        longtail figure tail-confusion runs/ce runs/smart --labels baseline SMART
        longtail figure two-moons --seeds 5
    """
    options = {
        "part": part,
        "classes": classes,
        "tail": tail,
        "heads": heads,
        "metric": metric,
        "images_per_class": images_per_class,
        "seed": seed,
        "seeds": seeds,
        "epochs": epochs,
        "weight": weight,
        "iterations": iterations,
    }
    from longtail.cli._output import out as results
    from longtail.papers import FIGURES, draw, write_plot

    given: dict[str, Any] = {key: value for key, value in options.items() if value not in ((), None)}
    if figure is None:
        if given or labels or out != Path("figures"):
            raise InputError("the name of the figure is missing; `longtail figure` without options lists the figures")
        _list_figures()
        return
    if labels and not FIGURES.get(figure, FIGURES["group-bars"]).most:
        raise InputError(f"{figure} takes no runs; leave out --labels")
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    plot = draw(figure, runs, given, labels or None)
    first, *others = write_plot(plot, figure, out)
    for line in (*plot.summary, plot.note):
        if line:
            results.print(line)
    results.print(f"wrote {first} and {', '.join(path.suffix for path in others)}")


def _list_figures() -> None:
    from rich.table import Table

    from longtail.cli._output import out
    from longtail.papers import FIGURES

    table = Table(box=None, pad_edge=False)
    for column in ("figure", "content", "drawn from"):
        table.add_column(column)
    for name, kind in FIGURES.items():
        table.add_row(name, kind.about, kind.needs)
    out.print(table)
