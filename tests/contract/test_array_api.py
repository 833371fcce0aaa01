"""Outputs and attributes are NumPy's; under array API dispatch they are of the library of X."""

import numpy as np
import pytest
import torch
from helpers import assert_same_findings, auto, fast
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.model_selection import cross_val_predict

pytestmark = pytest.mark.filterwarnings("error")

ARRAYS = ("classes_", "kept_frequency_", "label_quality_", "forget_rate_schedule_")


def test_without_dispatch_everything_is_of_numpy(table):
    X, y = (torch.tensor(each) for each in table)
    estimator = fast().fit(X, y)
    for name in ARRAYS:
        assert isinstance(getattr(estimator, name), np.ndarray)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        assert isinstance(getattr(estimator, method)(X), np.ndarray)


def test_under_dispatch_every_array_attribute_and_output_is_a_tensor(table):
    X, y = (torch.tensor(each) for each in table)
    with config_context(array_api_dispatch=True):
        estimator = fast().fit(X, y)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            assert isinstance(getattr(estimator, method)(X), torch.Tensor)
        assert isinstance(estimator.score(X, y), float)
    assert not [name for name, value in vars(estimator).items() if isinstance(value, np.ndarray)]
    for name in ARRAYS:
        assert isinstance(getattr(estimator, name), torch.Tensor)


def test_under_dispatch_words_stay_words(table):
    X, words = torch.tensor(table[0]), np.array(["a", "b", "c"])[table[1]]
    with config_context(array_api_dispatch=True):
        estimator = fast().fit(X, words)
        assert set(estimator.predict(X)) <= {"a", "b", "c"}
        assert isinstance(estimator.predict_proba(X), torch.Tensor)


def test_cross_val_predict_follows_the_library_of_x_only_under_dispatch(table):
    X, y = table
    arguments = {"cv": 3, "method": "predict_proba"}
    expected = cross_val_predict(fast(), X, y, **arguments)
    as_numpy = cross_val_predict(fast(), torch.tensor(X), torch.tensor(y), **arguments)
    assert isinstance(as_numpy, np.ndarray)
    with config_context(array_api_dispatch=True):
        as_tensor = cross_val_predict(fast(), torch.tensor(X), torch.tensor(y), **arguments)
    assert isinstance(as_tensor, torch.Tensor) and as_tensor.device.type == "cpu"
    assert_array_equal(as_numpy, expected)
    assert_array_equal(as_tensor.numpy(), expected)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_under_dispatch_the_noise_lives_where_x_does(library, noisy, found):
    X, given, _ = noisy
    xp = pytest.importorskip(library)
    with config_context(array_api_dispatch=True):
        estimator = auto().fit(xp.asarray(X.copy()), xp.asarray(given.copy()))
        kind = type(xp.asarray(X.copy()))
        for name in ("noise_matrix_", *ARRAYS):
            assert isinstance(getattr(estimator, name), kind)
        assert not [name for name, value in vars(estimator).items() if isinstance(value, np.ndarray)]
        assert type(estimator.noise_rate_) is float
        assert_same_findings(estimator, found)
        assert estimator.get_label_issues().dtypes.equals(found.get_label_issues().dtypes)
