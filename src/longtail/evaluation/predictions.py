"""Predictions of a test set with all that is needed to judge them; written by every run, read from any tool.

Shapes: N = examples, C = classes, D = embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longtail._io import atomic_write
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, first_ten, unknown_name
from longtail.evaluation.checks import Array, as_tensor, check_lengths, checked_labels, checked_logits
from longtail.evaluation.metrics import Groups
from longtail.evaluation.priors import Prior
from longtail.evaluation.reading import RawPredictions, read_csv, read_npz
from longtail.evaluation.scores import Scores, evaluate_logits, evaluate_predictions
from longtail.evaluation.training_counts import HOW_TO_GIVE_COUNTS, NamedCounts, is_whole_number, read_training_counts


@dataclass(frozen=True, eq=False, init=False)
class Predictions:
    """What a model said about a test set. Tensors are on the CPU.

    Args:
        targets: true labels, int64, shape (N,).
        class_counts: *training* images per class, int64, shape (C,).
        logits: float32, shape (N, C); None where only labels are known.
        predicted: int64, shape (N,); with logits, the highest one.
        class_names: C names; without any, the labels.
        paths: N image paths, where known.
        embeddings: float32, shape (N, D), where wanted.

    Raises:
        InputError: for shapes that do not fit, labels out of range, NaN logits, or if not exactly one of logits and
            predicted labels is given.

    Example:
        >>> found = Predictions(torch.tensor([0, 1]), [500, 5], logits=torch.tensor([[2.0, 1.0], [1.0, 0.0]]))
        >>> found.predicted, found.scores().few
        (tensor([0, 0]), 0.0)
    """

    targets: Tensor
    class_counts: Tensor
    logits: Tensor | None
    predicted: Tensor
    class_names: tuple[str, ...]
    paths: tuple[str, ...] | None
    embeddings: Tensor | None

    def __init__(
        self,
        targets: Array,
        class_counts: Countable,
        *,
        logits: Array | None = None,
        predicted: Array | None = None,
        class_names: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        embeddings: Array | None = None,
    ) -> None:
        counts_C = ClassCounts(class_counts).counts
        num_classes = len(counts_C)
        targets_N = checked_labels(targets, num_classes, "targets")
        if logits is not None and predicted is None:
            logits = checked_logits(as_tensor(logits, "logits").float(), len(targets_N), num_classes).cpu()
            predicted_N = logits.argmax(1)
        elif predicted is not None and logits is None:
            predicted_N = checked_labels(predicted, num_classes, "predicted labels")
            check_lengths(predicted_N, targets_N)
        else:
            raise InputError("give the logits, or where there are none the predicted labels")
        names = tuple(map(str, range(num_classes))) if class_names is None else tuple(class_names)
        _check_length("class_names", names, num_classes, "class")
        _check_length("paths", paths, len(targets_N), "example")
        _check_length("embeddings", embeddings, len(targets_N), "example")
        values = {
            "targets": targets_N,
            "class_counts": counts_C,
            "logits": logits,
            "predicted": predicted_N,
            "class_names": names,
            "paths": None if paths is None else tuple(paths),
            "embeddings": None if embeddings is None else as_tensor(embeddings, "embeddings").detach().float().cpu(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.targets)

    def scores(self, *, many: int = 100, few: int = 20, groups: Groups = "fixed", prior: Prior | None = None) -> Scores:
        """Judge them: `evaluate_logits`, or without logits `evaluate_predictions`, with their options."""
        options: dict[str, Any] = {"many": many, "few": few, "groups": groups, "prior": prior}
        if self.logits is None:
            return evaluate_predictions(self.predicted, self.targets, self.class_counts, **options)
        return evaluate_logits(self.logits, self.targets, self.class_counts, **options)


def _check_length(what: str, values: Sequence[str] | Array | None, length: int, per: str) -> None:
    if values is not None and len(values) != length:
        raise InputError(f"{what} must have one entry per {per}, {length}, not {len(values)}")


def save_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write an NPZ file, whole or not at all; it holds plain arrays only.

    Args:
        path: of the file; one that is there is replaced.
        predictions: become the arrays logits (or predicted), targets, class_counts, class_names, and where there are
            any paths and embeddings.

    Raises:
        InputError: where it cannot be written (no such folder, disk full); what stood there before stays.

    Example:
        >>> import tempfile
        >>> found = Predictions(torch.tensor([0, 1]), [500, 5], predicted=torch.tensor([0, 0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_predictions(Path(folder) / "predictions.npz", found)
        ...     read_predictions(folder).predicted
        tensor([0, 0])
    """
    try:
        with atomic_write(Path(path)) as file:
            np.savez(file, **_to_arrays(predictions))
    except OSError as error:
        raise InputError(f"cannot write the predictions to {path}: {error}") from error


def _to_arrays(predictions: Predictions) -> dict[str, Any]:
    scores = predictions.predicted if predictions.logits is None else predictions.logits
    arrays: dict[str, Any] = {
        "predicted" if predictions.logits is None else "logits": scores.numpy(),
        "targets": predictions.targets.numpy(),
        "class_counts": predictions.class_counts.numpy(),
        "class_names": np.array(predictions.class_names, dtype=np.str_),
    }
    if predictions.paths is not None:
        arrays["paths"] = np.array(predictions.paths, dtype=np.str_)
    if predictions.embeddings is not None:
        arrays["embeddings"] = predictions.embeddings.numpy()
    return arrays


def read_predictions(path: str | Path, counts: str | Path | Countable | None = None) -> Predictions:
    r"""Read predictions: of a run, or of any other tool.

    Args:
        path: a run's folder; an NPZ file (`logits`, `probabilities` or `predicted`, with `targets`); or a CSV file (a
            column `target`, and `logit_0`, `logit_1`, ... or `prob_cat`, `prob_dog`, ... or `predicted`). Labels may
            be numbers from 0 or class names. Where a file has both, logits decide, not predicted labels.
        counts: *training* images per class, as `read_training_counts` takes them; they go before those of the file.

    Raises:
        InputError: for a file that cannot be read or lacks something, naming the array, column or line; if neither
            the file nor `counts` says how many training images the classes have.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder) / "other_tool.csv"
        ...     _ = table.write_text("target,prob_cat,prob_dog\ncat,0.9,0.1\ndog,0.7,0.3\n")
        ...     found = read_predictions(table, counts=[500, 5])
        >>> found.class_names, found.scores().per_class
        (('cat', 'dog'), (100.0, 0.0))
    """
    path = Path(path)
    if path.is_dir():
        path = path / "predictions.npz"
    if not path.is_file():
        raise InputError(f"no predictions at {path}; give a run's folder, an NPZ file or a CSV file")
    readers = {".npz": read_npz, ".csv": read_csv, ".tsv": read_csv, ".txt": read_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"cannot tell what {path} is from its name; it must end in {', '.join(readers)}")
    given = None if counts is None else read_training_counts(counts)
    try:
        return _understood(readers[path.suffix.lower()](path), given)
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def _understood(raw: RawPredictions, given: NamedCounts | None) -> Predictions:
    names, class_counts = _classes(raw, given)
    num_classes = len(class_counts)
    place = raw.place
    targets_N = checked_labels(_labels(raw.targets, names, place), num_classes, "targets", place)
    logits, predicted = raw.logits, None
    if logits is not None:
        logits = checked_logits(logits, len(targets_N), num_classes, place)
    elif raw.predicted is not None:
        labels = _labels(raw.predicted, names, place)
        predicted = checked_labels(labels, num_classes, "predicted labels", place)
    return Predictions(
        targets_N,
        class_counts,
        logits=logits,
        predicted=predicted,
        class_names=names,
        paths=raw.paths,
        embeddings=raw.embeddings,
    )


def _classes(raw: RawPredictions, given: NamedCounts | None) -> tuple[tuple[str, ...] | None, ClassCounts]:
    """Names of the classes (None where there are none) and their counts, in the order of the labels."""
    if given is None:
        if raw.class_counts is None:
            raise InputError(f"the file does not say how many training images each class had; {HOW_TO_GIVE_COUNTS}")
        counts, names = ClassCounts(as_tensor(raw.class_counts, "class_counts")), raw.class_names
    elif given.names is None or raw.class_names is None:
        counts, names = given.counts, raw.class_names or given.names
    else:
        counts, names = _reordered(given.counts, given.names, raw.class_names), raw.class_names
    num_classes = len(names or counts) if raw.logits is None else raw.logits.shape[-1]
    if len(counts) != num_classes:
        raise InputError(f"there are training counts for {len(counts)} classes, but scores or names for {num_classes}")
    return names, counts


def _reordered(counts: ClassCounts, names: tuple[str, ...], wanted: tuple[str, ...]) -> ClassCounts:
    odd = sorted(set(names) ^ set(wanted))
    if odd:
        raise InputError(f"the training counts and the predictions do not name the same classes:\n{first_ten(odd)}")
    by_name = dict(zip(names, counts.counts.tolist(), strict=True))
    return ClassCounts([by_name[name] for name in wanted])


def _labels(values: npt.NDArray[Any], names: tuple[str, ...] | None, place: Callable[[int], str]) -> Array:
    """Labels as numbers: from names where they are names, from digits otherwise."""
    if values.dtype.kind != "U":
        return values
    texts = [text.strip() for text in values.ravel().tolist()]
    label_of = {name: label for label, name in enumerate(names or ())}
    if names is not None and len(label_of) < len(names):
        raise InputError("two classes have the same name, so labels must be numbers")
    if not all(text in label_of for text in texts) and all(map(is_whole_number, texts)):
        return torch.tensor([int(text) for text in texts], dtype=torch.int64)
    for index, text in enumerate(texts):
        if text in label_of:
            continue
        if names is None:
            raise InputError(
                f"{place(index)}: the label {text!r} is no whole number, and nothing names the classes; "
                "name them with the training images per class (--counts), a CSV file with the columns class,count"
            )
        raise InputError(f"{place(index)}: {unknown_name('class', text, names)}")
    return torch.tensor([label_of[text] for text in texts], dtype=torch.int64)
