"""Random numbers as functions of what they are for: (seed, stage, epoch, step), never of what was drawn before.

So a resumed run, or one of several ranks, draws exactly what the unbroken, single run would.
"""

import hashlib

import torch
from torch import Tensor


def key(*parts: int | str) -> int:
    """A 63-bit seed from the parts, in which every part counts.

    Example:
        >>> key("order", 0, 1) == key("order", 0, 1), key("order", 0, 1) == key("order", 1, 0)
        (True, False)
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded with `key(*parts)`.

    Example:
        >>> torch.equal(torch.rand(3, generator=generator("a", 1)), torch.rand(3, generator=generator("a", 1)))
        True
    """
    return torch.Generator().manual_seed(key(*parts))


def uniforms(shape: tuple[int, ...], *parts: int | str) -> Tensor:
    """A table of numbers in [0, 1), float32, on the CPU so that every device sees the same.

    Example:
        >>> uniforms((2, 3), "augment", 0).shape
        torch.Size([2, 3])
    """
    return torch.rand(shape, generator=generator(*parts))
