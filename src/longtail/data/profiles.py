"""Long-tailed class profiles, and which images of a balanced set they keep.

The exponential and step profiles, the truncation to whole images and the choice of images follow the code of
LDAM-DRW (Cao et al., NeurIPS 2019, https://github.com/kaidic/LDAM-DRW), whose CIFAR-LT subset most papers use. The
Pareto profile is that of OLTR (Liu et al., CVPR 2019): ImageNet-LT and Places-LT were drawn from it with
alpha = 6, by their authors' own draw: use their released lists, which no profile gives again.
"""

import hashlib
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from longtail.errors import InputError, unknown_name

Profile = Literal["exp", "step", "pareto"]


def long_tailed_counts(
    num_max: int,
    num_classes: int,
    imbalance_factor: float,
    profile: Profile = "exp",
    *,
    alpha: float = 6.0,
) -> Tensor:
    """Images to keep of each class, the fullest class first.

    Args:
        num_max: images of the fullest class.
        num_classes: number of classes, at least two.
        imbalance_factor: fullest over emptiest class, >= 1.
        profile: "exp" falls geometrically; "step" keeps the first half full and the second half at the minimum;
            "pareto" falls as a Pareto law's quantiles, rescaled to end at the minimum.
        alpha: shape of the Pareto law; smaller is more heavy-tailed.

    Returns:
        Counts of shape (C,), truncated to whole images as in LDAM's code.

    Raises:
        InputError: if a number is out of range or a class would be left without an image.

    Example:
        >>> long_tailed_counts(500, 5, 100)
        tensor([500, 158,  50,  15,   5])
        >>> long_tailed_counts(500, 4, 10, "step")
        tensor([500, 500,  50,  50])
    """
    if num_classes < 2 or num_max < 1 or imbalance_factor < 1 or alpha <= 0:
        raise InputError(
            "a long-tailed profile needs num_classes >= 2, num_max >= 1, imbalance_factor >= 1 and alpha > 0, "
            f"not {num_classes}, {num_max}, {imbalance_factor} and {alpha}"
        )
    if profile not in get_args(Profile):
        raise unknown_name("profile", profile, get_args(Profile))
    smallest = 1 / imbalance_factor
    # float arithmetic in Python, as in the authors' code: another order of operations moves a truncated count by one
    if profile == "exp":
        shares = [smallest ** (c / (num_classes - 1.0)) for c in range(num_classes)]
    elif profile == "step":
        shares = [1.0 if c < num_classes // 2 else smallest for c in range(num_classes)]
    else:
        shares = _pareto_shares(num_classes, smallest, alpha)
    counts = torch.tensor([int(num_max * share) for share in shares])
    if int(counts.min()) < 1:
        raise InputError(
            f"imbalance factor {imbalance_factor:g} leaves no image for the rarest class when the fullest has "
            f"{num_max}; use a smaller one"
        )
    return counts


def _pareto_shares(num_classes: int, smallest: float, alpha: float) -> list[float]:
    """Quantiles of a Pareto law at equal steps, mapped so that the first class gets 1 and the last `smallest`."""
    steps = [(c + 1) / (num_classes + 1) for c in range(num_classes)]
    raw = [step ** (-1 / alpha) for step in steps]
    return [smallest + (1 - smallest) * (value - raw[-1]) / (raw[0] - raw[-1]) for value in raw]


def long_tailed_indices(labels: Tensor, counts: Tensor, seed: int = 0) -> Tensor:
    """Which images a long-tailed subset keeps: the LDAM protocol ("ldam-seed0" with the default seed).

    Args:
        labels: label of each image of the full set, shape (N,).
        counts: images to keep of each class, shape (C,).
        seed: of the legacy NumPy generator.

    Returns:
        Indices into `labels`, class after class, each class in its shuffled order. Shape (sum of counts,).

    Raises:
        InputError: if a class has fewer images than asked for.

    Example:
        >>> long_tailed_indices(torch.tensor([0, 1, 0, 1, 0]), torch.tensor([2, 1]))
        tensor([4, 2, 1])
    """
    rng = np.random.RandomState(seed)
    labels_N = labels.cpu().numpy()
    kept = []
    for label, count in enumerate(counts.tolist()):
        members = np.where(labels_N == label)[0]
        if len(members) < count:
            raise InputError(f"class {label} has {len(members)} images, fewer than the {count} asked for")
        rng.shuffle(members)
        kept.append(members[:count])
    return torch.from_numpy(np.concatenate(kept))


def indices_sha256(indices: Tensor) -> str:
    """Identity of a subset: SHA-256 over the little-endian int64 bytes of its index list.

    Example:
        >>> indices_sha256(torch.tensor([0, 1, 2]))[:12]
        'ab25350e3e65'
    """
    return hashlib.sha256(indices.cpu().numpy().astype("<i8").tobytes()).hexdigest()
