"""Train and judge image classifiers on data whose classes are unevenly filled."""

from longtail.errors import InputError
from longtail.version import __version__

__all__ = ["InputError", "__version__"]
