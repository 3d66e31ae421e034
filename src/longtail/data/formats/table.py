"""Tables with one row per image: CSV, TSV or Parquet."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from longtail._tables import MISSING, delimiter_of, normalized, read_text
from longtail.data.decode import IMAGE_SUFFIXES
from longtail.data.formats.listing import (
    SPLIT_NAMES,
    Listing,
    label_notes,
    make_listing,
    numbered_labels,
    split_files,
    split_from_name,
)
from longtail.data.scan import EVERYTHING, Selection
from longtail.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
COLUMNS = {
    "path": ("path", "file", "filename", "image", "image_path", "filepath"),
    "label": ("label", "class", "target", "category"),
    "split": ("split",),
}


def read_table(
    path: Path | str,
    root: Path | str | None = None,
    selection: Selection = EVERYTHING,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
) -> Listing:
    """List the images of a table.

    If the table has no column `split` and its name contains "train", as in `train.csv`, the tables next to it whose
    names have "val" or "test" instead are the other splits.

    Args:
        path: Path of a .csv, .tsv or .parquet file with the named columns `path` (or file, filename, image, image_path,
            filepath), `label` (or class, target, category) and optionally `split` (train, val, test). Labels are class
            names, or integers (see `numbered_labels`). Semicolons may separate the columns of a .csv file.
        root: Folder to which the paths are relative. By default, the folder of the table.
        selection: Choice of files.
        path_column: Column of the paths, if it has another name.
        label_column: Column of the labels, if it has another name.

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
    wanted = {"path": path_column, "label": label_column}
    columns = _columns(file, wanted)
    notes: list[str] = []
    if "split" not in columns:
        columns, notes = _with_siblings(columns, file, wanted)
    kept = [row for row, name in enumerate(columns["path"]) if selection.takes(name)]
    if len(kept) < len(columns["path"]):
        notes.append(f"{len(columns['path']) - len(kept):,} images were left out by `include` and `exclude`.")
        columns = {role: [entries[row] for row in kept] for role, entries in columns.items()}
    if not columns["path"]:
        raise InputError(f"the table {str(path)!r} has no rows; give one row per image")
    class_names, labels = numbered_labels(str(path), columns["label"])
    home = Path(root).expanduser() if root is not None else file.parent
    parts = _parts(columns, labels, str(path))
    notes += label_notes(class_names)
    return make_listing(str(path), home, "table", class_names, parts, notes, follow_links=selection.follow_links)


def _with_siblings(
    columns: dict[str, list[str]], file: Path, wanted: Mapping[str, str | None]
) -> tuple[dict[str, list[str]], list[str]]:
    """Append the rows of the validation and test tables next to a training table. Return notes on them too."""
    notes = []
    found = {"train": columns}
    for part, sibling in split_files(file).items():
        try:
            found[part] = _columns(sibling, wanted)
        except InputError as error:
            notes.append(f"{sibling.name} next to {file.name} is not used as the {part} split: {error}.")
        else:
            notes.append(f"{sibling.name} next to {file.name} is used as the {part} split.")
    if len(found) == 1:
        return columns, notes
    joined = {role: [entry for rows in found.values() for entry in rows[role]] for role in ("path", "label")}
    joined["split"] = [part for part, rows in found.items() for _ in rows["path"]]
    return joined, notes


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


def _columns(file: Path, wanted: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Read the columns as text, under "path", "label" and "split"."""
    try:
        content = b"" if file.suffix.lower() == ".parquet" else read_text(file).encode()
        header, delimiter = _header(file, content)
        names = _names_by_role(header, file, wanted)
        table = _read(file, content, delimiter, list(names.values()))
        columns = {role: _text(table, name, file) for role, name in names.items()}
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise InputError(f"cannot read the table {str(file)!r}: {error}") from error
    for role, entries in columns.items():
        empty = next((row for row, entry in enumerate(entries, 1) if entry in MISSING), None)
        if empty is not None and (role != "label" or entries[empty - 1] == ""):
            raise InputError(f"row {empty:,} of {str(file)!r} has no {role}; fill it in or remove it")
    return columns


def _header(file: Path, content: bytes) -> tuple[list[str], str]:
    """Return the column names, and the delimiter of a text file."""
    if file.suffix.lower() == ".parquet":
        return list(pa_parquet.read_schema(file).names), ""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    # spreadsheets write semicolons in languages with a decimal comma
    delimiter = delimiter_of(text.readline(), "\t" if file.suffix.lower() == ".tsv" else ",")
    text.seek(0)
    return next(csv.reader(text, delimiter=delimiter), []), delimiter


def _names_by_role(header: Sequence[str], file: Path, wanted: Mapping[str, str | None]) -> dict[str, str]:
    """Return the column name of each role ("path", "label", "split") that the header has."""
    if any(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in header):
        raise InputError(f"the first line of {str(file)!r} is an image, not a header; name the columns: path,label")
    spelled = {normalized(cell).lower(): cell for cell in reversed(header)}
    chosen = {}
    for role, usual in COLUMNS.items():
        asked = wanted.get(role)
        aliases = usual if asked is None else (normalized(asked).lower(),)
        names = [spelled[alias] for alias in aliases if alias in spelled]
        if names:
            chosen[role] = names[0]
        elif asked is not None or role != "split":
            known = f"{role!r} (or {', '.join(usual[1:])})" if asked is None else repr(asked)
            remedy = f"; name it in `{role}_column`" if asked is None and header else ""
            raise InputError(
                f"{str(file)!r} has no column {known}; its columns are: "
                f"{', '.join(header) or 'none, the file is empty'}{remedy}"
            )
    for name in chosen.values():
        if header.count(name) > 1:
            raise InputError(f"{str(file)!r} has more than one column {name!r}; rename all but one")
    return chosen


def _read(file: Path, content: bytes, delimiter: str, names: list[str]) -> pa.Table:
    if file.suffix.lower() == ".parquet":
        return pa_parquet.read_table(file, columns=names)
    return pa_csv.read_csv(
        io.BytesIO(content),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
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
