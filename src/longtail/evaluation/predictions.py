"""Predictions for a test set, written by every run and read from any tool, and the result file of a run.

Shapes: N = examples, C = classes, D = embedding dimension.
"""

from __future__ import annotations

import json
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
from longtail.evaluation.reading import (
    HOW_TO_GIVE_COUNTS,
    NamedCounts,
    RawPredictions,
    is_whole_number,
    read_csv,
    read_npz,
    read_training_counts,
)
from longtail.evaluation.scores import Prior, Scores, evaluate_logits, evaluate_predictions


@dataclass(frozen=True, eq=False, init=False)
class Predictions:
    """Predictions for a test set, with everything needed to score them. Tensors are on the CPU.

    Args:
        targets: True labels in [0, C), shape (N,); stored as int64.
        class_counts: Training (not test) images per class, shape (C,); stored as int64.
        logits: Logits, shape (N, C); stored as float32. None if only labels are known.
        predicted: Predicted labels, shape (N,); stored as int64. Computed from the logits if these are given.
        class_names: C names; by default the labels.
        paths: N image paths, or None.
        embeddings: Embeddings, shape (N, D); stored as float32. Optional.

    Raises:
        InputError: If shapes do not fit, a label is out of range, a logit is NaN, or not exactly one of `logits` and
            `predicted` is given.

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
            raise InputError("exactly one of `logits` and `predicted` must be given; pass the logits if there are any")
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
        """Return the number of examples N."""
        return len(self.targets)

    def scores(self, *, many: int = 100, few: int = 20, groups: Groups = "fixed", prior: Prior | None = None) -> Scores:
        """Compute all scores, with `evaluate_logits`, or `evaluate_predictions` if there are no logits.

        Args:
            many: A class with more training images than this is "many"; default 100.
            few: A class with fewer training images than this is "few"; default 20.
            groups: "fixed" (default) uses `many` and `few`; "quantile" takes thirds of the classes by rank instead.
            prior: Test prior to score under, shape (C,). None (default) uses the test set as it is.
        """
        options: dict[str, Any] = {"many": many, "few": few, "groups": groups, "prior": prior}
        if self.logits is None:
            return evaluate_predictions(self.predicted, self.targets, self.class_counts, **options)
        return evaluate_logits(self.logits, self.targets, self.class_counts, **options)


def _check_length(what: str, values: Sequence[str] | Array | None, length: int, per: str) -> None:
    if values is not None and len(values) != length:
        raise InputError(f"`{what}` must have one entry per {per}, {length}, got {len(values)}")


def save_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write predictions to an NPZ file of plain arrays, atomically.

    Args:
        path: Path of the file. An existing file is replaced.
        predictions: Predictions, stored as the arrays logits (or predicted), targets, class_counts, class_names, and
            paths and embeddings if there are any.

    Raises:
        InputError: If the file cannot be written (missing folder, full disk). An existing file is then unchanged.

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
    r"""Read the predictions of a run or of another tool.

    Args:
        path: Folder of a run; an NPZ file with `targets` and `logits`, `probabilities` or `predicted`; or a CSV file
            with a column `target` and columns `logit_0`, `logit_1`, ..., or `prob_cat`, `prob_dog`, ..., or
            `predicted`. Labels are numbers from 0 or class names. If a file has both, logits take precedence over
            predicted labels.
        counts: Training (not test) images per class, in any form that `read_training_counts` takes. They take
            precedence over the counts in the file.

    Raises:
        InputError: If the file cannot be read or lacks something, naming the array, column or line, or if neither the
            file nor `counts` has the training images per class.

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
        raise InputError(f"there are no predictions at {path}; pass the folder of a run, an NPZ file or a CSV file")
    readers = {".npz": read_npz, ".csv": read_csv, ".tsv": read_csv, ".txt": read_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"cannot infer the format of {path} from its name; it must end in {', '.join(readers)}")
    given = None if counts is None else read_training_counts(counts)
    try:
        return _matched(readers[path.suffix.lower()](path), given)
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def _matched(raw: RawPredictions, given: NamedCounts | None) -> Predictions:
    """Match labels to classes and check everything."""
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
    """Return class names (None if there are none) and class counts, in the order of the labels."""
    if given is None:
        if raw.class_counts is None:
            raise InputError(f"the file has no training images per class; {HOW_TO_GIVE_COUNTS}")
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
        raise InputError(f"the training counts and the predictions have different class names:\n{first_ten(odd)}")
    by_name = dict(zip(names, counts.counts.tolist(), strict=True))
    return ClassCounts([by_name[name] for name in wanted])


def _labels(values: npt.NDArray[Any], names: tuple[str, ...] | None, place: Callable[[int], str]) -> Array:
    """Convert labels that are class names, or digits as text, to integers."""
    if values.dtype.kind != "U":
        return values
    texts = [text.strip() for text in values.ravel().tolist()]
    label_of = {name: label for label, name in enumerate(names or ())}
    if names is not None and len(label_of) < len(names):
        raise InputError("two classes have the same name, so labels must be numbers; rename one, or use numbers")
    if not all(text in label_of for text in texts) and all(map(is_whole_number, texts)):
        return torch.tensor([int(text) for text in texts], dtype=torch.int64)
    for index, text in enumerate(texts):
        if text in label_of:
            continue
        if names is None:
            raise InputError(
                f"{place(index)}: the label {text!r} is not an integer, and there are no class names; pass `counts` as "
                "a CSV file with the columns class,count"
            )
        raise InputError(f"{place(index)}: {unknown_name('class', text, names)}")
    return torch.tensor([label_of[text] for text in texts], dtype=torch.int64)


def read_result(path: Path) -> dict[str, Any]:
    """Read the `result.json` of a run.

    Args:
        path: Path of the file.

    Raises:
        InputError: If the file does not exist or cannot be read.

    Example:
        >>> read_result(Path("runs/none/result.json"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no result at runs/none/result.json; give the folder of a finished run
    """
    if not path.is_file():
        raise InputError(f"there is no result at {path}; give the folder of a finished run")
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; remove it and resume the run in {path.parent}") from error
    if not isinstance(result, dict):
        raise InputError(f"{path} must be a JSON object, got a {type(result).__name__}")
    return result


def group_options(groups: Any) -> dict[str, Any]:
    """Convert the section "class_groups" of a result to options of `evaluate_logits`.

    Args:
        groups: The section; None or empty gives no options.

    Raises:
        InputError: If a key is missing or a value is invalid.

    Example:
        >>> group_options({"kind": "fixed", "many": 100, "few": 20})
        {'many': 100, 'few': 20, 'groups': 'fixed'}
    """
    groups = groups or {}
    try:
        return {"many": int(groups["many"]), "few": int(groups["few"]), "groups": groups["kind"]} if groups else {}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'"class_groups" of a result must have kind, many and few, got {groups!r}') from error
