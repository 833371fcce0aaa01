"""Every kind of X gives the networks the same numbers for the same examples; no more is read than was asked for."""

import tracemalloc
from collections import namedtuple

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset, StackDataset, Subset, TensorDataset

from skcoteach._data.inputs import BOOLS, BYTES, CPU, FLOATS, INTEGERS, InputForm, Inputs

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
def test_tables_of_every_kind_give_the_same_examples_and_are_not_changed(form, dtype):
    X = TABLES[form](VALUES)
    before = raw_bytes(X)
    inputs = Inputs(X).to(CPU, dtype, as_indices=False)
    batch = inputs[ASKED]
    assert batch.dtype == dtype
    assert batch.tolist() == VALUES[ASKED.numpy()].tolist()
    batch += 1  # a batch is the caller's own
    assert raw_bytes(X) == before
    assert len(inputs) == 12
    assert inputs.form.item_shape == (3,)


@pytest.mark.parametrize("form", ["float32", "float64", "Fortran order", "big-endian float64", "int32", "csr array"])
def test_memory_mapped_tables_give_the_same_examples(form, tmp_path):
    array = TABLES[form](VALUES)
    if sparse.issparse(array):
        X = array.copy()
        X.data = memory_mapped(array.data, tmp_path / "X")
    else:
        X = memory_mapped(array, tmp_path / "X", order="F" if form == "Fortran order" else "C")
    assert Inputs(X)[ASKED].tolist() == VALUES[ASKED.numpy()].tolist()


@pytest.mark.parametrize("make", [lambda v: v, torch.from_numpy, lambda v: Items(list(torch.from_numpy(v)))])
def test_bools_are_zeros_and_ones(make):
    assert Inputs(make(VALUES > 100))[ASKED].tolist() == (VALUES[ASKED.numpy()] > 100).astype(float).tolist()


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
    inputs = Inputs(IMAGE_FORMS[form](IMAGES.astype(np.uint8))).to(CPU, dtype, as_indices=False)
    assert torch.equal(inputs[ASKED], torch.from_numpy(IMAGES[ASKED.numpy()]).to(dtype) / 255)


def test_bytes_are_divided_from_three_axes_on():
    grey = IMAGES[:, 0].astype(np.uint8)
    assert Inputs(grey)[ASKED].tolist() == (torch.from_numpy(IMAGES[ASKED.numpy(), 0]).float() / 255).tolist()
    assert Inputs(grey[:, 0])[ASKED].tolist() == IMAGES[ASKED.numpy(), 0, 0].tolist()


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "float64", ">f8"])
def test_other_numbers_of_images_are_taken_as_they_are(dtype):
    assert Inputs(IMAGES.astype(dtype))[ASKED].tolist() == IMAGES[ASKED.numpy()].tolist()


@pytest.mark.parametrize("form", ["int16", "int64", "big-endian int32", "uint8", "uint16", "int tensor", "list"])
def test_indices_of_an_embedding_stay_integers(form):
    X = list(torch.from_numpy(VALUES)) if form == "list" else TABLES[form](VALUES)
    batch = Inputs(X).to(CPU, torch.float32, as_indices=True)[ASKED]
    assert batch.dtype == torch.int64
    assert batch.tolist() == VALUES[ASKED.numpy()].tolist()


def test_bytes_of_more_axes_are_not_divided_where_they_are_indices():
    inputs = Inputs(IMAGES.astype(np.uint8)).to(CPU, torch.float32, as_indices=True)
    assert inputs[ASKED].tolist() == IMAGES[ASKED.numpy()].tolist()


def test_floats_stay_floats_also_for_an_embedding():
    assert Inputs(VALUES / 8).to(CPU, torch.float32, as_indices=True)[ASKED].is_floating_point()


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
    assert Inputs(X).to(CPU, torch.float64, as_indices=False)[torch.tensor([1])].item() == value


@pytest.mark.parametrize("second", [2**24 + 1, 1 / 3])
def test_arrays_of_several_dtypes_are_taken_as_tensors_of_these(second):
    items = [np.array([0.5], dtype=np.float32), np.array([second])]
    arrays, tensors = (Inputs(each, dtype=torch.float64) for each in (
        [(x, "cat") for x in items], [torch.from_numpy(x) for x in items]
    ))  # fmt: skip
    assert arrays[torch.arange(2)].tolist() == tensors[torch.arange(2)].tolist()


@pytest.mark.parametrize(
    "rows",
    [
        [[0.1, 1 / 3], [2.0**-140, 3e38]],
        [[1, 2], [2**24 + 1, -(2**62)]],
        [[1, 2**24 + 1], [0.5, 1.5]],
        [[1, 0.1], [2**24 + 1, 1.5]],
        [[True, 2], [3, 4]],
        [[[1.5], [2.5]], [[3.5], [4.5]]],
    ],
    ids=["floats", "integers", "by rows", "mixed", "bools", "nested"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_items_that_are_lists_are_taken_as_torch_takes_them(rows, dtype):
    expected = torch.stack([torch.as_tensor(row) for row in rows])
    found = Inputs([(row, "cat") for row in rows], dtype=dtype).read(torch.arange(2))
    assert found.dtype in (expected.dtype, dtype)
    assert torch.equal(found.to(dtype), expected.to(dtype))


def test_integers_that_torch_does_not_hold_are_refused_within_lists():
    with pytest.raises(TypeError, match="item 1 has list"):
        Inputs([([1], "cat"), ([2**63], "cat")])[torch.arange(2)]


@pytest.mark.parametrize("make", [torch.from_numpy, np.asarray])
def test_images_lie_in_memory_as_their_axes_say_however_their_items_do(make):
    items = [(make(image).mT, "cat") for image in IMAGES]
    assert Inputs(items)[ASKED].is_contiguous()


def test_items_that_could_be_learnt_are_taken_as_numbers():
    assert not Inputs(list(torch.ones(12, 3, requires_grad=True)))[ASKED].requires_grad


def test_batches_arrive_on_the_device_that_was_asked_for():
    for form in ("float32", "strided rows", "tensor", "csr array", "Dataset"):
        batch = Inputs(TABLES[form](VALUES)).to(torch.device("meta"), torch.float64, as_indices=False)[ASKED]
        assert (batch.device.type, batch.dtype, batch.shape) == ("meta", torch.float64, (4, 3))


# --- X is used where it lies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", ">f8", "uint32"])
@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray, every_second])
def test_arrays_are_used_in_place(dtype, layout):
    X = layout(VALUES.astype(dtype))
    inputs = Inputs(X)
    X[7] = 99  # seen, because nothing was copied beforehand
    assert inputs[ASKED][0].tolist() == [99, 99, 99]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_tensors_are_used_in_place(dtype):
    X = torch.from_numpy(VALUES).to(dtype)
    inputs = Inputs(X)
    X[7] = 99
    assert inputs[ASKED][0].tolist() == [99, 99, 99]


@pytest.mark.parametrize("X", [VALUES.astype(np.float32), read_only(VALUES.astype(np.float32))])
def test_float32_arrays_share_their_memory_with_what_torch_indexes(X, monkeypatch):
    indexed = []
    index_select = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda s, *args: indexed.append(s) or index_select(s, *args))
    Inputs(X)[ASKED]
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
def test_only_the_examples_asked_for_are_read_from_a_memory_mapped_file(dtype, order, tmp_path):
    X = np.memmap(tmp_path / "X", dtype, "w+", shape=(50_000, 20), order=order)
    X[:2] = 1

    def read_300_examples():
        inputs = Inputs(X).to(CPU, torch.float32, as_indices=False)
        for asked in torch.arange(300).split(100):
            inputs[asked]

    with LargestTensor() as made:
        read_300_examples()
    tracemalloc.start()
    try:
        read_300_examples()
        largest_array = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < made.n_bytes <= 100 * 20 * max(X.itemsize, 4)
    assert largest_array < X.nbytes / 10


def test_only_the_items_asked_for_are_taken_from_a_dataset():
    X = Items(list(torch.from_numpy(VALUES)))
    inputs = Inputs(X)
    X.asked.clear()
    inputs[ASKED]
    assert X.asked == ASKED.tolist()


@pytest.mark.parametrize(
    "items",
    [
        [torch.ones(2), (np.ones(2), "cat"), [1.0, 1.0]],
        [np.ones(2), np.ones(2, dtype=">f8"), np.ones(2, dtype=np.int32)],
        [np.ones(2), torch.ones(2), ((1, 1), "cat")],
    ],
    ids=["first a tensor", "arrays", "first an array"],
)
def test_items_of_several_kinds_are_taken_together_and_once_each(items):
    X = Items(items)
    inputs = Inputs(X)
    X.asked.clear()
    assert inputs[torch.tensor([2, 0, 1])].tolist() == [[1.0, 1.0]] * 3
    assert X.asked == [2, 0, 1]


class Several(Items):
    """A Dataset that is asked for several items at once."""

    def __getitems__(self, positions):
        self.asked.append(positions)
        return [self.items[position] for position in positions]


class Doubled(Several):
    """Changes its items, as its author thinks; the ``__getitems__`` that it inherits does not."""

    def __getitem__(self, position):
        return 2 * super().__getitem__(position)


@pytest.mark.parametrize("wrap", [lambda X: X, lambda X: Subset(Subset(X, range(12)), list(range(12)))])
def test_several_items_are_asked_for_at_once_where_a_dataset_has_a_way_for_that(wrap):
    X = Several(list(torch.from_numpy(VALUES)))
    inputs = Inputs(wrap(X))
    X.asked.clear()
    assert inputs[ASKED].tolist() == VALUES[ASKED.numpy()].tolist()
    assert X.asked == [ASKED.tolist()]


@pytest.mark.parametrize(
    "X",
    [
        Doubled(list(torch.from_numpy(VALUES))),
        Subset(Doubled(list(torch.from_numpy(VALUES))), list(range(12))),
        StackDataset(Doubled(list(torch.from_numpy(VALUES))), range(12)),
    ],
    ids=["Dataset", "Subset", "stack"],
)
def test_what_a_derived_dataset_makes_of_its_items_is_not_lost(X):
    assert Inputs(X)[ASKED].tolist() == (2 * VALUES[ASKED.numpy()]).tolist()


@pytest.mark.parametrize("n", [3, 2])
def test_a_dataset_that_gives_whole_batches_to_its_own_loader_is_asked_item_by_item(n):
    class Batches(Items):
        def __getitems__(self, positions):
            return torch.stack([self.items[position] for position in positions]), torch.tensor(positions)

    inputs = Inputs(Batches(list(torch.from_numpy(VALUES))))
    assert inputs[ASKED[:n]].tolist() == VALUES[ASKED[:n].numpy()].tolist()


def test_columns_that_lose_their_differences_are_those_with_rounding_errors_of_a_twentieth_of_the_deviation():
    values = np.array([[0.0], [1.0]])  # a standard deviation of 0.5; float32 has steps of 2 ** -23 of the power of two
    X = values * [1, 1, 1, 1, 1e300, 1e-300] + [0, 2**19 + 1 / 64, 2**19 + 1 / 32, 2**30, 0, 0]
    everything = torch.arange(2)
    assert Inputs(X).columns_that_lose_digits(everything) == [2, 3, 4, 5]
    assert Inputs(X).to(CPU, torch.float64, as_indices=False).columns_that_lose_digits(everything) == []
    assert Inputs(X[:, :4].astype(np.float32)).columns_that_lose_digits(everything) == []
    assert Inputs(X[:, :, None]).columns_that_lose_digits(everything) == []
    assert Inputs([torch.from_numpy(row) for row in X]).columns_that_lose_digits(everything) == []


# --- form and device -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "form"),
    [
        (VALUES.astype(np.float32), InputForm((3,), FLOATS)),
        (sparse.csr_array(VALUES / 2), InputForm((3,), FLOATS)),
        (VALUES > 100, InputForm((3,), INTEGERS)),
        (VALUES.astype(np.uint8), InputForm((3,), INTEGERS)),
        (IMAGES, InputForm((2, 3, 4), INTEGERS)),
        (IMAGES.astype(np.uint8), InputForm((2, 3, 4), BYTES)),
        (torch.from_numpy(IMAGES[:, 0]).to(torch.uint8), InputForm((3, 4), BYTES)),
        (Items(list(torch.from_numpy(IMAGES).to(torch.uint8))), InputForm((2, 3, 4), BYTES)),
        ([(torch.zeros(5, dtype=torch.bfloat16), "cat")], InputForm((5,), FLOATS)),
    ],
    ids=["floats", "sparse", "bools", "bytes", "integers", "images", "grey images", "Dataset", "list"],
)
def test_the_form_says_how_an_example_looks_and_what_its_numbers_are(X, form):
    assert Inputs(X).form == form
    assert Inputs(X, as_indices=True).form.as_indices == (form.kind != FLOATS)


def test_the_same_x_can_be_wanted_in_several_ways():
    X = VALUES.astype(np.uint8)
    first = Inputs(X)
    second = first.to(CPU, torch.float64, as_indices=True)
    assert second.X is first.X
    assert (first.dtype, first.form.as_indices) == (torch.float32, False)
    assert [each[ASKED].dtype for each in (first, second)] == [torch.float32, torch.int64]


def test_on_a_cpu_nothing_moves():
    for form in ("float32", "strided rows", "tensor", "csr array", "Dataset"):
        inputs = Inputs(TABLES[form](VALUES))
        assert inputs.moved_to_device() is inputs


@pytest.fixture
def free_memory(monkeypatch):
    """A GPU with so many bytes free, which the CPU stands for."""
    made = torch.empty

    def set_free(n_bytes):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (n_bytes, 2 * n_bytes))
        monkeypatch.setattr(torch, "empty", lambda *shape, device, **options: made(*shape, device="cpu", **options))

    return set_free


@pytest.mark.parametrize(
    ("X", "as_indices", "dtype"),
    [
        (VALUES.astype(np.float32), False, torch.float32),
        (VALUES.astype(np.float64), False, torch.float32),
        (VALUES.astype(np.float16), False, torch.float32),
        (VALUES, False, torch.float32),
        (VALUES, True, torch.int64),
        (VALUES.astype(np.uint8), True, torch.uint8),
        (IMAGES.astype(np.uint8), False, torch.uint8),
        (torch.from_numpy(VALUES).double(), False, torch.float32),
        (TensorDataset(torch.from_numpy(VALUES)), False, torch.float32),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_x_moves_to_a_gpu_with_more_than_twice_the_memory_in_what_holds_it_best(X, as_indices, dtype, free_memory):
    inputs = Inputs(X, torch.device("cuda"), as_indices=as_indices)
    n_bytes = int(np.prod((12, *inputs.form.item_shape))) * dtype.itemsize
    free_memory(2 * n_bytes)
    assert inputs.moved_to_device() is inputs
    free_memory(2 * n_bytes + 1)
    moved = inputs.moved_to_device()
    read = moved.read(ASKED)
    assert (moved.X, moved.form, moved.device, moved.dtype) == (X, inputs.form, inputs.device, inputs.dtype)
    assert read.dtype == dtype
    assert read.tolist() == inputs.read(ASKED).tolist()


def test_all_of_a_large_x_moves(free_memory):
    X = torch.arange(10_000)[:, None]
    free_memory(2**30)
    assert torch.equal(Inputs(X, torch.device("cuda")).moved_to_device().read(slice(None)), X.float())


def test_the_entries_of_a_dict_move_together_but_for_those_that_torch_cannot_index(free_memory):
    X = {"wide": VALUES.astype(np.float64), "mask": VALUES > 5, "ids": VALUES, "strided": VALUES[:, ::2]}
    inputs = Inputs(X, torch.device("cuda"))
    n_bytes = VALUES.size * (4 + 1 + 8)
    free_memory(2 * n_bytes)
    assert inputs.moved_to_device() is inputs
    free_memory(2 * n_bytes + 1)
    moved = inputs.moved_to_device()
    assert {key: each.dtype for key, each in moved.read(ASKED).items()} == {
        "ids": torch.int64, "mask": torch.bool, "strided": torch.int64, "wide": torch.float32
    }  # fmt: skip
    assert moved.form == inputs.form
    for key, read in moved.read(ASKED).items():
        assert read.tolist() == inputs.read(ASKED)[key].tolist()
    only_strided = Inputs({"strided": VALUES[:, ::2]}, torch.device("cuda"))
    assert only_strided.moved_to_device() is only_strided


@pytest.mark.parametrize("form", ["strided rows", "csr array", "Dataset", "list of tensors"])
def test_what_torch_cannot_index_where_it_lies_does_not_move(form, free_memory):
    free_memory(2**40)
    inputs = Inputs(TABLES[form](VALUES), torch.device("cuda"))
    assert inputs.moved_to_device() is inputs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
@pytest.mark.parametrize("form", TABLES)
def test_examples_on_a_gpu_are_the_same_moved_or_not(form):
    inputs = Inputs(TABLES[form](VALUES), torch.device("cuda"))
    moved = inputs.moved_to_device()
    for each in (inputs, moved):
        assert each[ASKED].device.type == "cuda"
        assert each[ASKED].tolist() == each[slice(None)][ASKED].tolist() == VALUES[ASKED.numpy()].tolist()
    assert moved.is_on_device == (moved is not inputs)


# --- dicts ------------------------------------------------------------------------------------------------------------


ENTRIES = {
    "floats": (np.float64, (3,), torch.float64, FLOATS),
    "half": (np.float16, (3,), torch.float64, FLOATS),
    "ids": (np.int32, (3,), torch.int64, INTEGERS),
    "wide": (np.uint16, (3,), torch.int64, INTEGERS),
    "bytes": (np.uint8, (3,), torch.int64, INTEGERS),
    "one": (np.int64, (), torch.int64, INTEGERS),
    "mask": (bool, (3,), torch.bool, BOOLS),
    "image": (np.uint8, (2, 2), torch.float64, BYTES),
}


@pytest.mark.parametrize("as_items", [False, True])
@pytest.mark.parametrize("as_tensors", [False, True])
def test_each_entry_of_a_dict_is_what_it_is_to_a_network(as_tensors, as_items):
    X = {key: np.ones((12, *shape), dtype) for key, (dtype, shape, *_) in ENTRIES.items()}
    if as_tensors:
        X = {key: torch.from_numpy(each) for key, each in X.items()}
    given = [{key: each[i] for key, each in reversed(X.items())} for i in range(12)] if as_items else X
    inputs = Inputs(given).to(CPU, torch.float64, as_indices=False)
    assert len(inputs) == 12
    assert inputs.form.size == 6 * 3 + 1 + 4
    for batch in (inputs[ASKED], inputs[2:5]):
        assert list(batch) == sorted(ENTRIES)
        for key, (_, shape, dtype, kind) in ENTRIES.items():
            assert batch[key].dtype == dtype, key
            assert (batch[key] == (1 / 255 if kind == BYTES else 1)).all()
            assert (inputs.form.entries[key].item_shape, inputs.form.entries[key].kind) == (shape, kind)


# --- items that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ["a text", {"x": 1}, object(), None])
def test_items_that_are_no_numbers_are_refused_with_their_position_and_type(item):
    items = [torch.zeros(3), item]
    with pytest.raises(TypeError, match=f"item 1 has {type(item).__name__}"):
        Inputs(items)[torch.tensor([0, 1])]
    with pytest.raises(TypeError, match=f"item 1 has {type(item).__name__}"):
        Inputs([(x, 0) for x in items])[torch.tensor([0, 1])]


def test_an_item_that_is_an_empty_tuple_is_refused():
    with pytest.raises(TypeError, match="Item 1 of X is an empty tuple"):
        Inputs([(torch.zeros(3),), ()])[torch.tensor([0, 1])]


def test_items_of_different_shapes_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"different shapes: \(3,\) and \(1, 3\)"):
        Inputs([torch.zeros(3), torch.zeros(1, 3)])[torch.tensor([0, 1])]


@pytest.mark.parametrize("error", [RuntimeError("mine"), ValueError("mine"), TypeError("mine"), IndexError("mine")])
def test_what_a_dataset_raises_passes_unchanged(error):
    class Broken(Items):
        def __getitem__(self, position):
            if position == 2:
                raise error
            return super().__getitem__(position)

    with pytest.raises(type(error)) as raised:
        Inputs(Broken(list(torch.zeros(3, 2))))[torch.tensor([1, 2])]
    assert raised.value is error
