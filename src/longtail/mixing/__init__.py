"""Mixing: two images and their labels become one image with a soft label, `Mixing(class_counts)(...)`."""

from longtail.mixing.cmo import CMO
from longtail.mixing.cutmix import CutMix
from longtail.mixing.mixup import Mixup
from longtail.mixing.remix import Remix

__all__ = [
    "CMO",
    "CutMix",
    "Mixup",
    "Remix",
]
