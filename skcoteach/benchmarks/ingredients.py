"""What generated cases are made of: data, labels, weights, parameters and the user's own code, good, odd and bad.

An ingredient says what must come of it: a good one must work, a bad one must be refused, with an odd one either is
right. How they are mixed and what is promised of a case, ``generated`` knows.
"""

import array
import collections
import contextlib
import datetime
import decimal
import fractions
import functools
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from skcoteach.networks import MLP

GOOD, ODD, BAD = "good", "odd", "bad"
#: Features of a generated table.
N_FEATURES = 5
COLUMNS = list("abcde")
#: What the message of a diverged training says.
DIVERGED = "|training diverged|networks return NaN"


@dataclass(frozen=True)
class Draw:
    """What the ingredients of a case are made from.

    Attributes
    ----------
    rng : Generator
    X : ndarray of shape (n, 5), float32, or (n, 1, 8, 8), uint8
    y : ndarray of shape (n,), int
        Classes 0 ... K - 1, each at least five times.
    n_classes : int
        Of the labels that were made of y, where these are good.
    """

    rng: np.random.Generator
    X: np.ndarray
    y: np.ndarray
    n_classes: int

    @property
    def n(self) -> int:
        """Examples."""
        return len(self.X)

    def pick(self, *values: Any) -> Any:
        """One of them."""
        return values[self.rng.integers(len(values))]

    def with_value(self, value: Any, dtype: Any = None) -> np.ndarray:
        """X in which one number is another one."""
        X = self.X.astype(dtype or self.X.dtype)
        X.flat[self.rng.integers(X.size)] = value
        return X


@dataclass(frozen=True)
class Ingredient:
    """A part of a case.

    Attributes
    ----------
    make : callable
        Makes it of a :class:`Draw`.
    verdict : {"good", "odd", "bad"}
        Whether it must work, may be refused or work, or must be refused.
    words : str
        A pattern of which something stands in every message that refuses it.
    """

    make: Callable[[Draw], Any]
    verdict: str
    words: str


def _with(verdict: str, words: str, made_by: dict[str, Callable[[Draw], Any]]) -> dict[str, Ingredient]:
    return {name: Ingredient(make, verdict, words) for name, make in made_by.items()}


# errors of the user's own


class OwnError(Exception):
    """Raised by the user's code."""


class OwnValueError(OwnError, ValueError):
    """A ValueError of the user's own."""


class OwnTypeError(OwnError, TypeError):
    """A TypeError of the user's own."""


class OwnRuntimeError(OwnError, RuntimeError):
    """As torch raises them."""


class OwnIndexError(OwnError, IndexError):
    """As the end of a sequence raises it."""


class OwnKeyError(OwnError, KeyError):
    """As a dict raises it."""


class OwnAttributeError(OwnError, AttributeError):
    """As a typing error raises it."""


class OwnStopIteration(OwnError, StopIteration):
    """As the end of an iterator raises it."""


OWN_ERRORS = (
    OwnError, OwnValueError, OwnTypeError, OwnRuntimeError, OwnIndexError, OwnKeyError, OwnAttributeError,
    OwnStopIteration,
)  # fmt: skip


def fail(kind: type[OwnError]) -> Any:
    """Raise an error of the user's own."""
    raise kind("the user's own error")


def own_error(d: Draw) -> type[OwnError]:
    """A kind of error that the user's code raises."""
    return d.pick(*OWN_ERRORS)


# X


class Items(Dataset):
    """A Dataset that may misbehave: ``change`` makes what is handed out of an example and its number."""

    def __init__(self, X: np.ndarray, change: Callable[[Tensor, int], Any] = lambda x, i: x, length: Any = None):
        self.X = torch.as_tensor(X.copy())
        self.change = change
        self.length = length

    def __len__(self) -> int:
        return len(self.X) if self.length is None else self.length() if callable(self.length) else self.length

    def __getitem__(self, i: int) -> Any:
        return self.change(self.X[i], i)


class WithoutLength(Dataset):
    """A map-style Dataset that does not say how long it is."""

    def __init__(self, X: np.ndarray):
        self.X = torch.as_tensor(X.copy())

    def __getitem__(self, i: int) -> Tensor:
        return self.X[i]


class Stream(IterableDataset):
    """Examples one after the other."""

    def __init__(self, X: np.ndarray):
        self.X = X

    def __iter__(self) -> Iterator[Any]:
        return iter(self.X)


class ArrayLike:
    """Something that NumPy can read."""

    def __init__(self, make: Callable[[], Any]):
        self.make = make

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.make(), dtype=dtype)


class OfLength:
    """Something that has a length and nothing else."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n


class OfShape(OfLength):
    """Something that has a shape and nothing else."""

    @property
    def shape(self) -> tuple[int, int]:
        """As of a table."""
        return self.n, N_FEATURES


def _frame(d: Draw, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(d.X, columns=COLUMNS).assign(**columns)


def _quantized(d: Draw) -> Tensor:
    scheme = d.pick(torch.qint8, torch.quint8, torch.qint32)
    return torch.quantize_per_tensor(torch.tensor(d.X), 0.1, 0, scheme)


def _masked(d: Draw) -> Any:
    return np.ma.masked_greater(d.X, 0)


def _one_changed(d: Draw, item: Callable[[Tensor], Any], *, by: int = 1) -> Items:
    """A Dataset in which an example is something else than the others."""
    position = d.pick(0, d.n - 1, int(d.rng.integers(d.n)))
    return Items(d.X, lambda x, i: item(x) if i % by == position % by and (by > 1 or i == position) else x)


def _sparse_kind(d: Draw) -> Any:
    return d.pick(
        sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.lil_array, sparse.dok_array, sparse.dia_array,
        sparse.bsr_array, sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.lil_matrix,
        sparse.dok_matrix, sparse.dia_matrix, sparse.bsr_matrix,
    )  # fmt: skip


def _sparse_tensor(d: Draw) -> Tensor:
    X = torch.tensor(d.X)
    return d.pick(X.to_sparse, X.to_sparse_csr, X.to_sparse_csc, lambda: X.to_sparse_bsr((1, 1)))()


def _duplicated(d: Draw) -> Any:
    rows, columns = d.rng.integers(d.n, size=99), d.rng.integers(N_FEATURES, size=99)
    return sparse.coo_array((np.ones(99, np.float32), (rows, columns)), shape=d.X.shape)


def _unsorted(d: Draw) -> Any:
    table = sparse.csr_array(d.X)
    table.indices = table.indices.reshape(d.n, -1)[:, ::-1].ravel().copy()
    table.data = table.data.reshape(d.n, -1)[:, ::-1].ravel().copy()
    return sparse.csr_array((table.data, table.indices, table.indptr), shape=d.X.shape)


def _wrapped_parameter(d: Draw) -> Tensor:
    return d.pick(
        lambda: nn.Parameter(torch.tensor(d.X)),
        lambda: torch.tensor(d.X, requires_grad=True) * 2,
        lambda: torch.tensor(d.X).requires_grad_(),
    )()


def _of_inference(d: Draw) -> Tensor:
    with torch.inference_mode():
        return torch.tensor(d.X)


GOOD_TABLES = {
    "float32": lambda d: d.X.copy(),
    "float64": lambda d: d.X.astype(np.float64),
    "float16": lambda d: d.X.astype(np.float16),
    "longdouble": lambda d: d.X.astype(np.longdouble),
    "big-endian": lambda d: d.X.astype(d.pick(">f4", ">f8", ">i4", ">i8", ">f2")),
    "integers": lambda d: (10 * d.X).astype(d.pick("i1", "i2", "i4", "i8")),
    "unsigned integers": lambda d: (10 * abs(d.X)).astype(d.pick("u1", "u2", "u4", "u8")),
    "bool": lambda d: d.X > 0,
    "fortran": lambda d: np.asfortranarray(d.X),
    "strided": lambda d: np.repeat(d.X, 2, axis=1)[:, ::2],
    "backwards": lambda d: d.X.copy()[::-1, ::-1],
    "read-only": lambda d: np.frombuffer(d.X.tobytes(), np.float32).reshape(d.X.shape),
    "list": lambda d: d.X.tolist(),
    "tuple of tuples": lambda d: tuple(map(tuple, d.X.tolist())),
    "objects": lambda d: d.X.astype(object),
    "mask of nothing": lambda d: np.ma.masked_greater(d.X, 1e9),
    "matrix of rows": lambda d: list(d.X.copy()),
    "tensor": lambda d: torch.tensor(d.X),
    "tensor of another dtype": lambda d: torch.tensor(d.X).to(d.pick(torch.float64, torch.bfloat16, torch.float16)),
    "tensor of integers": lambda d: torch.tensor(10 * d.X).to(d.pick(torch.int64, torch.int32, torch.int8)),
    "tensor of bools": lambda d: torch.tensor(d.X) > 0,
    "tensor with a gradient": _wrapped_parameter,
    "tensor turned": lambda d: torch.tensor(d.X.T).T,
    "tensor expanded": lambda d: torch.tensor(d.X[:, :1]).expand(d.n, N_FEATURES),
    "tensor of inference": _of_inference,
    "negative view": lambda d: torch.tensor(d.X).to(torch.complex64).mul(1j).conj().imag,
    "frame": lambda d: _frame(d),
    "nullable frame": lambda d: _frame(d, a=pd.array(range(d.n), "Int64"), b=pd.array(d.X[:, 0] > 0, "boolean")),
    "frame of Float64": lambda d: _frame(d).astype("Float64"),
    "categories that are numbers": lambda d: _frame(d, c=pd.Categorical(range(d.n))),
    "frame with an index": lambda d: _frame(d).set_index(pd.Index([f"row {i}" for i in range(d.n)])),
    "frame with numbers as objects": lambda d: _frame(d).astype(object),
    "sparse": lambda d: _sparse_kind(d)(d.X),
    "sparse of integers": lambda d: _sparse_kind(d)((3 * d.X).astype(d.pick("i8", "i4", "u1"))),
    "sparse of nothing": lambda d: sparse.csr_array(d.X.shape),
    "sparse, a place twice": _duplicated,
    "sparse, unsorted": _unsorted,
    "Dataset": lambda d: Items(d.X),
    "Dataset of tuples": lambda d: Items(d.X, lambda x, i: (x, "not a label")),
    "Dataset of arrays": lambda d: Items(d.X, lambda x, i: x.numpy()[::-1]),
    "Dataset of lists in tuples": lambda d: Items(d.X, lambda x, i: (x.tolist(), i)),
    "TensorDataset": lambda d: TensorDataset(torch.tensor(d.X), torch.tensor(d.y)),
    "Subset": lambda d: Subset(Items(d.X), range(d.n)),
    "list of tensors": lambda d: list(torch.tensor(d.X)),
    "list of items": lambda d: [(x, 1) for x in torch.tensor(d.X)],
    "array-like": lambda d: ArrayLike(d.X.copy),
}

ODD_TABLES = {
    "large": lambda d: d.with_value(d.pick(1e30, -1e38, 1e38)),
    "very large": lambda d: d.with_value(d.pick(1e300, 1e40, -1e308), np.float64),
    "tiny": lambda d: d.X * np.float32(1e-40),
    "too long an integer": lambda d: [[10**30, *row[1:]] for row in d.X.tolist()],
    "all zero": lambda d: np.zeros_like(d.X),
    "a column more": lambda d: np.hstack([d.X, d.X[:, :1]]),
    "a column less": lambda d: d.X[:, 1:].copy(),
    "frame with other names": lambda d: _frame(d).rename(columns={"a": "z"}),
    "frame in another order": lambda d: _frame(d)[COLUMNS[::-1]],
    "frame with a name twice": lambda d: _frame(d).set_axis(["a", "a", "c", "d", "e"], axis=1),
    "frame with numbers for names": lambda d: _frame(d).set_axis(range(N_FEATURES), axis=1),
    "frame with names of two kinds": lambda d: _frame(d).set_axis(["a", 1, "c", 2, "e"], axis=1),
    "frame with names in levels": lambda d: _frame(d).set_axis(pd.MultiIndex.from_product([["x"], COLUMNS]), axis=1),
    "frame of text that is numbers": lambda d: _frame(d, a=[str(i) for i in range(d.n)]),
    "frame of sparse columns": lambda d: _frame(d).astype(pd.SparseDtype("float32", 0)),
    "objects of decimals": lambda d: np.array([[decimal.Decimal(f"{x:.3f}") for x in row] for row in d.X], object),
    "objects of fractions": lambda d: np.array([[fractions.Fraction(int(9 * x), 7) for x in row] for row in d.X]),
    "objects of bools": lambda d: np.array(d.X > 0, dtype=object),
    "text of numbers": lambda d: (10 * d.X).astype(int).astype(str),
    "tensor of unsigned integers": lambda d: torch.tensor(10 * abs(d.X)).to(
        d.pick(torch.uint16, torch.uint32, torch.uint64)
    ),
    "tensor of eight bits": lambda d: torch.tensor(d.X).to(d.pick(torch.float8_e4m3fn, torch.float8_e5m2)),
    "sparse of long doubles": lambda d: sparse.csr_array(d.X.astype(np.longdouble)),
    "sparse of bools": lambda d: sparse.csr_array(d.X > 0),
    "range of rows": lambda d: [range(N_FEATURES)] * d.n,
    "deque of rows": lambda d: collections.deque(d.X.tolist()),
    "Dataset of single-item tuples": lambda d: Items(d.X, lambda x, i: (x,)),
    "Dataset of lists": lambda d: Items(d.X, lambda x, i: x.tolist()),
    "NaN in a TensorDataset": lambda d: TensorDataset(torch.tensor(d.X * np.nan)),
    "Dataset with NaN": lambda d: _one_changed(d, lambda x: x * torch.nan),
    "Dataset of two dtypes": lambda d: _one_changed(d, lambda x: x.double(), by=2),
    "Dataset of floats and integers": lambda d: _one_changed(d, lambda x: x.long()),
    "Dataset too short": lambda d: Items(d.X, length=d.n - 1),
    "Dataset of half precision": lambda d: Items(d.X, lambda x, i: x.bfloat16()),
    "Dataset that changes its item": lambda d: Items(d.X, lambda x, i: x.clone().mul_(2)),
    "Dataset of parameters": lambda d: Items(d.X, lambda x, i: nn.Parameter(x.clone())),
    "Datasets one after the other": lambda d: ConcatDataset([Items(d.X[:9]), Items(d.X[9:])]),
    "list of arrays in tuples": lambda d: [(x, 0) for x in d.X.copy()],
    "one example": lambda d: d.X[:1].copy(),
    "three axes": lambda d: d.X[:, None].copy(),
    "four axes": lambda d: d.X[:, None, None].copy(),
    "five axes": lambda d: d.X[:, None, None, None].copy(),
    "image": lambda d: np.zeros((d.n, 1, 8, 8), dtype=np.uint8),
}

BAD_TABLES = {
    "None": lambda d: None,
    "text": lambda d: "abc",
    "bytes": lambda d: b"abc",
    "a number": lambda d: d.pick(3, 2.5, np.float64(1), np.int64(2), True, 1j),
    "array without axes": lambda d: np.array(1.0),
    "tensor without axes": lambda d: torch.tensor(1.0),
    "one axis": lambda d: d.X[:, 0].copy(),
    "tensor of one axis": lambda d: torch.tensor(d.X[:, 0]),
    "Series": lambda d: pd.Series(d.X[:, 0]),
    "list of numbers": lambda d: d.X[:, 0].tolist(),
    "array of C": lambda d: array.array("d", d.X[:, 0].tolist()),
    "bytes in memory": lambda d: memoryview(b"0123456789"),
    "range": lambda d: range(d.n),
    "iterator": lambda d: iter(d.X.tolist()),
    "generator": lambda d: (x for x in d.X),
    "set": lambda d: {1, 2},
    "dict": lambda d: {"a": d.X[:, 0], "b": d.X[:, 1]},
    "list of dicts": lambda d: [{"a": 1.0}] * d.n,
    "function": lambda d: len,
    "class": lambda d: np.ndarray,
    "object": lambda d: object(),
    "something of a length": lambda d: OfLength(d.n),
    "something of a shape": lambda d: OfShape(d.n),
    "path": lambda d: pathlib.Path("data.csv"),
    "no examples": lambda d: d.pick(d.X[:0], d.X[:0].tolist(), torch.tensor(d.X[:0]), Items(d.X[:0])),
    "no columns": lambda d: d.pick(d.X[:, :0], torch.tensor(d.X[:, :0]), _frame(d)[[]], sparse.csr_array((d.n, 0))),
    "no columns in items": lambda d: Items(d.X[:, :0]),
    "ragged": lambda d: [[1.0], *d.X.tolist()],
    "ragged objects": lambda d: np.array([[1.0], *d.X.tolist()], dtype=object),
    "list with None": lambda d: [None, *d.X.tolist()],
    "None within": lambda d: d.with_value(None, object),
    "dict within": lambda d: d.with_value({}, object),
    "text within": lambda d: d.with_value("oak", object),
    "date within": lambda d: d.with_value(datetime.date(2020, 1, 1), object),
    "tensor within": lambda d: [[torch.ones(2), *row[1:]] for row in d.X.tolist()],
    "strings": lambda d: np.full(d.X.shape, "oak"),
    "bytes for numbers": lambda d: np.full(d.X.shape, b"oak"),
    "dates": lambda d: (10 * d.X).astype("datetime64[D]"),
    "times": lambda d: (10 * d.X).astype("timedelta64[s]"),
    "complex": lambda d: d.X + 1j,
    "complex tensor": lambda d: torch.tensor(d.X + 1j),
    "complex sparse": lambda d: sparse.csr_array(d.X + 1j),
    "complex Dataset": lambda d: Items(d.X, lambda x, i: x + 1j),
    "structured": lambda d: np.zeros(d.n, dtype=[("a", "f4"), ("b", "i4")]),
    "records": lambda d: np.rec.fromarrays([d.X[:, 0], d.X[:, 1]]),
    "void": lambda d: d.X.view("V4"),
    "masked": _masked,
    "NaN": lambda d: d.with_value(np.nan, d.pick("f2", "f4", "f8", ">f4", object)),
    "infinity": lambda d: d.with_value(d.pick(np.inf, -np.inf), d.pick("f2", "f4", "f8", ">f8", object)),
    "NaN in a tensor": lambda d: torch.tensor(d.with_value(d.pick(np.nan, np.inf))).to(
        d.pick(torch.float32, torch.float64, torch.bfloat16, torch.float16)
    ),
    "NaN in a frame": lambda d: pd.DataFrame(d.with_value(np.nan), columns=COLUMNS),
    "NaN in a sparse one": lambda d: _sparse_kind(d)(d.with_value(np.nan)),
    "NA in a frame": lambda d: _frame(d, a=pd.array([pd.NA, *range(d.n - 1)], "Int64")),
    "frame with text": lambda d: _frame(d, city="Rome"),
    "frame with dates": lambda d: _frame(d, day=pd.Timestamp("2020-01-01")),
    "frame with categories": lambda d: _frame(d, c=pd.Categorical(["x", "y"] * (d.n // 2) + ["x"] * (d.n % 2))),
    "frame with lists": lambda d: _frame(d, a=[[1, 2]] * d.n),
    "frame with complex numbers": lambda d: _frame(d, a=1j),
    "frame with periods": lambda d: _frame(d, a=pd.period_range("2020-01", periods=d.n, freq="M")),
    "frame with intervals": lambda d: _frame(d, a=pd.interval_range(0, d.n)),
    "sparse of one axis": lambda d: sparse.coo_array(d.X[:, 0]),
    "sparse of three axes": lambda d: sparse.coo_array(d.X[:, None]),
    "sparse tensor": _sparse_tensor,
    "quantized": _quantized,
    "meta": lambda d: torch.empty(d.X.shape, device="meta"),
    "nested tensor": lambda d: torch.nested.nested_tensor(list(torch.tensor(d.X)), layout=torch.jagged),
    "DataLoader": lambda d: DataLoader(Items(d.X)),
    "Dataset without a length": lambda d: WithoutLength(d.X),
    "stream": lambda d: Stream(d.X),
    "Dataset of numbers": lambda d: Items(d.X[:, 0]),
    "Dataset of Python's numbers": lambda d: Items(d.X, lambda x, i: float(i)),
    "Dataset of text": lambda d: Items(d.X, lambda x, i: "oak"),
    "Dataset of None": lambda d: Items(d.X, lambda x, i: None),
    "Dataset of dicts": lambda d: Items(d.X, lambda x, i: {"a": x}),
    "Dataset of empty tuples": lambda d: Items(d.X, lambda x, i: ()),
    "Dataset of strings as arrays": lambda d: Items(d.X, lambda x, i: np.array(["oak"])),
    "Dataset of sparse items": lambda d: Items(d.X, lambda x, i: x.to_sparse()),
    "Dataset of sparse rows": lambda d: Items(d.X, lambda x, i: sparse.csr_array(x.numpy()[None])),
    "Dataset of meta items": lambda d: Items(d.X, lambda x, i: x.to("meta")),
    "Dataset of quantized items": lambda d: Items(d.X, lambda x, i: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
    "Dataset with a None": lambda d: _one_changed(d, lambda x: None),
    "Dataset with a text": lambda d: _one_changed(d, lambda x: ("oak", 1)),
    "Dataset of two shapes": lambda d: _one_changed(d, lambda x: x[1:]),
    "Dataset with an item of another number of axes": lambda d: _one_changed(d, lambda x: x[0]),
    "Dataset with a complex item": lambda d: _one_changed(d, lambda x: x + 1j),
    "Dataset with a sparse item": lambda d: _one_changed(d, lambda x: x.to_sparse()),
    "Dataset with a meta item": lambda d: _one_changed(d, lambda x: x.to("meta")),
    "Dataset of a wrong length": lambda d: Items(d.X, length=d.pick(-1, 0, 10**6)),
    "Dataset whose length is no number": lambda d: Items(d.X, length=d.pick(1.5, "many", lambda: None)),
    "list with another item": lambda d: [*torch.tensor(d.X[1:]), d.pick(None, "oak", torch.ones(2), 3.0)],
    "list of tensors without axes": lambda d: list(torch.tensor(d.X[:, 0])),
}

USERS_TABLES = {
    "Dataset that fails": lambda d: (lambda kind: _one_changed(d, lambda x: fail(kind)))(own_error(d)),
    "Dataset whose length fails": lambda d: Items(d.X, length=functools.partial(fail, own_error(d))),
    "array-like that fails": lambda d: ArrayLike(functools.partial(fail, own_error(d))),
}

_X_WORDS = (
    r"\bX\b|2D array|2-dimensional|[Cc]omplex data not supported|[Ff]eature names|Found .* with 0|SmallCNN takes images"
)

TABLES = (
    _with(GOOD, _X_WORDS, GOOD_TABLES)
    | _with(ODD, _X_WORDS + DIVERGED + "|images|network made by|SmallCNN does not take", ODD_TABLES)
    | _with(BAD, _X_WORDS, BAD_TABLES)
    | _with(BAD, "the user's own", USERS_TABLES)
)

IMAGES = (
    _with(
        GOOD,
        _X_WORDS,
        {
            "uint8": lambda d: d.X.copy(),
            "float": lambda d: d.X.astype(np.float32) / 255,
            "tensor": lambda d: torch.tensor(d.X),
            "channels last in memory": lambda d: torch.tensor(d.X).contiguous(memory_format=torch.channels_last),
            "Dataset": lambda d: Items(d.X),
            "integers": lambda d: d.X.astype(np.int16),
        },
    )
    | _with(
        ODD,
        _X_WORDS,
        {
            "table": lambda d: d.X.reshape(d.n, -1).astype(np.float32),
            "larger": lambda d: np.repeat(d.X, 2, axis=2),
            "three channels": lambda d: np.repeat(d.X, 3, axis=1),
            "channels last": lambda d: d.X.transpose(0, 2, 3, 1).repeat(3, axis=3),
            "one axis more": lambda d: d.X[:, None],
            "Dataset of float and bytes": lambda d: _one_changed(d, lambda x: x.float()),
            "Dataset of doubles": lambda d: Items(d.X, lambda x, i: x.double().numpy()),
        },
    )
    | _with(
        BAD,
        _X_WORDS,
        {
            "one axis less": lambda d: d.X[:, 0],
            "too small": lambda d: d.X[..., :2, :2],
            "no pixels": lambda d: d.X[..., :0],
            "NaN": lambda d: d.with_value(np.nan, np.float32),
            "complex": lambda d: d.X + 1j,
            "strings": lambda d: d.X.astype(str),
            "nested lists with a None": lambda d: [None, *d.X.tolist()],
            "Dataset of two shapes": lambda d: _one_changed(d, lambda x: x[..., 1:]),
            "sparse": lambda d: torch.tensor(d.X).to_sparse(),
            "meta": lambda d: torch.empty(d.X.shape, device="meta"),
        },
    )
)


# y


def _names(d: Draw) -> np.ndarray:
    return np.array(["ash", "birch", "oak", "yew"])[d.y]


def _rare(d: Draw) -> np.ndarray:
    y = d.y.copy()
    y[0] = 9
    return y


GOOD_LABELS = {
    "integers": lambda d: d.y.copy(),
    "narrow integers": lambda d: d.y.astype(d.pick("i1", "u1", "i4", "u8", ">i4", ">u2")),
    "whole numbers": lambda d: d.y.astype(d.pick("f4", "f8", "f2", ">f8")),
    "list": lambda d: d.y.tolist(),
    "tuple": lambda d: tuple(d.y.tolist()),
    "strings": _names,
    "strings as objects": lambda d: _names(d).astype(object),
    "list of strings": lambda d: _names(d).tolist(),
    "bools": lambda d: d.y == 1,
    "negative": lambda d: d.y - 5,
    "column": lambda d: d.y[:, None].copy(),
    "tensor": lambda d: torch.tensor(d.y),
    "tensor of another dtype": lambda d: torch.tensor(d.y).to(d.pick(torch.int32, torch.uint8, torch.bfloat16)),
    "tensor of bools": lambda d: torch.tensor(d.y == 1),
    "Series": lambda d: pd.Series(d.y),
    "Series of categories": lambda d: pd.Series(_names(d)).astype("category"),
    "Series of strings": lambda d: pd.Series(_names(d), dtype="string"),
    "nullable Series": lambda d: pd.Series(d.y, dtype=d.pick("Int64", "Float64", "UInt8")),
    "frame of a column": lambda d: pd.DataFrame({"y": d.y}),
    "read-only": lambda d: np.frombuffer(d.y.tobytes(), d.y.dtype),
    "strided": lambda d: np.repeat(d.y, 2)[::2],
    "mask of nothing": lambda d: np.ma.masked_greater(d.y, 99),
    "a rare one": _rare,
    "backwards": lambda d: d.y[::-1],
}

ODD_LABELS = {
    "huge integers": lambda d: d.y + 2**60,
    "Python's huge integers": lambda d: d.y.astype(object) + 10**30,
    "long doubles": lambda d: d.y.astype(np.longdouble),
    "a class each": lambda d: np.arange(d.n),
    "dates": lambda d: d.y.astype("datetime64[D]"),
    "timestamps": lambda d: pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(d.y, unit="D")),
    "tuples": lambda d: [(each, 1) for each in d.y.tolist()],
    "fractions": lambda d: [fractions.Fraction(each, 3) for each in d.y.tolist()],
    "integers as objects": lambda d: d.y.astype(object),
    "array-like": lambda d: ArrayLike(d.y.copy),
    "deque": lambda d: collections.deque(d.y.tolist()),
    "tensor with a gradient": lambda d: torch.tensor(d.y, dtype=torch.float32, requires_grad=True),
    "tensor of eight bits": lambda d: torch.tensor(d.y, dtype=torch.float32).to(torch.float8_e4m3fn),
    "row": lambda d: d.y[None],
    "list of tensors": lambda d: list(torch.tensor(d.y)),
    "list of arrays": lambda d: list(d.y[:, None]),
    "bools and integers": lambda d: [True, *d.y[1:].tolist()],
    "integers and floats": lambda d: [0.0, *d.y[1:].tolist()],
    "range": lambda d: range(d.n),
    "periods": lambda d: pd.Series(pd.period_range("2020", periods=2, freq="Y")[np.minimum(d.y, 1)]),
    "index": lambda d: pd.Index(d.y),
    "array of C": lambda d: array.array("l", d.y.tolist()),
    "array of pandas": lambda d: pd.array(d.y, dtype="Int64"),
    "sparse column": lambda d: sparse.csr_array(d.y[:, None]),
    "enum-like strings": lambda d: np.char.add("x" * 200, d.y.astype(str)),
    "void strings": lambda d: np.array(["", "a", "b", "c"])[d.y],
    "StringDType": lambda d: _names(d).astype(np.dtypes.StringDType()),
    "dicts of numbers": lambda d: {i: int(each) for i, each in enumerate(d.y)},
}

BAD_LABELS = {
    "None": lambda d: None,
    "short": lambda d: d.y[:-1],
    "long": lambda d: [*d.y.tolist(), 0],
    "empty": lambda d: d.pick([], np.array([], int), torch.tensor([])),
    "a number": lambda d: d.pick(1, 1.5, True, np.int64(1), np.array(1), torch.tensor(1)),
    "text": lambda d: "oak",
    "iterator": lambda d: iter(d.y.tolist()),
    "generator": lambda d: (each for each in d.y),
    "set": lambda d: set(d.y.tolist()),
    "function": lambda d: len,
    "object": lambda d: object(),
    "NaN": lambda d: np.where(np.arange(d.n) == 2, np.nan, d.y),
    "infinity": lambda d: np.where(np.arange(d.n) == 2, np.inf, d.y),
    "NaN in a tensor": lambda d: torch.tensor(np.where(np.arange(d.n) == 2, np.nan, d.y)),
    "a None": lambda d: [None, *d.y[1:].tolist()],
    "None among strings": lambda d: [*_names(d)[1:].tolist(), None],
    "NaN among strings": lambda d: [*_names(d)[1:].tolist(), np.nan],
    "NA": lambda d: pd.Series(d.y, dtype="Int64").replace(1, pd.NA),
    "NaT": lambda d: np.array(["NaT", *d.y[1:].astype("datetime64[D]")], dtype="datetime64[D]"),
    "missing category": lambda d: pd.Series(_names(d)).astype(pd.CategoricalDtype(["ash"])),
    "continuous": lambda d: d.y + 0.5 * d.X.ravel()[: d.n],
    "mixed": lambda d: ["a", *d.y[1:].tolist()],
    "one class": lambda d: d.pick(np.ones(d.n), ["oak"] * d.n, torch.zeros(d.n), np.zeros(d.n, bool)),
    "one-hot": lambda d: np.eye(d.n_classes)[d.y],
    "one-hot tensor": lambda d: torch.eye(d.n_classes)[torch.tensor(d.y)],
    "one-hot lists": lambda d: np.eye(d.n_classes, dtype=int)[d.y].tolist(),
    "one-hot sparse": lambda d: sparse.csr_array(np.eye(d.n_classes)[d.y]),
    "frame of two columns": lambda d: pd.DataFrame({"a": d.y, "b": d.y}),
    "three axes": lambda d: d.y[:, None, None],
    "ragged": lambda d: [[0], [1, 2], *d.y[2:].tolist()],
    "lists of several lengths": lambda d: [[0] * (1 + each) for each in d.y],
    "bytes": lambda d: d.y.astype("S"),
    "bytes as objects": lambda d: d.y.astype("S").astype(object),
    "complex": lambda d: d.y + 1j,
    "complex as objects": lambda d: (d.y + 1j).astype(object),
    "complex tensor": lambda d: torch.tensor(d.y + 1j),
    "dicts": lambda d: [{"label": each} for each in d.y],
    "sets": lambda d: [{each} for each in d.y.tolist()],
    "objects": lambda d: [object() for _ in d.y],
    "structured": lambda d: np.zeros(d.n, dtype=[("a", "f4"), ("b", "i4")]),
    "void": lambda d: d.y.astype("i8").view("V8"),
    "masked": lambda d: np.ma.masked_equal(d.y, 1),
    "sparse tensor": lambda d: torch.tensor(d.y).to_sparse(),
    "quantized": lambda d: torch.quantize_per_tensor(torch.tensor(d.y).float(), 1.0, 0, torch.qint8),
    "meta": lambda d: torch.tensor(d.y).to("meta"),
    "Dataset": lambda d: Items(d.X),
    "nested tensor": lambda d: torch.nested.nested_tensor([torch.ones(1)] * d.n, layout=torch.jagged),
}

_Y_WORDS = r"\by\b|[Ll]abels"

LABELS = (
    _with(GOOD, _Y_WORDS, GOOD_LABELS)
    | _with(ODD, _Y_WORDS + "|network made by", ODD_LABELS)
    | _with(BAD, _Y_WORDS, BAD_LABELS)
    | _with(
        BAD, "the user's own", {"array-like that fails": lambda d: ArrayLike(functools.partial(fail, own_error(d)))}
    )
)


# sample_weight


def _weights(d: Draw, value: Any = 1.0, dtype: Any = float) -> np.ndarray:
    weights = d.rng.uniform(0.5, 2.0, d.n).astype(dtype)
    weights[d.rng.integers(d.n)] = value
    return weights


WEIGHTS = (
    _with(
        GOOD,
        "sample_weight",
        {
            "None": lambda d: None,
            "numbers": lambda d: _weights(d),
            "narrow numbers": lambda d: _weights(d, dtype=d.pick("f4", "f2", ">f8")),
            "a zero": lambda d: _weights(d, 0.0),
            "integers": lambda d: np.arange(d.n) % 3 + 1,
            "list": lambda d: _weights(d).tolist(),
            "tensor": lambda d: torch.tensor(_weights(d)),
            "narrow tensor": lambda d: torch.tensor(_weights(d)).to(d.pick(torch.float32, torch.bfloat16, torch.half)),
            "Series": lambda d: pd.Series(_weights(d)),
            "nullable Series": lambda d: pd.Series(_weights(d), dtype="Float64"),
            "bools": lambda d: np.ones(d.n, dtype=bool),
            "one for all": lambda d: d.pick(1, 2.5),
            "read-only": lambda d: np.frombuffer(_weights(d).tobytes()),
        },
    )
    | _with(
        ODD,
        r"weight|batch of X with shape \(1,",
        {
            "very large": lambda d: _weights(d, 1e300),
            "large": lambda d: 1e38 * _weights(d),
            "tiny": lambda d: 1e-300 * _weights(d),
            "one counts": lambda d: np.eye(d.n)[0],
            "a class has none": lambda d: (d.y > 0).astype(float),
            "long doubles": lambda d: _weights(d, dtype=np.longdouble),
            "fractions": lambda d: [fractions.Fraction(1, 3)] * d.n,
            "decimals": lambda d: [decimal.Decimal("0.5")] * d.n,
            "strings of numbers": lambda d: np.ones(d.n).astype(str),
            "tensor with a gradient": lambda d: torch.tensor(_weights(d), requires_grad=True),
            "column": lambda d: _weights(d)[:, None],
            "frame": lambda d: pd.DataFrame({"w": _weights(d)}),
            "a NumPy number": lambda d: np.float32(2),
            "zero for all": lambda d: 0,
            "tensor for all": lambda d: torch.tensor(1.0),
            "array for all": lambda d: np.array(1.0),
            "array-like": lambda d: ArrayLike(lambda: np.ones(d.n)),
            "huge integers": lambda d: [10**30] * d.n,
            "too huge integers": lambda d: [10**400] * d.n,
        },
    )
    | _with(
        BAD,
        r"sample_weight|[Ss]ample weights|A tensor of labels or weights",
        {
            "short": lambda d: _weights(d)[:-1],
            "long": lambda d: [1.0] * (d.n + 1),
            "empty": lambda d: [],
            "negative": lambda d: _weights(d, -1.0),
            "NaN": lambda d: _weights(d, np.nan),
            "infinity": lambda d: _weights(d, np.inf),
            "NaN in a tensor": lambda d: torch.tensor(_weights(d, np.nan)),
            "NA": lambda d: pd.Series(_weights(d), dtype="Float64").where(d.y != 1),
            "all zero": lambda d: np.zeros(d.n),
            "two axes": lambda d: np.ones((d.n, 2)),
            "text": lambda d: d.pick("balanced", b"balanced"),
            "strings": lambda d: ["much"] * d.n,
            "None within": lambda d: [None, *_weights(d)[1:]],
            "dict": lambda d: {0: 1.0, 1: 2.0},
            "complex": lambda d: _weights(d) + 1j,
            "complex tensor": lambda d: torch.tensor(_weights(d) + 1j),
            "object": lambda d: object(),
            "function": lambda d: len,
            "iterator": lambda d: iter(_weights(d)),
            "set": lambda d: {1.0, 2.0},
            "ragged": lambda d: [[1.0], [1.0, 2.0], *_weights(d)[2:]],
            "dates": lambda d: d.y.astype("datetime64[D]"),
            "times": lambda d: d.y.astype("timedelta64[D]"),
            "masked": lambda d: np.ma.masked_equal(1 + d.y, 2),
            "structured": lambda d: np.zeros(d.n, dtype=[("a", "f4"), ("b", "i4")]),
            "sparse": lambda d: sparse.csr_array(_weights(d)[:, None]),
            "sparse tensor": lambda d: torch.tensor(_weights(d)).to_sparse(),
            "quantized": lambda d: torch.quantize_per_tensor(torch.ones(d.n), 1.0, 0, torch.qint8),
            "meta": lambda d: torch.ones(d.n, device="meta"),
            "Dataset": lambda d: Items(d.X),
        },
    )
)


# classes of partial_fit


CLASSES = (
    _with(GOOD, "classes", {"all": lambda d: None})
    | _with(
        ODD,
        r"classes|\bclass\b",
        {
            "unsorted": lambda d: np.arange(d.n_classes)[::-1],
            "more": lambda d: [*range(d.n_classes), 99],
            "twice": lambda d: [*range(d.n_classes)] * 2,
            "tensor": lambda d: torch.arange(d.n_classes),
            "floats": lambda d: np.arange(d.n_classes, dtype=float),
            "strings": lambda d: ["ash", "birch", "oak", "yew"],
            "index": lambda d: pd.Index(range(d.n_classes)),
            "range": lambda d: range(d.n_classes),
            "set": lambda d: set(range(d.n_classes)),
            "a dict": lambda d: dict.fromkeys(range(d.n_classes)),
            "column": lambda d: np.arange(d.n_classes)[:, None],
        },
    )
    | _with(
        BAD,
        r"classes|\bclass\b",
        {
            "a number": lambda d: 3,
            "text": lambda d: "oak",
            "one": lambda d: [0],
            "none": lambda d: [],
            "too few": lambda d: [7, 8],
            "NaN": lambda d: [0.0, 1.0, np.nan],
            "a None": lambda d: [0, 1, None],
            "NA": lambda d: pd.array([0, 1, None], dtype="Int64"),
            "two axes": lambda d: np.arange(4).reshape(2, 2),
            "mixed": lambda d: [0, "oak"],
            "bytes": lambda d: [b"ash", b"oak"],
            "complex": lambda d: [0j, 1j],
            "objects": lambda d: [object(), object()],
            "lists": lambda d: [[0], [1, 2]],
            "dicts": lambda d: [{}, {}],
            "generator": lambda d: (each for each in range(3)),
            "function": lambda d: len,
            "meta": lambda d: torch.ones(2, device="meta"),
            "sparse": lambda d: torch.arange(2).to_sparse(),
        },
    )
)


# parameters


def _one(name: str, *values: Any) -> dict[str, Callable[[Draw], Any]]:
    return {f"{name}={_short(value)}": functools.partial(_given, name, value) for value in values}


def _given(name: str, value: Any, d: Draw) -> dict[str, Any]:
    return {name: value}


def _short(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:60]


#: What no number may be.
_NO_NUMBERS = ("3", "", b"3", [3], (1,), {1}, {"a": 1}, 3j, np.nan, np.array([1, 2]), torch.tensor([0.2, 0.3]), len,
               object, True, False, np.True_, decimal.Decimal("0.5"), datetime.date(2020, 1, 1))  # fmt: skip
_FLOATS: dict[str, tuple] = {
    "forget_rate": (-0.1, 1, 1.0, 2.0, np.float64(1.0), np.inf, None),
    "exponent": (0, 0.0, -1, -np.inf, None),
    "class_floor": (-0.1, 1.1, np.inf, None),
    "lr": (0, -1e-3, -np.inf, None),
    "average_decay": (1, 1.0, -0.5, np.inf),
}
_INTEGERS: dict[str, tuple] = {
    "num_gradual": (-1, 0.5, 2.0, np.float64(1), 10**9),
    "epochs": (0, -1, 2.0, np.float64(2), None),
    "batch_size": (0, -1, 16.0, None),
    "num_iter_per_epoch": (0, -1, 1.0),
    "epoch_decay_start": (-1, 1.5),
    "random_state": (-1, 2**32, 10**30, 1.5),
}
_GOOD_PARAMETERS: dict[str, tuple] = {
    "forget_rate": (0, 0.0, 0.2, 0.5, np.float32(0.3), np.float16(0.3), "auto"),
    "exponent": (1, 0.5, 2.0, np.float64(1.5)),
    "class_floor": (0, 1, 0.0, 1.0, 0.5, np.float32(0.25)),
    "epochs": (1, 2, 3, np.int64(2), np.uint8(2)),
    "batch_size": (16, 32, 1000, np.int32(20)),
    "num_iter_per_epoch": (None, 1, 2, np.int64(1), 100),
    "num_gradual": (None, 0, 1, np.int64(1)),
    "lr": (1e-3, 1e-2, np.float32(1e-3)),
    "epoch_decay_start": (None, 0, 1, np.int64(1), 100),
    "class_weight": (None, {0: 2.0}, {0: 0.5, 1: 1}),
    "average_decay": (None, 0.9, 0.0, np.float32(0.5)),
    "device": ("auto", "cpu", torch.device("cpu"), "cpu:0"),
    "precision": ("float32", "tf32", "bf16", "float64"),
    "compile": (False, np.False_),
    "random_state": (0, 7, np.int64(3), 2**32 - 1),
    "verbose": (0, 1, 2, True),
}
_ODD_PARAMETERS: dict[str, tuple] = {
    "forget_rate": (fractions.Fraction(1, 5), 1 - 1e-17, 1 - 1e-12, np.nextafter(1, 0), -0.0, 1e-320, np.str_("auto"),
                    np.longdouble(0.2)),
    "exponent": (1e-300, 1e300, np.inf, fractions.Fraction(1, 2), 10**400, np.longdouble(1)),
    "class_floor": (-0.0, fractions.Fraction(1, 2), 1e-320, np.longdouble(0.5)),
    "lr": (1e-320, 1e30, 1e300, np.inf, fractions.Fraction(1, 100), 10**400, 10**30, np.longdouble(0.01), 1),
    "average_decay": (1 - 1e-17, 1 - 1e-12, fractions.Fraction(1, 2), 1e-320, np.nextafter(1, 0)),
    "num_gradual": (2, 10**30, 10**400),
    "batch_size": (1, 2, 3, 10**30, 10**400, np.uint64(2**63)),
    "num_iter_per_epoch": (10**30, 10**400, np.int64(2**62)),
    "epoch_decay_start": (10**30, 10**400),
    "random_state": ("random state", np.random),
    "class_weight": ("balanced", {}, {0: 0.0}, {0: 1e300}, {0: 1e-300}, {0: True}, {0: np.float32(2)}, {0: "2"}),
    "device": ("cpu:1", "cpu:7", "CPU", 0),
    "verbose": (3, 10**9),
    "checkpoint": ("", "a\0b", "/dev/null/states", pathlib.Path("/dev/null")),
}  # fmt: skip
_BAD_PARAMETERS: dict[str, tuple] = {
    "class_weight": ("unbalanced", "", 3, [1, 2], {77: 2.0}, {"oak?": 1.0}, {0: -1.0}, {0: np.nan}, {0: np.inf},
                     {0: None}, {0: "much"}, {0: [1, 2]}, {0: {}}, {0: 1j}, {0: 10**400}, np.ones(2), True),
    "device": ("gpu7", "", "meta", "cuda:99", "cpu:x", -1, 1.5, None, [], 10**30, 99, torch.device("meta"), object,
               "auto ", "mps:3", "xla", "fpga", "privateuseone"),
    "precision": ("int8", "", None, 32, torch.float32, np.float32, "FLOAT32", b"float32", ["float32"], True),
    "compile": ("yes", None, 0.5, [], "", np.array([True, False])),
    "checkpoint": (3, 0.5, b"states", [], ["states"], True, object, np.ones(3)),
    "verbose": (-1, "yes", None, 1.5, [], np.nan),
    "module": (3, "MLP", [], {}, np.ones(3), torch.ones(2), 0.5, True, (MLP,), object()),
    "module2": (3, "MLP", [], {}, np.ones(3), torch.ones(2), 0.5, True, (MLP,), object()),
    "augment": (3, "flip", [], {}, np.ones(3), torch.ones(2), 0.5, True),
    "optimizer": (None, "Adam", 3, [], {}, np.ones(3), torch.ones(2), True),
}  # fmt: skip


def _parameters() -> dict[str, Ingredient]:
    made = _with(GOOD, "", {"none": lambda d: {}})
    for name, values in _GOOD_PARAMETERS.items():
        made |= _with(GOOD, f"{name}{DIVERGED}", _one(name, *values))
    for name, values in _ODD_PARAMETERS.items():
        words = f"{name}{DIVERGED}" + (r"|batch of X with shape \(1," if name == "batch_size" else "")
        made |= _with(ODD, words, _one(name, *values))
    for name, values in (_FLOATS | _INTEGERS).items():
        made |= _with(BAD, name, _one(name, *values, *_NO_NUMBERS))
    for name, values in _BAD_PARAMETERS.items():
        made |= _with(BAD, name, _one(name, *values))
    return made


PARAMETERS = (
    _parameters()
    | _with(GOOD, "random_state", {"a RandomState": lambda d: {"random_state": np.random.RandomState(3)}})
    | _with(
        BAD,
        "unexpected keyword|Invalid parameter",
        {
            "a parameter that is not": lambda d: {
                d.pick("max_iter", "learning_rate", "forgetrate", "module_hidden", "module__", "x y", "X", "self_"): 1
            },
        },
    )
)


# modules


class Net(nn.Module):
    """A user's network; ``outputs`` makes what its ``forward`` returns of the logits, the input and itself."""

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        outputs: Callable[[Tensor, Tensor, "Net"], Any] = lambda logits, x, net: logits,
        before: Callable[[Tensor, "Net"], Any] = lambda x, net: x,
    ):
        super().__init__()
        self.first = nn.Linear(n_features, 8)
        self.last = nn.Linear(8, n_classes)
        self.outputs = outputs
        self.before = before
        self.kept: Any = None
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        """Logits, or what is made of them."""
        self.calls += 1
        logits = self.last(torch.tanh(self.first(self.before(x, self))))
        return self.outputs(logits, x, self)


def _net(outputs: Callable[[Tensor, Tensor, Net], Any]) -> Callable[[Draw], dict[str, Any]]:
    return lambda d: {"module": lambda n_features, n_classes: Net(n_features, n_classes, outputs)}


def _net_before(before: Callable[[Tensor, Net], Any]) -> Callable[[Draw], dict[str, Any]]:
    return lambda d: {"module": lambda n_features, n_classes: Net(n_features, n_classes, before=before)}


def _in_training(outputs: Callable[[Tensor], Any]) -> Callable[[Draw], dict[str, Any]]:
    """Misbehaves in training only, after the first look at it."""
    return _net(lambda logits, x, net: outputs(logits) if net.training else logits)


def _at_call(number: int, outputs: Callable[[Tensor], Any]) -> Callable[[Draw], dict[str, Any]]:
    return _net(lambda logits, x, net: outputs(logits) if net.calls >= number else logits)


def _keep(logits: Tensor, x: Tensor, net: Net) -> Tensor:
    """Goes on with what the call before has computed, graph and all."""
    if isinstance(net.kept, Tensor):
        logits = logits + net.kept.mean()
    net.kept = logits
    return logits


def _keep_output(logits: Tensor, x: Tensor, net: Net) -> Tensor:
    net.kept = logits
    return logits


def _keep_detached(logits: Tensor, x: Tensor, net: Net) -> Tensor:
    net.kept = logits.detach()
    return logits


def _spoil_parameter(logits: Tensor, x: Tensor, net: Net) -> Tensor:
    """Changes in place what the gradient needs."""
    if net.training:
        with torch.no_grad():
            net.last.weight.mul_(0.5)
            net.first.weight.add_(0.1)
    return logits


def _sequential(*between: Callable[[], nn.Module]) -> Callable[[Draw], dict[str, Any]]:
    def make(n_features: int, n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_features, 8), *(each() for each in between), nn.Linear(8, n_classes))

    return lambda d: {"module": make}


def _lazily(n_classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(n_classes))


class UnusedLazy(Net):
    """Has a layer that never gets a shape."""

    def __init__(self, n_features: int, n_classes: int):
        super().__init__(n_features, n_classes)
        self.unused = nn.LazyLinear(3)


class WithoutCopy(Net):
    """Cannot be copied."""

    def __deepcopy__(self, memo: dict) -> Any:
        raise RuntimeError("not to be copied")


class GrowsLate(Net):
    """Makes a layer when it is first called in training."""

    def forward(self, x: Tensor) -> Any:
        """Logits."""
        if self.training and not hasattr(self, "late"):
            self.late = nn.Linear(x.shape[1], self.last.out_features)
        logits = super().forward(x)
        return logits + self.late(x) if hasattr(self, "late") else logits


class FailsToTrain(Net):
    """Fails where it is put in train mode."""

    kind: type[OwnError] = OwnError

    def train(self, mode: bool = True) -> Any:
        """As of a module, but for training it."""
        return fail(self.kind) if mode else super().train(mode)


def _shared(d: Draw) -> dict[str, Any]:
    layer = nn.Linear(N_FEATURES, 8)
    return {"module": lambda n_classes: nn.Sequential(layer, nn.ReLU(), nn.Linear(8, n_classes))}


def _shared_frozen(d: Draw) -> dict[str, Any]:
    layer = nn.Linear(N_FEATURES, 8).requires_grad_(False)
    return {"module": lambda n_classes: nn.Sequential(layer, nn.ReLU(), nn.Linear(8, n_classes))}


def _alike(d: Draw) -> dict[str, Any]:
    def make(n_features: int, n_classes: int) -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(n_features, n_classes)

    return {"module": make}


def _instances(d: Draw, out: int | None = None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(int(d.rng.integers(2**31)))

    def make() -> nn.Module:
        layer = nn.Linear(N_FEATURES, d.n_classes if out is None else out)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-0.5, 0.5, generator=generator)
        return nn.Sequential(layer)

    return {"module": make(), "module2": make()}


def _one_instance(d: Draw) -> dict[str, Any]:
    return {"module": _instances(d)["module"]} | d.pick({}, {"module2": MLP}, {"module2": None})


def _twice(d: Draw) -> dict[str, Any]:
    one = _instances(d)["module"]
    return {"module": one, "module2": one}


def _failing_module(d: Draw) -> dict[str, Any]:
    kind = own_error(d)
    return d.pick(
        {"module": lambda: fail(kind)},
        {"module2": lambda n_features, n_classes: fail(kind)},
        _net(lambda logits, x, net: fail(kind))(d),
        _in_training(lambda logits: fail(kind))(d),
        _at_call(2, lambda logits: fail(kind))(d),
        {"module": type("FailsToTrain", (FailsToTrain,), {"kind": kind})},
    )


def _failing_backward(d: Draw) -> dict[str, Any]:
    kind = own_error(d)

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            return fail(kind)

    return _net(lambda logits, x, net: Failing.apply(logits))(d)


def _wrong_backward(d: Draw) -> dict[str, Any]:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            return gradient[:, :1]

    return _net(lambda logits, x, net: Wrong.apply(logits))(d)


MODULES = (
    _with(
        GOOD,
        "module",
        {
            "default": lambda d: {},
            "hidden": lambda d: {"module__hidden": d.pick((8,), (), (4, 4), [3])},
            "hidden of the peer": lambda d: {"module2__hidden": (6,)},
            "class": lambda d: {"module": MLP},
            "user's network": _net(lambda logits, x, net: logits),
            "chain": _sequential(nn.ReLU),
            "batch normalisation": _sequential(nn.ReLU, lambda: nn.BatchNorm1d(8)),
            "dropout": _sequential(nn.Tanh, lambda: nn.Dropout(0.3)),
            "in place": _sequential(lambda: nn.ReLU(inplace=True)),
            "lazy": lambda d: {"module": _lazily},
            "partial": lambda d: {"module": functools.partial(MLP, hidden=(6,))},
            "instances": _instances,
            "a shared frozen layer": _shared_frozen,
            "keeps what it computed, without the graph": _net(_keep_detached),
            "two kinds": lambda d: {
                "module": MLP,
                "module2": lambda n_features, n_classes: nn.Linear(N_FEATURES, n_classes),
            },
            "in double precision": _net(lambda logits, x, net: logits.double()),
            "works on its input in place": _net_before(lambda x, net: x.mul_(2)),
            "not contiguous": _net(lambda logits, x, net: logits.T.contiguous().T),
            "keeps its output, graph and all": _net(_keep_output),
        },
    )
    | _with(
        ODD,
        "[Mm]odule|hidden|[Gg]radients|network|Net|Linear|Sequential|Conv2d|LSTM|MLP|GrowsLate" + DIVERGED,
        {
            "a layer of an odd size": lambda d: {
                d.pick("module__hidden", "module2__hidden"): d.pick(
                    (0,),
                    (-1,),
                    (1.5,),
                    ("8",),
                    8,
                    "8",
                    None,
                    (None,),
                    (np.int64(8),),
                    np.array([4, 4]),
                    (True,),
                    {8},
                    torch.tensor([4]),
                    ((8,),),
                    np.nan,
                    (10**30,),
                )
            },
            "sizes by hand": lambda d: {
                d.pick("module__n_features", "module__n_classes", "module2__n_features", "module2__n_classes"): d.pick(
                    N_FEATURES, d.n_classes, 1, 0, -1, "5", None, 2.5, np.nan, 7, np.int64(5), [5], 10**30
                )
            },
            "goes on from the graph before": _net(_keep),
            "changes its weights in place": _net(_spoil_parameter),
            "squeezes": _net(lambda logits, x, net: logits.squeeze()),
            "infinite": _net(lambda logits, x, net: logits * torch.inf),
            "large": _net(lambda logits, x, net: logits * 1e30),
            "half precision": _net(lambda logits, x, net: logits.to(torch.float16)),
            "eight bits": _net(lambda logits, x, net: logits.to(torch.float8_e4m3fn)),
            "grows late": lambda d: {"module": GrowsLate},
            "expanded": _net(lambda logits, x, net: logits[:, :1].expand(logits.shape)),
            "probabilities": _net(lambda logits, x, net: logits.softmax(1)),
            "a subclass of tensors": _net(lambda logits, x, net: logits.as_subclass(nn.Buffer)),
            "a parameter as logits": _net(lambda logits, x, net: nn.Parameter(logits)),
            "without batch statistics": _sequential(lambda: nn.BatchNorm1d(8, track_running_stats=False)),
            "normalises along the batch": _net(lambda logits, x, net: logits - logits.mean(0)),
            "a wrong gradient": _wrong_backward,
            "None at the third call": _at_call(3, lambda logits: None),
            "changes its mind": _at_call(2, lambda logits: -logits),
            "float64 weights": lambda d: {
                "module": lambda n_features, n_classes: nn.Linear(n_features, n_classes).double()
            },
            "complex weights": lambda d: {
                "module": lambda n_features, n_classes: nn.Linear(n_features, n_classes, dtype=torch.complex64)
            },
            "its own loop": _net(lambda logits, x, net: torch.stack([each * 1 for each in logits])),
            "needs more examples than there are": _net(lambda logits, x, net: logits + 0 * logits[40]),
            "weight norm": _sequential(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
            "recurrent": lambda d: {"module": lambda n_features, n_classes: nn.LSTM(n_features, n_classes)},
            "convolution of a table": lambda d: {"module": lambda n_classes: nn.Conv2d(1, n_classes, 3)},
            "embedding of numbers": lambda d: {
                "module": lambda n_classes: nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.LazyLinear(n_classes))
            },
        },
    )
    | _with(
        BAD,
        "[Mm]odule|network|Net|Linear|Sequential|[Gg]radients|instance" + DIVERGED,
        {
            "an unknown name": lambda d: {
                d.pick("module__nonsense", "module2__nonsense", "module__bias"): d.pick(1, None)
            },
            "too many columns": _net(lambda logits, x, net: torch.cat([logits, logits], 1)),
            "one column": _net(lambda logits, x, net: logits[:, :1]),
            "one axis": _net(lambda logits, x, net: logits[:, 0]),
            "three axes": _net(lambda logits, x, net: logits[None]),
            "turned": _net(lambda logits, x, net: torch.cat([logits, logits[:1]]).T),
            "a row too many": _net(lambda logits, x, net: torch.cat([logits, logits[:1]])),
            "a row too few in training": _in_training(lambda logits: logits[1:]),
            "a number": _net(lambda logits, x, net: logits.sum()),
            "tuple": _net(lambda logits, x, net: (logits, logits)),
            "dict": _net(lambda logits, x, net: {"logits": logits}),
            "None": _net(lambda logits, x, net: None),
            "array": _net(lambda logits, x, net: logits.numpy(force=True)),
            "list": _net(lambda logits, x, net: logits.tolist()),
            "tuple in training": _in_training(lambda logits: (logits,)),
            "NaN": _net(lambda logits, x, net: logits * torch.nan),
            "NaN in training": _in_training(lambda logits: logits * torch.nan),
            "integers": _net(lambda logits, x, net: logits.long()),
            "bools": _net(lambda logits, x, net: logits > 0),
            "complex": _net(lambda logits, x, net: logits + 0j),
            "sparse": _net(lambda logits, x, net: logits.to_sparse()),
            "sparse in training": _in_training(lambda logits: logits.to_sparse()),
            "meta": _net(lambda logits, x, net: logits.to("meta")),
            "meta in training": _in_training(lambda logits: logits.to("meta")),
            "quantized": _net(lambda logits, x, net: torch.quantize_per_tensor(logits, 0.1, 0, torch.qint8)),
            "detached": _net(lambda logits, x, net: logits.detach()),
            "detached in training": _in_training(lambda logits: logits.detach()),
            "wrong input": lambda d: {"module": lambda n_classes: nn.Linear(N_FEATURES + 2, n_classes)},
            "wrong input in the middle": _sequential(lambda: nn.Linear(9, 8)),
            "wrong dtype in the middle": _sequential(lambda: nn.Linear(8, 8, device="meta")),
            "on the meta device": lambda d: {
                "module": lambda n_features, n_classes: nn.Linear(n_features, n_classes, device="meta")
            },
            "no parameters": lambda d: {"module": nn.Identity},
            "nothing to train": lambda d: {
                "module": lambda n_features, n_classes: nn.Linear(n_features, n_classes).requires_grad_(False)
            },
            "unused lazy layer": lambda d: {"module": UnusedLazy},
            "cannot be copied": lambda d: {"module": WithoutCopy},
            "shared parameters": _shared,
            "equal weights": _alike,
            "one instance": _one_instance,
            "one instance twice": _twice,
            "instances of a wrong shape": lambda d: _instances(d, out=7),
            "options for an instance": lambda d: _instances(d) | {"module__hidden": (3,)},
            "needs more": lambda d: (
                {"module": d.pick(nn.Linear, nn.Conv2d, nn.Transformer, nn.Embedding, Net)} | {"module__outputs": 3}
            ),
            "makes a number": lambda d: {"module": lambda: 3},
            "makes None": lambda d: {"module": lambda n_features: None},
            "makes a class": lambda d: {"module": lambda: nn.Linear},
            "makes a tensor": lambda d: {"module": lambda n_features: torch.ones(n_features)},
            "the peer is None": lambda d: {"module2": lambda: None},
            "a builtin": lambda d: {"module": d.pick(len, print, dict, int, object)},
            "scripted": lambda d: {
                "module": lambda n_features, n_classes: torch.jit.script(nn.Linear(n_features, n_classes))
            },
            "no forward": lambda d: {"module": nn.Module},
            "a list of layers": lambda d: {
                "module": lambda n_features, n_classes: nn.ModuleList([nn.Linear(n_features, n_classes)])
            },
            "an impossible layer": lambda d: {"module": lambda: nn.Linear(-1, 3)},
        },
    )
    | _with(BAD, "the user's own", {"fails": _failing_module, "fails in the backward": _failing_backward})
)


# optimizers


class FailingStep(torch.optim.SGD):
    """Raises at a step."""

    kind: type[OwnError] = OwnError

    def step(self, closure: Any = None) -> Any:
        """Raise."""
        return fail(self.kind)


class NaNStep(torch.optim.SGD):
    """Makes all weights NaN."""

    def step(self, closure: Any = None) -> Any:
        """Spoil the weights."""
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.fill_(torch.nan)


class OddState(torch.optim.SGD):
    """Keeps what no optimizer of torch keeps."""

    def step(self, closure: Any = None) -> Any:
        """As of SGD."""
        super().step(closure)
        state: dict[Any, Any] = self.state
        state["text"] = "state"
        for group in self.param_groups:
            for parameter in group["params"]:
                state[parameter] = {"text": "x", "list": [1, 2], "none": None}


class WithoutRate(torch.optim.Optimizer):
    """Has no learning rate."""

    def __init__(self, params: Any):
        super().__init__(params, {})

    def step(self, closure: Any = None) -> Any:
        """Nothing."""


class Duck:
    """Looks like an optimizer."""

    def __init__(self, params: Any, lr: float):
        self.param_groups = [{"params": list(params), "lr": lr}]

    def step(self) -> None:
        """Nothing."""


class Abstract(torch.optim.Optimizer):
    """Has no step."""

    def __init__(self, params: Any, lr: float):
        super().__init__(params, {"lr": lr})


def _failing_optimizer(d: Draw) -> dict[str, Any]:
    kind = own_error(d)
    return d.pick(
        {"optimizer": lambda params, lr: fail(kind)},
        {"optimizer": type("FailingStep", (FailingStep,), {"kind": kind})},
    )


def _torch_optimizer(*names: str) -> Callable[[Draw], dict[str, Any]]:
    return lambda d: {"optimizer": getattr(torch.optim, d.pick(*names))}


OPTIMIZERS = (
    _with(
        GOOD,
        "optimizer",
        {
            "default": lambda d: {},
            "betas": lambda d: {"optimizer__betas": (0.8, 0.9)},
            "weight decay": lambda d: {"optimizer__weight_decay": d.pick(0, 1e-3, np.float32(1e-3))},
            "flags": lambda d: {f"optimizer__{d.pick('amsgrad', 'maximize', 'foreach', 'fused')}": d.pick(True, False)},
            "of torch": _torch_optimizer(
                "SGD", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD"
            ),
            "Adafactor": _torch_optimizer("Adafactor"),
            "lambda": lambda d: {"optimizer": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9)},
            "partial": lambda d: {"optimizer": functools.partial(torch.optim.SGD, momentum=0.5)},
            "odd state": lambda d: {"optimizer": OddState},
        },
    )
    | _with(
        ODD,
        "optimizer" + DIVERGED,
        {
            "an option of Adam": lambda d: {
                f"optimizer__{d.pick('betas', 'eps', 'weight_decay', 'amsgrad', 'foreach', 'maximize', 'fused')}": (
                    d.pick(
                        "x",
                        None,
                        -1,
                        np.nan,
                        np.inf,
                        (0.9,),
                        (2, 2),
                        (0.9, 0.9, 0.9),
                        1e30,
                        [],
                        {},
                        object(),
                        (0, 0),
                        torch.tensor(0.1),
                        np.ones(2),
                        ("a", "b"),
                        10**400,
                    )
                )
            },
            "another option of Adam": lambda d: {
                f"optimizer__{d.pick('capturable', 'differentiable', 'decoupled_weight_decay')}": d.pick(
                    True, False, None, "yes", 3
                )
            },
            "Muon": _torch_optimizer("Muon"),
            "spoils the weights": lambda d: {"optimizer": NaNStep},
            "reads the names": lambda d: {"optimizer": lambda params, lr: torch.optim.SGD([*params][:1], lr=lr)},
            "a list of groups": lambda d: {
                "optimizer": lambda params, lr: torch.optim.SGD([{"params": [p], "lr": lr} for p in params])
            },
            "other tensors": lambda d: {"optimizer": lambda params, lr: torch.optim.SGD([torch.zeros(2)], lr=lr)},
            "rate as a tensor": lambda d: {
                "optimizer": lambda params, lr: torch.optim.Adam(params, lr=torch.tensor(lr))
            },
            "a partial of Adam": lambda d: {"optimizer": functools.partial(torch.optim.Adam, betas=(2, 2))},
            "SGD with an option of Adam": lambda d: {"optimizer": torch.optim.SGD, "optimizer__betas": (0.9, 0.9)},
            "SGD with an odd momentum": lambda d: {
                "optimizer": torch.optim.SGD,
                "optimizer__momentum": d.pick(-1, "x", None, np.nan, 2, [], 1e30, np.float32(0.5)),
            },
            "SGD with Nesterov": lambda d: {
                "optimizer": torch.optim.SGD,
                "optimizer__nesterov": d.pick(True, "yes", None),
            },  # fmt: skip
        },
    )
    | _with(
        BAD,
        "optimizer",
        {
            "an unknown name": lambda d: {"optimizer__nonsense": d.pick(1, None)},
            "the learning rate twice": lambda d: {"optimizer__lr": d.pick(0.1, None, "x")},
            "the optimizer's parameters": lambda d: {"optimizer__params": d.pick([], None)},
            "an option that clashes": lambda d: {"optimizer__fused": True, "optimizer__foreach": True},
            "LBFGS": _torch_optimizer("LBFGS"),
            "SparseAdam": _torch_optimizer("SparseAdam"),
            "a number": lambda d: {"optimizer": lambda params, lr: 3},
            "None": lambda d: {"optimizer": lambda params, lr: None},
            "looks like one": lambda d: {"optimizer": Duck},
            "a class": lambda d: {"optimizer": lambda params, lr: torch.optim.SGD},
            "takes nothing": lambda d: {"optimizer": lambda: None},
            "takes no rate": lambda d: {"optimizer": d.pick(WithoutRate, lambda params: torch.optim.SGD(params))},
            "takes more": lambda d: {"optimizer": lambda params, lr, more: torch.optim.SGD(params, lr=lr)},
            "has no step": lambda d: {"optimizer": d.pick(Abstract, torch.optim.Optimizer)},
            "a builtin": lambda d: {"optimizer": d.pick(len, print, dict, int, object)},
            "a module": lambda d: {"optimizer": d.pick(nn.Linear, nn.Identity())},
            "an optimizer": lambda d: {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1)},
            "a schedule": lambda d: {"optimizer": torch.optim.lr_scheduler.StepLR},
        },
    )
    | _with(BAD, "the user's own", {"fails": _failing_optimizer})
)


# augmentations


def _augment(change: Callable[[Tensor], Any]) -> Callable[[Draw], dict[str, Any]]:
    return lambda d: {"augment": change}


def _failing_augment(d: Draw) -> dict[str, Any]:
    kind = own_error(d)
    return {"augment": lambda x: fail(kind)}


AUGMENTS = (
    _with(
        GOOD,
        "augment",
        {
            "none": lambda d: {},
            "noise": _augment(lambda x: x + 0.1 * torch.randn_like(x)),
            "nothing": _augment(lambda x: x),
            "in place": _augment(lambda x: x.mul_(1.1)),
            "module": lambda d: {"augment": nn.Dropout(0.2)},
            "turned": _augment(lambda x: x.flip(0)),
        },
    )
    | _with(
        ODD,
        "augment" + DIVERGED,
        {
            "with a gradient": _augment(lambda x: x.clone().requires_grad_()),
            "expanded": _augment(lambda x: x[:, :1].expand(x.shape)),
            "large": _augment(lambda x: x * 1e38),
            "one column less": _augment(lambda x: x[:, 1:]),
            "another axis": _augment(lambda x: x[:, None]),
            "one axis": _augment(lambda x: x.flatten(1)[:, 0]),
            "parameter": _augment(lambda x: nn.Parameter(x)),
            "matrix product": _augment(lambda x: x @ torch.ones(3, 3)),
            "a layer of another size": lambda d: {"augment": nn.Linear(3, 3)},
            "reshaped": _augment(lambda x: x.reshape(7, -1)),
        },
    )
    | _with(
        BAD,
        "augment",
        {
            "rows twice": _augment(lambda x: torch.cat([x, x])),
            "a row less": _augment(lambda x: x[1:]),
            "no axes": _augment(lambda x: x.sum()),
            "no rows": _augment(lambda x: x[:0]),
            "None": _augment(lambda x: None),
            "array": _augment(lambda x: x.numpy()),
            "tuple": _augment(lambda x: (x, x)),
            "doubles": _augment(lambda x: x.to(torch.float16)),
            "integers": _augment(lambda x: x.long()),
            "complex": _augment(lambda x: x + 0j),
            "meta": _augment(lambda x: x.to("meta")),
            "sparse": _augment(lambda x: x.to_sparse()),
            "quantized": _augment(lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)),
            "takes nothing": lambda d: {"augment": lambda: None},
            "takes two": lambda d: {"augment": lambda x, y: x},
            "a class": lambda d: {"augment": nn.Dropout},
            "a builtin": lambda d: {"augment": d.pick(len, str, dict)},
        },
    )
    | _with(BAD, "augment|training diverged", {"NaN": _augment(lambda x: x * torch.nan)})
    | _with(BAD, "the user's own", {"fails": _failing_augment})
)


# surroundings


@contextlib.contextmanager
def _as_default(setting: Any, value: Any, found: Any) -> Iterator[None]:
    setting(value)
    try:
        yield
    finally:
        setting(found)


#: In which nothing changes what comes of a call. They are made anew at each call.
SURROUNDINGS = _with(
    GOOD,
    "",
    {
        "none": lambda d: contextlib.nullcontext,
        "no_grad": lambda d: torch.no_grad,
        "inference mode": lambda d: torch.inference_mode,
        "autocast": lambda d: functools.partial(torch.autocast, "cpu", torch.bfloat16),
        "double precision": lambda d: functools.partial(
            _as_default, torch.set_default_dtype, torch.float64, torch.float32
        ),
        "NumPy's errors": lambda d: functools.partial(np.errstate, all="raise"),
        "deterministic": lambda d: functools.partial(_as_default, torch.use_deterministic_algorithms, True, False),
        "assuming finite numbers": lambda d: functools.partial(sklearn.config_context, assume_finite=False),
        "frames as output": lambda d: functools.partial(sklearn.config_context, transform_output="pandas"),
    },
)


# callbacks


class Callback:
    """Does ``act`` at one of the occasions."""

    def __init__(self, occasion: str, act: Callable[[], Any]):
        self.occasion = occasion
        self.act = act

    def setup(self, estimator: Any, context: Any) -> Any:
        """Before a fit."""
        return self._at("setup")

    def teardown(self, estimator: Any, context: Any) -> Any:
        """After a fit."""
        return self._at("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> Any:
        """At the begin of a part of it."""
        return self._at("begin")

    def on_fit_task_end(self, estimator: Any, context: Any) -> Any:
        """At its end."""
        return self._at("end")

    def _at(self, occasion: str) -> Any:
        return self.act() if occasion == self.occasion else None


class Curious(Callback):
    """Predicts with what would be fitted by now."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, X: Any = None, fitted_estimator: Any = None) -> Any:
        """Predict."""
        if fitted_estimator is not None:
            fitted_estimator.predict_proba(X)


def _failing_callback(d: Draw) -> list:
    kind = d.pick(*OWN_ERRORS[:-1])  # scikit-learn's teardown makes a RuntimeError of StopIteration
    return [Callback(d.pick("setup", "teardown", "begin", "end"), functools.partial(fail, kind))]


CALLBACKS = (
    _with(
        GOOD,
        "callback",
        {
            "none": lambda d: [],
            "does nothing": lambda d: [Callback("", lambda: None)],
            "stops": lambda d: [Callback("end", lambda: True)],
            "curious": lambda d: [Curious("", lambda: None)],
        },
    )
    | _with(
        ODD,
        "callback",
        {
            "returns something": lambda d: [
                Callback(d.pick("end", "begin", "setup"), lambda: d.pick("yes", 3, [], None))
            ]
        },
    )
    | _with(BAD, "callback", {"no callback": lambda d: [d.pick(3, None, len, Callback, "x")]})
    | _with(BAD, "the user's own", {"fails": _failing_callback})
)
