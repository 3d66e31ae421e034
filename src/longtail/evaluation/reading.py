"""Predictions as files hold them, ours and those of other tools: NPZ arrays, or a CSV table.

Nothing is ever unpickled. Labels stay as the file has them, numbers or names; `predictions.py` makes sense of them.

Shapes: N = examples, C = classes, D = embedding dimension.
"""

import csv
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.checks import example
from longtail.evaluation.training_counts import delimiter_of, positions

TARGETS = ("targets", "target", "labels", "label", "true", "y_true")
PREDICTED = ("predicted", "predictions", "prediction", "y_pred")
LOGITS = ("logits",)
PROBABILITIES = ("probabilities", "probs")

_NEEDED = (
    f"it needs the true labels ({', '.join(TARGETS)}) and beside them {{scores}}, or predicted labels "
    f"({', '.join(PREDICTED)})"
)
_BROKEN_NPZ = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
_UNIT_SUM_TOLERANCE = 1e-2  # of probabilities that a tool wrote with few digits


@dataclass(frozen=True, eq=False)
class RawPredictions:
    """What a file holds, before labels are matched to classes.

    Args:
        targets: shape (N,), numbers or text.
        predicted: shape (N,), likewise; not None where `logits` is None.
        logits: shape (N, C).
        class_counts: shape (C,).
        class_names: C names.
        paths: N image paths.
        embeddings: shape (N, D).
        place: names the example of an index in a message.
    """

    targets: npt.NDArray[Any]
    predicted: npt.NDArray[Any] | None = None
    logits: Tensor | None = None
    class_counts: npt.NDArray[Any] | None = None
    class_names: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    embeddings: npt.NDArray[Any] | None = None
    place: Callable[[int], str] = example


def read_npz(path: Path) -> RawPredictions:
    """Read an NPZ file: the arrays of `save_predictions`, or another tool's under the names above.

    Raises:
        InputError: for a file that is truncated, holds Python objects or lacks what is needed (naming what it has).
    """
    arrays = _arrays(path)
    needed = _NEEDED.format(scores="logits (N, C), probabilities (N, C)")
    targets = _pick(path, arrays, TARGETS, "true labels")
    logits, probabilities = (_pick(path, arrays, names, names[0]) for names in (LOGITS, PROBABILITIES))
    predicted = _pick(path, arrays, PREDICTED, "predicted labels")
    if targets is None or (logits is None and probabilities is None and predicted is None):
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; {needed}")
    names, paths = arrays.get("class_names"), arrays.get("paths")
    return RawPredictions(
        targets=targets,
        predicted=predicted,
        logits=_logits(logits, probabilities, example),
        class_counts=arrays.get("class_counts"),
        class_names=None if names is None else tuple(map(str, names.ravel())),
        paths=None if paths is None else tuple(map(str, paths.ravel())),
        embeddings=arrays.get("embeddings"),
    )


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{path} holds one bare array; put it into an NPZ file with numpy.savez(path, ...)")
            return {name: file[name] for name in file.files}
    except InputError:
        raise
    except _BROKEN_NPZ as error:
        advice = "it is truncated or no NPZ file; write it again with numpy.savez"
        if "allow_pickle" in str(error):
            advice = "Python objects are never loaded; write texts as numpy.array(names, dtype=str)"
        raise InputError(f"cannot read {path}: {error}; {advice}") from error


def read_csv(path: Path) -> RawPredictions:
    """Read a table with a header: a column of true labels, and logits, probabilities or predicted labels.

    Logits are columns `logit_0`, `logit_1`, ... or `logit_cat`, `logit_dog`, ...; probabilities likewise `prob_...`.
    Columns may be separated by comma, semicolon or tab; other columns are ignored, except `path`.

    Raises:
        InputError: naming the columns there are, or the line that cannot be read.
    """
    header, delimiter = _header(path)
    score_columns, kind = _score_columns(header)
    target = _pick(path, {name: name for name in header}, TARGETS, "true labels")
    predicted = _pick(path, {name: name for name in header}, PREDICTED, "predicted labels")
    if target is None or (not score_columns and predicted is None):
        needed = _NEEDED.format(scores="a column per class (logit_0, logit_1, ... or prob_0, ...)")
        raise InputError(f"{path} has the columns {', '.join(header)}; {needed}")
    texts = [name for name in (target, predicted, "path") if name in header]
    table = _table(path, header, delimiter, texts, score_columns)
    names, order = _class_order([column.partition("_")[2] for column in score_columns])
    values = [_column(table, score_columns[index]) for index in order]
    scores = np.stack(values, axis=1) if values else None
    is_logits = kind == "logit_"
    return RawPredictions(
        targets=_column(table, target),
        predicted=None if predicted is None else _column(table, predicted),
        logits=_logits(scores if is_logits else None, None if is_logits else scores, _line),
        class_names=names,
        paths=tuple(_column(table, "path")) if "path" in header else None,
        place=_line,
    )


def _line(index: int) -> str:
    return f"line {index + 2}"  # the header is line 1


def _header(path: Path) -> tuple[list[str], str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
        delimiter = delimiter_of(first)
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} as a table: {error}") from error
    if not header:
        raise InputError(f"{path} is empty; it must start with a line of column names")
    twice = [name for place, name in enumerate(header) if name in header[:place]]
    if twice:
        raise InputError(f"{path} has two columns called {twice[0]!r}; rename one")
    return header, delimiter


def _score_columns(header: Sequence[str]) -> tuple[list[str], str]:
    for prefix in ("logit_", "prob_"):
        columns = [name for name in header if name.startswith(prefix)]
        if columns:
            return columns, prefix
    return [], ""


def _class_order(classes: list[str]) -> tuple[tuple[str, ...] | None, list[int]]:
    """Names of the columns' classes (None where they are just the labels), and the order of columns by label."""
    labels = positions(classes)
    if labels is None:
        return tuple(classes), list(range(len(classes)))
    return None, sorted(range(len(labels)), key=labels.__getitem__)


def _table(path: Path, header: list[str], delimiter: str, texts: list[str], numbers: list[str]) -> Any:
    import pyarrow
    from pyarrow import csv as arrow_csv

    types = {**dict.fromkeys(numbers, pyarrow.float32()), **dict.fromkeys(texts, pyarrow.string())}
    try:
        return arrow_csv.read_csv(
            path,
            # one thread, for only then do the errors tell the row
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=header, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter),
            convert_options=arrow_csv.ConvertOptions(column_types=types, include_columns=[*texts, *numbers]),
        )
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as a table: {_in_words(str(error), header)}") from error


def _in_words(message: str, header: list[str]) -> str:
    """PyArrow's message with the column's name; its rows count from 1, the header among them, as lines do."""
    named = re.sub(r"In CSV column #(\d+)", lambda found: f"column {header[int(found[1])]!r}", message)
    return re.sub(r"Row #(\d+)", r"line \1", named)


def _column(table: Any, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table.column(name).to_numpy()
    return values if values.dtype == np.float32 else values.astype(np.str_)


def _pick(path: Path, found: Mapping[str, Any], names: Sequence[str], what: str) -> Any:
    """The one entry under any of the names; None where there is none."""
    present = [name for name in names if name in found]
    if len(present) > 1:
        raise InputError(f"{path} has {what} twice, as {' and '.join(present)}; keep one of them")
    return found[present[0]] if present else None


def _logits(
    logits: npt.NDArray[Any] | None, probabilities: npt.NDArray[Any] | None, place: Callable[[int], str]
) -> Tensor | None:
    if logits is not None:
        return _numeric(logits, "logits")
    if probabilities is None:
        return None
    values_NC = _numeric(probabilities, "probabilities")
    sums_N = values_NC.double().sum(1)
    bad_N = ~((sums_N - 1).abs() < _UNIT_SUM_TOLERANCE) | (values_NC < 0).any(1)
    if bad_N.any():
        index = int(bad_N.nonzero()[0])
        raise InputError(
            f"{place(index)}: probabilities must be >= 0 and sum to 1, but these sum to {float(sums_N[index]):g} "
            f"(lowest {float(values_NC[index].min()):g}); scores of another kind are logits: name them so"
        )
    # an underflown 0 must not become an infinite margin
    return values_NC.clamp(min=torch.finfo(torch.float32).tiny).log()


def _numeric(values: npt.NDArray[Any], what: str) -> Tensor:
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, not {values.dtype}")
    if values.ndim != 2:
        raise InputError(f"{what} must have shape (N, C), not {values.shape}")
    return torch.from_numpy(values.astype(np.float32))
