"""What re-sampling does to a linear classifier under softmax and Balanced Softmax: three classes, two dimensions.

Figure 3 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740): one point stands for 10,000 examples of the first class, one for 100 of the second
and one for a single example of the third. Softmax ends in symmetric regions however it samples; Balanced Softmax moves
the boundaries towards the fuller classes; with class-balanced sampling on top it overshoots at once.

Gradient descent on the full batch, lr 10 (at 0.1 Balanced Softmax takes more than 20,000 steps to get going). The paper
gives no coordinates; the points lie on the unit circle, and shares are of the square from -1.5 to 1.5.
Shapes: R = runs, K = classes = points, D = 2 coordinates and a one, T = iterations kept, G = points of a grid.
"""

import math
from collections.abc import Sequence

import torch
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from longtail.errors import InputError
from longtail.papers.plot import Plot, Table
from longtail.report.palette import GROUP_COLOURS, GROUP_MARKERS, INK

COUNTS = torch.tensor([10_000.0, 100.0, 1.0], dtype=torch.float64)
METHODS = ("Softmax", "Softmax + class-balanced", "Balanced Softmax", "Balanced Softmax + class-balanced")
ITERATIONS = (10, 100, 1_000, 3_000, 30_000)
HALF_WIDTH = 1.5


def toy_boundaries(*, iterations: Sequence[int] = ITERATIONS) -> Plot:
    """Regions that each of four ways of training gives each class, a row a way, a column an iteration.

    Args:
        iterations: at which to look, rising; the default takes about five seconds on one core.

    Raises:
        InputError: if the iterations do not rise from 1 on.
    """
    if not iterations or min(iterations) < 1 or sorted(set(iterations)) != list(iterations):
        raise InputError(f"--iterations takes whole numbers from 1 on that rise, not {list(iterations)}")
    weights_TRKD = train(tuple(iterations))
    rows = [
        (iteration, method, *share_K)
        for iteration, weights_RKD in zip(iterations, weights_TRKD, strict=True)
        for method, share_K in zip(METHODS, shares(weights_RKD).tolist(), strict=True)
    ]
    columns = ("iteration", "method", "share_of_10000", "share_of_100", "share_of_1")
    return Plot(
        Table(columns, rows),
        lambda figure: _draw(weights_TRKD, iterations, figure),
        height=4.5,
        note="10,000 (circle), 100 (square) and 1 (triangle) examples",
        summary=tuple(
            f"{iteration:>7,} {method:34} share of the plane for the class of 10,000, 100 and 1: "
            f"{full:.2f} {middle:.2f} {rare:.2f}"
            for iteration, method, full, middle, rare in rows
        ),
    )


def points() -> Tensor:
    """The example of each class, on the unit circle, with a one for the bias. Shape (K, D)."""
    angles_K = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64) * math.pi / 180
    return torch.stack([angles_K.cos(), angles_K.sin(), torch.ones_like(angles_K)], dim=1)


def train(iterations: tuple[int, ...] = ITERATIONS, lr: float = 10.0) -> Tensor:
    """Weights of the four runs at the given iterations, shape (T, R, K, D): {softmax, balanced} x {instance, class}.

    Example:
        >>> train((1, 2)).shape
        torch.Size([2, 4, 3, 3])
    """
    points_KD, even_K = points(), torch.full((3,), 1 / 3, dtype=torch.float64)
    shift_RK = torch.stack([torch.zeros(3), torch.zeros(3), COUNTS.log(), COUNTS.log()])
    share_RK = torch.stack([COUNTS / COUNTS.sum(), even_K] * 2)  # how often each point is in a batch
    weights_RKD, kept = torch.zeros(4, 3, 3, dtype=torch.float64), []
    for step in range(1, max(iterations) + 1):
        logits_RKK = points_KD @ weights_RKD.transpose(1, 2) + shift_RK.unsqueeze(1)
        residuals_RKK = share_RK.unsqueeze(2) * (logits_RKK.softmax(dim=2) - torch.eye(3))
        weights_RKD = weights_RKD - lr * residuals_RKK.transpose(1, 2) @ points_KD
        if step in iterations:
            kept.append(weights_RKD)
    return torch.stack(kept)


def regions(weights_KD: Tensor, side: int = 300) -> Tensor:
    """Which class each point of the square is given, shape (side, side): rows from below, columns from the left."""
    line = torch.linspace(-HALF_WIDTH, HALF_WIDTH, side, dtype=torch.float64)
    y_GG, x_GG = torch.meshgrid(line, line, indexing="ij")
    return (torch.stack([x_GG, y_GG, torch.ones_like(x_GG)], dim=2) @ weights_KD.T).argmax(dim=2)


def shares(weights_RKD: Tensor) -> Tensor:
    """Share of the square that each run gives each class, shape (R, K)."""
    return torch.stack([torch.bincount(regions(w).flatten(), minlength=3) / 300**2 for w in weights_RKD])


def _draw(weights_TRKD: Tensor, iterations: Sequence[int], figure: Figure) -> None:
    colours, markers = list(GROUP_COLOURS.values()), list(GROUP_MARKERS.values())
    pale = ListedColormap([(*to_rgba(colour)[:3], 0.35) for colour in colours])
    panels = figure.subplots(4, len(weights_TRKD), squeeze=False)
    extent = (-HALF_WIDTH, HALF_WIDTH, -HALF_WIDTH, HALF_WIDTH)
    for t, weights_RKD in enumerate(weights_TRKD):
        for run, weights_KD in enumerate(weights_RKD):
            axes = panels[run][t]
            axes.imshow(regions(weights_KD).numpy(), cmap=pale, vmin=0, vmax=2, origin="lower", extent=extent)
            for (x, y, _), colour, marker in zip(points().tolist(), colours, markers, strict=True):
                axes.plot(x, y, marker, color=colour, markersize=5, markeredgecolor=INK, markeredgewidth=0.7)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
    for t, iteration in enumerate(iterations):
        panels[0][t].set_title(f"{iteration:,}", loc="center", fontsize=9)
    for run, name in enumerate(METHODS):
        panels[run][0].set_ylabel(name.replace(" + ", "\n+ "), fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle("iterations", fontsize=9, x=0.6)
