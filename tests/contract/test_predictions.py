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
