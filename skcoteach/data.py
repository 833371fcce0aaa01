"""Data that do not fit into memory: the rows of Parquet and Arrow files as a Dataset that is read block by block.

pyarrow (``pip install 'skcoteach[parquet]'``) is imported when files are opened, and not before.

Shuffling all rows of such files would read a block of thousands of rows for every single one. So a Dataset may say in
which blocks its rows are stored: it has

- ``block_numbers(indices)``: the number of the block, from 0, in which each of the items lies, (n,) int of (n,) int64;
- ``blocks_per_window``: how many blocks it can hold at a time;
- ``__getitems__(indices)``: a list of the items with these indices, as torch's loader asks for them.

:class:`~skcoteach.CoTeachingClassifier` then joins so many blocks to a window, at random, and shuffles the rows of one
window after the other. So it does with a ``torch.utils.data.Subset`` of such a Dataset.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from skcoteach._errors import warn_user

__all__ = ["ParquetRows"]

#: Endings of the files of a folder that are read.
ENDINGS = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
#: Bytes of columns, as float32, that are decoded at a time.
BYTES_AT_ONCE = 2**22


class ParquetRows(Dataset):
    """The rows of a Parquet or Arrow (Feather, IPC) file, or of a folder of such files, as X.

    An example is a row, as a float32 vector. A block, a row group of a Parquet file or a record batch of an Arrow file,
    is read as a whole when a row of it is needed, and no more blocks are held in memory than ``window_bytes`` are for.
    Integers, bools and floats of other precisions are converted.

    :class:`~skcoteach.CoTeachingClassifier` reads other windows in every epoch, each of ``window_bytes`` of blocks
    of all files, and shuffles the rows of each; a mini-batch gets its share of each class of its *window*. Where rows
    lie in no particular order and a window holds a thousand of them or more, that is as good as shuffling all (10,000
    rows, 20 fits of 12 epochs, 40 % symmetric or 30 % pair noise: with windows of 800 rows test accuracy differs by
    -0.1 points, standard error 0.1; with windows of 128 rows of 1,257, by -1.3). Where neighbouring rows are alike,
    mini-batches are, too. Files that are sorted by class are the worst: blocks of different classes are joined, but a
    window of fewer blocks than there are classes lacks some (six classes in 100 blocks: with windows of 4 blocks -1.6
    points and 1.2 points more wrong labels among the kept, of 8 -0.5, of 16 none). ``fit`` warns of that. Store the
    rows shuffled once, or in smaller row groups, or give larger ``window_bytes``.

    Searches, cross-validation and ``train_test_split`` of scikit-learn cut it: ``X[indices]`` are those rows, not yet
    read. Nothing of a file is pickled.

    Parameters
    ----------
    path : str or path
        A file, or a folder: all its files that end with .parquet, .pq, .arrow, .feather or .ipc, sorted by name.
        Folders in it are not looked at.
    columns : sequence of str, default=None
        What x is made of, in this order. None: all columns of numbers or bools but the ``label``.
    label : str, default=None
        The column that holds the labels.
    window_bytes : int, default=67108864
        So much of rows, as float32, is held in memory and shuffled together: as many blocks as fit in, one at least.
        While it is trained on, part of the next window is read: count two to three times as much in all.
        Blocks of an eighth of that or less mix well.

    Attributes
    ----------
    columns : tuple of str
    label : str or None
    shape : tuple of two int
        Rows and columns.
    blocks_per_window : int
        Blocks that are shuffled together.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If a file is of another kind or has other columns than the first one, if a folder has no files, if a column is
        not there or holds no numbers. When rows are read: if a value is null, NaN or infinite, as in a table in memory.

    Examples
    --------
    >>> import tempfile, numpy as np, pyarrow as pa, pyarrow.parquet
    >>> from skcoteach import CoTeachingClassifier
    >>> from skcoteach.data import ParquetRows
    >>> table = np.random.default_rng(0).normal(size=(1000, 3))
    >>> columns = dict(zip("abc", table.T)) | {"kind": np.where(table[:, 0] > 0, "high", "low")}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pa.parquet.write_table(pa.table(columns), f"{folder}/rows.parquet", row_group_size=100)
    ...     X = ParquetRows(folder, label="kind")
    ...     y = X.labels()
    ...     clf = CoTeachingClassifier(forget_rate=0.1, epochs=10, random_state=0).fit(X, y)
    ...     accuracy = clf.score(X, y)
    >>> X.shape, X.columns, bool(accuracy > 0.9)
    ((1000, 3), ('a', 'b', 'c'), True)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        columns: Sequence[str] | None = None,
        label: str | None = None,
        *,
        window_bytes: int = 2**26,
    ):
        if isinstance(columns, str):
            raise TypeError(f"columns must be a sequence of names; got the string {columns!r}.")
        if not isinstance(window_bytes, Integral) or window_bytes < 1:
            raise ValueError(f"window_bytes must be an integer of at least 1; got {window_bytes!r}.")
        files = _files_of(path)
        chosen, sizes = _layout(files, columns, label)
        self.columns: tuple[str, ...] = chosen
        self.label: str | None = label
        self._files: list[str] = files
        self._file_of_block: np.ndarray = np.repeat(np.arange(len(files)), [len(each) for each in sizes])
        self._number_in_file: np.ndarray = np.concatenate([np.arange(len(each)) for each in sizes])
        self._starts: np.ndarray = np.concatenate([[0], np.cumsum(np.concatenate(sizes), dtype=np.int64)])
        self._rows: np.ndarray | None = None  # those that were chosen; None: all
        self._reader: _Reader | None = None
        largest = int(np.diff(self._starts).max(initial=1)) * len(chosen) * 4
        self.blocks_per_window: int = max(int(window_bytes) // max(largest, 1), 1)
        if largest > window_bytes:
            warn_user(
                f"A block of {files[0]} or of a file beside it takes {largest / 2**20:.0f} MiB in memory, more than "
                f"window_bytes={window_bytes}, and is shuffled by itself. Write the files with smaller blocks: "
                "pyarrow.parquet.write_table(..., row_group_size=...)."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self.columns)

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._rows is None else len(self._rows)

    def __getitem__(self, index: Any) -> "Tensor | ParquetRows":
        """A row, (n_columns,) float32, of an integer; of an array, list or slice, those rows, not yet read."""
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:  # of scikit-learn
            index = index[0]
        if isinstance(index, Integral):
            return torch.from_numpy(self._read(np.array([index]))[0])
        return self._part(index)

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Several rows, each (n_columns,) float32."""
        return list(torch.from_numpy(self._read(np.asarray(indices, dtype=np.int64))).unbind())

    def labels(self, column: str | None = None) -> np.ndarray:
        """A column as a whole: the labels.

        Nothing else is read.

        Parameters
        ----------
        column : str, default=None
            None: the ``label``.

        Returns
        -------
        ndarray of shape (n_rows,)
            Integers, bools and floats in their own dtype, strings (dictionaries, too) as NumPy's strings.

        Raises
        ------
        ValueError
            If there is no such column, if it holds nulls or NaN, or neither numbers, bools nor strings.
        """
        column = self.label if column is None else column
        if column is None:
            raise ValueError("Which column holds the labels? Give labels(column), or label to ParquetRows.")
        found = _labels(self._files, column)
        if len(found) != self._starts[-1]:
            raise _changed(f"{self._files[0]}, or a file beside it,")
        return found if self._rows is None else found[self._rows]

    def block_numbers(self, indices: np.ndarray) -> np.ndarray:
        """Number of the block, from 0, in which each row lies, (n,) int32 of (n,) int64."""
        return (self._starts.searchsorted(self._stored(indices), side="right") - 1).astype(np.int32)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_reader": None}

    def _part(self, index: Any) -> Self:
        rows = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        if rows.ndim != 1 or rows.dtype.kind not in "biu" and len(rows):
            raise TypeError(f"Rows are chosen by integers, bools or a slice; got {type(index).__name__}: {index!r}.")
        if rows.dtype == bool:
            if len(rows) != len(self):
                raise IndexError(f"{len(rows)} bools cannot choose of {len(self)} rows.")
            rows = np.flatnonzero(rows)
        part = type(self).__new__(type(self))
        vars(part).update(self.__getstate__(), _rows=self._stored(rows.astype(np.int64)))
        return part

    def _stored(self, indices: np.ndarray) -> np.ndarray:
        """The numbers of these rows in the files."""
        if len(indices) and not -len(self) <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"There are {len(self)} rows; {indices.min()} to {indices.max()} were asked for.")
        rows = np.where(indices < 0, indices + len(self), indices)
        return rows if self._rows is None else self._rows[rows]

    def _read(self, indices: np.ndarray) -> np.ndarray:
        """Rows, (n, n_columns) float32."""
        reader = self._reader
        if reader is None or reader.process != os.getpid():  # in a forked one, the lock may be held for ever
            shape = int(np.diff(self._starts).max(initial=0)), len(self.columns)
            reader = self._reader = _Reader(self.blocks_per_window, shape)
        stored = self._stored(indices)
        blocks = self.block_numbers(indices)
        found = np.empty((len(indices), len(self.columns)), dtype=np.float32)
        with reader.lock:
            for block in reader.sorted(np.unique(blocks).tolist()):
                here = np.flatnonzero(blocks == block)
                found[here] = reader.block(block, self._read_block)[stored[here] - self._starts[block]]
        return found

    def _read_block(self, number: int, reader: "_Reader", into: np.ndarray) -> np.ndarray:
        """A block, in the first rows of ``into``."""
        file, n_rows = self._files[self._file_of_block[number]], int(self._starts[number + 1] - self._starts[number])
        within = int(self._number_in_file[number])
        first = int(self._starts[number] - self._starts[number - within])
        opened, n_blocks = reader.opened(file), int((self._file_of_block == self._file_of_block[number]).sum())
        if opened.n_blocks != n_blocks:
            raise _changed(file)
        rows, step = into[:n_rows], max(BYTES_AT_ONCE // (4 * n_rows), 1)
        for start in range(0, len(self.columns), step):
            some = slice(start, start + step)
            table = opened.block(within, self.columns[some])
            if table.num_rows != n_rows:
                raise _changed(file)
            _fill(rows[:, some], table, self.columns[some], file, first)
        return rows


class _Reader:
    """What a process holds of the files: the blocks that were used last, in memory that is used again.

    And the file that was used last: an open one holds a description of all its columns, 15 MB of a thousand columns in
    sixteen blocks, and in a window no two files are needed in turn.

    Parameters
    ----------
    most_blocks : int
    shape : tuple of two int
        Of the largest block.
    """

    def __init__(self, most_blocks: int, shape: tuple[int, int]):
        self.process = os.getpid()
        self.lock = threading.Lock()
        self._most_blocks, self._shape = most_blocks, shape
        self._blocks: OrderedDict[int, np.ndarray] = OrderedDict()
        self._name = ""
        self._file: _ParquetFile | _ArrowFile | None = None

    def sorted(self, numbers: list[int]) -> list[int]:
        """Those first that are here, as others will take their places."""
        return sorted(numbers, key=lambda number: (number not in self._blocks, number))

    def block(self, number: int, read: Callable[[int, "_Reader", np.ndarray], np.ndarray]) -> np.ndarray:
        """The rows of a block, (n, n_columns) float32, until others are read: into an array of the shape of this."""
        if number not in self._blocks:
            if len(self._blocks) == self._most_blocks:
                into = self._blocks.popitem(last=False)[1].base
            else:
                into = np.empty(self._shape, dtype=np.float32)
            assert into is not None
            self._blocks[number] = read(number, self, into)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def opened(self, file: str) -> "_ParquetFile | _ArrowFile":
        """A file."""
        if self._file is None or self._name != file:
            self._file = None  # before the other one is there
            self._name, self._file = file, _open(file)
        return self._file


# --- files -----------------------------------------------------------------------------------------------------------


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("ParquetRows needs pyarrow: pip install 'skcoteach[parquet]'") from error
    return pyarrow


def _files_of(path: str | os.PathLike) -> list[str]:
    whole = Path(path).absolute()
    if not whole.is_dir():
        if not whole.exists():
            raise FileNotFoundError(f"There is no file or folder {os.fspath(path)!r}.")
        return [str(whole)]
    files = sorted(str(each) for each in whole.iterdir() if each.suffix.lower() in ENDINGS and each.is_file())
    if not files:
        raise ValueError(f"The folder {os.fspath(path)!r} has no files that end with {', '.join(ENDINGS)}.")
    return files


class _ParquetFile:
    """An open Parquet file; its blocks are row groups."""

    def __init__(self, file: str):
        self._file = _pyarrow().parquet.ParquetFile(file)
        self.schema = self._file.schema_arrow
        self.n_blocks = self._file.metadata.num_row_groups

    def block_sizes(self, columns: Sequence[str]) -> list[int]:
        """Rows of each block."""
        return [self._file.metadata.row_group(number).num_rows for number in range(self.n_blocks)]

    def block(self, number: int, columns: Sequence[str]) -> Any:
        """Columns of a block, in this order."""
        return self._file.read_row_group(number, columns=list(columns)).select(columns)

    def whole(self, column: str) -> Any:
        """A column of all blocks, a ChunkedArray."""
        return self._file.read(columns=[column]).column(0)


class _ArrowFile:
    """An Arrow file; its blocks are record batches."""

    def __init__(self, file: str):
        self._file = file
        opened = _pyarrow().ipc.open_file(_pyarrow().OSFile(file))
        self.schema, self.n_blocks = opened.schema, opened.num_record_batches

    def block_sizes(self, columns: Sequence[str]) -> list[int]:
        """Rows of each block, which are not written down elsewhere."""
        opened = self._open(columns[:1])
        return [opened.get_batch(number).num_rows for number in range(self.n_blocks)]

    def block(self, number: int, columns: Sequence[str]) -> Any:
        """Columns of a block, in this order."""
        return self._open(columns).get_batch(number).select(columns)

    def whole(self, column: str) -> Any:
        """A column of all blocks, a ChunkedArray."""
        return self._open([column]).read_all().column(0)

    def _open(self, columns: Sequence[str]) -> Any:
        """So that other columns are not read."""
        wanted = [self.schema.get_field_index(each) for each in columns]
        ipc = _pyarrow().ipc
        return ipc.open_file(_pyarrow().OSFile(self._file), options=ipc.IpcReadOptions(included_fields=wanted))


def _open(file: str) -> _ParquetFile | _ArrowFile:
    pa = _pyarrow()
    with open(file, "rb") as opened:
        start = opened.read(6)
    if start[:4] != b"PAR1" and start != b"ARROW1":
        raise ValueError(f"{file} is neither a Parquet file nor an Arrow file (Feather version 2, IPC).")
    try:
        return _ArrowFile(file) if start == b"ARROW1" else _ParquetFile(file)
    except pa.ArrowException as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def _changed(file: str) -> ValueError:
    return ValueError(f"{file} has changed since the rows were counted. Make the ParquetRows anew.")


def _layout(
    files: Sequence[str], columns: Sequence[str] | None, label: str | None
) -> tuple[tuple[str, ...], list[list[int]]]:
    """Names of what x is made of, and the rows of each block of each file."""
    opened = _open(files[0])
    schema = opened.schema
    chosen = _chosen(schema, columns, label, files[0])
    sizes = [opened.block_sizes(chosen)]
    for file in files[1:]:
        opened = _open(file)
        _check_same(opened.schema, schema, file, files[0])
        sizes.append(opened.block_sizes(chosen))
    return chosen, sizes


def _check_same(schema: Any, first_schema: Any, file: str, first_file: str) -> None:
    own, expected = (dict(zip(each.names, each.types, strict=True)) for each in (schema, first_schema))
    if schema.names == first_schema.names and own == expected:
        return
    for name in [*expected, *own]:
        if own.get(name) != expected.get(name):
            types = [str(each.get(name, "not there")) for each in (own, expected)]
            raise ValueError(f"In {file} the column {name!r} is {types[0]}, but {types[1]} in {first_file}.")
    raise ValueError(f"{file} has its columns in another order than {first_file}.")


def _chosen(schema: Any, columns: Sequence[str] | None, label: str | None, file: str) -> tuple[str, ...]:
    """Names of what x is made of."""
    _check_there(schema, [*(columns or ()), *([] if label is None else [label])], file)
    numeric = [each.name for each in schema if _is_number(each.type)]
    chosen = [name for name in numeric if name != label] if columns is None else list(columns)
    unfit = [f"{name!r} ({schema.field(name).type})" for name in chosen if name not in numeric]
    if unfit:
        raise ValueError(f"The columns {_listed(unfit)} of {file} do not hold numbers. Encode them, or leave them out.")
    if not chosen:
        raise ValueError(f"{file} has no columns of numbers; it has {_listed(schema.names) or 'none'}.")
    twice = {name for name in chosen if schema.names.count(name) > 1 or chosen.count(name) > 1}
    if twice:
        raise ValueError(f"The columns {_listed(sorted(twice))} are there, or named, several times.")
    return tuple(chosen)


def _check_there(schema: Any, names: Sequence[str], file: str) -> None:
    missing = [repr(name) for name in names if name not in schema.names]
    if missing:
        raise ValueError(f"{file} has no column {_listed(missing)}; it has {_listed(schema.names) or 'none'}.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _is_number(kind: Any) -> bool:
    types = _pyarrow().types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


# --- values ----------------------------------------------------------------------------------------------------------


def _fill(rows: np.ndarray, table: Any, columns: Sequence[str], file: str, first: int) -> None:
    """Columns of a block, whose first row is this one in the file, as float32 into (n, n_columns)."""
    with np.errstate(all="ignore"):  # what is too large for float32 becomes infinite, and is refused
        for number, (name, column) in enumerate(zip(columns, table.columns, strict=True)):
            if column.null_count:
                row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                raise ValueError(_missing("null", name, file, row))
            rows[:, number] = column.to_numpy(zero_copy_only=False)
        suspects = np.flatnonzero(~np.isfinite(rows.sum(axis=0)))
    for number in suspects.tolist():
        odd = np.flatnonzero(~np.isfinite(rows[:, number]))
        if len(odd):
            raise ValueError(_missing("NaN, infinity or too large", columns[number], file, first + int(odd[0])))


def _missing(what: str, column: str, file: str, row: int) -> str:
    return (
        f"The column {column!r} of {file} is {what} in row {row}. Missing values are not accepted: fill them "
        "(sklearn.impute), or leave these rows or this column out."
    )


def _labels(files: Sequence[str], column: str) -> np.ndarray:
    """A column of all files, one after the other."""
    pa = _pyarrow()
    chunks: list[Any] = []
    for file in files:
        opened = _open(file)
        _check_there(opened.schema, [column], file)
        found = opened.whole(column)
        if found.null_count:
            row = int(np.flatnonzero(found.is_null().to_numpy())[0])
            raise ValueError(f"The column {column!r} of {file} is null in row {row}. Every row needs a given label.")
        chunks += found.chunks
        kind = opened.schema.field(column).type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if _is_number(values):
        numbers = [(each.dictionary_decode() if each.type != values else each) for each in chunks]
        labels = pa.chunked_array(numbers, values).to_numpy()
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            raise ValueError(f"The column {column!r} of {files[0]} or of a file beside it is NaN in some rows.")
        return labels
    if not (pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values)):
        raise ValueError(f"The column {column!r} of {files[0]} is {kind}; labels are numbers, bools or strings.")
    encoded = pa.chunked_array(chunks, kind)
    if kind == values:
        encoded = encoded.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return np.array(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
