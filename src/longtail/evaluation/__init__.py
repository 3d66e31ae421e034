"""From logits to every number of a result."""
