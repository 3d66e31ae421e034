"""A box of one image pasted over another: what CutMix and CMO have in common.

The box is that of the authors' code (`clovaai/CutMix-PyTorch`, which CMO shares): its centre lies anywhere in the
image, what falls outside is lost, and an odd side loses a pixel.
Shapes: B = batch, C = colour channels, H x W = image size.
"""

import torch
from torch import Tensor

from longtail.errors import InputError

BOX_NUMBERS = 4


def paste(
    images_BCHW: Tensor, partner_images_BCHW: Tensor, numbers_BR: Tensor, probability: float
) -> tuple[Tensor, Tensor]:
    """Paste a box of each partner over its image, at the same place.

    Args:
        images_BCHW: of any type, which is kept.
        partner_images_BCHW: likewise.
        numbers_BR: share of the image that stays, row and column of the box's centre, and, compared with `probability`,
            whether there is a box at all: four numbers for each image, the last three from [0, 1).
        probability: how often there is a box.

    Returns:
        Images (B, C, H, W), and the share of its own pixels that each has kept, shape (B,).

    Example:
        >>> white, black = torch.ones(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
        >>> paste(white, black, torch.tensor([[0.75, 0.5, 0.0, 0.0]]), 1.0)  # a box of 2 x 2, half of it outside
        (tensor([[[[1, 1, 1, 1],
                   [0, 1, 1, 1],
                   [0, 1, 1, 1],
                   [1, 1, 1, 1]]]], dtype=torch.uint8), tensor([0.8750]))
    """
    share_B, row_B, column_B, chance_B = numbers_BR.unbind(1)
    side_B = torch.where(chance_B < probability, (1 - share_B).sqrt(), 0.0)
    rows_BH = _within(side_B, row_B, images_BCHW.shape[2])
    columns_BW = _within(side_B, column_B, images_BCHW.shape[3])
    box_B1HW = (rows_BH[:, :, None] & columns_BW[:, None])[:, None]
    kept_B = 1 - rows_BH.float().mean(1) * columns_BW.float().mean(1)
    return torch.where(box_B1HW, partner_images_BCHW, images_BCHW), kept_B


def checked_probability(probability: float) -> float:
    """A probability above 0.

    Raises:
        InputError: if it is not in (0, 1].
    """
    if not 0 < probability <= 1:
        raise InputError(f"the probability that an image is mixed must lie in (0, 1], not {probability}")
    return probability


def _within(side_B: Tensor, centre_B: Tensor, length: int) -> Tensor:
    """Which of `length` pixels lie in a span: its side, and its centre, as shares of the length."""
    half_B1 = ((side_B * length).long() // 2)[:, None]
    centre_B1 = (centre_B * length).long()[:, None]
    position = torch.arange(length, device=side_B.device)
    return (position >= centre_B1 - half_B1) & (position < centre_B1 + half_B1)
