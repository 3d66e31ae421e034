"""Backbones from image to embedding, and heads from embedding to logits."""
