"""What re-sampling does to a linear classifier under softmax and Balanced Softmax: three classes, two dimensions.

    python benchmarks/balms_toy.py [--out figures]

Figure 3 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740): one point stands for 10,000 examples of the first class, one for 100 of the second
and one for a single example of the third. Softmax ends in symmetric regions however it samples; Balanced Softmax moves
the boundaries towards the fuller classes; with class-balanced sampling on top it overshoots at once.

Gradient descent on the full batch, lr 10 (at 0.1 Balanced Softmax takes more than 20,000 steps to get going). The paper
gives no coordinates; the points lie on the unit circle, and shares are of the square from -1.5 to 1.5. About five
seconds on one core; writes balms-toy.svg and .png and prints the shares of the plane.
Shapes: R = runs, K = classes = points, D = 2 coordinates and a one, T = iterations kept, G = points of a grid.
"""

import argparse
import math
from pathlib import Path

import torch
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from longtail.report.palette import GROUP_COLOURS
from longtail.report.style import drawing, to_svg

COUNTS = torch.tensor([10_000.0, 100.0, 1.0], dtype=torch.float64)
NAMES = ("Softmax", "Softmax\n+ class-balanced", "Balanced Softmax", "Balanced Softmax\n+ class-balanced")
ITERATIONS = (10, 100, 1_000, 3_000, 30_000)
HALF_WIDTH = 1.5


def points() -> Tensor:
    """The example of each class, on the unit circle, with a one for the bias. Shape (K, D)."""
    angles_K = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64) * math.pi / 180
    return torch.stack([angles_K.cos(), angles_K.sin(), torch.ones_like(angles_K)], dim=1)


def train(iterations: tuple[int, ...] = ITERATIONS, lr: float = 10.0) -> Tensor:
    """Weights of the four runs at the given iterations, shape (T, R, K, D): {softmax, balanced} x {instance, class}."""
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


def draw(weights_TRKD: Tensor, figure: Figure) -> None:
    """A row for each run, a column for each iteration."""
    colours = list(GROUP_COLOURS.values())
    pale = ListedColormap([(*to_rgba(colour)[:3], 0.35) for colour in colours])
    panels = figure.subplots(4, len(weights_TRKD), squeeze=False)
    for t, weights_RKD in enumerate(weights_TRKD):
        for run, weights_KD in enumerate(weights_RKD):
            axes = panels[run][t]
            axes.imshow(
                regions(weights_KD).numpy(), cmap=pale, vmin=0, vmax=2, origin="lower", extent=[-1.5, 1.5, -1.5, 1.5]
            )
            for (x, y, _), colour in zip(points().tolist(), colours, strict=True):
                axes.plot(x, y, "o", color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.6)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
    for t, iteration in enumerate(ITERATIONS):
        panels[0][t].set_title(f"{iteration:,}", loc="center", fontsize=9)
    for run, name in enumerate(NAMES):
        panels[run][0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for balms-toy.svg and .png")
    out: Path = parser.parse_args().out
    weights_TRKD = train()
    print(f"{'share of the plane given to the class of':41}{'10,000':>8}{'100':>8}{'1':>8}")
    for iteration, weights_RKD in zip(ITERATIONS, weights_TRKD, strict=True):
        for name, share_K in zip(NAMES, shares(weights_RKD).tolist(), strict=True):
            numbers = "".join(f"{share:8.2f}" for share in share_K)
            print(f"{iteration:>7,} {name.replace(chr(10), ' '):33}" + numbers)
    out.mkdir(parents=True, exist_ok=True)
    with drawing(4.4) as figure:
        draw(weights_TRKD, figure)
        note = "iterations from left to right; 10,000 (blue), 100 (green) and 1 (orange) examples"
        (out / "balms-toy.svg").write_text(to_svg(figure, "balms-toy", note))
        figure.savefig(out / "balms-toy.png", dpi=160, facecolor="white")


if __name__ == "__main__":
    main()
