"""Data augmentation: policies that change single images, and mixings that combine two images and their labels."""

from longtail.augment.cutmix import CMO, CutMix
from longtail.augment.mixing import Mixup, Remix
from longtail.augment.policies import POLICIES, Augment, policy

MIXINGS = ("CMO", "CutMix", "Mixup", "Remix")
"""Mixings that a recipe may name."""

__all__ = ["CMO", "MIXINGS", "POLICIES", "Augment", "CutMix", "Mixup", "Remix", "policy"]
