"""Images and labels: where they come from, how many of each class, how they become batches."""
