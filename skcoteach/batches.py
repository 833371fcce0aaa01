"""From data of every kind to mini-batches on a device.

:class:`Rows` gives any rows of a validated X as one tensor of the training's precision, converting no more than was
asked for; :func:`batches` cuts an order of rows into mini-batches. What is valid input is decided in ``validation``.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset

#: A last mini-batch of fewer rows is skipped unless it is the only one: its gradient would be mostly noise.
MINIMUM_BATCH_SIZE = 16

BYTES, INTEGERS, FLOATS = "uint8 images", "integers", "floating point numbers"


def item_of(items: Dataset | Sequence, position: int) -> Tensor:
    """The x of an item of a Dataset or list, which is x or a tuple that starts with x.

    Raises
    ------
    TypeError
        If x cannot be made a tensor.
    """
    item = items[position]
    x = item[0] if isinstance(item, tuple) else item
    if isinstance(x, Tensor):
        return x.detach()
    try:
        with _read_only_is_fine():
            return torch.as_tensor(x, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "The items of X must be tensors, arrays or numbers, or tuples that start with one of these; item "
            f"{position} has {type(x).__name__}. Convert it in the Dataset (a transform, say; a list to a tuple)."
        ) from error


class Rows:
    """Rows of X as tensors for the networks, a batch at a time; X is used where it lies and never changed.

    Integers become numbers of the training's precision unless they are indices of an embedding, and bytes of images
    (uint8 items of two or more axes) are divided by 255.

    Parameters
    ----------
    X : ndarray, Tensor, csr matrix or array, Dataset or sequence of items
        Validated input of shape (n_samples, ...).
    """

    def __init__(self, X):
        self.X = X
        if isinstance(X, (Tensor, np.ndarray)) or sparse.issparse(X):
            self.item_shape = tuple(X.shape[1:])
            dtype = X.dtype
        else:
            first = item_of(X, 0)
            self.item_shape, dtype = tuple(first.shape), first.dtype
        self.kind = _kind(dtype, len(self.item_shape))
        self.indices = False
        self.place(torch.device("cpu"), torch.float32)

    def place(self, device: torch.device, dtype: torch.dtype, *, indices: bool = False) -> "Rows":
        """Say where the batches are wanted, in which precision, and whether integers are indices of an embedding."""
        self.device, self.dtype = device, dtype
        self.indices = indices and self.kind != FLOATS
        self._source = self._open()
        return self

    def __len__(self) -> int:
        return self.X.shape[0] if sparse.issparse(self.X) else len(self.X)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The rows with these numbers, (n_rows,) int64 on the CPU, as a tensor of shape (n_rows, ...) on the device."""
        # towards the CPU a copy that does not block would be read before it has arrived
        batch = self._gather(rows).to(self.device, non_blocking=self.device.type != "cpu")
        if self.indices:
            return batch.long()
        batch = batch.to(self.dtype)
        return batch / 255 if self.kind == BYTES else batch

    def _open(self) -> Tensor | None:
        """X itself as a tensor, without a copy, where torch can index it as it is."""
        if isinstance(self.X, Tensor):
            return self.X
        if isinstance(self.X, np.ndarray) and self.X.flags.c_contiguous and self.X.dtype in _TORCH_DTYPES:
            with _read_only_is_fine():
                return torch.from_numpy(self.X)
        return None

    def _gather(self, rows: Tensor) -> Tensor:
        if self._source is not None:
            return self._source.index_select(0, rows.to(self._source.device, non_blocking=True))
        if isinstance(self.X, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(self.X[rows.numpy()], dtype=_native(self.X.dtype)))
        if sparse.issparse(self.X):
            dense = self.X[rows.numpy()].toarray()
            return torch.from_numpy(dense.astype(_native(dense.dtype), copy=False))
        items = [item_of(self.X, row) for row in rows.tolist()]
        self._check_items(items)
        return torch.stack(items)

    def _check_items(self, items: list[Tensor]) -> None:
        for item in items:
            if tuple(item.shape) != self.item_shape:
                raise ValueError(
                    f"The items of X have different shapes: {self.item_shape} and {tuple(item.shape)}. All items of a "
                    "Dataset or list must have one shape, so that they can be stacked to a batch."
                )


@contextmanager
def _read_only_is_fine() -> Iterator[None]:
    """torch warns of arrays that must not be written to; nothing is written here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        yield


_TORCH_DTYPES = {np.dtype(t) for t in ("float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64")}


def _native(dtype: np.dtype) -> np.dtype:
    """The dtype that torch can read and that loses nothing the networks would see."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype("float64")
    if dtype.kind == "u" and dtype.itemsize > 1:
        return np.dtype("int64") if dtype.itemsize < 8 else np.dtype("float64")
    return dtype.newbyteorder("=")


def _kind(dtype, item_ndim: int) -> str:
    """What the values of X are to a network."""
    if isinstance(dtype, torch.dtype):
        floating, is_bytes = dtype.is_floating_point, dtype == torch.uint8
    else:
        floating, is_bytes = dtype.kind == "f", dtype == np.uint8
    if is_bytes and item_ndim >= 2:
        return BYTES
    return FLOATS if floating else INTEGERS


def spread(rows: Tensor, strata: Tensor, batch_size: int) -> Tensor:
    """A random order of rows in which every mini-batch gets about its share of each stratum.

    Parameters
    ----------
    rows : Tensor of shape (n,), int64
        Row numbers.
    strata : Tensor of shape (n,), int64
        Stratum of each of the ``rows``. Neighbouring numbers make up for each other where a stratum is smaller than
        the number of batches.
    batch_size : int
        As for :func:`batches`.

    Returns
    -------
    Tensor of shape (n,), int64
        The order for :func:`batches`, drawn from torch's global generator. Within a batch it is random.

    References
    ----------
    Systematic sampling, e.g. Cochran, "Sampling Techniques", 3rd edition 1977, chapter 8: rows are lined up by stratum
    and the i-th place of a batch of size b draws from the i-th b-th of the line.

    Examples
    --------
    >>> import torch
    >>> strata = torch.arange(100) % 2
    >>> [int(strata[batch].sum()) for batch in batches(spread(torch.arange(100), strata, 50), 50)]
    [25, 25]
    """
    shuffled = torch.randperm(len(rows), device=rows.device)
    line = rows[shuffled[strata[shuffled].argsort(stable=True)]]
    places = torch.arange(len(rows), device=rows.device)
    batch = places // batch_size
    sizes = (len(rows) - batch * batch_size).clamp(max=batch_size)
    points = (places % batch_size + torch.rand(len(rows), dtype=torch.float64, device=rows.device)) / sizes
    order = torch.empty_like(rows)
    order[points.argsort()] = line
    return order[(batch + torch.rand(len(rows), dtype=torch.float64, device=rows.device)).argsort()]


def batches(order: Tensor, batch_size: int, limit: int | None = None) -> Iterator[Tensor]:
    """Cut an order of rows into mini-batches.

    Parameters
    ----------
    order : Tensor of shape (n,), int64
        Row numbers in the order of the epoch.
    batch_size : int
        Rows of a batch; the last one may have fewer. A last batch of fewer than 16 is skipped unless it is the only
        one.
    limit : int, optional
        At most this many batches.

    Yields
    ------
    Tensor of shape (n_rows,), int64
        Row numbers of a batch.

    Examples
    --------
    >>> import torch
    >>> [len(batch) for batch in batches(torch.arange(100), batch_size=32)]
    [32, 32, 32]
    >>> [len(batch) for batch in batches(torch.arange(5), batch_size=32)]
    [5]
    """
    cut = list(order.split(batch_size))
    if len(cut) > 1 and len(cut[-1]) < MINIMUM_BATCH_SIZE:
        cut.pop()
    yield from cut[:limit]
