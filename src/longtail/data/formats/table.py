"""Tables with one row per image: CSV, TSV or Parquet."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from longtail.data.decode import IMAGE_SUFFIXES
from longtail.data.formats.listing import SPLIT_NAMES, Listing, make_listing, numbered_labels, split_from_name
from longtail.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
COLUMNS = {
    "path": ("path", "file", "filename", "image", "image_path", "filepath"),
    "label": ("label", "class", "target", "category"),
    "split": ("split",),
}


def read_table(path: Path | str, root: Path | str | None = None) -> Listing:
    """List the images of a table.

    Args:
        path: Path of a .csv, .tsv or .parquet file with the named columns `path` (or file, filename, image, image_path,
            filepath), `label` (or class, target, category) and optionally `split` (train, val, test). Labels are class
            names, or integers from 0 (see `numbered_labels`). Semicolons may separate the columns of a .csv file.
        root: Folder to which the paths are relative. By default, the folder of the table.

    Raises:
        InputError: If the table cannot be read, a column is missing, an entry is empty, a split is unknown, or a check
            of `make_listing` fails.

    Example:
        >>> read_table("photos.xlsx")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: 'photos.xlsx' is not a supported table; save it as .csv, .tsv or .parquet
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"{str(path)!r} is not a supported table; save it as .csv, .tsv or .parquet")
    if not file.is_file():
        raise InputError(f"no table at {str(path)!r}; check the path")
    columns = _columns(file)
    if not columns["path"]:
        raise InputError(f"the table {str(path)!r} has no rows; give one row per image")
    class_names, labels = numbered_labels(str(path), columns["label"])
    home = Path(root).expanduser() if root is not None else file.parent
    return make_listing(str(path), home, "table", class_names, _parts(columns, labels, str(path)))


def _parts(columns: dict[str, list[str]], labels: list[int], name: str) -> dict[str, tuple[list[str], list[int]]]:
    if "split" not in columns:
        return {"train": (columns["path"], labels)}
    parts: dict[str, tuple[list[str], list[int]]] = {part: ([], []) for part in SPLIT_NAMES}
    try:
        part_of = {split: split_from_name(split) for split in set(columns["split"])}
    except InputError as error:
        raise InputError(f"column 'split' of {name!r}: {error}") from error
    for path, label, split in zip(columns["path"], labels, columns["split"], strict=True):
        paths, part_labels = parts[part_of[split]]
        paths.append(path)
        part_labels.append(label)
    return parts


def _columns(file: Path) -> dict[str, list[str]]:
    """Read the columns as text, under "path", "label" and "split"."""
    try:
        header = _header(file)
        names = _names_by_role(header, file)
        table = _read(file, list(names.values()))
        columns = {role: _text(table, name, file) for role, name in names.items()}
    except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the table {str(file)!r}: {error}") from error
    for role, entries in columns.items():
        if "" in entries:
            raise InputError(f"row {entries.index('') + 1:,} of {str(file)!r} has no {role}; fill it in or remove it")
    return columns


def _header(file: Path) -> list[str]:
    if file.suffix.lower() == ".parquet":
        return list(pa_parquet.read_schema(file).names)
    return _first_line(file, _delimiter(file))


def _delimiter(file: Path) -> str:
    """Return the delimiter that the suffix implies, or another one if the header would be a single column."""
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    header = _first_line(file, usual)
    # spreadsheets write semicolons in languages with a decimal comma
    others = [other for other in ";\t," if len(header) == 1 and other in header[0]]
    return others[0] if others else usual


def _first_line(file: Path, delimiter: str) -> list[str]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        return next(csv.reader(lines, delimiter=delimiter), [])


def _names_by_role(header: Sequence[str], file: Path) -> dict[str, str]:
    """Return the column name of each role ("path", "label", "split") that the header has."""
    if any(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in header):
        raise InputError(f"the first line of {str(file)!r} is an image, not a header; name the columns: path,label")
    spelled = {cell.strip().lower(): cell for cell in reversed(header)}
    found = {role: [spelled[alias] for alias in aliases if alias in spelled] for role, aliases in COLUMNS.items()}
    for role in ("path", "label"):
        if not found[role]:
            raise InputError(
                f"{str(file)!r} has no column {role!r} (or {', '.join(COLUMNS[role][1:])}); its columns are: "
                f"{', '.join(header) or 'none, the file is empty'}"
            )
    chosen = {role: names[0] for role, names in found.items() if names}
    for name in chosen.values():
        if header.count(name) > 1:
            raise InputError(f"{str(file)!r} has more than one column {name!r}; rename all but one")
    return chosen


def _read(file: Path, names: list[str]) -> pa.Table:
    if file.suffix.lower() == ".parquet":
        return pa_parquet.read_table(file, columns=names)
    return pa_csv.read_csv(
        file,
        parse_options=pa_csv.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True),
        # as text, so that 007 does not become 7
        convert_options=pa_csv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, pa.string())),
    )


def _text(table: pa.Table, name: str, file: Path) -> list[str]:
    column = table[name]
    try:
        entries = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"column {name!r} of {str(file)!r} holds {column.type}, not text or numbers; write the images as files and "
            "give their paths"
        ) from error
    return [(entry or "").strip() for entry in entries]
