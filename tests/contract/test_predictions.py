"""predict, predict_proba, predict_log_proba, score."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Items, Net, fast, images
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = pytest.mark.filterwarnings("error")


def test_predict_proba_sums_to_one_and_agrees_with_the_other_outputs(table):
    X, y = table
    estimator = fast().fit(X, y)
    proba = estimator.predict_proba(X)
    assert proba.shape == (200, 3) and proba.dtype == np.float64
    assert_allclose(proba.sum(1), 1, rtol=1e-12)
    assert_allclose(np.exp(estimator.predict_log_proba(X)), proba, rtol=1e-9)
    assert_array_equal(estimator.predict(X), proba.argmax(1))
    assert estimator.score(X, y) == np.mean(proba.argmax(1) == y)
    with torch.no_grad():
        each = [module(torch.tensor(X)).double().softmax(1) for module in estimator.modules_]
    assert_allclose(proba, (each[0] + each[1]).numpy() / 2, atol=1e-6)


class Squeezing(Net):
    """Drops the axis of a single row."""

    def forward(self, x):
        return super().forward(x).squeeze()


class OddAfterTraining(Net):
    """Returns something else once it has been trained."""

    trained, odd = False, None

    def train(self, mode=True):
        self.trained |= mode
        return super().train(mode)

    def forward(self, x):
        outputs = super().forward(x)
        return outputs if self.training or self.odd is None else self.odd(outputs)


ODD = {
    "one column": (lambda outputs: outputs[:, :1], ValueError, r"module must return raw logits.*got shape \(200, 1\)"),
    "tuple": (lambda outputs: (outputs, 1), TypeError, "module must return a tensor.*returned a tuple"),
    "integers": (lambda outputs: outputs.long(), TypeError, "floating point logits; got torch.int64"),
    "NaN": (lambda outputs: outputs / 0 * 0, ValueError, "return NaN for 200 of 200 examples, rows .*0, 1, 2, 3, 4"),
}


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("name", ODD)
def test_what_networks_return_is_checked_as_before_training(name, method, table):
    odd, error, words = ODD[name]
    estimator = fast(module=OddAfterTraining).fit(*table)
    estimator.modules_[0].odd = odd
    with pytest.raises(error, match=words):
        getattr(estimator, method)(table[0])


def test_an_axis_that_a_single_row_loses_is_told(table):
    X, y = table
    estimator = fast(module=Squeezing).fit(X, y)
    assert estimator.predict_proba(X).shape == (200, 3)
    for rows in (X[:1], np.concatenate([X] * 11)[:2049]):  # the last of two parts has one row
        for method in (estimator.predict, estimator.predict_proba):
            with pytest.raises(ValueError, match=r"\(1, 3\).*got shape \(3,\)"):
                method(rows)


def test_nan_in_a_dataset_is_told_with_its_rows(table):
    X, y = table
    estimator, dirty = fast().fit(Items(X), y), X.copy()
    dirty[[3, 7], 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN for 2 of 200 examples, rows \[3, 7\]"):
        estimator.predict(Items(dirty))


def test_rows_do_not_depend_on_their_neighbours(table):
    X, y = table
    estimator = fast(precision="float64").fit(X, y)
    assert_allclose(estimator.predict_proba(X[7:8]), estimator.predict_proba(X)[7:8], rtol=1e-9)


@pytest.mark.parametrize("names", [list("abcdefgh"), None], ids=["data frame", "array"])
def test_another_form_is_refused(names, table):
    X, y = table
    estimator = fast(epochs=1).fit(pd.DataFrame(X, columns=names) if names else X, y)
    with pytest.raises(ValueError, match="expecting 8 features|feature names"):
        estimator.predict(pd.DataFrame(X[:, :3], columns=names[:3]) if names else X[:, :3])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        with pytest.raises(ValueError, match="expecting 8 features|examples of shape"):
            estimator.predict(torch.zeros(4, 9))
        with pytest.raises(ValueError, match="examples of shape"):
            estimator.predict(np.zeros((4, 8, 2)))


def test_another_kind_of_dtype_is_refused():
    X, y = images()
    on_bytes = fast(epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="fitted on uint8"):
        on_bytes.predict(X.astype(np.float32))
    on_floats = fast(epochs=1).fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match="fitted on floating"):
        on_floats.predict(torch.tensor(X))


# --- into an array ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(table):
    return fast().fit(*table)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: np.empty((200, 3)),
        lambda folder: np.empty((200, 3), dtype=np.float32),
        lambda folder: np.empty((200, 3), order="F"),
        lambda folder: np.empty((400, 6))[::2, ::-2],
        lambda folder: np.memmap(folder / "out", np.float32, "w+", shape=(200, 3)),
        lambda folder: np.lib.format.open_memmap(folder / "out.npy", "w+", np.float64, (200, 3)),
    ],
    ids=["float64", "float32", "Fortran", "strided", "memmap", "npy"],
)
def test_probabilities_are_filled_into_an_array_chunk_by_chunk(make, fitted, table, tmp_path, monkeypatch):
    expected = fitted.predict_proba(table[0])
    monkeypatch.setattr("skcoteach._training.inference.chunk_size", lambda inputs: 64)
    chunked, out = fitted.predict_proba(table[0]), make(tmp_path)
    assert fitted.predict_proba(table[0], out=out) is out
    assert_array_equal(out, chunked.astype(out.dtype))  # the same bits
    assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.empty((200, 4)), ValueError, r"of shape \(200, 3\), .*; got shape \(200, 4\)"),
        (np.empty(600), ValueError, r"got shape \(600,\)"),
        (np.empty((200, 3), dtype=np.float16), ValueError, "float32 or float64, .*; got dtype float16"),
        (np.empty((200, 3), dtype=int), ValueError, "got dtype int"),
        (np.broadcast_to(0.0, (200, 3)), ValueError, "that can be written to; it is read-only"),
        (torch.empty(200, 3), TypeError, "out must be a NumPy array or memory map .*; got Tensor"),
        ([[0.0] * 3] * 200, TypeError, "got list"),
        (np.ma.masked_array(np.empty((200, 3))), TypeError, "got MaskedArray"),
        ("probabilities.npy", TypeError, "got str"),
    ],
    ids=["shape", "axes", "float16", "integers", "read-only", "tensor", "list", "masked", "path"],
)
def test_what_probabilities_cannot_be_filled_into_is_refused_before_anything_is_computed(out, error, words, table):
    estimator = fast(module=Net).fit(*table)
    estimator.modules_[0].register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    with pytest.raises(error, match=words):
        estimator.predict_proba(table[0], out=out)


def test_nan_in_a_later_chunk_is_told_by_its_row_and_what_came_before_is_filled(table, monkeypatch):
    monkeypatch.setattr("skcoteach._training.inference.chunk_size", lambda inputs: 64)
    estimator = fast(module=Net).fit(*table)
    X = Items(table[0])
    X.X[150] = np.nan
    out = np.full((200, 3), -1.0)
    with pytest.raises(ValueError, match=r"return NaN for some examples, rows \[150\] among them"):
        estimator.predict_proba(X, out=out)
    assert (out[:128] >= 0).all() and (out[128:] == -1).all()
