"""Predictions for a test set, written by every run and read from any tool, and the result file of a run.

Shapes: N = examples, C = classes, D = embedding dimension.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longtail._io import atomic_write
from longtail._tables import MISSING, clean_labels, is_whole_number, normalized, positions, whole_number
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, first_ten, naming, unknown_name
from longtail.evaluation.checks import Array, as_tensor, check_lengths, checked_labels, checked_logits
from longtail.evaluation.metrics import Groups
from longtail.evaluation.reading import (
    HOW_TO_GIVE_COUNTS,
    NamedCounts,
    RawPredictions,
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
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / "predictions.npz"
    if not path.is_file():
        raise InputError(f"there are no predictions at {path}; pass the folder of a run, an NPZ file or a CSV file")
    readers = {".npz": read_npz, ".csv": read_csv, ".tsv": read_csv, ".txt": read_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"cannot infer the format of {path} from its name; it must end in {', '.join(readers)}")
    given = None if counts is None else read_training_counts(counts)
    with naming(path):
        return _matched(readers[path.suffix.lower()](path), given)


def _matched(raw: RawPredictions, given: NamedCounts | None) -> Predictions:
    """Match labels to classes and check everything."""
    names, class_counts = _classes(raw, given)
    num_classes = len(class_counts)
    if not class_counts.counts.any():
        raise InputError(f"the training images per class are all 0; {HOW_TO_GIVE_COUNTS}")
    place = raw.place
    # the names of a file go with its own numbers; those of `counts` may be another code
    counts_named = given is not None and given.names is not None and raw.class_names is None
    targets, labels = _labels(raw, names, counts_named)
    targets_N = checked_labels(targets, num_classes, "targets", place)
    logits, predicted = raw.logits, None
    if logits is not None:
        logits = checked_logits(logits, len(targets_N), num_classes, place)
    elif labels is not None:
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
    names, wanted = tuple(clean_labels(names)), tuple(clean_labels(wanted))
    odd = sorted(set(names) ^ set(wanted))
    if odd:
        raise InputError(f"the training counts and the predictions have different class names:\n{first_ten(odd)}")
    by_name = dict(zip(names, counts.counts.tolist(), strict=True))
    return ClassCounts([by_name[name] for name in wanted])


def _labels(
    raw: RawPredictions, names: tuple[str, ...] | None, counts_named: bool
) -> tuple[npt.NDArray[Any] | Tensor, npt.NDArray[Any] | Tensor | None]:
    """Convert true and predicted labels to integers, both by one code: names of classes, or numbers from 0."""
    columns = [_plain(values) for values in (raw.targets, raw.predicted) if values is not None]
    label_of = {normalized(name): label for label, name in enumerate(names or ())}
    if names is not None and len(label_of) < len(names) and any(values.dtype.kind == "U" for values in columns):
        raise InputError("two classes have the same name, so labels must be numbers; rename one, or use numbers")
    # identifiers such as 1, 2, 3 are names, which positions from 0 must not be mixed with
    are_identifiers = any(map(is_whole_number, label_of)) and positions(list(label_of)) is None
    if are_identifiers and counts_named:
        columns = [_identifiers(values, label_of) for values in columns]
        if raw.logits is not None and raw.class_names is None:
            raise InputError(
                f"the scores are in the order of positions 0 to {len(label_of) - 1}, but the classes of the counts are "
                f"numbers such as {next(iter(label_of))!r}; name the columns of the scores by class, or give the "
                "counts in the order of the columns without names"
            )
    texts = [[normalized(text) for text in values.ravel().tolist()] for values in columns if values.dtype.kind == "U"]
    known = [all(_is_known(text, label_of) for text in column) for column in texts]
    if not are_identifiers and not all(known) and all(is_whole_number(text) for column in texts for text in column):
        label_of = {}  # positions
    converted = [
        _converted(values, label_of, names, raw.place) if values.dtype.kind == "U" else values for values in columns
    ]
    return converted[0], converted[1] if len(converted) > 1 else None


def _plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return bytes as text, and integers stored as floating-point numbers as integers."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "f" and values.size and np.isfinite(values).all() and (values == np.floor(values)).all():
        return values.astype(np.int64)
    return values


def _identifiers(values: npt.NDArray[Any], label_of: Mapping[str, int]) -> npt.NDArray[Any]:
    """Return numbers as text if they can only be identifiers of classes. Raise an error if they can be both."""
    if values.dtype.kind not in "iu" or not values.size:
        return values
    are_names = all(str(value) in label_of for value in np.unique(values).tolist())
    if are_names and values.min() >= 0 and values.max() < len(label_of):
        raise InputError(
            "the labels are numbers that may be class names or positions from 0; store the names in the array "
            "class_names for positions, or write the labels as text for names"
        )
    return values.astype(np.str_) if are_names else values


def _is_known(text: str, label_of: Mapping[str, int]) -> bool:
    return text in label_of or (is_whole_number(text) and str(whole_number(text)) in label_of)


def _converted(
    values: npt.NDArray[Any], label_of: Mapping[str, int], names: tuple[str, ...] | None, place: Callable[[int], str]
) -> Tensor:
    """Convert texts to labels; to the numbers that they are if there is no name."""
    labels = []
    for index, given in enumerate(values.ravel().tolist()):
        text = normalized(given)
        if text in label_of:
            labels.append(label_of[text])
        elif _is_known(text, label_of):
            labels.append(label_of[str(whole_number(text))])
        elif not label_of and is_whole_number(text):
            labels.append(whole_number(text))
        elif text in MISSING:
            raise InputError(f"{place(index)}: the label {text!r} means a missing value; fill it in or remove the line")
        elif names is None:
            raise InputError(
                f"{place(index)}: the label {text!r} is not an integer, and there are no class names; pass `counts` as "
                "a CSV file with the columns class,count"
            )
        else:
            raise InputError(f"{place(index)}: {unknown_name('class', text, names)}")
    return torch.tensor(labels, dtype=torch.int64)


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
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}; remove it and resume the run in {path.parent}") from error
    if not isinstance(result, dict):
        raise InputError(f"{path} must be a JSON object, got a {type(result).__name__}")
    return result


def merged_groups(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `evaluate_logits` for the groups of classes, given ones over those of a run.

    Args:
        own: Options of the run; empty for predictions of other tools.
        given: Options that the user gave.

    Raises:
        InputError: If a limit is given for groups that are thirds of the classes.

    Example:
        >>> merged_groups({"many": 100, "few": 20, "groups": "fixed"}, {"many": 50})
        {'many': 50, 'few': 20, 'groups': 'fixed'}
    """
    options = {**own, **given}
    for name in ("many", "few"):
        if name in given and options.get("groups") == "quantile":
            raise InputError(
                f"`{name}` {given[name]} has no effect, because `groups` is quantile, thirds of the classes; leave it "
                "out, or set `groups` to fixed"
            )
    return options


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
        if groups and groups["kind"] not in ("fixed", "quantile"):
            raise ValueError(groups["kind"])
        return {"many": int(groups["many"]), "few": int(groups["few"]), "groups": groups["kind"]} if groups else {}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f'"class_groups" of a result must have kind (fixed or quantile), many and few, got {groups!r}'
        ) from error
