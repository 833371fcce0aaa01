"""X of every kind: the same numbers give the same bits, and are never changed."""

import numpy as np
import pytest
import torch
from helpers import (
    Items,
    Net,
    Words,
    assert_same_findings,
    assert_same_fit,
    auto,
    fast,
    images,
    kinds_of_table,
    words,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_predict, cross_val_score
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from skcoteach.benchmarks.common import noisy_labels, transition_matrix

pytestmark = pytest.mark.filterwarnings("error")


# tables


def test_every_kind_of_table_gives_the_same_bits(table, tmp_path):
    X, y = table
    expected = fast().fit(X, y).predict_proba(X)
    for kind, data in kinds_of_table(X, tmp_path).items():
        estimator = fast().fit(data, y)
        assert estimator.n_features_in_ == 8, kind
        proba = estimator.predict_proba(data)
        assert isinstance(proba, np.ndarray), kind
        assert_array_equal(proba, expected, err_msg=kind)
        assert estimator.score(data, y) == pytest.approx(np.mean(estimator.classes_[expected.argmax(1)] == y)), kind


def test_every_kind_of_table_has_the_same_noise(noisy, found, tmp_path):
    X, given, _ = noisy
    kinds = kinds_of_table(X, tmp_path)
    for kind in ("fortran", "list", "tensor", "memmap", "pandas", "csr", "dataset", "subset", "list of items"):
        assert_same_findings(auto().fit(kinds[kind], given), found)


def test_x_is_never_changed(table):
    X, y = (each.copy() for each in table)
    tensor = torch.from_numpy(X.copy())
    fast().fit(X, y).predict(X)
    fast().fit(tensor, y).predict(tensor)
    assert_array_equal(X, table[0])
    assert_array_equal(tensor.numpy(), table[0])


def test_bytes_and_integers_in_tables_are_numbers(table):
    y = table[1]
    X = np.random.default_rng(0).integers(0, 255, (len(y), 5))
    expected = fast().fit(X.astype(np.float32), y).predict_proba(X.astype(np.float32))
    for dtype in (np.uint8, np.int64, np.uint16, np.int32):
        assert_array_equal(fast().fit(X.astype(dtype), y).predict_proba(X.astype(dtype)), expected)
    assert_array_equal(fast().fit(X.astype(np.float32), y).predict_proba(X), expected)


# what has examples of its own, and says that its shape is (n_samples,)


class Column:
    """Can be made an array; says nothing of its columns."""

    def __init__(self, X):
        self.X = X
        self.shape = X.shape[:1]

    def __len__(self):
        return len(self.X)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.X, dtype=dtype)


class CountedItems(Items):
    """A Dataset with the shape of a column."""

    @property
    def shape(self):
        return (len(self),)


class PlainItems(Dataset):
    """Its items are arrays."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], -1


COLUMNS = {
    "SliceDataset": lambda X: SliceDataset(TensorDataset(torch.tensor(X))),
    "SliceDataset of arrays": lambda X: SliceDataset(PlainItems(X)),
    "array-like": Column,
    "Dataset": CountedItems,
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_x_whose_shape_has_one_entry_gives_the_same_bits(kind, table):
    X, y = table
    data, expected = COLUMNS[kind](X), fast().fit(X, y)
    estimator = fast().fit(data, y)
    assert estimator.n_features_in_ == 8
    assert_same_fit(estimator, expected, X)
    assert_array_equal(estimator.predict_proba(data), expected.predict_proba(X))
    assert_array_equal(expected.predict_proba(data), expected.predict_proba(X))
    assert_array_equal(expected.partial_fit(data, y).predict(X), estimator.partial_fit(X, y).predict(data))
    with pytest.raises(ValueError, match="expecting 8 features"):
        estimator.predict(COLUMNS[kind](X[:, :5]))
    with pytest.raises(ValueError, match="0 sample"):
        estimator.predict(COLUMNS[kind](X[:0]))


@pytest.mark.parametrize("kind", ["SliceDataset", "SliceDataset of arrays"])
def test_a_slice_dataset_is_cross_validated_as_the_array(kind, table):
    X, y = table
    data = COLUMNS[kind](X)
    arguments = {"cv": 3, "method": "predict_proba"}
    assert_array_equal(cross_val_predict(fast(), data, y, **arguments), cross_val_predict(fast(), X, y, **arguments))


def test_a_slice_dataset_is_read_batch_by_batch(table):
    X, y = table

    class Counting(SliceDataset):
        def __array__(self, dtype=None, copy=None):
            raise AssertionError("all items were asked for at once")

    data = Counting(TensorDataset(torch.tensor(X)))
    assert fast().fit(data, y).predict(data).shape == y.shape


class CountingItems(Items):
    """Remembers how often each of its items was asked for."""

    def __init__(self, X):
        super().__init__(X)
        self.asked = np.zeros(len(X), dtype=int)

    def __getitem__(self, i):
        self.asked[i] += 1
        return super().__getitem__(i)


def test_a_dataset_is_read_once_an_epoch_and_once_before_to_standardise(table):
    X, y = table
    data = CountingItems(X)
    estimator = fast(epochs=3, batch_size=len(X)).fit(data, y)
    assert set(data.asked[2:]) == {4}  # the networks are tried out on the first two
    data.asked[:] = 0
    estimator.predict(data)
    assert set(data.asked[1:]) == {1}


def test_a_dataset_that_is_not_standardised_is_read_once_an_epoch(table):
    X, y = table
    data = CountingItems(X)
    fast(module=Net, epochs=3, batch_size=len(X)).fit(data, y)
    assert set(data.asked[2:]) == {3}


@pytest.mark.parametrize("kind", ["numpy", "tensor", "dataset"])
def test_datasets_tensors_and_arrays_are_cross_validated_alike(kind, table):
    X, y = table
    data = {"numpy": X, "tensor": torch.tensor(X), "dataset": Items(X)}[kind]
    scores = cross_val_score(fast(epochs=10), data, y, cv=3)
    assert_array_equal(scores, cross_val_score(fast(epochs=10), X, y, cv=3))


# images


def test_bytes_of_images_are_divided_by_255():
    X, y = images()
    as_bytes = fast(epochs=3).fit(X, y).predict_proba(X)
    scaled = (X / 255).astype(np.float32)
    assert_allclose(as_bytes, fast(epochs=3).fit(scaled, y).predict_proba(scaled), atol=1e-6)
    assert_array_equal(as_bytes, fast(epochs=3).fit(torch.tensor(X), y).predict_proba(torch.tensor(X)))
    assert_array_equal(as_bytes, fast(epochs=3).fit(Items(X), y).predict_proba(Items(X)))


@pytest.fixture(scope="module")
def noisy_images():
    """600 of two classes, given labels of which a fifth are wrong, true labels."""
    X, true = images(600)
    return X, noisy_labels(true, transition_matrix("symmetric", 0.2, 2), seed=0), true


def test_noise_of_images_is_found(noisy_images):
    X, given, true = noisy_images
    estimator = auto(batch_size=16, epochs=2).fit(X, given)
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.07)
    assert average_precision_score(given != true, -estimator.label_quality_) > 0.95


def test_every_kind_of_images_has_the_same_noise(noisy_images):
    X, given, _ = noisy_images
    expected = auto(batch_size=16, epochs=1).fit(X, given)
    for make in (torch.tensor, Items):
        assert_same_findings(auto(batch_size=16, epochs=1).fit(make(X), given), expected)


# indices


class MeanOfWords(nn.Module):
    """An embedding first, and a ``forward`` of its own."""

    def __init__(self, n_classes):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.linear = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.linear(self.embedding(x).mean(1))


@pytest.mark.parametrize("module", [MeanOfWords, Words])
def test_integers_stay_integers_for_an_embedding(module):
    X, y = words()
    estimator = fast(module=module, epochs=40, lr=0.05).fit(X, y)
    assert estimator.score(X, y) == 1
    with pytest.raises(ValueError, match="fitted on integers"):
        estimator.predict(X.astype(float))


def test_integers_of_an_embedding_have_noise_too():
    X, true = words(600)
    given = noisy_labels(true, transition_matrix("symmetric", 0.2, 2), seed=0)
    estimator = auto(module=Words, lr=0.05).fit(X, given)
    # counted in the confident half of 600: the standard error is 0.023
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.07)
