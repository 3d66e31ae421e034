"""Read pickled arrays without trusting them.

A pickle may name any function of any module and have it called. The CIFAR batches need three of NumPy; whatever else a
file names is refused before it is imported.
"""

import io
import pickle
from typing import Any

import numpy as np

from longtail.errors import InputError

_reconstruct = np.empty(0).__reduce__()[0]


def _bytes_of(text: str, encoding: str) -> bytes:
    """What Python 3 calls to rebuild bytes written for Python 2: `_codecs.encode`, for the one codec it uses."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _bytes_of,
}


class _ArraysOnly(pickle.Unpickler):
    def __init__(self, raw: bytes, where: str) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"{self.where} is a pickle that calls {module}.{name}; only NumPy arrays are read from a pickle, "
                "because anything else could run code of its author's: use the official file"
            )
        return _ALLOWED[module, name]


def load_arrays(raw: bytes, where: str) -> Any:
    """Unpickle numbers, strings, lists, mappings and NumPy arrays, and nothing else.

    Args:
        raw: the pickle; strings written by Python 2 come back as bytes.
        where: the file it is from, for messages.

    Raises:
        InputError: if the pickle names any other function or class, or is truncated or damaged.

    Example:
        >>> load_arrays(pickle.dumps({"data": np.arange(3)}), "batch")
        {'data': array([0, 1, 2])}
        >>> load_arrays(pickle.dumps(print), "batch")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: batch is a pickle that calls builtins.print; only NumPy arrays are read from ...
    """
    try:
        return _ArraysOnly(raw, where).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise anything at all, as the documentation of `pickle` says
        raise InputError(
            f"{where} ({len(raw):,} bytes) is no readable pickle, truncated or damaged: {error}; get the file anew"
        ) from error
