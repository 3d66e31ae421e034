"""Augmentation: policies of single images and mixing of two."""
