"""Rows of files are those of the table that was written, and no more of it is read or held than is said."""

import importlib.util
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from helpers import assert_same_fit, fast
from numpy.testing import assert_array_equal
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from torch.utils.data import DataLoader, Dataset, Subset

from skcoteach import data
from skcoteach.data import ParquetRows

pa = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.filterwarnings("error")

N, BLOCK = 600, 40
NUMBERS, Y = make_classification(N, 5, n_informative=4, n_redundant=0, n_classes=3, class_sep=2.0, random_state=0)
NUMBERS = NUMBERS.astype(np.float32)
NAMES = ["first", "second", "third", "fourth", "fifth"]
#: Of three files, the last one smaller.
PARTS = [slice(0, 250), slice(250, 500), slice(500, N)]


def table(**more):
    return pa.table(dict(zip(NAMES, NUMBERS.T, strict=True)) | {"word": [f"w{c}" for c in Y], "label": Y} | more)


def write(folder, rows=None, kind="parquet"):
    for number, part in enumerate(PARTS):
        some = (table() if rows is None else rows).slice(part.start, part.stop - part.start)
        if kind == "parquet":
            parquet.write_table(some, folder / f"{number}.parquet", row_group_size=BLOCK)
        else:
            feather.write_feather(some, folder / f"{number}.feather", compression=kind, chunksize=BLOCK)
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return write(tmp_path / "data")


@pytest.fixture
def reads(monkeypatch):
    """Numbers of the blocks that are read."""
    found, read = [], ParquetRows._read_block
    monkeypatch.setattr(
        ParquetRows, "_read_block", lambda X, number, *rest: (found.append(number), read(X, number, *rest))[1]
    )
    return found


class InMemory(Dataset):
    """The same rows and blocks."""

    blocks_per_window = 4

    def __init__(self, starts):
        self.starts = starts

    def __len__(self):
        return N

    def __getitem__(self, index):
        return torch.from_numpy(NUMBERS[index])

    def block_numbers(self, indices):
        return np.searchsorted(self.starts, indices, side="right") - 1


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "uncompressed", "lz4"])
def test_rows_are_those_that_were_written(kind, tmp_path):
    X = ParquetRows(write(tmp_path, kind=kind), label="label")
    assert (len(X), X.shape, X.columns) == (N, (N, 5), tuple(NAMES))
    assert_array_equal(torch.stack([X[i] for i in range(N)]), NUMBERS)
    order = np.random.default_rng(0).permutation(N)
    assert_array_equal(torch.stack(X.__getitems__(order.tolist())), NUMBERS[order])
    assert X[-1].dtype == torch.float32 and torch.equal(X[-1], X[N - 1])
    assert_array_equal(X.block_numbers(np.array([0, 39, 40, 249, 250, 599])), [0, 0, 1, 6, 7, 16])
    assert_array_equal(X.labels(), Y)


def test_a_single_file_is_opened_whatever_its_name_ends_with(folder):
    file = (folder / "1.parquet").rename(folder / "rows.data")
    assert_array_equal(torch.stack(list(ParquetRows(file, NAMES))), NUMBERS[PARTS[1]])
    assert len(ParquetRows(str(folder), NAMES)) == N - 250


def test_columns_are_taken_in_the_order_that_is_given(folder):
    X = ParquetRows(folder, ["fourth", "first"])
    assert_array_equal(X[7], NUMBERS[7, [3, 0]])
    assert "label" in ParquetRows(folder).columns and "word" not in ParquetRows(folder).columns


def test_numbers_of_every_kind_become_float32(tmp_path):
    kinds = ["int8", "uint64", "float16", "float64", "bool"]
    values = {kind: np.array([0, 1, 1, 0, 1], dtype=kind) for kind in kinds}
    parquet.write_table(pa.table(values), tmp_path / "rows.parquet")
    assert_array_equal(torch.stack(list(ParquetRows(tmp_path))), np.array([[0, 1, 1, 0, 1]] * 5).T)


def test_parts_are_those_rows_not_yet_read(folder, reads):
    X = ParquetRows(folder, NAMES)
    order = np.random.default_rng(0).permutation(N)[:50]
    mask = np.isin(np.arange(N), order)
    for index, expected in [(order, order), (order.tolist(), order), (slice(5, 200, 3), np.arange(5, 200, 3)),
                            (mask, np.flatnonzero(mask)), ((order, ...), order), ([], [])]:  # fmt: skip
        part = X[index]
        assert isinstance(part, ParquetRows) and len(part) == part.shape[0] == len(expected) and not reads
    part = X[order][10:20]
    assert_array_equal(torch.stack(list(part)), NUMBERS[order[10:20]])
    assert_array_equal(part.labels("label"), Y[order[10:20]])
    assert_array_equal(part.block_numbers(np.arange(10)), X.block_numbers(order[10:20]))


@pytest.mark.parametrize("index", [N, -N - 1, [0, N], np.ones(3, dtype=bool)], ids=str)
def test_rows_that_are_not_there_cannot_be_had(folder, index):
    with pytest.raises(IndexError):
        ParquetRows(folder)[index]


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "uncompressed"])
@pytest.mark.parametrize(
    "labels",
    [Y, Y == 1, Y / 2, np.array(["ash", "beech", "cherry"])[Y], pa.array([f"w{c}" for c in Y]).dictionary_encode()],
    ids=["int", "bool", "float", "string", "dictionary"],
)
def test_labels_of_every_kind_are_an_array(labels, kind, tmp_path):
    found = ParquetRows(write(tmp_path, table(label=labels), kind), NAMES).labels("label")
    expected = np.asarray(labels.to_pylist() if isinstance(labels, pa.Array) else labels)
    assert isinstance(found, np.ndarray) and found.dtype == expected.dtype
    assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([None, *Y[1:].tolist()], r"'label' of \S+0\.parquet is null in row 0"),
        ([*"a" * (N - 1), None], r"'label' of \S+2\.parquet is null in row 99"),
        ([*Y[1:].tolist(), np.nan], "'label' of .* is NaN"),
        (
            np.arange(N).astype("datetime64[s]"),
            r"'label' of \S+ is timestamp\[m?s\]; labels are numbers, bools or strings",
        ),
    ],
    ids=["null", "null among strings", "NaN", "dates"],
)
def test_labels_that_are_none_are_refused(labels, words, tmp_path):
    X = ParquetRows(write(tmp_path, table(label=labels)), NAMES)
    with pytest.raises(ValueError, match=words):
        X.labels("label")


def test_which_column_holds_the_labels_has_to_be_said(folder):
    with pytest.raises(ValueError, match=r"Which column holds the labels\?"):
        ParquetRows(folder).labels()
    with pytest.raises(ValueError, match="has no column 'kind'; it has first, second"):
        ParquetRows(folder).labels("kind")
    with pytest.raises(ValueError, match="has no column 'kind'; it has first, second"):
        ParquetRows(folder, label="kind")


# --- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            {"columns": ["first", "word"]},
            ValueError,
            r"The columns 'word' \(string\) of \S+0\.parquet do not hold numbers",
        ),
        ({"columns": ["first", "sixth"]}, ValueError, r"0\.parquet has no column 'sixth'; it has first, second"),
        ({"columns": ["first", "first"]}, ValueError, "columns first are there, or named, several times"),
        ({"columns": []}, ValueError, "has no columns of numbers"),
        ({"columns": "first"}, TypeError, "columns must be a sequence of names; got the string 'first'"),
        ({"window_bytes": 0}, ValueError, "window_bytes must be an integer of at least 1; got 0"),
        ({"window_bytes": 1e9}, ValueError, "window_bytes must be an integer"),
    ],
    ids=str,
)
def test_columns_that_are_no_numbers_or_not_there_are_named(arguments, error, words, folder):
    with pytest.raises(error, match=words):
        ParquetRows(folder, **arguments)


def test_files_that_are_not_there_or_of_another_kind_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file or folder 'nowhere'"):
        ParquetRows("nowhere")
    with pytest.raises(ValueError, match=r"The folder .* has no files that end with \.parquet"):
        ParquetRows(tmp_path)
    for content in (b"", b"a,b\n1,2\n", b"PAR1 and no more"):
        (tmp_path / "rows.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=r"rows\.parquet (is neither a Parquet file nor|cannot be read)"):
            ParquetRows(tmp_path)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            table().drop_columns("third"),
            r"In \S+3\.parquet the column 'third' is not there, but float in \S+0\.parquet",
        ),
        (table(sixth=Y), r"In \S+3\.parquet the column 'sixth' is int64, but not there in"),
        (table(first=Y), r"In \S+3\.parquet the column 'first' is int64, but float in"),
        (
            table().select(["second", "first", *NAMES[2:], "word", "label"]),
            r"3\.parquet has its columns in another order",
        ),
    ],
    ids=["fewer", "more", "another type", "another order"],
)
def test_a_file_with_other_columns_is_named(other, words, folder):
    parquet.write_table(other, folder / "3.parquet")
    with pytest.raises(ValueError, match=words):
        ParquetRows(folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), (np.nan, "NaN"), (-np.inf, "infinity"), (1e39, "too large")],
    ids=["null", "NaN", "infinity", "too large"],
)
@pytest.mark.parametrize("kind", ["parquet", "lz4"])
def test_a_value_that_is_missing_is_told_with_column_file_and_row(value, words, kind, tmp_path):
    values = [*NUMBERS[:300, 1].tolist(), value, *NUMBERS[301:, 1].tolist()]
    folder = write(tmp_path, table(second=pa.array(values, from_pandas=False)), kind)
    X = ParquetRows(folder, NAMES)
    with pytest.raises(ValueError, match=rf"'second' of \S+1\.(parquet|feather) is .*{words}.* in row 50\."):
        fast().fit(X, Y)
    assert ParquetRows(folder, NAMES[2:])[300].isfinite().all()


def test_large_numbers_whose_sum_is_infinite_are_no_missing_values(tmp_path):
    values = np.full((50, 2), 3e38, dtype=np.float32)
    parquet.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), tmp_path / "rows.parquet")
    assert_array_equal(torch.stack(list(ParquetRows(tmp_path))), values)


def test_a_file_that_has_changed_is_not_read_on(folder):
    X = ParquetRows(folder, NAMES, label="label")
    parquet.write_table(table().slice(0, 100), folder / "1.parquet", row_group_size=20)
    for row in (260, 480):
        with pytest.raises(ValueError, match=r"1\.parquet has changed since the rows were counted"):
            X[row]
    with pytest.raises(ValueError, match="has changed since the rows were counted"):
        X.labels()


def test_blocks_too_large_for_the_window_are_told(folder):
    with pytest.warns(UserWarning, match=r"takes 0 MiB in memory, more than window_bytes=100.*row_group_size"):
        assert ParquetRows(folder, NAMES, window_bytes=100).blocks_per_window == 1


def test_without_pyarrow_the_module_is_imported_and_what_to_install_is_said(folder, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    specification = importlib.util.spec_from_file_location("fresh", data.__file__)
    fresh = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(fresh)
    with pytest.raises(ImportError, match=r"^ParquetRows needs pyarrow: pip install 'skcoteach\[parquet\]'$"):
        fresh.ParquetRows(folder)


# --- what is read and held -------------------------------------------------------------------------------------------


def test_an_epoch_and_a_prediction_read_every_block_once_and_hold_no_more_than_a_window(folder, reads):
    X = ParquetRows(folder, NAMES, label="label", window_bytes=4 * BLOCK * 20)
    assert X.blocks_per_window == 4
    estimator = fast(epochs=2).fit(X, X.labels())
    n_blocks, per_epoch = 17, [sorted(reads[-34:-17]), sorted(reads[-17:])]
    assert per_epoch == [list(range(n_blocks))] * 2
    assert reads[-17:] != reads[-34:-17] != sorted(reads[-34:-17])  # in another order every time
    reads.clear()
    X = pickle.loads(pickle.dumps(X))
    estimator.predict(X)
    assert reads == list(range(17)) and len(X._reader._blocks) == 4
    assert len({id(block.base) for block in X._reader._blocks.values()}) == 4


def test_a_window_opens_every_file_once(tmp_path, monkeypatch):
    opened, open_file = [], data._open
    X = ParquetRows(write(tmp_path), NAMES, window_bytes=N * 20)
    monkeypatch.setattr(data, "_open", lambda file: (opened.append(file), open_file(file))[1])
    X.__getitems__(np.random.default_rng(0).permutation(N).tolist())
    assert len(opened) == 3


def test_nothing_of_the_files_is_pickled(folder):
    X = ParquetRows(folder, NAMES, label="label")
    assert torch.equal(X[3], torch.from_numpy(NUMBERS[3]))
    pickled = pickle.dumps(X)
    assert len(pickled) < 2500
    again = pickle.loads(pickled)
    assert_array_equal(torch.stack(list(again)), NUMBERS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_workers_read_for_themselves(folder):
    X = ParquetRows(folder, NAMES)
    X[0]
    with X._reader.lock:  # as if another thread were reading just now
        loader = DataLoader(X, 50, num_workers=2, multiprocessing_context="fork", timeout=60)
        assert_array_equal(torch.cat(list(loader)), NUMBERS)


# --- as X ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(folder):
    return ParquetRows(folder, NAMES, label="label", window_bytes=4 * BLOCK * 20)


@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"forget_rate": "auto", "epochs": 3}], ids=str)
def test_fits_are_those_of_the_same_rows_and_blocks_in_memory(rows, parameters):
    in_memory = InMemory(rows._starts)
    assert_same_fit(fast(**parameters).fit(rows, Y), fast(**parameters).fit(in_memory, Y), NUMBERS)


def test_predictions_are_those_of_a_table_in_memory(rows):
    estimator = fast(epochs=20).fit(rows, rows.labels())
    assert_array_equal(estimator.predict_proba(rows), estimator.predict_proba(NUMBERS))
    assert_array_equal(estimator.predict(Subset(rows, range(5, 50))), estimator.predict(NUMBERS[5:50]))
    assert estimator.score(rows, Y) == estimator.score(NUMBERS, Y) > 0.8
    assert estimator.n_features_in_ == 5


def test_subsets_are_read_by_blocks_too(rows, reads):
    subset = Subset(rows, np.arange(N)[::2].tolist())
    part = rows[::2]
    assert_same_fit(fast(epochs=1).fit(subset, Y[::2]), fast(epochs=1).fit(part, Y[::2]), NUMBERS)
    assert sorted(reads[-17:]) == list(range(17))


def test_scikit_learn_cuts_them(rows):
    X_train, X_test, y_train, y_test = train_test_split(rows, Y, random_state=0)
    assert isinstance(X_train, ParquetRows) and fast(epochs=20).fit(X_train, y_train).score(X_test, y_test) > 0.8
    assert cross_val_score(fast(epochs=20), rows, Y, cv=2).min() > 0.8
    assert cross_val_predict(fast(), rows, Y, cv=2, method="predict_proba").shape == (N, 3)
    search = GridSearchCV(fast(), {"forget_rate": [0.1, 0.2]}, cv=2).fit(rows, Y)
    assert search.best_estimator_.predict(rows).shape == (N,)


def test_they_can_be_a_validation_set(rows):
    some = slice(0, 300)
    of_files, in_memory = (fast().fit(NUMBERS, Y, X_val=each[some], y_val=Y[some]) for each in (rows, NUMBERS))
    assert of_files.history_[-1]["val_loss"] == pytest.approx(in_memory.history_[-1]["val_loss"])


def test_partial_fit_takes_them(rows):
    estimator = fast().partial_fit(rows[:300], Y[:300], classes=[0, 1, 2])
    assert estimator.partial_fit(rows[300:], Y[300:]).n_iter_ == 2


def test_a_checkpoint_knows_the_rows_again(rows, tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    first = fast(checkpoint=folder).fit(rows, Y)
    again = pickle.loads(pickle.dumps(rows))
    again[0]
    second = fast(checkpoint=folder, verbose=1).fit(again, Y)
    assert "taken from" in capsys.readouterr().out
    assert_same_fit(first, second, NUMBERS)
    fast(checkpoint=folder).fit(ParquetRows(os.path.dirname(rows._files[0]), NAMES[::-1]), Y)
    assert len(list(folder.iterdir())) == 2


# --- files that are sorted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2])
def test_fit_warns_of_files_that_are_sorted_by_class(window, tmp_path):
    folder = write(tmp_path, table().take(Y.argsort(kind="stable")))
    X = ParquetRows(folder, NAMES, label="label", window_bytes=window * BLOCK * 20)
    with pytest.warns(UserWarning, match=rf"the {window} blocks that .* together have [12]\.\d of 3 classes"):
        fast(epochs=1).fit(X, X.labels())


def test_windows_that_have_their_share_of_all_classes_are_not_warned_of(tmp_path):
    for window, order in ((2, np.arange(N)), (20, Y.argsort(kind="stable"))):
        X = ParquetRows(write(tmp_path, table().take(order)), NAMES, label="label", window_bytes=window * BLOCK * 20)
        fast(epochs=1).fit(X, X.labels())
