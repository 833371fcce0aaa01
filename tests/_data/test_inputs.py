"""Every kind of X gives the networks the same numbers for the same rows, and no more of it is read than was asked."""

import tracemalloc
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset, Subset, TensorDataset

from skcoteach.batches import Rows, in_batches, spread

pytestmark = pytest.mark.filterwarnings("error")

#: Whole numbers below 200, so that every dtype holds them exactly.
VALUES = np.random.default_rng(0).integers(0, 200, (12, 3))
IMAGES = np.random.default_rng(1).integers(0, 200, (12, 2, 3, 4))
ASKED = torch.tensor([7, 0, 11, 3])


class Items(Dataset):
    """A Dataset that remembers which of its items were asked for."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, position):
        self.asked.append(position)
        return self.items[position]


def read_only(array):
    array.setflags(write=False)
    return array


def memory_mapped(array, path, order="C"):
    mapped = np.memmap(path, array.dtype, "w+", shape=array.shape, order=order)
    mapped[:] = array
    return mapped


def every_second(array):
    """The array as a strided view."""
    return np.repeat(array, 2, axis=0)[::2]


Labelled = namedtuple("Labelled", ["x", "label"])

TABLES = {
    "float32": lambda v: v.astype(np.float32),
    "float64": lambda v: v.astype(np.float64),
    "float16": lambda v: v.astype(np.float16),
    "long double": lambda v: v.astype(np.longdouble),
    "big-endian float64": lambda v: v.astype(">f8"),
    "big-endian float32": lambda v: v.astype(">f4"),
    "big-endian int32": lambda v: v.astype(">i4"),
    "Fortran order": lambda v: np.asfortranarray(v.astype(np.float32)),
    "strided rows": lambda v: every_second(v.astype(np.float64)),
    "strided columns": lambda v: np.repeat(v.astype(np.float32), 2, axis=1)[:, ::2],
    "reversed": lambda v: np.ascontiguousarray(v[::-1].astype(np.float32))[::-1],
    "read-only": lambda v: read_only(v.astype(np.float32)),
    "read-only strided": lambda v: read_only(every_second(v.astype(np.float64))),
    **{
        name: lambda v, name=name: v.astype(name)
        for name in ("int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "tensor": lambda v: torch.from_numpy(v).float(),
    "double tensor": lambda v: torch.from_numpy(v).double(),
    "half tensor": lambda v: torch.from_numpy(v).half(),
    "int tensor": lambda v: torch.from_numpy(v),
    "uint8 tensor": lambda v: torch.from_numpy(v).to(torch.uint8),
    "uint16 tensor": lambda v: torch.from_numpy(v.astype(np.uint16)),
    "strided tensor": lambda v: torch.from_numpy(v).float().repeat_interleave(2, 0)[::2],
    "transposed tensor": lambda v: torch.from_numpy(np.ascontiguousarray(v.T)).double().T,
    "csr matrix": lambda v: sparse.csr_matrix(v.astype(np.float64)),
    "csr array": lambda v: sparse.csr_array(v.astype(np.float32)),
    "csr array of ints": lambda v: sparse.csr_array(v),
    "Dataset": lambda v: Items(list(torch.from_numpy(v).float())),
    "Dataset of arrays": lambda v: Items(list(v.astype(np.float64))),
    "Dataset of read-only arrays": lambda v: Items(read_only(v.astype(np.float64))),
    "Dataset of lists": lambda v: Items(v.tolist()),
    "Dataset of tuples": lambda v: TensorDataset(torch.from_numpy(v), torch.arange(len(v))),
    "Dataset of named tuples": lambda v: Items([Labelled(x, "cat") for x in torch.from_numpy(v).float()]),
    "Subset": lambda v: Subset(TensorDataset(torch.from_numpy(v[::-1].copy())), list(range(len(v)))[::-1]),
    "list of tensors": lambda v: list(torch.from_numpy(v).float()),
    "list of tuples": lambda v: [(x, "cat") for x in torch.from_numpy(v).double()],
    "list of tuples of arrays": lambda v: [(x, 0) for x in v.astype(np.float32)],
}


def raw_bytes(X):
    """All of X's numbers, to see that none has changed."""
    if isinstance(X, torch.Tensor):
        return X.numpy().tobytes()
    if sparse.issparse(X):
        return X.data.tobytes() + X.indices.tobytes() + X.indptr.tobytes()
    if isinstance(X, np.ndarray):
        return X.tobytes()
    return b"".join(np.asarray(x[0] if isinstance(x, tuple) else x).tobytes() for x in (X[i] for i in range(len(X))))


@pytest.fixture(autouse=True)
def every_warning_of_torch():
    """Torch says most things once a process, and so in one test only."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


# --- the same numbers from every kind of X ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", TABLES)
def test_tables_of_every_kind_give_the_same_rows_and_are_not_changed(form, dtype):
    X = TABLES[form](VALUES)
    before = raw_bytes(X)
    rows = Rows(X).place(torch.device("cpu"), dtype)
    batch = rows[ASKED]
    assert batch.dtype == dtype
    assert batch.tolist() == VALUES[ASKED.numpy()].tolist()
    batch += 1  # a batch is the caller's own
    assert raw_bytes(X) == before
    assert len(rows) == 12
    assert rows.item_shape == (3,)


@pytest.mark.parametrize("form", ["float32", "float64", "Fortran order", "big-endian float64", "int32", "csr array"])
def test_memory_mapped_tables_give_the_same_rows(form, tmp_path):
    array = TABLES[form](VALUES)
    if sparse.issparse(array):
        X = array.copy()
        X.data = memory_mapped(array.data, tmp_path / "X")
    else:
        X = memory_mapped(array, tmp_path / "X", order="F" if form == "Fortran order" else "C")
    assert Rows(X)[ASKED].tolist() == VALUES[ASKED.numpy()].tolist()


@pytest.mark.parametrize("make", [lambda v: v, torch.from_numpy, lambda v: Items(list(torch.from_numpy(v)))])
def test_bools_are_zeros_and_ones(make):
    assert Rows(make(VALUES > 100))[ASKED].tolist() == (VALUES[ASKED.numpy()] > 100).astype(float).tolist()


IMAGE_FORMS = {
    "array": lambda v: v,
    "Fortran order": np.asfortranarray,
    "strided": every_second,
    "read-only": lambda v: read_only(v.copy()),
    "tensor": torch.from_numpy,
    "channels last": lambda v: torch.from_numpy(v).contiguous(memory_format=torch.channels_last),
    "Dataset": lambda v: TensorDataset(torch.from_numpy(v)),
    "list": lambda v: list(torch.from_numpy(v)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", IMAGE_FORMS)
def test_bytes_of_images_are_divided_by_255(form, dtype):
    rows = Rows(IMAGE_FORMS[form](IMAGES.astype(np.uint8))).place(torch.device("cpu"), dtype)
    assert torch.equal(rows[ASKED], torch.from_numpy(IMAGES[ASKED.numpy()]).to(dtype) / 255)


def test_bytes_are_divided_from_three_axes_on():
    grey = IMAGES[:, 0].astype(np.uint8)
    assert Rows(grey)[ASKED].tolist() == (torch.from_numpy(IMAGES[ASKED.numpy(), 0]).float() / 255).tolist()
    assert Rows(grey[:, 0])[ASKED].tolist() == IMAGES[ASKED.numpy(), 0, 0].tolist()


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "float64", ">f8"])
def test_other_numbers_of_images_are_taken_as_they_are(dtype):
    assert Rows(IMAGES.astype(dtype))[ASKED].tolist() == IMAGES[ASKED.numpy()].tolist()


@pytest.mark.parametrize("form", ["int16", "int64", "big-endian int32", "uint8", "uint16", "int tensor", "list"])
def test_indices_of_an_embedding_stay_integers(form):
    X = list(torch.from_numpy(VALUES)) if form == "list" else TABLES[form](VALUES)
    batch = Rows(X).place(torch.device("cpu"), torch.float32, indices=True)[ASKED]
    assert batch.dtype == torch.int64
    assert batch.tolist() == VALUES[ASKED.numpy()].tolist()


def test_bytes_of_more_axes_are_not_divided_where_they_are_indices():
    rows = Rows(IMAGES.astype(np.uint8)).place(torch.device("cpu"), torch.float32, indices=True)
    assert rows[ASKED].tolist() == IMAGES[ASKED.numpy()].tolist()


def test_floats_stay_floats_also_for_an_embedding():
    assert Rows(VALUES / 8).place(torch.device("cpu"), torch.float32, indices=True)[ASKED].is_floating_point()


@pytest.mark.parametrize(
    "X",
    [
        np.full((2, 1), 1 / 3),
        np.full((2, 1), 1 / 3).astype(">f8"),
        np.full((2, 1), 1 / 3, dtype=np.longdouble),
        torch.full((2, 1), 1 / 3, dtype=torch.float64),
        sparse.csr_array(np.full((2, 1), 1 / 3)),
        [torch.full((1,), 1 / 3, dtype=torch.float64)] * 2,
        np.full((2, 1), 2**53 - 1),
        np.full((2, 1), 2**64 - 2**11, dtype=np.uint64),
        sparse.csr_array(np.full((2, 1), 2**64 - 2**11, dtype=np.uint64)),
    ],
    ids=lambda X: type(X).__name__ + " " + str(getattr(X, "dtype", "")),
)
def test_double_precision_loses_no_digits_on_the_way(X):
    value = float(X[0][0] if not sparse.issparse(X) else X.toarray()[0, 0])
    assert Rows(X).place(torch.device("cpu"), torch.float64)[torch.tensor([1])].item() == value


def test_batches_arrive_on_the_device_that_was_asked_for():
    for form in ("float32", "strided rows", "tensor", "csr array", "Dataset"):
        batch = Rows(TABLES[form](VALUES)).place(torch.device("meta"), torch.float64)[ASKED]
        assert (batch.device.type, batch.dtype, batch.shape) == ("meta", torch.float64, (4, 3))


# --- X is used where it lies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", ">f8", "uint32"])
@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray, every_second])
def test_arrays_are_used_in_place(dtype, layout):
    X = layout(VALUES.astype(dtype))
    rows = Rows(X)
    X[7] = 99  # seen, because nothing was copied beforehand
    assert rows[ASKED][0].tolist() == [99, 99, 99]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_tensors_are_used_in_place(dtype):
    X = torch.from_numpy(VALUES).to(dtype)
    rows = Rows(X)
    X[7] = 99
    assert rows[ASKED][0].tolist() == [99, 99, 99]


@pytest.mark.parametrize("X", [VALUES.astype(np.float32), read_only(VALUES.astype(np.float32))])
def test_float32_arrays_share_their_memory_with_what_torch_indexes(X, monkeypatch):
    indexed = []
    index_select = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda s, *args: indexed.append(s) or index_select(s, *args))
    Rows(X)[ASKED]
    assert [tensor.data_ptr() for tensor in indexed] == [X.ctypes.data]


class LargestTensor(TorchDispatchMode):
    """Remembers the size in bytes of the largest tensor that torch makes."""

    n_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)}
        if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in given:
            self.n_bytes = max(self.n_bytes, made.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", ">f8", "float32", "uint16"])
def test_only_the_rows_asked_for_are_read_from_a_memory_mapped_file(dtype, order, tmp_path):
    X = np.memmap(tmp_path / "X", dtype, "w+", shape=(50_000, 20), order=order)
    X[:2] = 1

    def read_300_rows():
        rows = Rows(X).place(torch.device("cpu"), torch.float32)
        for asked in torch.arange(300).split(100):
            rows[asked]

    with LargestTensor() as made:
        read_300_rows()
    tracemalloc.start()
    try:
        read_300_rows()
        largest_array = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < made.n_bytes <= 100 * 20 * max(X.itemsize, 4)
    assert largest_array < X.nbytes / 10


def test_only_the_items_asked_for_are_taken_from_a_dataset():
    X = Items(list(torch.from_numpy(VALUES)))
    rows = Rows(X)
    X.asked.clear()
    rows[ASKED]
    assert X.asked == ASKED.tolist()


def test_columns_that_lose_their_differences_are_those_with_rounding_errors_of_a_twentieth_of_the_deviation():
    values = np.array([[0.0], [1.0]])  # a standard deviation of 0.5; float32 has steps of 2 ** -23 of the power of two
    X = values * [1, 1, 1, 1, 1e300, 1e-300] + [0, 2**19 + 1 / 64, 2**19 + 1 / 32, 2**30, 0, 0]
    all_rows = torch.arange(2)
    assert Rows(X).loses_digits(all_rows) == [2, 3, 4, 5]
    assert Rows(X).place(torch.device("cpu"), torch.float64).loses_digits(all_rows) == []
    assert Rows(X[:, :4].astype(np.float32)).loses_digits(all_rows) == []
    assert Rows(X[:, :, None]).loses_digits(all_rows) == []
    assert Rows([torch.from_numpy(row) for row in X]).loses_digits(all_rows) == []


# --- items that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ["a text", {"x": 1}, object(), None])
def test_items_that_are_no_numbers_are_refused_with_their_position_and_type(item):
    items = [torch.zeros(3), item]
    with pytest.raises(TypeError, match=f"item 1 has {type(item).__name__}"):
        Rows(items)[torch.tensor([0, 1])]
    with pytest.raises(TypeError, match=f"item 1 has {type(item).__name__}"):
        Rows([(x, 0) for x in items])[torch.tensor([0, 1])]


def test_an_item_that_is_an_empty_tuple_is_refused():
    with pytest.raises(TypeError, match="Item 1 of X is an empty tuple"):
        Rows([(torch.zeros(3),), ()])[torch.tensor([0, 1])]


def test_items_of_different_shapes_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"different shapes: \(3,\) and \(1, 3\)"):
        Rows([torch.zeros(3), torch.zeros(1, 3)])[torch.tensor([0, 1])]


@pytest.mark.parametrize("error", [RuntimeError("mine"), ValueError("mine"), TypeError("mine"), IndexError("mine")])
def test_what_a_dataset_raises_passes_unchanged(error):
    class Broken(Items):
        def __getitem__(self, position):
            if position == 2:
                raise error
            return super().__getitem__(position)

    with pytest.raises(type(error)) as raised:
        Rows(Broken(list(torch.zeros(3, 2))))[torch.tensor([1, 2])]
    assert raised.value is error


# --- batches ---------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 200).flatmap(lambda n: st.permutations(range(n))),
    st.integers(1, 80),
    st.none() | st.integers(1, 8),
)
def test_batches_are_the_order_cut_without_a_small_rest(order, batch_size, limit):
    cut = [batch.tolist() for batch in in_batches(torch.tensor(order), batch_size, limit).split(batch_size)]
    last = len(order) % batch_size or batch_size
    skipped = last if last < 16 and last < len(order) else 0
    seen = sum(cut, [])
    assert all(len(batch) == batch_size for batch in cut[:-1])
    assert seen == order[: len(seen)]  # every row at most once, in order
    assert len(seen) == min((limit or 200) * batch_size, len(order) - skipped)


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (96, 32, [32, 32, 32]),
        (111, 32, [32, 32, 32]),
        (112, 32, [32, 32, 32, 16]),
        (15, 32, [15]),
        (1, 32, [1]),
        (30, 8, [8, 8, 8]),
    ],
)
def test_a_last_batch_of_fewer_than_16_is_skipped_unless_it_is_the_only_one(n, batch_size, sizes):
    assert [len(batch) for batch in in_batches(torch.arange(n), batch_size).split(batch_size)] == sizes


def test_number_of_batches_can_be_limited():
    assert [len(batch) for batch in in_batches(torch.arange(100), 32, limit=2).split(32)] == [32, 32]
    assert [len(batch) for batch in in_batches(torch.arange(100), 32, limit=9).split(32)] == [32, 32, 32]


# --- spreading -------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(1, 70), st.integers(1, 6), st.integers(0, 2**32))
def test_spreading_loses_no_row_and_gives_every_batch_its_share_of_every_stratum(n, batch_size, n_strata, seed):
    torch.manual_seed(seed)
    rows = torch.randperm(1000)[:n]
    strata = torch.randint(n_strata, (n,))
    order = spread(rows, strata, batch_size)
    assert sorted(order.tolist()) == sorted(rows.tolist())
    stratum_of = dict(zip(rows.tolist(), strata.tolist(), strict=True))
    for batch in order.split(batch_size):
        for stratum in range(n_strata):
            expected = len(batch) * (strata == stratum).sum() / n
            assert abs(sum(stratum_of[row] == stratum for row in batch.tolist()) - expected) <= 3


def test_spreading_is_random_in_every_respect_that_it_does_not_promise():
    torch.manual_seed(0)
    rows, strata = torch.arange(60), torch.arange(60) // 20
    orders = torch.stack([spread(rows, strata, 20) for _ in range(3000)])
    places = torch.zeros(60, 60).index_put_(
        (orders, torch.arange(60).expand_as(orders)), torch.ones(()), accumulate=True
    )
    assert places.min() > 20 and places.max() < 90  # every row turns up in every place, about 50 times each
