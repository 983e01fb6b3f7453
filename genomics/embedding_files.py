"""Tables of embeddings: a stream of Arrow record batches while they are made, then Parquet or npz."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

PARQUET, NPZ = ".parquet", ".npz"
VECTOR = "embedding"
_TEXT = ("id", "chrom", "strand")
_NUMBERS = ("start", "end")
_GROUP_BYTES = 2**26  # of vectors in a row group, about
_OLDEST = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the first moment that zip knows; the time of writing would change the bytes


def table_schema(dim: int, dtype: npt.DTypeLike, description: dict[str, str]) -> pa.Schema:
    """Return the columns: id, chrom, start, end, strand and the vector.

    Args:
        dim: Length of a vector.
        dtype: float32 or float16.
        description: What goes into the metadata of the file.
    """
    fields = [pa.field(name, pa.string(), nullable=False) for name in ("id", "chrom")]
    fields += [pa.field(name, pa.int64(), nullable=False) for name in _NUMBERS]
    fields.append(pa.field("strand", pa.string(), nullable=False))
    value = pa.field("item", pa.from_numpy_dtype(np.dtype(dtype)), nullable=False)
    fields.append(pa.field(VECTOR, pa.list_(value, dim), nullable=False))
    return pa.schema(fields, metadata={f"seqmamba.{key}": text for key, text in description.items()})


def to_batch(
    schema: pa.Schema,
    columns: dict[str, Any],
    vectors: Float[np.ndarray, "rows dim"],
) -> pa.RecordBatch:
    """Make a record batch.

    Args:
        schema: By `table_schema`.
        columns: Lists or arrays of all but the vectors.
        vectors: One a row.

    Raises:
        UserError: If a number is too large for float16.
    """
    kind = schema.field(VECTOR).type
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(vectors, dtype=kind.value_type.to_pandas_dtype())
    if not np.isfinite(values).all():
        raise UserError("--dtype float16: the embeddings hold larger numbers", hint="take float32")
    flat = pa.array(values.reshape(-1))
    arrays = [pa.array(columns[name], schema.field(name).type) for name in schema.names if name != VECTOR]
    return pa.RecordBatch.from_arrays(
        [*arrays, pa.FixedSizeListArray.from_arrays(flat, type=kind)], schema=schema
    )


def read_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the record batches that were written to a file one behind the other.

    Args:
        path: A file of ``batch.serialize()``.
        schema: Theirs.
    """
    with pa.OSFile(str(path)) as source:
        while source.tell() < source.size():
            yield pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)


def require_format(output: Path) -> str:
    """Return the format that the name of a table stands for: `PARQUET` or `NPZ`.

    Raises:
        UserError: If it stands for neither.
    """
    suffix = output.suffix.lower()
    if suffix not in (PARQUET, NPZ):
        raise UserError(f"--output {output}: expected a name that ends in .parquet or .npz")
    return suffix


def writer_for(output: Path, schema: pa.Schema) -> Callable[[Path, Path], None]:
    """Return what turns a file of record batches into the table, whole or not at all.

    Args:
        output: The table; its name says the format.
        schema: Its columns.

    Raises:
        UserError: If the name ends in neither .parquet nor .npz.
    """
    write = {PARQUET: write_parquet, NPZ: write_npz}[require_format(output)]

    def convert(source: Path, target: Path) -> None:
        with atomic_path(target) as part:
            write(source, part, schema)

    return convert


def write_parquet(source: Path, target: Path, schema: pa.Schema) -> None:
    """Write Parquet in row groups of equal size, however the batches were cut.

    Args:
        source: File of record batches.
        target: The table. Vectors are lists of fixed size, the rest plain columns.
        schema: Its columns.
    """
    kind = schema.field(VECTOR).type
    rows = max(1, _GROUP_BYTES // (kind.list_size * kind.value_type.bit_width // 8))
    held: list[pa.RecordBatch] = []
    count = 0
    # Vectors do not compress and hold few equal values: neither is worth the time.
    options = {"use_dictionary": ["id", "chrom", "strand"], "compression": "zstd"}
    with pq.ParquetWriter(str(target), schema, **options) as writer:
        for batch in read_batches(source, schema):
            held.append(batch)
            count += batch.num_rows
            while count >= rows:
                table = pa.Table.from_batches(held)
                writer.write_table(table.slice(0, rows), row_group_size=rows)
                held, count = table.slice(rows).to_batches(), count - rows
        if count:
            writer.write_table(pa.Table.from_batches(held), row_group_size=rows)


def write_npz(source: Path, target: Path, schema: pa.Schema) -> None:
    """Write the arrays ``id``, ``chrom``, ``start``, ``end``, ``strand`` and ``embedding`` (rows, dim).

    Args:
        source: File of record batches, read once a column.
        target: What `numpy.load` opens, without pickles.
        schema: Its columns.
    """
    kind = schema.field(VECTOR).type
    rows = 0
    widths = dict.fromkeys(_TEXT, 1)
    for batch in read_batches(source, schema):
        rows += batch.num_rows
        for name in _TEXT:
            widths[name] = max(widths[name], *map(len, batch.column(name).to_pylist()))
    dtypes = {name: np.dtype(f"<U{widths[name]}") for name in _TEXT} | dict.fromkeys(
        _NUMBERS, np.dtype("<i8")
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in schema.names:
            dtype = dtypes.get(name, np.dtype(kind.value_type.to_pandas_dtype()))
            shape = (rows, kind.list_size) if name == VECTOR else (rows,)
            info = zipfile.ZipInfo(f"{name}.npy", _OLDEST)
            with archive.open(info, "w", force_zip64=True) as file:
                _write_array(file, name, dtype, shape, read_batches(source, schema))


def _write_array(
    file: IO[bytes], name: str, dtype: np.dtype, shape: tuple[int, ...], batches: Iterator[pa.RecordBatch]
) -> None:
    """Write one .npy file piece by piece (NumPy's format version 1.0)."""
    descr = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, descr)
    for batch in batches:
        column = batch.column(name)
        if name == VECTOR:
            values = column.flatten().to_numpy(zero_copy_only=False)
        else:
            values = np.array(column.to_pylist(), dtype=dtype)
        file.write(np.ascontiguousarray(values, dtype=dtype).tobytes())
