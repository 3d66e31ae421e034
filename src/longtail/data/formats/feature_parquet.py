"""Features in a Parquet table: a row per image, its embedding a list; read into memory, not mapped.

Shapes: N = rows, B = rows of a block, D = embedding dimension, C = classes.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from longtail._io import atomic_write
from longtail.data.formats.feature_npz import Array, Block
from longtail.errors import InputError

KEY = b"longtail"
"""Of what is known about all rows, as JSON, among the metadata of the table."""


def write_parquet(
    path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any], blocks: Iterable[Block], dtype: str
) -> None:
    """Write features block by block, whole or not at all; each block becomes a row group.

    Args:
        path: of the file; one that is there is replaced.
        columns: what is known of every row beforehand, by name, each of N entries; at least one.
        facts: about all rows, kept as JSON in the metadata of the table.
        blocks: embeddings and logits of N rows in all; all with logits, or none.
        dtype: of both, "float32" or "float16".
    """
    tables = _tables(columns, blocks, np.dtype(dtype))
    first = next(tables)
    schema = first.schema.with_metadata({KEY: json.dumps(facts).encode()})
    with atomic_write(path) as file, pa_parquet.ParquetWriter(file, schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _tables(columns: Mapping[str, Array], blocks: Iterable[Block], dtype: np.dtype[Any]) -> Iterator[Any]:
    start = 0
    for embeddings_BD, logits_BC in blocks:
        end = start + len(embeddings_BD)
        arrays = {name: pa.array(column[start:end]) for name, column in columns.items()}
        arrays["embeddings"] = _lists(embeddings_BD, dtype)
        if logits_BC is not None:
            arrays["logits"] = _lists(logits_BC, dtype)
        yield pa.table(arrays)
        start = end
    assert all(len(column) == start for column in columns.values()), f"{start} rows came, others were announced"


def _lists(values_BK: Array, dtype: np.dtype[Any]) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(values_BK.astype(dtype).ravel()), values_BK.shape[1])


def column_names(path: Path) -> list[str]:
    """Names of the columns of a Parquet table; none where it can not be read."""
    try:
        names: list[str] = pa_parquet.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError):
        return []
    return names


def read_parquet(path: Path, wanted: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """The wanted columns of a Parquet table, lists as arrays (N, D), with what its metadata know about all rows.

    Args:
        path: of the file.
        wanted: names of columns; those that there are not are left out.

    Returns:
        The arrays, and the names of all columns that the file holds.

    Raises:
        InputError: if it can not be read, a cell is empty, or the lists of a column differ in length.
    """
    try:
        with pa_parquet.ParquetFile(path) as file:
            names: list[str] = file.schema_arrow.names
            facts = json.loads((file.schema_arrow.metadata or {}).get(KEY, b"{}"))
            arrays = {name: _column(file, name) for name in names if name in wanted}
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return {**{key: np.array(_plain(fact)) for key, fact in facts.items()}, **arrays}, names


def _plain(fact: Any) -> Any:
    return json.dumps(fact) if isinstance(fact, Mapping) else fact


def _column(file: Any, name: str) -> Array:
    """A column as one array, filled batch by batch, so that it is held once."""
    num_rows, whole, start = file.metadata.num_rows, None, 0
    for batch in file.iter_batches(batch_size=4096, columns=[name]):
        values = _values(batch.column(0), name)
        if whole is None:
            whole = np.empty((num_rows, *values.shape[1:]), values.dtype if values.dtype.kind != "U" else object)
        if values.shape[1:] != whole.shape[1:]:
            raise ValueError(f"the lists of the column {name!r} are {whole.shape[1]} and {values.shape[1]} long")
        whole[start : start + len(values)] = values
        start += len(values)
    if whole is None:
        return np.empty(0)
    return whole if whole.dtype.kind != "O" else whole.astype(np.str_)


def _values(column: Any, name: str) -> Array:
    if column.null_count:
        raise ValueError(f"{column.null_count} cells of the column {name!r} are empty")
    if not hasattr(column, "flatten"):
        values: Array = column.to_numpy(zero_copy_only=False)
        return values.astype(np.str_) if values.dtype.kind == "O" else values
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise ValueError(f"the lists of the column {name!r} differ in length: {sorted(lengths)[:5]}")
    flat: Array = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), lengths.pop())
