"""How many training images each class had, from a list or a small file: what predictions of other tools rarely bring.

Shapes: C = classes.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError

HOW_TO_GIVE_COUNTS = (
    "give the training images per class (--counts): a CSV file with the columns class,count, a file with one count "
    "a line in the order of the labels, a JSON list, or in Python a list"
)


@dataclass(frozen=True)
class NamedCounts:
    """Training images per class, and the names of the classes where the source has them.

    Args:
        counts: C counts, in the order of the labels, or of the source where that has names.
        names: C names; None where the order says which class it is.
    """

    counts: ClassCounts
    names: tuple[str, ...] | None = None


def read_training_counts(source: str | Path | Countable) -> NamedCounts:
    """Read counts from wherever the user has them.

    Args:
        source: the counts themselves; or a file: two columns "class,count" (comma, semicolon or tab; with or without
            a header), one column of counts in the order of the labels, or a JSON list (".json").

    Raises:
        InputError: for a file that cannot be read, or a line that is no count, with its number.

    Example:
        >>> read_training_counts([500, 50, 5]).counts.imbalance_factor
        100.0
    """
    if not isinstance(source, str | Path):
        return NamedCounts(ClassCounts(source))
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the class counts in {path}: {error}; {HOW_TO_GIVE_COUNTS}") from error
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_table(path, text)


def delimiter_of(header: str) -> str:
    """What separates the columns of a table: the commonest of comma, semicolon and tab in its first line.

    Example:
        >>> delimiter_of("class;count")
        ';'
    """
    return max(",;\t", key=header.count)


def _from_json(path: Path, text: str) -> NamedCounts:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}; it must hold a list such as [500, 50, 5]") from error
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise InputError(f"{path} must hold a JSON list of whole numbers, such as [500, 50, 5]")
    return _checked(path, values, None)


def _from_table(path: Path, text: str) -> NamedCounts:
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
        raise InputError(
            f"{path} must have one column (count) or two (class,count) on every line, not {sorted(widths)}"
        )
    for number, row in numbered:
        if not is_whole_number(row[-1]):
            raise InputError(f"{path}, line {number}: {row[-1]!r} is no whole number of training images")
    counts = [int(row[-1]) for _, row in numbered]
    return _checked(path, counts, [row[0] for _, row in numbered] if widths == {2} else None)


def is_whole_number(text: str) -> bool:
    """Whether a text is a number of only digits that fits 64 bits: a count, or a label.

    Example:
        >>> is_whole_number("12"), is_whole_number("1.5"), is_whole_number("cat")
        (True, False, False)
    """
    return text.isascii() and text.isdigit() and len(text) <= 18


def _checked(path: Path, counts: list[int], names: list[str] | None) -> NamedCounts:
    if names is not None and len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"{path} gives class {twice!r} twice; give each class one line")
    if names is not None and positions(names) is not None:
        counts, names = [count for _, count in sorted(zip(map(int, names), counts, strict=True))], None
    try:
        return NamedCounts(ClassCounts(counts), None if names is None else tuple(names))
    except (ValueError, RuntimeError) as error:  # torch refuses what does not fit 64 bits
        raise InputError(f"{path}: {error}") from error


def positions(names: Sequence[Any]) -> list[int] | None:
    """Where each class stands if its name is its label: the numbers 0 to C-1 in any order, else None.

    Example:
        >>> positions(["2", "0", "1"]), positions(["1", "2", "3"])
        ([2, 0, 1], None)
    """
    if not all(is_whole_number(name) for name in names) or sorted(map(int, names)) != list(range(len(names))):
        return None
    return [int(name) for name in names]
