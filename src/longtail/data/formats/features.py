"""Features: embeddings of images by a backbone, in a file written by this package or another tool.

Shapes: N = rows, n = images of a split, B = rows of a block, D = embedding dimension, C = classes.
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
from longtail.data.formats.feature_files import (
    Array,
    Block,
    column_names,
    read_npz,
    read_parquet,
    read_safetensors,
    write_npz,
    write_parquet,
    write_safetensors,
)
from longtail.data.formats.listing import SPLIT_NAMES, numbered_labels, split_from_name
from longtail.errors import InputError, unknown_name

EMBEDDINGS = ("embeddings", "embedding", "features", "feature")
LABELS = ("labels", "label", "targets", "target")
LOGITS = ("logits",)
PARTS = ("part", "split")
VIEWS = ("view",)
FACTS = ("class_names", "class_counts", "about")
READERS = {".npz": read_npz, ".safetensors": read_safetensors, ".parquet": read_parquet}
WRITERS = {"npz": write_npz, "safetensors": write_safetensors, "parquet": write_parquet}
_WANTED = {*EMBEDDINGS, *LABELS, *LOGITS, *PARTS, *VIEWS, *FACTS}
_CHUNK = 4096  # rows checked at a time


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Everything about the rows of a feature file except the features.

    Args:
        labels_N: Labels in [0, C), int64.
        parts_N: Split of each row: "train", "val" or "test".
        views_N: View of each row, int64: 0 for the plain view of an image, 1, 2, ... for augmented views.
        class_names: C names, in the order of the labels.
        class_counts: Training images per class, or None if unknown.
        about: Origin of the features, as JSON values.
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
    """Features on disk. An NPZ or safetensors file is mapped, so values are read on use.

    Args:
        path: Path of the file.
        rows: Labels, splits and views of the N rows, with names and counts of the classes.
        embeddings_ND: Embeddings of any float type.
        logits_NC: Logits of any float type, or None if the file has none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "other_tool.npz"
        >>> np.savez(path, features=np.eye(3, dtype=np.float32), labels=np.array(["cat", "dog", "cat"]))
        >>> features = load_features(path)
        >>> features.rows.class_names, features.rows.class_counts.counts
        (('cat', 'dog'), tensor([2, 1]))
        >>> features.tensors("train")[0].shape
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
        """Splits in the file, in the order "train", "val", "test"."""
        present = set(np.unique(self.rows.parts_N).tolist())
        return tuple(part for part in SPLIT_NAMES if part in present)

    def rows_of(self, part: str, view: int = 0) -> Tensor:
        """Return the indices of the rows of a split, in the order of the file.

        Args:
            part: Split: "train", "val" or "test".
            view: View of each image, 0 for the plain one.

        Raises:
            InputError: If there are no such rows.
        """
        is_match_N = torch.from_numpy(self.rows.parts_N == part) & (self.rows.views_N == view)
        if not is_match_N.any():
            which = f"view {view} of the {part} split" if part in self.parts else f"{part} split"
            raise InputError(f"{self.path} holds no {which}; it holds {', '.join(self.parts)}")
        return is_match_N.nonzero().flatten()

    def tensors(self, part: str, view: int = 0) -> tuple[Tensor, Tensor]:
        """Read the embeddings (n, D), float32, and the labels (n,) of a split, as `longtail.posthoc` needs them.

        Args:
            part: Split: "train", "val" or "test".
            view: View of each image, 0 for the plain one.

        Raises:
            InputError: If there are no such rows, or a value is NaN or infinite.
        """
        rows_n = self.rows_of(part, view)
        return self._read(self.embeddings_ND, rows_n, "embedding"), self.rows.labels_N[rows_n]

    def logits(self, part: str, view: int = 0) -> Tensor:
        """Read the logits (n, C) of a split, float32.

        Args:
            part: Split: "train", "val" or "test".
            view: View of each image, 0 for the plain one.

        Raises:
            InputError: If there are no logits or no such rows, or a value is NaN or infinite.
        """
        if self.logits_NC is None:
            raise InputError(f"{self.path} holds no logits; write them with `longtail features RUN`")
        return self._read(self.logits_NC, self.rows_of(part, view), "logit")

    def check_finite(self) -> None:
        """Read all embeddings, a few rows at a time.

        Raises:
            InputError: If a value is NaN or infinite.
        """
        for start in range(0, len(self), _CHUNK):
            self._read(self.embeddings_ND, torch.arange(start, min(start + _CHUNK, len(self))), "embedding")

    def _read(self, values_NK: Array, rows_n: Tensor, what: str) -> Tensor:
        values_nK = torch.from_numpy(np.asarray(values_NK[rows_n.numpy()], dtype=np.float32))
        # the sum of a row propagates NaN and infinity; float64, because a sum of large floats can overflow
        is_bad_n = ~values_nK.sum(1, dtype=torch.float64).isfinite()
        if is_bad_n.any():
            first = int(rows_n[is_bad_n.nonzero()[0]])
            raise InputError(
                f"{self.path}: row {first} (counted from 0) has a NaN or infinite {what}, as have "
                f"{int(is_bad_n.sum())} of {len(rows_n)} rows; write the features again"
            )
        return values_nK


def load_features(path: Path | str) -> FeatureSet:
    """Open features written by `longtail features` or another tool.

    Args:
        path: Path of an .npz, .safetensors or .parquet file. It needs `embeddings` (or embedding, features, feature),
            a row per image, and `labels` (or label, targets, target), integers from 0 or class names. It may have
            `logits`, `part` or `split` (train, val, test; default: train), `view`, `class_names` and `class_counts`
            (training images per class; default: counted). Integer labels only in safetensors files.

    Raises:
        InputError: If the file cannot be read or lacks an array, or the arrays do not match.

    Example:
        >>> load_features("features.npy")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there are no features at features.npy; give an .npz, .safetensors or .parquet file
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"there are no features at {path}; give an .npz, .safetensors or .parquet file")
    if path.suffix.lower() not in READERS:
        raise InputError(f"the name of {path} does not show its format; it must end in {' or '.join(READERS)}")
    arrays, names = READERS[path.suffix.lower()](path, _WANTED)
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
    """Return whether a file holds features: any .npz or .safetensors file, or a Parquet table with such a column.

    Example:
        >>> holds_features(Path("photos.csv"))
        False
    """
    suffix = path.suffix.lower()
    if suffix not in READERS or not path.is_file():
        return False
    return suffix != ".parquet" or not {*EMBEDDINGS}.isdisjoint(column_names(path))


def write_features(
    path: Path,
    rows: FeatureRows,
    blocks: Iterable[Block],
    *,
    kind: Literal["npz", "safetensors", "parquet"] = "npz",
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write features atomically, with at most one block in memory.

    Args:
        path: File to write or replace.
        rows: Labels, splits and views of all N rows, with names and counts of the classes.
        blocks: Embeddings (B, D), and logits (B, C) or None, of N rows in total and in their order.
        kind: Format. NPZ and safetensors files can be mapped into memory.
        dtype: Type of embeddings and logits. "float16" halves the file, with 3 significant digits and values up to
            65,504.

    Raises:
        InputError: If the file cannot be written. Its previous content is kept.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "features.npz"
        >>> zeros = torch.zeros(2, dtype=torch.long)
        >>> counts = ClassCounts([1, 1])
        >>> rows = FeatureRows(torch.tensor([0, 1]), np.array(["train"] * 2), zeros, ("cat", "dog"), counts, {})
        >>> write_features(path, rows, [(np.zeros((2, 4)), None)])
        >>> np.load(path)["embeddings"].shape
        (2, 4)
    """
    columns = {"labels": rows.labels_N.numpy(), "part": rows.parts_N, "view": rows.views_N.numpy()}
    facts: dict[str, Any] = {"class_names": list(rows.class_names), "about": dict(rows.about)}
    if rows.class_counts is not None:
        facts["class_counts"] = rows.class_counts.counts.tolist()
    try:
        WRITERS[kind](path, columns, facts, blocks, dtype)
    except OSError as error:
        raise InputError(f"cannot write the features to {path}: {error}") from error


def _one_of(arrays: Mapping[str, Array], names: list[str], wanted: tuple[str, ...]) -> Array | None:
    present = [name for name in wanted if name in names]
    if len(present) > 1:
        raise InputError(f"holds both {' and '.join(present)}; keep one of them")
    return arrays[present[0]] if present else None


def _rows(arrays: Mapping[str, Array], labels: Array, parts: Array | None) -> FeatureRows:
    if labels.ndim != 1 or not len(labels):
        raise InputError(f"labels must have shape (N,) and at least one entry, got shape {labels.shape}")
    names = arrays.get("class_names")
    class_names, labels_N = _labels(labels, None if names is None else tuple(map(str, names.ravel().tolist())))
    parts_N, views_N = _parts(parts, len(labels_N)), arrays.get("view", np.zeros(len(labels_N), np.int64))
    if views_N.shape != labels.shape or views_N.dtype.kind not in "iu":
        raise InputError(f"view must be integers of shape {labels.shape}, got {views_N.dtype} {views_N.shape}")
    views = torch.from_numpy(views_N.astype(np.int64))
    is_trained_on = torch.from_numpy(parts_N == "train") & (views == 0)
    counts, given = None, arrays.get("class_counts")
    if given is not None:
        if given.dtype.kind not in "iuf" or given.ndim != 1:
            raise InputError(f"class_counts must be integers of shape (C,), got {given.dtype} {given.shape}")
        counts = ClassCounts(torch.from_numpy(np.array(given)))
    elif is_trained_on.any():
        counts = ClassCounts.from_targets(labels_N[is_trained_on], len(class_names))
    if counts is not None and len(counts) != len(class_names):
        raise InputError(f"there are {len(counts)} class_counts for {len(class_names)} classes; give one per class")
    return FeatureRows(labels_N, parts_N, views, class_names, counts, _about(arrays))


def _about(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return the origin of the features; none if another tool uses the name for something else."""
    try:
        about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _labels(labels: Array, class_names: tuple[str, ...] | None) -> tuple[tuple[str, ...], Tensor]:
    """Return class names and integer labels."""
    if labels.dtype.kind not in "iuU":
        raise InputError(f"labels must be integers or names, got {labels.dtype}")
    if class_names is None:
        class_names, numbers = numbered_labels("labels", labels.astype(np.str_).tolist())
        return class_names, torch.tensor(numbers)
    if labels.dtype.kind == "U":
        label_of = {name: label for label, name in enumerate(class_names)}
        unknown = sorted(set(labels.tolist()) - set(label_of))
        if unknown:
            raise unknown_name("class", unknown[0], class_names)
        return class_names, torch.tensor([label_of[name] for name in labels.tolist()])
    if int(labels.min()) < 0 or int(labels.max()) >= len(class_names):
        raise InputError(
            f"labels of {len(class_names)} classes must be 0 to {len(class_names) - 1}, got {labels.min()} to "
            f"{labels.max()}"
        )
    return class_names, torch.from_numpy(labels.astype(np.int64))


def _parts(parts: Array | None, num_rows: int) -> Array:
    if parts is None:
        return np.full(num_rows, "train")
    if parts.dtype.kind != "U" or parts.shape != (num_rows,):
        raise InputError(f"part must be {num_rows} texts (train, val, test), got {parts.dtype} {parts.shape}")
    given, index_N = np.unique(parts, return_inverse=True)
    return np.array([split_from_name(part) for part in given.tolist()])[index_N]


def _check_table(values: Array, what: str, num_rows: int, width: int | None) -> None:
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, got {values.dtype}")
    if values.ndim != 2 or len(values) != num_rows or values.shape[1] != (width or max(values.shape[1], 1)):
        wanted = f"({num_rows}, {'D' if width is None else width})"
        raise InputError(f"{what} must have shape {wanted}, a row per label, got {values.shape}")
