"""Losses that know how many training images each class has: `Loss(class_counts)(logits, targets)`."""
