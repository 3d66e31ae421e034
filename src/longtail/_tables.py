"""Text and labels of tables, read by one set of rules for training data, counts and predictions."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from longtail._numbers import parse_integer
from longtail.errors import InputError

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
     "-", "--", "?", "#REF!", "#VALUE!", "(null)", "N.A.", "NAN", "NaT", "Null")
)  # fmt: skip
"""Texts that other tools write for a missing value. "none" and "unknown" are class names."""
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
_BEFORE_HEADER = re.compile(r"\A(?:[ \t]*\n)*(?:\"?sep=.\"?[,;\t ]*\n)?(?:[ \t]*\n)*", re.IGNORECASE)
_WHOLE = re.compile(r"(-?[0-9]{1,18})([.,]0*)?", re.ASCII)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark. Line ends become a newline.

    Args:
        path: Path of the file.

    Raises:
        InputError: If the file cannot be read, or has another encoding such as Latin-1, naming the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r} as text: {error}") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"cannot read {str(path)!r} as text: line {line:,} is not {encoding.upper()} "
            f"(byte 0x{data[error.start]:02x}); the file may be in Latin-1 or Windows-1252; save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(
            f"cannot read {str(path)!r} as text: it has zero bytes, as UTF-16 without a byte order mark has; "
            "save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table_text(path: Path) -> str:
    """Return the text of a table as `read_text` does, without blank lines and a line `sep=;` before the header.

    Args:
        path: Path of the file.

    Raises:
        InputError: As `read_text`.
    """
    return _BEFORE_HEADER.sub("", read_text(path), count=1)


def normalized(text: str) -> str:
    r"""Return a name without surrounding spaces and in the Unicode form NFC.

    macOS and some archives write an accented letter as two characters (NFD). Names are compared in one form.

    Args:
        text: Name of a class or file.

    Example:
        >>> normalized(" Ba\u0308r ") == "B\u00e4r"
        True
    """
    return unicodedata.normalize("NFC", text.strip())


def delimiter_of(header: str, usual: str = ",") -> str:
    """Return the most frequent of comma, semicolon, tab and vertical bar in the first line of a table, outside quotes.

    Args:
        header: First line of the table.
        usual: Delimiter to return in a tie.

    Example:
        >>> delimiter_of("class;count"), delimiter_of('"a;b;c",count')
        (';', ',')
    """
    bare = re.sub(r'"[^"]*"', "", header)
    counts: dict[str, int] = {mark: bare.count(mark) for mark in (usual, *",;\t|")}
    return max(counts, key=counts.__getitem__)


def is_whole_number(text: str) -> bool:
    """Return whether a text is an integer >= 0 of at most 18 digits, perhaps with a fraction of zeros.

    Args:
        text: The text.

    Example:
        >>> [is_whole_number(text) for text in ("12", "1.0", "1,0", "1.5", "-1", "cat")]
        [True, True, True, False, False, False]
    """
    return _WHOLE.fullmatch(text) is not None and not text.startswith("-")


def whole_number(text: str) -> int:
    """Convert a text to an integer; a fraction of zeros is dropped, as spreadsheets and data frames write it.

    Args:
        text: The text.

    Raises:
        ValueError: If the text is not an integer.

    Example:
        >>> whole_number("1.0"), whole_number("-3")
        (1, -3)
    """
    found = _WHOLE.fullmatch(text)
    return int(found[1]) if found else parse_integer(text)


def positions(names: Sequence[Any]) -> list[int] | None:
    """Return the classes as labels if their names are the numbers 0 to C-1 in any order, otherwise None.

    Args:
        names: C names.

    Example:
        >>> positions(["2", "0", "1"]), positions(["1", "2", "3"])
        ([2, 0, 1], None)
    """
    if not all(is_whole_number(name) for name in names):
        return None
    labels = [whole_number(name) for name in names]
    return labels if sorted(labels) == list(range(len(labels))) else None


def clean_labels(labels: Iterable[str]) -> list[str]:
    """Normalize labels: NFC, and integers without a fraction if all of them are integers.

    Args:
        labels: Labels as in a file.

    Example:
        >>> clean_labels(["1.0", "2.0"]), clean_labels(["1.0", "1.5"]), clean_labels(["007", "cat"])
        (['1', '2'], ['1.0', '1.5'], ['007', 'cat'])
    """
    texts = [normalized(label) for label in labels]
    distinct = set(texts)
    if not any("." in text or "," in text for text in distinct) or not all(map(_WHOLE.fullmatch, distinct)):
        return texts
    return [re.split("[.,]", text)[0] for text in texts]
