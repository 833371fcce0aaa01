"""X of every kind as tensors on a device, converting no more than was asked for.

What is valid input is decided in ``validation``, who fetches examples and when in ``streaming``.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset, StackDataset, Subset, TensorDataset

CPU = torch.device("cpu")

BYTES, INTEGERS, FLOATS = "uint8 images", "integers", "floating point numbers"


def item_of(items: Dataset | Sequence, position: int) -> Tensor:
    """The x of an item of a Dataset or list, which is x or a tuple that starts with x.

    Raises
    ------
    TypeError
        If x cannot be made a tensor, or if there is none.
    ValueError
        If it is a tensor without numbers that a dense one could hold.
    """
    item = items[position]
    with _read_only_is_fine():
        return _as_tensor(item[0] if isinstance(item, tuple) and item else item, position)


def _items_of(items: Dataset | Sequence, positions: list[int]) -> list:
    """Several items, asked for at once where a Dataset has a way for that, as torch's loader does."""
    if _gives_several(items):
        found = items.__getitems__(positions)  # type: ignore[union-attr]
        if isinstance(found, list) and len(found) == len(positions):  # else it is a batch for a loader of its author's
            return found
    return [items[position] for position in positions]


def _gives_several(items: Dataset | Sequence) -> bool:
    """Whether there is a ``__getitems__`` that goes with ``__getitem__``.

    That of a base class knows nothing of what a derived class makes of its items, and that of a Subset, which all of
    its derived classes inherit, hands on what it gets.
    """
    names = {"__getitem__", "__getitems__"}
    defined_by = next(each for each in type(items).__mro__ if names & vars(each).keys())
    if defined_by is Subset:
        return _gives_several(items.dataset)  # type: ignore[union-attr]
    return "__getitems__" in vars(defined_by) and defined_by is not StackDataset


def _as_tensor(x: Any, position: int) -> Tensor:
    if isinstance(x, tuple) and not x:
        raise TypeError(f"Item {position} of X is an empty tuple; an item is x, or a tuple that starts with x.")
    if isinstance(x, Tensor):
        return _dense_item(x.detach(), position)
    try:
        if isinstance(x, np.ndarray) and x.ndim:  # torch has neither other byte orders nor steps backwards
            x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
        made = torch.as_tensor(x, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "The items of X must be tensors, arrays or numbers, or tuples that start with one of these; item "
            f"{position} has {type(x).__name__}. Convert it in the Dataset (a transform, say; a list to a tuple)."
        ) from error
    return _dense_item(made, position)


def _dense_item(x: Tensor, position: int) -> Tensor:
    """The x of an item, if it is a dense tensor of real numbers."""
    if x.is_complex():
        raise ValueError(f"Complex data not supported: item {position} of X is complex.")
    if not _has_real_numbers(x):
        kind = "on the meta device" if x.is_meta else f"of layout {x.layout}" if not x.is_quantized else "quantized"
        raise ValueError(f"Item {position} of X is a tensor {kind}; a dense one with numbers is expected.")
    return x


def _has_real_numbers(x: Tensor) -> bool:
    return x.layout == torch.strided and not (x.is_complex() or x.is_meta or x.is_quantized)


@dataclass(frozen=True)
class InputForm:
    """What an example of X looks like, and what its numbers are to a network.

    Attributes
    ----------
    item_shape : tuple of int
        Shape of one example.
    kind : str
        "uint8 images", "integers" or "floating point numbers".
    as_indices : bool
        Whether integers are indices of an embedding.
    """

    item_shape: tuple[int, ...]
    kind: str
    as_indices: bool = False


class Inputs:
    """Any examples of X as one tensor for the networks; X is used where it lies and never changed.

    Integers become numbers of the training's precision unless they are indices of an embedding, and bytes of images
    (uint8 items of two or more axes) are divided by 255.

    Parameters
    ----------
    X : ndarray, Tensor, csr matrix or array, Dataset or sequence of items
        Validated input of shape (n_samples, ...).
    device : torch.device
        Where the examples are wanted.
    dtype : torch.dtype
        In which precision.
    as_indices : bool
        Whether integers are indices of an embedding.
    resident : Tensor of shape (n_samples, ...), optional
        X on the device, where :meth:`moved_to_device` has copied it.
    """

    def __init__(
        self,
        X: Any,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        *,
        as_indices: bool = False,
        resident: Tensor | None = None,
    ):
        self.X = X
        if isinstance(X, (Tensor, np.ndarray)) or sparse.issparse(X):
            item_shape, source_dtype = tuple(X.shape[1:]), X.dtype
        else:
            first = item_of(X, 0)
            item_shape, source_dtype = tuple(first.shape), first.dtype
        kind = _kind(source_dtype, len(item_shape))
        self.form = InputForm(item_shape, kind, as_indices and kind != FLOATS)
        self.device, self.dtype = device, dtype
        self._source = self._open() if resident is None else resident

    def to(self, device: torch.device, dtype: torch.dtype, *, as_indices: bool) -> "Inputs":
        """The same X, wanted elsewhere or in another precision."""
        return Inputs(self.X, device, dtype, as_indices=as_indices)

    def moved_to_device(self) -> "Inputs":
        """With X as a whole on the device, if it is a GPU of which this takes less than half of the free memory."""
        if self._source is None or not self._source.is_cpu or self.device.type != "cuda":
            return self
        dtype = self._source.dtype if self.form.as_indices or self.form.kind == BYTES else self.dtype
        if 2 * self._source.numel() * dtype.itemsize >= torch.cuda.mem_get_info(self.device)[0]:
            return self
        resident = torch.empty(self._source.shape, dtype=dtype, device=self.device)
        for some, there in zip(self._source.split(4096), resident.split(4096), strict=True):
            there.copy_(some)
        return Inputs(self.X, self.device, self.dtype, as_indices=self.form.as_indices, resident=resident)

    def __len__(self) -> int:
        return self.X.shape[0] if sparse.issparse(self.X) else len(self.X)

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """The examples with these indices, (n,) int64 on the CPU, as a tensor of shape (n, ...) on the device.

        Those of a slice may share memory with X.
        """
        return self.convert(self.read(indices))

    def read(self, indices: Tensor | slice) -> Tensor:
        """Examples where they lie, in their own dtype or, if that has more digits than is wanted, in the wanted one."""
        batch = self._gather(indices)
        too_wide = self.form.kind == FLOATS and batch.itemsize > self.dtype.itemsize
        return batch.to(self.dtype) if too_wide else batch

    def convert(self, batch: Tensor) -> Tensor:
        """What was read, on the device and as the networks take it."""
        # towards the CPU a copy that does not block would be read before it has arrived
        batch = batch.to(self.device, non_blocking=self.device.type != "cpu")
        if self.form.as_indices:
            return batch.long()
        batch = batch.to(self.dtype)
        return batch / 255 if self.form.kind == BYTES else batch

    def columns_that_lose_digits(self, indices: Tensor) -> list[int]:
        """Columns of a table of which the wanted precision does not hold the differences between these examples.

        Where rounding to it makes errors of more than a twentieth of the standard deviation. Items of Datasets are not
        looked at.
        """
        known = isinstance(self.X, (Tensor, np.ndarray)) or sparse.issparse(self.X)
        if not known or self.form.kind != FLOATS or len(self.form.item_shape) > 1:
            return []
        exact = self._gather(indices)
        if exact.itemsize <= self.dtype.itemsize:
            return []
        size = exact.abs().amax(0)
        size[size == 0] = 1  # squares of very large or small numbers are not numbers
        errors = ((exact - exact.to(self.dtype)) / size).square().mean(0).sqrt()
        spread = (exact / size).std(0, correction=0)
        return ((spread > 0) & ~(errors <= 0.05 * spread)).nonzero().flatten().tolist()

    @property
    def is_dataset(self) -> bool:
        """Whether examples come from a Dataset item by item, loaded as its author pleased."""
        return self._source is None and isinstance(self.X, Dataset)

    @property
    def is_far(self) -> bool:
        """Whether examples are arrays on the disk, or in another memory than the device's."""
        if self._source is None and not isinstance(self.X, np.ndarray) and not sparse.issparse(self.X):
            return False
        return _is_mapped(self.X) or (self.device.type != "cpu" and (self._source is None or self._source.is_cpu))

    @property
    def is_on_device(self) -> bool:
        """Whether X lies on the device."""
        return self._source is not None and self._source.device.type == self.device.type

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

    def _gather(self, indices: Tensor | slice) -> Tensor:
        if isinstance(indices, slice):
            if self._source is not None:
                return self._source[indices]
            indices = torch.arange(*indices.indices(len(self)), device="cpu")
        if self._source is not None:
            return self._source.index_select(0, indices.to(self._source.device, non_blocking=True))
        if isinstance(self.X, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(self.X[indices.numpy()], dtype=_native(self.X.dtype)))
        if sparse.issparse(self.X):
            dense = self.X[indices.numpy()].toarray()
            return torch.from_numpy(dense.astype(_native(dense.dtype), copy=False))
        return self._stack_items(indices.tolist())

    def _stack_items(self, positions: list[int]) -> Tensor:
        """These items as one tensor; they are looked at one by one only where they do not fit together."""
        xs = [x[0] if isinstance(x, tuple) and x else x for x in _items_of(self.X, positions)]
        with suppress(RuntimeError, TypeError, ValueError):
            batch = self._stacked(xs)
            if batch is not None and batch.shape[1:] == self.form.item_shape and _has_real_numbers(batch):
                return batch
        with _read_only_is_fine():
            items = [_as_tensor(x, position) for x, position in zip(xs, positions, strict=True)]
        self._check_shapes(items)
        return torch.stack(items)

    def _stacked(self, xs: list) -> Tensor | None:
        """As one by one, but faster; None where that cannot be."""
        if isinstance(xs[0], Tensor):
            return torch.stack(xs).detach()
        if all(isinstance(x, np.ndarray) for x in xs):
            # their axes lie in memory as they would one by one
            batch = np.empty((len(xs), *self.form.item_shape), dtype=xs[0].dtype.newbyteorder("="))
            return torch.from_numpy(np.stack(xs, out=batch, casting="equiv"))
        return _stack_numbers(xs) if all(type(x) is list for x in xs) else None

    def _check_shapes(self, items: list[Tensor]) -> None:
        for item in items:
            if tuple(item.shape) != self.form.item_shape:
                raise ValueError(
                    f"The items of X have different shapes: {self.form.item_shape} and {tuple(item.shape)}. All items "
                    "of a Dataset or list must have one shape, so that they can be stacked to a batch."
                )


def _stack_numbers(rows: list[list]) -> Tensor | None:
    """Lists of Python's numbers, all of them floats or all of them integers; None of others."""
    kinds = {type(number) for row in rows for number in row}
    if kinds == {float}:
        return torch.from_numpy(np.array(rows)).to(torch.get_default_dtype())
    batch = np.array(rows) if kinds == {int} else None
    return torch.from_numpy(batch) if batch is not None and batch.dtype == np.int64 else None


def _is_mapped(X: Any) -> bool:
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


def _kind(dtype: torch.dtype | np.dtype, item_ndim: int) -> str:
    """What the values of X are to a network."""
    if isinstance(dtype, torch.dtype):
        floating, is_bytes = dtype.is_floating_point, dtype == torch.uint8
    else:
        floating, is_bytes = dtype.kind == "f", dtype == np.uint8
    if is_bytes and item_ndim >= 2:
        return BYTES
    return FLOATS if floating else INTEGERS
