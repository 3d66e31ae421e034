"""Tables with one row per image: CSV, TSV or Parquet."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from longtail._tables import MISSING, delimiter_of, normalized, read_table_text, whole_number
from longtail.data.dataset import Omission
from longtail.data.decode import IMAGE_SUFFIXES
from longtail.data.formats.listing import (
    GROUP_RULES,
    SPLIT_NAMES,
    Listing,
    label_notes,
    make_listing,
    numbered_labels,
    split_files,
    split_from_name,
    split_of_file,
    unused_test_file_notes,
)
from longtail.data.packed import image_columns, packed_paths, tables_in
from longtail.data.scan import EVERYTHING, Selection
from longtail.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
COLUMNS = {
    "path": ("path", "file", "filename", "image", "image_path", "filepath"),
    "label": ("label", "class", "target", "category"),
    "split": ("split",),
    "group": tuple(
        f"{name}{end}"
        for name in ("group", "patient", "subject", "track", "burst", "sequence", "video", "lesion")
        for end in ("", "_id", "id")
    ),
}


def read_table(
    path: Path | str,
    root: Path | str | None = None,
    selection: Selection = EVERYTHING,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    group: str = "none",
) -> Listing:
    """List the images of a table.

    If the table has no column `split` and its name contains "train", as in `train.csv`, the tables next to it whose
    names have "val" or "test" instead are the other splits.

    Args:
        path: Path of a .csv, .tsv or .parquet file with the named columns `path` (or file, filename, image, image_path,
            filepath), `label` (or class, target, category) and optionally `split` (train, val, test). Labels are class
            names, or integers (see `numbered_labels`). Semicolons may separate the columns of a .csv file. A Parquet
            file may hold the bytes of the images instead of paths, in a column of a binary type or of mappings with
            the field `bytes`; and the names of integer labels, as Hugging Face data sets write them.
        root: Folder to which the paths are relative. By default, the folder of the table.
        selection: Choice of files.
        path_column: Column of the paths or images, if it has another name.
        label_column: Column of the labels, if it has another name.
        group: Column of the groups of images, or a rule of `longtail.data.groups`. "auto" takes a column with a usual
            name: group, patient, subject, track, burst, sequence, video or lesion, also with "_id" or "Id".

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
    wanted = {"path": path_column, "label": label_column, "group": group}
    rows = _read_rows(file, wanted)
    notes: list[str] = []
    if "split" not in rows.columns:
        rows, notes = _with_siblings(rows, file, wanted, selection)
    return _listing(str(path), file.parent, root, rows, notes, selection)


def read_tables(
    path: Path | str,
    root: Path | str | None = None,
    selection: Selection = EVERYTHING,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    group: str = "none",
) -> Listing:
    """List the images of a folder of Parquet tables, such as a data set of Hugging Face in several files.

    A table is part of the split that its name has as a word ("train-00000-of-00002.parquet"), or of the training split.

    Args:
        path: Folder of the tables.
        root: Folder to which paths in the tables are relative. By default, the folder of the tables.
        selection: Choice of files.
        path_column: Column of the paths or images, if it has another name.
        label_column: Column of the labels, if it has another name.
        group: Column of the groups of images, or a rule of `longtail.data.groups`. "auto" takes a column with a usual
            name: group, patient, subject, track, burst, sequence, video or lesion, also with "_id" or "Id".

    Raises:
        InputError: As `read_table`.
    """
    wanted = {"path": path_column, "label": label_column, "group": group}
    files = tables_in(Path(path).expanduser())
    by_part: dict[str, list[Path]] = {}
    for file in files:
        by_part.setdefault(split_of_file(file), []).append(file)
    found = {
        part: _joined([_read_rows(file, wanted) for file in tables], None)
        for part, tables in by_part.items()
        if part == "train" or part in selection.splits
    }
    rows = _joined(list(found.values()), list(found))
    return _listing(str(path), files[0].parent, root, rows, [], selection)


def _listing(
    name: str, folder: Path, root: Path | str | None, rows: "_Rows", notes: list[str], selection: Selection
) -> Listing:
    columns = rows.columns
    kept = [row for row, path in enumerate(columns["path"]) if selection.takes(path)]
    left_out = len(columns["path"]) - len(kept)
    if left_out:
        notes.append(f"{left_out:,} images were left out by `include` and `exclude`.")
        columns = {role: [entries[row] for row in kept] for role, entries in columns.items()}
    if not columns["path"]:
        raise InputError(f"the table {name!r} has no rows; give one row per image")
    if rows.class_names is None:
        class_names, labels = numbered_labels(name, columns["label"])
        notes += label_notes(class_names)
    else:
        class_names, labels = rows.class_names, _positions(name, columns["label"])
    splits = _splits(columns, name)
    parts = _parts(columns["path"], labels, splits)
    if selection.splits == ("val",) and parts.pop("test", ([], []))[0]:
        notes.append(f"The test split of {name} itself is not used.")
    home = folder if rows.holds_images or root is None else Path(root).expanduser()
    return make_listing(
        name,
        home,
        "table",
        class_names,
        parts,
        notes,
        selection=selection,
        are_files=not rows.holds_images,
        groups=_groups(columns, splits),
        passed_over=[Omission("`include` and `exclude`", left_out)] if left_out else [],
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one or more tables.

    Args:
        columns: Text of each row, under "path", "label" and perhaps "split".
        class_names: Names of the integer labels that a Parquet file states. None otherwise.
        holds_images: Whether the paths are rows of a table with the bytes of the images.
    """

    columns: dict[str, list[str]]
    class_names: tuple[str, ...] | None = None
    holds_images: bool = False


def _joined(tables: Sequence[_Rows], parts: Sequence[str] | None) -> _Rows:
    """Return the rows of several tables, with the split of each table as a column."""
    first = tables[0]
    if any((each.class_names, each.holds_images) != (first.class_names, first.holds_images) for each in tables):
        raise InputError("the tables differ in the names of their classes, or only some hold images; use one form")
    columns = {role: [entry for each in tables for entry in each.columns[role]] for role in ("path", "label")}
    if any("group" in each.columns for each in tables):
        none = [[""] * len(each.columns["path"]) for each in tables]
        given = [each.columns.get("group", own) for each, own in zip(tables, none, strict=True)]
        columns["group"] = [entry for each in given for entry in each]
    if parts is not None:
        columns["split"] = [part for part, each in zip(parts, tables, strict=True) for _ in each.columns["path"]]
    return replace(first, columns=columns)


def _with_siblings(
    rows: _Rows, file: Path, wanted: Mapping[str, str | None], selection: Selection
) -> tuple[_Rows, list[str]]:
    """Append the rows of the validation and test tables next to a training table. Return notes on them too."""
    notes = []
    parts, tables = ["train"], [rows]
    for part, sibling in split_files(file, selection.splits).items():
        try:
            other = _read_rows(sibling, wanted)
            _joined([rows, other], None)
        except InputError as error:
            notes.append(f"{sibling.name} next to {file.name} is not used as the {part} split: {error}.")
        else:
            parts, tables = [*parts, part], [*tables, other]
            notes.append(f"{sibling.name} next to {file.name} is used as the {part} split.")
    if "test" in selection.splits and "test" not in parts:
        notes += unused_test_file_notes(file)
    return (_joined(tables, parts) if len(tables) > 1 else rows), notes


def _positions(name: str, labels: Sequence[str]) -> list[int]:
    try:
        return [whole_number(label) for label in labels]
    except ValueError as error:
        raise InputError(f"{name!r} names its integer labels, but holds others: {error}; use integers") from error


def _splits(columns: dict[str, list[str]], name: str) -> list[str]:
    """Return the split of each row."""
    if "split" not in columns:
        return ["train"] * len(columns["path"])
    try:
        part_of = {split: split_from_name(split) for split in set(columns["split"])}
    except InputError as error:
        raise InputError(f"column 'split' of {name!r}: {error}") from error
    return [part_of[split] for split in columns["split"]]


def _parts(
    paths: Sequence[str], labels: Sequence[int], splits: Sequence[str]
) -> dict[str, tuple[list[str], list[int]]]:
    parts: dict[str, tuple[list[str], list[int]]] = {part: ([], []) for part in SPLIT_NAMES}
    for path, label, split in zip(paths, labels, splits, strict=True):
        part_paths, part_labels = parts[split]
        part_paths.append(path)
        part_labels.append(label)
    return parts


def _groups(columns: dict[str, list[str]], splits: Sequence[str]) -> dict[str, list[str]] | None:
    """Return the group of each image of each split; None without a column of groups."""
    if "group" not in columns:
        return None
    groups: dict[str, list[str]] = {part: [] for part in SPLIT_NAMES}
    for group, split in zip(columns["group"], splits, strict=True):
        groups[split].append("" if group in MISSING else group)
    return groups


def _read_rows(file: Path, wanted: Mapping[str, str | None]) -> _Rows:
    """Read the columns as text, under "path", "label", "split" and "group"."""
    class_names, images = None, None
    try:
        if file.suffix.lower() == ".parquet":
            content, schema = b"", pa_parquet.read_schema(file)
            header, delimiter = list(schema.names), ""
            images = _image_column(schema, wanted)
            if images is not None:
                wanted = {**wanted, "path": images}
        else:
            content, schema = read_table_text(file).encode(), None
            header, delimiter = _header(file, content)
        names = _names_by_role(header, file, wanted)
        if schema is not None:
            class_names = _stated_class_names(schema, names["label"])
        if images is not None:
            del names["path"]
        table = _read(file, content, delimiter, list(names.values()))
        columns = {role: _text(table, name, file) for role, name in names.items()}
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise InputError(f"cannot read the table {str(file)!r}: {error}") from error
    if images is not None:
        columns = {"path": [str(path) for path in packed_paths(file.absolute(), images)], **columns}
    for role, entries in columns.items():
        empty = next((row for row, entry in enumerate(entries, 1) if entry in MISSING), None)
        if empty is not None and role != "group" and (role != "label" or entries[empty - 1] == ""):
            raise InputError(f"row {empty:,} of {str(file)!r} has no {role}; fill it in or remove it")
    return _Rows(columns, class_names, images is not None)


def _image_column(schema: pa.Schema, wanted: Mapping[str, str | None]) -> str | None:
    """Return the column that holds the bytes of images, or None if the table has paths."""
    found = image_columns(schema)
    if wanted["path"] is None:
        return next(iter(found), None)
    asked = normalized(wanted["path"]).lower()
    return next((name for name in found if normalized(name).lower() == asked), None)


def _stated_class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the names of integer labels, which Hugging Face data sets write into the metadata of the schema."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = tuple(normalized(str(name)) for name in about["names"])
    except (KeyError, TypeError, ValueError):
        return None
    is_stated = pa.types.is_integer(schema.field(column).type) and len(set(names)) == len(names) > 0
    return names if is_stated else None


def _header(file: Path, content: bytes) -> tuple[list[str], str]:
    """Return the column names and the delimiter of a text file."""
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
        if role == "group" and asked in GROUP_RULES:
            if asked != "auto":
                continue
            asked = None
        aliases = usual if asked is None else (normalized(asked).lower(),)
        names = [spelled[alias] for alias in aliases if alias in spelled]
        if names:
            chosen[role] = names[0]
        elif asked is not None or role not in ("split", "group"):
            known = f"{role!r} (or {', '.join(usual[1:])})" if asked is None else repr(asked)
            option = "group" if role == "group" else f"{role}_column"
            remedy = f"; name it in `{option}`" if asked is None and header else ""
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
