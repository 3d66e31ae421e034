"""Losses that know how many training images each class has: ."""
