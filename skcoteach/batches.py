"""From data of every kind to mini-batches on a device.

:class:`Rows` gives any rows of a validated X as one tensor of the training's precision, converting no more than was
asked for; :func:`in_batches` says which rows of an order make up mini-batches. What is valid input is decided in
``validation``.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

#: A last mini-batch of fewer rows is skipped unless it is the only one: its gradient would be mostly noise.
MINIMUM_BATCH_SIZE = 16

BYTES, INTEGERS, FLOATS = "uint8 images", "integers", "floating point numbers"


def item_of(items: Dataset | Sequence, position: int) -> Tensor:
    """The x of an item of a Dataset or list, which is x or a tuple that starts with x.

    Raises
    ------
    TypeError
        If x cannot be made a tensor, or if there is none.
    """
    item = items[position]
    if isinstance(item, tuple) and not item:
        raise TypeError(f"Item {position} of X is an empty tuple; an item is x, or a tuple that starts with x.")
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

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """The rows with these numbers, (n_rows,) int64 on the CPU, as a tensor of shape (n_rows, ...) on the device.

        Those of a slice may share memory with X.
        """
        return self.finish(self.read(rows))

    def read(self, rows: Tensor | slice) -> Tensor:
        """Rows where they lie, in their own dtype or, if that has more digits than is wanted, in the wanted one."""
        batch = self._gather(rows)
        too_wide = self.kind == FLOATS and batch.itemsize > self.dtype.itemsize
        return batch.to(self.dtype) if too_wide else batch

    def finish(self, batch: Tensor) -> Tensor:
        """What was read, on the device and as the networks take it."""
        # towards the CPU a copy that does not block would be read before it has arrived
        batch = batch.to(self.device, non_blocking=self.device.type != "cpu")
        if self.indices:
            return batch.long()
        batch = batch.to(self.dtype)
        return batch / 255 if self.kind == BYTES else batch

    def loses_digits(self, rows: Tensor) -> list[int]:
        """Columns of a table of which the wanted precision does not hold the differences between these rows.

        Where rounding to it makes errors of more than a twentieth of the standard deviation. Items of Datasets are not
        looked at.
        """
        known = isinstance(self.X, (Tensor, np.ndarray)) or sparse.issparse(self.X)
        if not known or self.kind != FLOATS or len(self.item_shape) > 1:
            return []
        exact = self._gather(rows)
        if exact.itemsize <= self.dtype.itemsize:
            return []
        size = exact.abs().amax(0)
        size[size == 0] = 1  # squares of very large or small numbers are not numbers
        errors = ((exact - exact.to(self.dtype)) / size).square().mean(0).sqrt()
        spread = (exact / size).std(0, correction=0)
        return ((spread > 0) & ~(errors <= 0.05 * spread)).nonzero().flatten().tolist()

    @property
    def is_dataset(self) -> bool:
        """Whether rows come from a Dataset item by item, loaded as its author pleased."""
        return self._source is None and isinstance(self.X, Dataset)

    @property
    def is_far(self) -> bool:
        """Whether rows are arrays on the disk, or in another memory than the device's."""
        if self._source is None and not isinstance(self.X, np.ndarray) and not sparse.issparse(self.X):
            return False
        return _is_mapped(self.X) or (self.device.type != "cpu" and (self._source is None or self._source.is_cpu))

    @property
    def is_settled(self) -> bool:
        """Whether X lies on the device."""
        return self._source is not None and self._source.device.type == self.device.type

    def settle(self) -> None:
        """Copy X to the device as a whole, if it is a GPU of which this takes less than half of the free memory."""
        if self._source is None or not self._source.is_cpu or self.device.type != "cuda":
            return
        dtype = self._source.dtype if self.indices or self.kind == BYTES else self.dtype
        if 2 * self._source.numel() * dtype.itemsize < torch.cuda.mem_get_info(self.device)[0]:
            settled = torch.empty(self._source.shape, dtype=dtype, device=self.device)
            for some, there in zip(self._source.split(4096), settled.split(4096), strict=True):
                there.copy_(some)
            self._source = settled

    def _open(self) -> Tensor | None:
        """X itself as a tensor, without a copy, where torch can index it as it is."""
        if isinstance(self.X, Tensor):
            return self.X
        if type(self.X) is TensorDataset:
            return self.X.tensors[0].detach()
        if isinstance(self.X, np.ndarray) and self.X.flags.c_contiguous and self.X.dtype in _TORCH_DTYPES:
            with _read_only_is_fine():
                return torch.from_numpy(self.X)
        return None

    def _gather(self, rows: Tensor | slice) -> Tensor:
        if isinstance(rows, slice):
            if self._source is not None:
                return self._source[rows]
            rows = torch.arange(*rows.indices(len(self)), device="cpu")
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


def _is_mapped(X) -> bool:
    """Whether an array, or what it is a view of, is a memory map."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


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
        Rows of a mini-batch.

    Returns
    -------
    Tensor of shape (n,), int64
        The order for :func:`in_batches`, drawn from torch's global generator. Within a batch it is random.

    References
    ----------
    Systematic sampling, e.g. Cochran, "Sampling Techniques", 3rd edition 1977, chapter 8: rows are lined up by stratum
    and the i-th place of a batch of size b draws from the i-th b-th of the line.

    Examples
    --------
    >>> import torch
    >>> strata = torch.arange(100) % 2
    >>> [int(strata[batch].sum()) for batch in spread(torch.arange(100), strata, 50).split(50)]
    [25, 25]
    """
    # NumPy sorts small integers several times as fast as torch does
    n = len(rows)
    shuffled = torch.randperm(n, device="cpu").numpy()
    small = strata.numpy().astype(np.int16 if int(strata.max()) < 2**15 else np.int64)
    line = shuffled[small[shuffled].argsort(kind="stable")]
    places = np.arange(n)
    batch = places // batch_size
    sizes = np.minimum(n - batch * batch_size, batch_size)
    jitter, position = torch.rand(2, n, dtype=torch.float64, device="cpu").numpy()
    order = np.empty(n, dtype=np.int64)
    order[((places % batch_size + jitter) / sizes).argsort()] = line
    return rows[torch.from_numpy(order[(batch + position).argsort()])]


def in_batches(order: Tensor, batch_size: int, limit: int | None = None) -> Tensor:
    """The part of an order of rows that makes up its mini-batches.

    Parameters
    ----------
    order : Tensor of shape (n,), int64
        Row numbers in the order of the epoch.
    batch_size : int
        Rows of a batch; the last one may have fewer. A last batch of fewer than 16 is skipped unless it is the only
        one.
    limit : int, optional
        At most this many batches.

    Returns
    -------
    Tensor of shape (n_rows,), int64
        To be split by ``batch_size``.

    Examples
    --------
    >>> import torch
    >>> [len(batch) for batch in in_batches(torch.arange(100), batch_size=32).split(32)]
    [32, 32, 32]
    >>> [len(batch) for batch in in_batches(torch.arange(5), batch_size=32).split(32)]
    [5]
    """
    last = len(order) % batch_size or batch_size
    if last < MINIMUM_BATCH_SIZE and len(order) > batch_size:
        order = order[: len(order) - last]
    return order if limit is None else order[: limit * batch_size]
