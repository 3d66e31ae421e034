"""Effect of re-sampling on a linear classifier with softmax and Balanced Softmax: three classes, two dimensions.

Figure 3 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740): one point stands for 10,000 examples of the first class, one for 100 of the second
and one for a single example of the third. Softmax ends in symmetric regions with either sampling. Balanced Softmax
moves the boundaries towards the frequent classes; with class-balanced sampling it overshoots from the start.

Training is gradient descent on the full batch with lr 10 (at 0.1, Balanced Softmax changes little in 20,000 steps). The
paper gives no coordinates: the points are on the unit circle, and shares refer to the square from -1.5 to 1.5.
Shapes: R = runs, K = classes = points, D = 2 coordinates and a one, T = saved iterations, G = points of a grid.
"""

import math
from collections.abc import Sequence

import torch
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from longtail.errors import InputError
from longtail.papers.plot import Plot, Table
from longtail.report.style import GROUP_COLORS, GROUP_MARKERS, INK

COUNTS = torch.tensor([10_000.0, 100.0, 1.0], dtype=torch.float64)
METHODS = ("Softmax", "Softmax + class-balanced", "Balanced Softmax", "Balanced Softmax + class-balanced")
ITERATIONS = (10, 100, 1_000, 3_000, 30_000)
HALF_WIDTH = 1.5


def toy_boundaries(*, iterations: Sequence[int] = ITERATIONS) -> Plot:
    """Draw the regions of each class: a row for each of four training methods, a column for each iteration.

    Args:
        iterations: Iterations to draw, in ascending order. The default takes about five seconds on one core.

    Raises:
        InputError: If the iterations are not ascending integers >= 1.
    """
    if not iterations or min(iterations) < 1 or sorted(set(iterations)) != list(iterations):
        raise InputError(f"`iterations` must be ascending integers >= 1, got {list(iterations)}")
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
            f"{iteration:>7,} {method:34} share of the plane of the classes with 10,000, 100 and 1 examples: "
            f"{many:.2f} {medium:.2f} {few:.2f}"
            for iteration, method, many, medium, few in rows
        ),
    )


def points() -> Tensor:
    """Return the example of each class on the unit circle, with a one for the bias, shape (K, D)."""
    angles_K = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64) * math.pi / 180
    return torch.stack([angles_K.cos(), angles_K.sin(), torch.ones_like(angles_K)], dim=1)


def train(iterations: tuple[int, ...] = ITERATIONS, lr: float = 10.0) -> Tensor:
    """Train the four runs of {softmax, balanced} x {instance, class} and return their weights, shape (T, R, K, D).

    Args:
        iterations: Iterations at which to save the weights.
        lr: Learning rate.

    Example:
        >>> train((1, 2)).shape
        torch.Size([2, 4, 3, 3])
    """
    points_KD, even_K = points(), torch.full((3,), 1 / 3, dtype=torch.float64)
    shift_RK = torch.stack([torch.zeros(3), torch.zeros(3), COUNTS.log(), COUNTS.log()])
    share_RK = torch.stack([COUNTS / COUNTS.sum(), even_K] * 2)  # share of each point in a batch
    weights_RKD, kept = torch.zeros(4, 3, 3, dtype=torch.float64), []
    for step in range(1, max(iterations) + 1):
        logits_RKK = points_KD @ weights_RKD.transpose(1, 2) + shift_RK.unsqueeze(1)
        residuals_RKK = share_RK.unsqueeze(2) * (logits_RKK.softmax(dim=2) - torch.eye(3))
        weights_RKD = weights_RKD - lr * residuals_RKK.transpose(1, 2) @ points_KD
        if step in iterations:
            kept.append(weights_RKD)
    return torch.stack(kept)


def regions(weights_KD: Tensor, side: int = 300) -> Tensor:
    """Return the predicted class of each point of the square, shape (side, side), from the lower left corner."""
    line = torch.linspace(-HALF_WIDTH, HALF_WIDTH, side, dtype=torch.float64)
    y_GG, x_GG = torch.meshgrid(line, line, indexing="ij")
    return (torch.stack([x_GG, y_GG, torch.ones_like(x_GG)], dim=2) @ weights_KD.T).argmax(dim=2)


def shares(weights_RKD: Tensor) -> Tensor:
    """Return the share of the square that each run assigns to each class, shape (R, K)."""
    return torch.stack([torch.bincount(regions(w).flatten(), minlength=3) / 300**2 for w in weights_RKD])


def _draw(weights_TRKD: Tensor, iterations: Sequence[int], figure: Figure) -> None:
    colors, markers = list(GROUP_COLORS.values()), list(GROUP_MARKERS.values())
    pale = ListedColormap([(*to_rgba(color)[:3], 0.35) for color in colors])
    panels = figure.subplots(4, len(weights_TRKD), squeeze=False)
    extent = (-HALF_WIDTH, HALF_WIDTH, -HALF_WIDTH, HALF_WIDTH)
    for t, weights_RKD in enumerate(weights_TRKD):
        for run, weights_KD in enumerate(weights_RKD):
            axes = panels[run][t]
            axes.imshow(regions(weights_KD).numpy(), cmap=pale, vmin=0, vmax=2, origin="lower", extent=extent)
            for (x, y, _), color, marker in zip(points().tolist(), colors, markers, strict=True):
                axes.plot(x, y, marker, color=color, markersize=5, markeredgecolor=INK, markeredgewidth=0.7)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
    for t, iteration in enumerate(iterations):
        panels[0][t].set_title(f"{iteration:,}", loc="center", fontsize=9)
    for run, name in enumerate(METHODS):
        panels[run][0].set_ylabel(name.replace(" + ", "\n+ "), fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle("iterations", fontsize=9, x=0.6)
