"""predict, predict_proba, predict_log_proba, score."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fast, images
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
