"""Random numbers as functions of their purpose: (seed, stage, epoch, step), never of earlier draws.

A resumed run and each of several ranks therefore draw exactly the numbers of a single uninterrupted run.
"""

import hashlib

import torch
from torch import Tensor


def key(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part.

    Example:
        >>> key("order", 0, 1) == key("order", 0, 1), key("order", 0, 1) == key("order", 1, 0)
        (True, False)
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded with `key(*parts)`.

    Example:
        >>> torch.equal(torch.rand(3, generator=generator("a", 1)), torch.rand(3, generator=generator("a", 1)))
        True
    """
    return torch.Generator().manual_seed(key(*parts))


def uniforms(shape: tuple[int, ...], *parts: int | str) -> Tensor:
    """Return uniform numbers in [0, 1), float32, drawn on the CPU so that they are equal on every device.

    Example:
        >>> uniforms((2, 3), "augment", 0).shape
        torch.Size([2, 3])
    """
    return torch.rand(shape, generator=generator(*parts))
