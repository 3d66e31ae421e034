"""Mixing: two images and their labels become one image with a soft label, `Mixing(class_counts)(...)`."""

from longtail.augment.mixing.cmo import CMO
from longtail.augment.mixing.cutmix import CutMix
from longtail.augment.mixing.mixup import Mixup
from longtail.augment.mixing.remix import Remix

__all__ = [
    "CMO",
    "CutMix",
    "Mixup",
    "Remix",
]
