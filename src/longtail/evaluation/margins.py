"""Logit margins: by how much the true class wins over its strongest rival, or loses to it.

gamma = f_y - max_{j != y} f_j on raw logits, which Figures 3 and 6 of "ELM: Embedding and Logit Margins for Long-Tail
Learning" (2022) compare between head and tail classes.

Shapes: N = examples, C = classes.
"""

import torch
from torch import Tensor


def logit_margins(logits_NC: Tensor, targets_N: Tensor) -> Tensor:
    """Margin of each example: the logit of its class minus the highest other; positive where it was recognised.

    Args:
        logits_NC: raw logits, without any prior added.
        targets_N: labels in [0, C).

    Returns:
        Shape (N,), on the CPU.

    Example:
        >>> logit_margins(torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), torch.tensor([0, 2]))
        tensor([ 2., -3.])
    """
    targets_N = targets_N.to(logits_NC.device)
    best_N2, which_N2 = logits_NC.topk(2, dim=1)
    rival_N = torch.where(which_N2[:, 0] == targets_N, best_N2[:, 1], best_N2[:, 0])
    return (logits_NC.gather(1, targets_N[:, None])[:, 0] - rival_N).float().cpu()


def class_means(values_N: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Mean of a value per example (a margin, say) over each class, shape (C,), float64; NaN where there is none.

    Example:
        >>> class_means(torch.tensor([2.0, -3.0, 4.0]), torch.tensor([0, 2, 0]), 3)
        tensor([ 3., nan, -3.], dtype=torch.float64)
    """
    sums_C = torch.bincount(targets_N, values_N.double(), minlength=num_classes)
    return sums_C / torch.bincount(targets_N, minlength=num_classes)


def empirical_cdf(values_N: Tensor) -> tuple[Tensor, Tensor]:
    """The values in rising order, and the share of them, in (0, 1], that is no larger: a curve to draw.

    Example:
        >>> empirical_cdf(torch.tensor([2.0, -3.0]))
        (tensor([-3.,  2.]), tensor([0.5000, 1.0000]))
    """
    ordered_N = values_N.sort().values
    return ordered_N, torch.arange(1, len(ordered_N) + 1) / len(ordered_N)
