"""What papers and repositories report, as data: to stand beside one's own numbers."""

from longtail.published.reader import Published, difference_in_sd, everything, published

__all__ = ["Published", "difference_in_sd", "everything", "published"]
