"""Features: what a backbone made of images, in a file that we or another tool wrote.

Shapes: N = rows, n = images of a part, B = rows of a block, D = embedding dimension, C = classes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from longtail.data.counts import ClassCounts
from longtail.data.formats.feature_npz import Array, Block, read_npz, write_npz
from longtail.data.formats.feature_parquet import column_names, read_parquet, write_parquet
from longtail.data.listing import PART_NAMES, numbered_labels, part_of
from longtail.errors import InputError, unknown_name

EMBEDDINGS = ("embeddings", "embedding", "features", "feature")
LABELS = ("labels", "label", "targets", "target")
LOGITS = ("logits",)
PARTS = ("part", "split")
VIEWS = ("view",)
ABOUT_ALL = ("class_names", "class_counts", "about")
SUFFIXES = {".npz": read_npz, ".parquet": read_parquet}
_WANTED = {*EMBEDDINGS, *LABELS, *LOGITS, *PARTS, *VIEWS, *ABOUT_ALL}
_LOOK_AT = 4096  # rows that are looked at together


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """All about the rows of a file of features but the features themselves.

    Args:
        labels_N: whole numbers from 0, int64.
        parts_N: "train", "val" or "test".
        views_N: 0 for the plain view of an image, 1, 2, ... for augmented ones, int64.
        class_names: C names, in the order of the labels.
        class_counts: training images per class; None where they are not known.
        about: where the features come from, as JSON holds it.
    """

    labels_N: Tensor
    parts_N: Array
    views_N: Tensor
    class_names: tuple[str, ...]
    class_counts: ClassCounts | None
    about: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features on disk. Of an NPZ file nothing is read before it is asked for.

    Args:
        path: of the file.
        rows: labels, parts and views of the N rows, names and counts of the classes.
        embeddings_ND: of any float type; of an NPZ file mapped, so that slices alone are read.
        logits_NC: likewise; None where the file has none.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "other_tool.npz"
        >>> np.savez(place, features=np.eye(3, dtype=np.float32), labels=np.array(["cat", "dog", "cat"]))
        >>> found = load_features(place)
        >>> found.rows.class_names, found.rows.class_counts.counts
        (('cat', 'dog'), tensor([2, 1]))
        >>> found.tensors("train")[0].shape
        torch.Size([3, 3])
    """

    path: Path
    rows: FeatureRows
    embeddings_ND: Array
    logits_NC: Array | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def parts(self) -> tuple[str, ...]:
        """Which of "train", "val" and "test" there are."""
        present = set(np.unique(self.rows.parts_N).tolist())
        return tuple(part for part in PART_NAMES if part in present)

    def rows_of(self, part: str, view: int = 0) -> Tensor:
        """Places of the rows of a part, in the order of the file.

        Args:
            part: "train", "val" or "test".
            view: 0 for the plain view of each image.

        Raises:
            InputError: if there are none.
        """
        is_meant_N = torch.from_numpy(self.rows.parts_N == part) & (self.rows.views_N == view)
        if not is_meant_N.any():
            which = f"view {view} of the {part} part" if part in self.parts else f"{part} part"
            raise InputError(f"{self.path} holds no {which}; it holds {', '.join(self.parts)}")
        return is_meant_N.nonzero().flatten()

    def tensors(self, part: str, view: int = 0) -> tuple[Tensor, Tensor]:
        """Embeddings (n, D) of a part, float32, and labels (n,), in memory: what `longtail.posthoc` takes.

        Args:
            part: "train", "val" or "test".
            view: 0 for the plain view of each image.

        Raises:
            InputError: if there are none, or one is NaN or infinite.
        """
        rows_n = self.rows_of(part, view)
        return self._picked(self.embeddings_ND, rows_n, "embedding"), self.rows.labels_N[rows_n]

    def logits(self, part: str, view: int = 0) -> Tensor:
        """Logits (n, C) of a part, float32, in memory.

        Raises:
            InputError: if there are none, or one is NaN or infinite.
        """
        if self.logits_NC is None:
            raise InputError(f"{self.path} holds no logits; write them with `longtail features RUN`")
        return self._picked(self.logits_NC, self.rows_of(part, view), "logit")

    def _picked(self, values_NK: Array, rows_n: Tensor, what: str) -> Tensor:
        values_nK = torch.from_numpy(np.asarray(values_NK[rows_n.numpy()], dtype=np.float32))
        self._refuse_non_finite(values_nK, rows_n, what)
        return values_nK

    def check_finite(self) -> None:
        """Read all embeddings, a few at a time.

        Raises:
            InputError: if one is NaN or infinite.
        """
        for start in range(0, len(self), _LOOK_AT):
            self._picked(self.embeddings_ND, torch.arange(start, min(start + _LOOK_AT, len(self))), "embedding")

    def _refuse_non_finite(self, values_nK: Tensor, rows_n: Tensor, what: str) -> None:
        # sums of a row carry NaN and infinity along; float64, because a sum of floats can overflow
        is_bad_n = ~values_nK.sum(1, dtype=torch.float64).isfinite()
        if is_bad_n.any():
            first = int(rows_n[is_bad_n.nonzero()[0]])
            raise InputError(
                f"{self.path}: row {first} (counted from 0) has an {what} that is NaN or infinite, and "
                f"{int(is_bad_n.sum())} of {len(rows_n)} rows are like this; write the features again"
            )


def load_features(path: Path | str) -> FeatureSet:
    """Open features that `longtail features` or another tool wrote.

    Args:
        path: of an NPZ file or a Parquet table. Arrays (columns) are `embeddings` (or embedding, features, feature),
            one row or list an image, and `labels` (or label, targets, target), whole numbers from 0 or class names;
            and, where known, `logits`, `part` or `split` (train, val, test; without it all rows are "train"), `view`,
            `class_names` and `class_counts` (training images per class; else they are counted).

    Raises:
        InputError: for a file that can not be read or lacks something, naming what it has, or arrays that do not fit.

    Example:
        >>> load_features("features.npy")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there are no features at features.npy; give an NPZ file or a Parquet table
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"there are no features at {path}; give an NPZ file or a Parquet table")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot tell what {path} is from its name; it must end in {' or '.join(SUFFIXES)}")
    arrays, names = SUFFIXES[path.suffix.lower()](path, _WANTED)
    try:
        embeddings, labels = (_one_of(arrays, names, which) for which in (EMBEDDINGS, LABELS))
        if embeddings is None or labels is None:
            raise InputError(f"holds {', '.join(names) or 'nothing'}; it needs {EMBEDDINGS[0]} and {LABELS[0]}")
        logits_NC = _one_of(arrays, names, LOGITS)
        rows = _rows(arrays, labels, _one_of(arrays, names, PARTS))
        _check_table(embeddings, "embeddings", len(rows), None)
        if logits_NC is not None:
            _check_table(logits_NC, "logits", len(rows), len(rows.class_names))
    except InputError as error:
        raise InputError(f"{path} {error}" if str(error).startswith("holds") else f"{path}: {error}") from error
    return FeatureSet(path, rows, embeddings, logits_NC)


def holds_features(path: Path) -> bool:
    """Whether a file is of the kind that holds features: any NPZ file, or a Parquet table with a column of them.

    Example:
        >>> holds_features(Path("photos.csv"))
        False
    """
    if not path.is_file():
        return False
    is_table = path.suffix.lower() == ".parquet"
    return path.suffix.lower() == ".npz" or (is_table and not {*EMBEDDINGS}.isdisjoint(column_names(path)))


def write_features(
    path: Path,
    rows: FeatureRows,
    blocks: Iterable[Block],
    *,
    kind: Literal["npz", "parquet"] = "npz",
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write features block by block, whole or not at all.

    Args:
        path: of the file; one that is there is replaced.
        rows: labels, parts and views of all N rows, names and counts of the classes.
        blocks: embeddings (B, D), and logits (B, C) or None, of N rows in all and in their order.
        kind: an NPZ file, which can be mapped into memory, or a Parquet table.
        dtype: of embeddings and logits; "float16" halves the file, and keeps 3 digits and no value above 65,504.

    Raises:
        InputError: if it can not be written; what stood there before stays.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "features.npz"
        >>> zeros = torch.zeros(2, dtype=torch.long)
        >>> counts = ClassCounts([1, 1])
        >>> rows = FeatureRows(torch.tensor([0, 1]), np.array(["train"] * 2), zeros, ("cat", "dog"), counts, {})
        >>> write_features(place, rows, [(np.zeros((2, 4)), None)])
        >>> np.load(place)["embeddings"].shape
        (2, 4)
    """
    columns = {"labels": rows.labels_N.numpy(), "part": rows.parts_N, "view": rows.views_N.numpy()}
    facts: dict[str, Any] = {"class_names": list(rows.class_names), "about": dict(rows.about)}
    if rows.class_counts is not None:
        facts["class_counts"] = rows.class_counts.counts.tolist()
    write = write_npz if kind == "npz" else write_parquet
    try:
        write(path, columns, facts, blocks, dtype)
    except OSError as error:
        raise InputError(f"can not write the features to {path}: {error}") from error


def _one_of(arrays: Mapping[str, Array], names: list[str], wanted: tuple[str, ...]) -> Array | None:
    present = [name for name in wanted if name in names]
    if len(present) > 1:
        raise InputError(f"holds both {' and '.join(present)}; keep one of them")
    return arrays[present[0]] if present else None


def _rows(arrays: Mapping[str, Array], labels: Array, parts: Array | None) -> FeatureRows:
    if labels.ndim != 1 or not len(labels):
        raise InputError(f"labels must have shape (N,) and at least one entry, not {labels.shape}")
    names = arrays.get("class_names")
    class_names, labels_N = _labels(labels, None if names is None else tuple(map(str, names.ravel().tolist())))
    parts_N, views_N = _parts(parts, len(labels_N)), arrays.get("view", np.zeros(len(labels_N), np.int64))
    if views_N.shape != labels.shape or views_N.dtype.kind not in "iu":
        raise InputError(f"view must be whole numbers of shape {labels.shape}, not {views_N.dtype} {views_N.shape}")
    views = torch.from_numpy(views_N.astype(np.int64))
    is_trained_on = torch.from_numpy(parts_N == "train") & (views == 0)
    counts, given = None, arrays.get("class_counts")
    if given is not None:
        counts = ClassCounts(torch.from_numpy(np.array(given)))
    elif is_trained_on.any():
        counts = ClassCounts.from_targets(labels_N[is_trained_on], len(class_names))
    if counts is not None and len(counts) != len(class_names):
        raise InputError(f"there are {len(counts)} class_counts for {len(class_names)} classes; give one each")
    about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    return FeatureRows(labels_N, parts_N, views, class_names, counts, about)


def _labels(labels: Array, class_names: tuple[str, ...] | None) -> tuple[tuple[str, ...], Tensor]:
    """Class names, and labels as numbers."""
    if labels.dtype.kind not in "iuU":
        raise InputError(f"labels must be whole numbers or names, not {labels.dtype}")
    if class_names is None:
        class_names, numbers = numbered_labels("labels", labels.astype(np.str_).tolist())
        return class_names, torch.tensor(numbers)
    if labels.dtype.kind == "U":
        label_of = {name: label for label, name in enumerate(class_names)}
        odd = sorted(set(labels.tolist()) - set(label_of))
        if odd:
            raise unknown_name("class", odd[0], class_names)
        return class_names, torch.tensor([label_of[name] for name in labels.tolist()])
    if int(labels.min()) < 0 or int(labels.max()) >= len(class_names):
        raise InputError(
            f"labels go from {labels.min()} to {labels.max()}, but those of {len(class_names)} classes start at 0 and "
            f"end at {len(class_names) - 1}"
        )
    return class_names, torch.from_numpy(labels.astype(np.int64))


def _parts(parts: Array | None, num_rows: int) -> Array:
    if parts is None:
        return np.full(num_rows, "train")
    if parts.dtype.kind != "U" or parts.shape != (num_rows,):
        raise InputError(f"part must be {num_rows} texts (train, val, test), not {parts.dtype} {parts.shape}")
    meant, place_N = np.unique(parts, return_inverse=True)
    return np.array([part_of(part) for part in meant.tolist()])[place_N]


def _check_table(values: Array, what: str, num_rows: int, width: int | None) -> None:
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, not {values.dtype}")
    if values.ndim != 2 or len(values) != num_rows or values.shape[1] != (width or max(values.shape[1], 1)):
        wanted = f"({num_rows}, {'D' if width is None else width})"
        raise InputError(f"{what} must have shape {wanted}, a row per label, not {values.shape}")
