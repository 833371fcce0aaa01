"""Blocks of examples are the examples, whoever fetches them."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach._data import streaming
from skcoteach._data.inputs import CPU, Inputs
from skcoteach._data.streaming import stream

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(50, 3))
ORDER = torch.from_numpy(np.random.default_rng(1).permutation(50)[:37])


class Lazy(Dataset):
    """Loads its items one by one, and remembers the threads that asked."""

    def __init__(self, X, fails_at=None):
        self.X, self.fails_at, self.threads = X, fails_at, set()

    def __len__(self):
        return len(self.X)

    def __getitem__(self, number):
        self.threads.add(threading.get_ident())
        if number == self.fails_at:
            raise OSError("cannot be read")
        return torch.from_numpy(self.X[number]), 0


@pytest.fixture
def memory_map(tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.fixture
def workers(monkeypatch):
    """Two processes load the items of a Dataset, as for an accelerator."""
    monkeypatch.setattr(streaming, "_n_workers", lambda device: 2)


def assert_whole(inputs, size):
    indices, blocks = zip(*stream(inputs, ORDER, size), strict=True)
    assert torch.equal(torch.cat(indices), ORDER)
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert torch.equal(torch.cat(blocks), torch.from_numpy(X[ORDER.numpy()]).float())


@pytest.mark.parametrize("size", [1, 10, 37, 100])
@pytest.mark.parametrize(
    "make",
    [np.asarray, torch.from_numpy, Lazy, lambda X: TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))],
    ids=["array", "tensor", "dataset", "tensor-dataset"],
)
def test_blocks_are_the_examples_in_their_order(make, size):
    assert_whole(Inputs(make(X)), size)


@pytest.mark.parametrize("size", [1, 10, 37])
def test_blocks_of_a_memory_map_are_the_examples_read_by_another_thread(memory_map, size, monkeypatch):
    inputs, threads = Inputs(memory_map), set()
    read = inputs.read
    monkeypatch.setattr(inputs, "read", lambda part: (threads.add(threading.get_ident()), read(part))[1])
    assert_whole(inputs, size)
    assert threads and threading.get_ident() not in threads


def test_views_of_a_memory_map_are_read_ahead_and_arrays_are_not(memory_map):
    assert Inputs(memory_map[5:]).is_far and Inputs(memory_map).is_far
    assert not Inputs(X).is_far and not Inputs(np.array(memory_map)).is_far


class LazyDicts(Lazy):
    def __getitem__(self, number):
        x, _ = super().__getitem__(number)
        return {"x": x, "number": number}


@pytest.mark.parametrize("size", [1, 10, 37])
@pytest.mark.parametrize("fetched", ["at once", "by a thread", "by processes"])
def test_blocks_of_dicts_are_the_examples_whoever_fetches_them(fetched, size, memory_map, monkeypatch, request):
    data = {"x": memory_map if fetched == "by a thread" else X, "number": np.arange(50)}
    if fetched == "by processes":
        request.getfixturevalue("workers")
        data = LazyDicts(X)
    inputs = Inputs(data)
    assert inputs.is_far is (fetched == "by a thread") and inputs.is_dataset is (fetched == "by processes")
    indices, blocks = zip(*stream(inputs, ORDER, size), strict=True)
    assert all(list(block) == ["number", "x"] for block in blocks)
    assert torch.equal(torch.cat([block["number"] for block in blocks]), ORDER)
    assert torch.equal(torch.cat([block["x"] for block in blocks]), torch.from_numpy(X[ORDER.numpy()]).float())
    if fetched == "by processes":
        assert not data.threads - {threading.get_ident()}


@pytest.mark.parametrize("size", [1, 10, 37])
def test_blocks_of_processes_are_the_examples(workers, size):
    data = Lazy(X)
    assert_whole(Inputs(data), size)
    assert not data.threads - {threading.get_ident()}


def test_processes_load_datasets_only(workers, monkeypatch):
    monkeypatch.setattr(streaming, "_by_processes", None)
    for given in (X, torch.from_numpy(X), TensorDataset(torch.from_numpy(X)), [torch.zeros(3)] * 50):
        assert len(next(stream(Inputs(given), ORDER, 10))[1]) == 10


@pytest.mark.parametrize(
    ("chosen", "platform", "may"),
    [
        (None, "linux", True),
        (None, "darwin", False),
        (None, "win32", False),
        ("fork", "linux", True),
        ("fork", "darwin", True),
        ("spawn", "linux", False),
        ("forkserver", "linux", False),
    ],
)
def test_processes_are_forked_where_that_is_usual_or_was_chosen(chosen, platform, may, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: chosen)
    monkeypatch.setattr(sys, "platform", platform)
    assert streaming._may_fork(Inputs(Lazy(X))) is may


def test_no_process_is_started_by_one_that_may_not_nor_for_items_that_cannot_leave_theirs(monkeypatch):
    items = Inputs(Lazy(X))
    monkeypatch.setattr(streaming, "item_of", lambda items, position: torch.empty(3, device="meta"))
    assert not streaming._may_fork(items)
    monkeypatch.undo()
    assert streaming._may_fork(items)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert not streaming._may_fork(items)


def test_processes_are_forked_whatever_the_default_of_python_is(workers, monkeypatch):
    """The items need not be picklable."""
    made, loader = [], streaming.DataLoader
    monkeypatch.setattr(streaming, "DataLoader", lambda *given, **more: made.append(loader(*given, **more)) or made[0])
    assert_whole(Inputs(Lazy(X)), 10)
    assert made[0].multiprocessing_context.get_start_method() == "fork"


def test_no_process_is_started_for_the_cpu():
    assert streaming._n_workers(CPU) == 0
    assert 0 <= streaming._n_workers(torch.device("cuda")) <= streaming.MOST_WORKERS


@pytest.mark.parametrize("by_processes", [False, True], ids=["here", "processes"])
def test_errors_of_the_dataset_are_told(by_processes, monkeypatch):
    monkeypatch.setattr(streaming, "_n_workers", lambda device: 2 * by_processes)
    inputs = Inputs(Lazy(X, fails_at=int(ORDER[20])))
    with pytest.raises(OSError, match="cannot be read"):
        list(stream(inputs, ORDER, 10))


def test_errors_of_the_reading_thread_are_told(memory_map, monkeypatch):
    inputs = Inputs(memory_map)
    monkeypatch.setattr(inputs, "read", lambda part: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(stream(inputs, ORDER, 10))


def test_reading_thread_ends_when_nobody_wants_more(memory_map):
    others = {thread.name for thread in threading.enumerate()}
    blocks = streaming._read_ahead(Inputs(memory_map), ORDER.split(5))
    next(blocks)
    assert {thread.name for thread in threading.enumerate()} - others
    blocks.close()
    assert not {thread.name for thread in threading.enumerate()} - others


@pytest.mark.parametrize("source", ["memory map", "processes"])
def test_a_fit_is_the_same_wherever_the_examples_come_from(source, memory_map, monkeypatch):
    y = np.arange(50) % 2
    clf = CoTeachingClassifier(forget_rate=0.2, epochs=3, batch_size=16, random_state=0, device="cpu")
    expected = clf.fit(X, y).predict_proba(X)
    monkeypatch.setattr(streaming, "_n_workers", lambda device: 2 * (source == "processes"))
    given = memory_map if source == "memory map" else Lazy(X)
    assert np.array_equal(clf.fit(given, y).predict_proba(X), expected)


# --- Datasets that are stored in blocks ------------------------------------------------------------------------------


class Stored(Lazy):
    """In blocks of ten."""

    blocks_per_window = 2

    def block_numbers(self, indices):
        return indices // 10


@pytest.mark.parametrize("size", [1, 10, 37])
@pytest.mark.parametrize("make", [Stored, lambda X: Subset(Stored(X), range(50))], ids=["dataset", "subset"])
def test_a_dataset_stored_in_blocks_is_read_by_one_thread_in_order(make, size, workers):
    """By processes each of them would read every block."""
    data = make(X)
    inputs = Inputs(data)
    assert inputs.has_blocks
    assert_whole(inputs, size)
    threads = getattr(data, "dataset", data).threads
    assert len(threads - {threading.get_ident()}) == 1


@pytest.mark.parametrize("n_ahead", [1, 3, 50])
def test_an_error_while_reading_ahead_comes_in_its_place_and_nothing_is_read_after_it(n_ahead, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCKS_AHEAD", n_ahead)
    inputs = Inputs(Stored(X, fails_at=int(ORDER[20])))
    n_read = 0
    with pytest.raises(OSError, match="cannot be read"):
        for _ in stream(inputs, ORDER, 5):
            n_read += 1
    assert n_read == 4


def test_who_stops_early_does_not_wait_for_what_would_be_read(monkeypatch):
    monkeypatch.setattr(streaming, "BLOCKS_AHEAD", 3)
    inputs, read = Inputs(Stored(X)), []
    gather = inputs.read
    monkeypatch.setattr(inputs, "read", lambda part: (read.append(part), gather(part))[1])
    blocks = iter(stream(inputs, ORDER, 1))
    next(blocks)
    del blocks
    assert len(read) <= 6


def test_blocks_are_those_of_what_a_subset_is_of():
    rows = [7, 45, 12, 13, 0]
    subset = Subset(Subset(Stored(X), list(range(49, -1, -1))), rows)
    numbers, per_window = Inputs(subset).blocks(torch.tensor([0, 1, 4]))
    assert numbers.tolist() == [4, 0, 4] and numbers.dtype == np.int32 and per_window == 2
    assert not Inputs(Lazy(X)).has_blocks and not Inputs(X).has_blocks
