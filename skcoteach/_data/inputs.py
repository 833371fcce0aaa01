"""X of every kind as tensors on a device, converting no more than was asked for; a dict as a dict of tensors.

What is valid input is decided in ``validation``, who fetches examples and when in ``streaming``.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset, StackDataset, Subset, TensorDataset

from skcoteach._batches import Batch

CPU = torch.device("cpu")

BYTES, INTEGERS, FLOATS, BOOLS = "uint8 images", "integers", "floating point numbers", "bools"


def is_dataset(X: Any) -> bool:
    """Whether X is a Dataset of torch, or one of Hugging Face whose items are dicts of tensors."""
    if isinstance(X, Dataset):
        return True
    chosen = getattr(X, "format", None) if hasattr(X, "with_format") else None
    return isinstance(chosen, dict) and chosen.get("type") == "torch"


def item_of(items: Dataset | Sequence, position: int) -> Batch:
    """The x of an item of a Dataset or list, which is x or a tuple that starts with x.

    Raises
    ------
    TypeError
        If x cannot be made a tensor or a dict of these, or if there is none.
    ValueError
        If it is a tensor without numbers that a dense one could hold, or has keys that cannot be keywords.
    """
    x = _x_of(items[position])
    with _read_only_is_fine():
        if isinstance(x, Mapping):
            keys = sorted_keys(x, f"item {position} of X")
            return {key: _as_tensor(x[key], position, name_of(key)) for key in keys}
        return _as_tensor(x, position)


def _x_of(item: Any) -> Any:
    return item[0] if isinstance(item, tuple) and item else item


def name_of(key: str) -> str:
    """An entry of a dict, for messages."""
    return f"X[{key!r}]"


def sorted_keys(x: Mapping, name: str) -> list[str]:
    """The keys of a dict, if they can be keywords; sorted, so that their order never matters.

    Raises
    ------
    ValueError
        If there are none, or if one cannot be a keyword.
    """
    if not len(x):
        raise ValueError(f"{name} is a dict without entries.")
    odd = [key for key in x if not (isinstance(key, str) and key.isidentifier() and key != "self")]
    if odd:
        raise ValueError(
            f"The keys of {name} become keywords of forward, so they must be strings that could be names; got "
            f"{odd[0]!r}."
        )
    return sorted(x)


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


def _as_tensor(x: Any, position: int, name: str = "X") -> Tensor:
    if isinstance(x, tuple) and not x:
        raise TypeError(f"Item {position} of {name} is an empty tuple; an item is x, or a tuple that starts with x.")
    if isinstance(x, Tensor):
        return _dense_item(x.detach(), position, name)
    try:
        if isinstance(x, np.ndarray) and x.ndim:  # torch has neither other byte orders nor steps backwards
            x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
        made = torch.as_tensor(x, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"The items of {name} must be tensors, arrays or numbers, or tuples that start with one of these; item "
            f"{position} has {type(x).__name__}. Convert it in the Dataset (a transform, say; a list to a tuple)."
        ) from error
    return _dense_item(made, position, name)


def _dense_item(x: Tensor, position: int, name: str) -> Tensor:
    """The x of an item, if it is a dense tensor of real numbers."""
    if x.is_complex():
        raise ValueError(f"Complex data not supported: item {position} of {name} is complex.")
    if not _has_real_numbers(x):
        kind = "on the meta device" if x.is_meta else f"of layout {x.layout}" if not x.is_quantized else "quantized"
        raise ValueError(f"Item {position} of {name} is a tensor {kind}; a dense one with numbers is expected.")
    return x


def _has_real_numbers(x: Tensor) -> bool:
    return x.layout == torch.strided and not (x.is_complex() or x.is_meta or x.is_quantized)


@dataclass(frozen=True)
class InputForm:
    """What an example of X looks like, and what its numbers are to a network.

    Attributes
    ----------
    item_shape : tuple of int
        Shape of one example; empty, where it is a dict.
    kind : str
        "uint8 images", "integers" or "floating point numbers"; of an entry of a dict also "bools", of a dict "dicts".
    as_indices : bool
        Whether integers stay integers: as indices of an embedding, or in a dict.
    entries : dict of str to InputForm, or None
        Of a dict, by its keys, which are sorted.
    """

    item_shape: tuple[int, ...]
    kind: str
    as_indices: bool = False
    entries: "dict[str, InputForm] | None" = None

    @property
    def size(self) -> int:
        """Numbers in an example."""
        if self.entries is None:
            return torch.Size(self.item_shape).numel()
        return sum(each.size for each in self.entries.values())


def as_networks_take_it(batch: Tensor, form: InputForm, dtype: torch.dtype) -> Tensor:
    """Examples of this form in the precision of the training, where they are neither indices nor bools."""
    if form.as_indices:
        return batch.long()
    if form.kind == BOOLS:
        return batch
    batch = batch.to(dtype)
    return batch / 255 if form.kind == BYTES else batch


class Inputs:
    """Any examples of X as one tensor for the networks; X is used where it lies and never changed.

    Integers become numbers of the training's precision unless they are indices of an embedding, and bytes of images
    (uint8 items of two or more axes) are divided by 255. Of a dict the integers and bools stay what they are.

    Parameters
    ----------
    X : ndarray, Tensor, csr matrix or array, Dataset or sequence of items, or dict of ndarrays and Tensors
        Validated input of shape (n_samples, ...).
    device : torch.device
        Where the examples are wanted.
    dtype : torch.dtype
        In which precision.
    as_indices : bool
        Whether integers are indices of an embedding.
    in_dict : bool
        Whether X is an entry of a dict.
    resident : Tensor of shape (n_samples, ...), or dict of such, optional
        X, or some entries of it, on the device, where :meth:`moved_to_device` has copied it.
    """

    def __init__(
        self,
        X: Any,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        *,
        as_indices: bool = False,
        in_dict: bool = False,
        resident: Batch | None = None,
    ):
        self.X = X
        self.device, self.dtype = device, dtype
        self._entries: dict[str, Inputs] = {}
        self._source: Tensor | None = None
        self.form: InputForm
        if isinstance(X, dict):
            there = resident if isinstance(resident, dict) else {}
            self._entries = {
                key: Inputs(X[key], device, dtype, in_dict=True, resident=there.get(key)) for key in sorted(X)
            }
            self.form = _form_of_dict({key: each.form for key, each in self._entries.items()})
            return
        if isinstance(X, (Tensor, np.ndarray)) or sparse.issparse(X):
            self.form = _form_of(X, X.shape[1:], as_indices=as_indices, in_dict=in_dict)
        else:
            first = item_of(X, 0)
            if isinstance(first, dict):
                self.form = _form_of_dict({key: _form_of(x, x.shape, in_dict=True) for key, x in first.items()})
            else:
                self.form = _form_of(first, first.shape, as_indices=as_indices)
        self._source = self._open() if resident is None else resident  # type: ignore[assignment]

    def to(self, device: torch.device, dtype: torch.dtype, *, as_indices: bool) -> "Inputs":
        """The same X, wanted elsewhere or in another precision."""
        return Inputs(self.X, device, dtype, as_indices=as_indices)

    def moved_to_device(self) -> "Inputs":
        """With X as a whole on the device, if it is a GPU of which this takes less than half of the free memory."""
        parts = self._entries or {"": self}
        sources = {key: each._source for key, each in parts.items() if each._source is not None}
        wanted = {key: source for key, source in sources.items() if source.is_cpu}
        if not wanted or self.device.type != "cuda":
            return self
        dtypes = {key: parts[key]._dtype_on_device(source) for key, source in wanted.items()}
        n_bytes = sum(source.numel() * dtypes[key].itemsize for key, source in wanted.items())
        if 2 * n_bytes >= torch.cuda.mem_get_info(self.device)[0]:
            return self
        for key, source in wanted.items():
            sources[key] = torch.empty(source.shape, dtype=dtypes[key], device=self.device)
            for some, there in zip(source.split(4096), sources[key].split(4096), strict=True):
                there.copy_(some)
        resident: Batch = sources if self._entries else sources[""]
        return Inputs(self.X, self.device, self.dtype, as_indices=self.form.as_indices, resident=resident)

    def _dtype_on_device(self, source: Tensor) -> torch.dtype:
        """In which X as a whole is kept there."""
        form = self.form
        return source.dtype if form.as_indices or form.kind in (BYTES, BOOLS) else self.dtype

    def __len__(self) -> int:
        if self._entries:
            return len(next(iter(self._entries.values())))
        return self.X.shape[0] if sparse.issparse(self.X) else len(self.X)

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """The examples with these indices, (n,) int64 on the CPU, as a tensor of shape (n, ...) on the device.

        Those of a slice may share memory with X. Of a dict, a dict of such tensors, in the order of its keys.
        """
        return self.convert(self.read(indices))

    def read(self, indices: Tensor | slice) -> Batch:
        """Examples where they lie, in their own dtype or, if that has more digits than is wanted, in the wanted one."""
        return self._of_each(self._narrowed, self._gather(indices))

    def convert(self, batch: Batch) -> Batch:
        """What was read, on the device and as the networks take it."""
        return self._of_each(self._converted, batch)

    def _of_each(self, function: Callable[[Tensor, InputForm], Tensor], batch: Batch) -> Batch:
        if self.form.entries is None:
            return function(batch, self.form)  # type: ignore[arg-type]
        return {key: function(batch[key], form) for key, form in self.form.entries.items()}  # type: ignore[index]

    def _narrowed(self, batch: Tensor, form: InputForm) -> Tensor:
        too_wide = form.kind == FLOATS and batch.itemsize > self.dtype.itemsize
        return batch.to(self.dtype) if too_wide else batch

    def _converted(self, batch: Tensor, form: InputForm) -> Tensor:
        # towards the CPU a copy that does not block would be read before it has arrived
        batch = batch.to(self.device, non_blocking=self.device.type != "cpu")
        return as_networks_take_it(batch, form, self.dtype)

    @property
    def by_name(self) -> dict[str, "Inputs"]:
        """X, or the arrays of a dict, by what the user calls them."""
        return {name_of(key): each for key, each in self._entries.items()} or {"X": self}

    def columns_that_lose_digits(self, indices: Tensor) -> list[int]:
        """Columns of a table of which the wanted precision does not hold the differences between these examples.

        Where rounding to it makes errors of more than a twentieth of the standard deviation. Items of Datasets are not
        looked at.
        """
        known = isinstance(self.X, (Tensor, np.ndarray)) or sparse.issparse(self.X)
        if not known or self.form.kind != FLOATS or len(self.form.item_shape) > 1:
            return []
        exact: Any = self._gather(indices)
        exact = exact.reshape(len(exact), -1)  # an entry of a dict may have a number for each example
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
        return self._source is None and is_dataset(self.X)

    @property
    def has_blocks(self) -> bool:
        """Whether a Dataset, or what a Subset is of, says how it is stored: see :mod:`skcoteach.data`."""
        X = self.X
        while isinstance(X, Subset):
            X = X.dataset
        return self.is_dataset and hasattr(X, "block_numbers") and hasattr(X, "blocks_per_window")

    def blocks(self, indices: Tensor) -> tuple[np.ndarray, int]:
        """How such a Dataset is stored.

        Parameters
        ----------
        indices : Tensor of shape (n,), int64, on the CPU

        Returns
        -------
        numbers : ndarray of shape (n,), int32
            Of the block in which each of these examples lies.
        per_window : int
            Blocks that are read together.
        """
        X: Any = self.X
        positions = indices.numpy()
        while isinstance(X, Subset):
            X, positions = X.dataset, np.asarray(X.indices)[positions]
        numbers = np.empty(len(indices), dtype=np.int32)
        for start in range(0, len(indices), 2**16):
            some = slice(start, start + 2**16)
            numbers[some] = X.block_numbers(positions[some])
        return numbers, X.blocks_per_window

    @property
    def is_far(self) -> bool:
        """Whether examples are arrays on the disk, or in another memory than the device's; or some entries are."""
        if self._entries:
            return any(each.is_far for each in self._entries.values())
        if self._source is None and not isinstance(self.X, np.ndarray) and not sparse.issparse(self.X):
            return False
        return _is_mapped(self.X) or (self.device.type != "cpu" and (self._source is None or self._source.is_cpu))

    @property
    def is_on_device(self) -> bool:
        """Whether X lies on the device."""
        if self._entries:
            return all(each.is_on_device for each in self._entries.values())
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

    def _gather(self, indices: Tensor | slice) -> Batch:
        if self._entries:
            return {key: each._gather(indices) for key, each in self._entries.items()}  # type: ignore[misc]
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

    def _stack_items(self, positions: list[int]) -> Batch:
        xs = [_x_of(item) for item in _items_of(self.X, positions)]
        if self.form.entries is None:
            return _stack(xs, self.form, positions)
        _check_keys(xs, self.form.entries, positions)
        batch = {
            key: _stack([x[key] for x in xs], form, positions, name_of(key)) for key, form in self.form.entries.items()
        }
        for key, form in self.form.entries.items():
            kind = _form_of(batch[key], form.item_shape, in_dict=True).kind
            if kind != form.kind:
                raise ValueError(f"The items of {name_of(key)} are of different kinds: {form.kind} and {kind}.")
        return batch


def _check_keys(xs: list, entries: dict[str, InputForm], positions: list[int]) -> None:
    for x, position in zip(xs, positions, strict=True):
        if not isinstance(x, Mapping):
            raise TypeError(
                f"The items of X must all be dicts, as the first one is; item {position} has {type(x).__name__}."
            )
        if x.keys() != entries.keys():
            raise ValueError(
                f"The items of X must have the same keys: the first one has {', '.join(entries)}, item {position} has "
                f"{', '.join(map(str, x)) or 'none'}."
            )


def _stack(xs: list, form: InputForm, positions: list[int], name: str = "X") -> Tensor:
    """Items as one tensor; they are looked at one by one only where they do not fit together."""
    with suppress(RuntimeError, TypeError, ValueError):
        batch = _stacked(xs, form.item_shape)
        if batch is not None and batch.shape[1:] == form.item_shape and _has_real_numbers(batch):
            return batch
    with _read_only_is_fine():
        items = [_as_tensor(x, position, name) for x, position in zip(xs, positions, strict=True)]
    for item in items:
        if tuple(item.shape) != form.item_shape:
            raise ValueError(
                f"The items of {name} have different shapes: {form.item_shape} and {tuple(item.shape)}. All items "
                "of a Dataset or list must have one shape, so that they can be stacked to a batch."
            )
    return torch.stack(items)


def _stacked(xs: list, item_shape: tuple[int, ...]) -> Tensor | None:
    """As one by one, but faster; None where that cannot be."""
    if isinstance(xs[0], Tensor):
        return torch.stack(xs).detach()
    if all(isinstance(x, np.ndarray) for x in xs):
        # their axes lie in memory as they would one by one
        batch = np.empty((len(xs), *item_shape), dtype=xs[0].dtype.newbyteorder("="))
        return torch.from_numpy(np.stack(xs, out=batch, casting="equiv"))
    return _stack_numbers(xs) if all(type(x) is list for x in xs) else None


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


_TORCH_DTYPES = {
    np.dtype(t) for t in ("bool", "float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64")
}


def _native(dtype: np.dtype) -> np.dtype:
    """The dtype that torch can read and that loses nothing the networks would see."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype("float64")
    if dtype.kind == "u" and dtype.itemsize > 1:
        return np.dtype("int64") if dtype.itemsize < 8 else np.dtype("float64")
    return dtype.newbyteorder("=")


def _form_of_dict(entries: dict[str, InputForm]) -> InputForm:
    return InputForm((), "dicts", entries=entries)


def _form_of(array: Any, item_shape: Sequence[int], *, as_indices: bool = False, in_dict: bool = False) -> InputForm:
    """Of examples of this shape that an array holds."""
    kind = _kind(array.dtype, len(item_shape))
    if in_dict and array.dtype in (torch.bool, np.bool_):
        kind = BOOLS
    return InputForm(tuple(item_shape), kind, kind == INTEGERS if in_dict else as_indices and kind != FLOATS)


def _kind(dtype: torch.dtype | np.dtype, item_ndim: int) -> str:
    """What the values of X are to a network."""
    if isinstance(dtype, torch.dtype):
        floating, is_bytes = dtype.is_floating_point, dtype == torch.uint8
    else:
        floating, is_bytes = dtype.kind == "f", dtype == np.uint8
    if is_bytes and item_ndim >= 2:
        return BYTES
    return FLOATS if floating else INTEGERS
