"""Files of predictions (NPZ or CSV) and of training images per class.

Nothing is unpickled. Labels stay as in the file, numbers or names; `longtail.evaluation.predictions` matches them to
classes.

Shapes: N = examples, C = classes, D = embedding dimension.
"""

import csv
import io
import json
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

from longtail._tables import (
    clean_labels,
    delimiter_of,
    is_whole_number,
    normalized,
    positions,
    read_table_text,
    whole_number,
)
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.evaluation.checks import example

TARGETS = ("targets", "target", "labels", "label", "true", "y_true")
PREDICTED = ("predicted", "predictions", "prediction", "y_pred")
LOGITS = ("logits",)
PROBABILITIES = ("probabilities", "probs")

HOW_TO_GIVE_COUNTS = (
    "pass `counts`: a CSV file with the columns class,count, a file with one count per line in label order, a JSON "
    "list, or a list"
)
_NEEDED = (
    f"it needs the true labels ({', '.join(TARGETS)}) and either {{scores}}, or predicted labels "
    f"({', '.join(PREDICTED)})"
)
_BROKEN_NPZ = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
_UNIT_SUM_TOLERANCE = 1e-2  # for probabilities written with few digits


@dataclass(frozen=True, eq=False)
class RawPredictions:
    """Content of a file of predictions, before labels are matched to classes.

    Args:
        targets: True labels, numbers or text, shape (N,).
        predicted: Predicted labels, numbers or text, shape (N,). Not None if `logits` is None.
        logits: Logits, shape (N, C).
        class_counts: Training images per class, shape (C,).
        class_names: C names.
        paths: N image paths.
        embeddings: Embeddings, shape (N, D).
        place: Function from the index of an example to its name in messages.
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
    """Read an NPZ file with the arrays of `save_predictions`, or those of another tool under the names above.

    Args:
        path: Path of the file.

    Raises:
        InputError: If the file is truncated, has Python objects or lacks an array, listing the arrays it has.
    """
    arrays = _arrays(path)
    needed = _NEEDED.format(scores="logits (N, C), probabilities (N, C)")
    targets = _pick(path, arrays, TARGETS, "true labels")
    logits, probabilities = (_pick(path, arrays, names, names[0]) for names in (LOGITS, PROBABILITIES))
    predicted = _pick(path, arrays, PREDICTED, "predicted labels")
    if targets is None or (logits is None and probabilities is None and predicted is None):
        raise InputError(f"{path} has the arrays {', '.join(arrays) or '(none)'}; {needed}")
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
                raise InputError(f"{path} is a single array; write an NPZ file with numpy.savez(path, ...)")
            arrays = {name: file[name] for name in file.files}
        odd = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
        if odd is not None:  # NumPy returns the bytes of a member that is no array
            raise InputError(f"{path} holds {odd!r}, which is not an array; write the file with numpy.savez")
        return arrays
    except InputError:
        raise
    except _BROKEN_NPZ as error:
        advice = "it is truncated or not an NPZ file; write it again with numpy.savez"
        if "allow_pickle" in str(error):
            advice = "Python objects are never loaded; write text as numpy.array(names, dtype=str)"
        raise InputError(f"cannot read {path}: {error}; {advice}") from error


def read_csv(path: Path) -> RawPredictions:
    """Read a table with a header, a column of true labels, and logits, probabilities or predicted labels.

    Logits are columns `logit_0`, `logit_1`, ... or `logit_cat`, `logit_dog`, ...; probabilities are columns `prob_...`.
    Columns are separated by comma, semicolon or tab. Other columns except `path` are ignored.

    Args:
        path: Path of the file.

    Raises:
        InputError: If a column is missing or a line cannot be read, naming the columns or the line.
    """
    content = read_table_text(path)
    header, delimiter = _header(path, content)
    score_columns, kind = _score_columns(header)
    target = _pick(path, {name: name for name in header}, TARGETS, "true labels")
    predicted = _pick(path, {name: name for name in header}, PREDICTED, "predicted labels")
    if target is None or (not score_columns and predicted is None):
        needed = _NEEDED.format(scores="a column per class (logit_0, logit_1, ... or prob_0, ...)")
        raise InputError(f"{path} has the columns {', '.join(header)}; {needed}")
    texts = [name for name in (target, predicted, "path") if name in header]
    table = _table(path, content, header, delimiter, texts, score_columns)
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


def _header(path: Path, content: str) -> tuple[list[str], str]:
    try:
        delimiter = delimiter_of(content.partition("\n")[0])
        header = [normalized(name) for name in next(csv.reader(io.StringIO(content), delimiter=delimiter), [])]
    except csv.Error as error:
        raise InputError(f"cannot read {path} as a table: {error}") from error
    if not header:
        raise InputError(f"{path} is empty; it must start with a line of column names")
    twice = [name for place, name in enumerate(header) if name in header[:place]]
    if twice:
        raise InputError(f"{path} has two columns named {twice[0]!r}; rename one")
    return header, delimiter


def _score_columns(header: Sequence[str]) -> tuple[list[str], str]:
    for prefix in ("logit_", "prob_"):
        columns = [name for name in header if name.startswith(prefix)]
        if columns:
            return columns, prefix
    return [], ""


def _class_order(classes: list[str]) -> tuple[tuple[str, ...] | None, list[int]]:
    """Return the class names of the columns (None if they are labels), and the order of the columns by label."""
    labels = positions(classes)
    if labels is None:
        return tuple(classes), list(range(len(classes)))
    return None, sorted(range(len(labels)), key=labels.__getitem__)


def _table(path: Path, content: str, header: list[str], delimiter: str, texts: list[str], numbers: list[str]) -> Any:
    import pyarrow
    from pyarrow import csv as arrow_csv

    types = {**dict.fromkeys(numbers, pyarrow.float32()), **dict.fromkeys(texts, pyarrow.string())}

    def read(decimal_point: str) -> Any:
        return arrow_csv.read_csv(
            io.BytesIO(content.encode()),
            # one thread, because errors name the row only then
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=header, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values='"' in content),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=[*texts, *numbers], decimal_point=decimal_point
            ),
        )

    try:
        return read(".")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if delimiter != "," and re.search(r"\d,\d", str(error)):
            try:
                return read(",")
            except (pyarrow.ArrowException, OSError, ValueError):
                pass  # the first error names the place
        raise InputError(f"cannot read {path} as a table: {_with_names(str(error), header)}") from error


def _with_names(message: str, header: list[str]) -> str:
    """Insert the column name into a message of PyArrow, whose rows count from 1 with the header, as lines do."""
    named = re.sub(r"In CSV column #(\d+)", lambda found: f"column {header[int(found[1])]!r}", message)
    return re.sub(r"Row #(\d+)", r"line \1", named)


def _column(table: Any, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table.column(name).to_numpy()
    return values if values.dtype == np.float32 else values.astype(np.str_)


def _pick(path: Path, found: Mapping[str, Any], names: Sequence[str], what: str) -> Any:
    """Return the only entry under any of the names; None if there is none."""
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
            f"{place(index)}: probabilities must be >= 0 and sum to 1, got the sum {float(sums_N[index]):g} and the "
            f"minimum {float(values_NC[index].min()):g}; name other scores logits"
        )
    # a probability that underflowed to 0 must not give an infinite margin
    return values_NC.clamp(min=torch.finfo(torch.float32).tiny).log()


def _numeric(values: npt.NDArray[Any], what: str) -> Tensor:
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, got {values.dtype}")
    if values.ndim != 2:
        raise InputError(f"{what} must have shape (N, C), got {values.shape}")
    return torch.from_numpy(values.astype(np.float32))


@dataclass(frozen=True)
class NamedCounts:
    """Training images per class, with class names if the source has them.

    Args:
        counts: C counts, in the order of the labels, or of the source if it has names.
        names: C names; None if the order determines the class.
    """

    counts: ClassCounts
    names: tuple[str, ...] | None = None


def read_training_counts(source: str | Path | Countable) -> NamedCounts:
    """Read the training images per class.

    Args:
        source: The counts, or the path of a file: two columns class,count (separated by comma, semicolon or tab, with
            or without a header), one column of counts in the order of the labels, or a JSON list (".json").

    Raises:
        InputError: If the file cannot be read, or a line is not a count, with its number.

    Example:
        >>> read_training_counts([500, 50, 5]).counts.imbalance_factor
        100.0
    """
    if not isinstance(source, str | Path):
        return NamedCounts(ClassCounts(source))
    path = Path(source).expanduser()
    try:
        text = read_table_text(path)
    except InputError as error:
        raise InputError(f"cannot read the class counts in {path}: {error}; {HOW_TO_GIVE_COUNTS}") from error
    return _counts_from_json(path, text) if path.suffix.lower() == ".json" else _counts_from_table(path, text)


def _counts_from_json(path: Path, text: str) -> NamedCounts:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}; it must be a list such as [500, 50, 5]") from error
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise InputError(f"{path} must be a JSON list of integers, such as [500, 50, 5]")
    return _named_counts(path, values, None)


def _counts_from_table(path: Path, text: str) -> NamedCounts:
    lines = text.splitlines()
    try:
        rows = list(csv.reader(lines, delimiter=delimiter_of(lines[0]))) if lines else []
    except csv.Error as error:
        raise InputError(f"cannot read {path} as a table: {error}") from error
    numbered = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, 1) if any(row)]
    if numbered and not is_whole_number(numbered[0][1][-1]):
        del numbered[0]  # a header
    widths = {len(row) for _, row in numbered}
    if not numbered or widths not in ({1}, {2}):
        raise InputError(f"{path} must have one column (count) or two (class,count) per line, got {sorted(widths)}")
    for number, row in numbered:
        if not is_whole_number(row[-1]):
            raise InputError(f"{path}, line {number}: a count of training images must be an integer, got {row[-1]!r}")
    counts = [whole_number(row[-1]) for _, row in numbered]
    names = clean_labels(row[0] for _, row in numbered) if widths == {2} else None
    missing = next((number for number, row in numbered if widths == {2} and not row[0]), None)
    if missing is not None:
        raise InputError(f"{path}, line {missing}: the name of the class is missing")
    return _named_counts(path, counts, names)


def _named_counts(path: Path, counts: list[int], names: list[str] | None) -> NamedCounts:
    if names is not None and len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"{path} has class {twice!r} twice; keep one line per class")
    if names is not None and positions(names) is not None:
        counts, names = [count for _, count in sorted(zip(map(whole_number, names), counts, strict=True))], None
    try:
        return NamedCounts(ClassCounts(counts), None if names is None else tuple(names))
    except (ValueError, RuntimeError) as error:  # torch raises RuntimeError for more than 64 bits
        raise InputError(f"{path}: {error}") from error
