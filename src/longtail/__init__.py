"""Train and judge image classifiers on data whose classes are unevenly filled."""

import logging

from longtail.errors import InputError
from longtail.version import __version__

__all__ = ["InputError", "__version__"]

logging.getLogger("longtail").addHandler(logging.NullHandler())
