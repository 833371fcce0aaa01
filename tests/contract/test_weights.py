"""Weights of examples and classes are exact: weight 2 is the example twice, weight 0 its absence."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import fast
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("error")


def weighted_examples(seed=0, n=40):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 5)), rng.integers(0, 3, n), rng.integers(0, 4, n)


@pytest.mark.parametrize("class_floor", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 0.5, 2: 1.0}])
def test_weights_equal_repetition(class_floor, class_weight):
    X, y, weights = weighted_examples()
    make = fast(
        epochs=30,
        batch_size=512,
        precision="float64",
        forget_rate=0.35,
        class_floor=class_floor,
        class_weight=class_weight,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Of those with the given label")  # without a floor a light class is forgotten
        weighted = clone(make).fit(X, y, sample_weight=weights)
        repeated = clone(make).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=0, atol=1e-9)
    # what is kept of an example is what is kept of its repetitions on average
    owner = np.arange(len(y)).repeat(weights)
    mean_kept = np.bincount(owner, repeated.kept_frequency_, len(y))[weights > 0] / weights[weights > 0]
    assert_allclose(weighted.kept_frequency_[weights > 0], mean_kept, atol=1e-9)


def test_float32_weights_equal_repetition():
    X, y, weights = weighted_examples()
    make = fast(epochs=30, batch_size=512, forget_rate=0.35)
    weighted = clone(make).fit(X, y, sample_weight=weights)
    repeated = clone(make).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=0, atol=1e-4)


def test_rows_of_weight_zero_are_absent_but_their_class_counts(table):
    X, y = table
    weights = np.where(y == 2, 0.0, 1.0)
    parameters = {"epochs": 30, "precision": "float64", "batch_size": 512, "class_floor": 0}
    estimator = fast(**parameters).fit(X, y, sample_weight=weights)
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.kept_frequency_.shape == y.shape and np.isfinite(estimator.kept_frequency_).all()
    absent = fast(**parameters)
    for _ in range(30):
        absent.partial_fit(X[y != 2], y[y != 2], classes=[0, 1, 2])
    assert_allclose(estimator.predict_proba(X), absent.predict_proba(X), atol=1e-9)


def test_weights_in_a_series_are_taken(table):
    X, y = table
    weights = pd.Series(np.where(y == 0, 0.5, 2.0))
    expected = fast().fit(X, y, sample_weight=weights.to_numpy()).predict_proba(X)
    assert_array_equal(fast().fit(X, y, sample_weight=weights).predict_proba(X), expected)


def test_read_only_weights_are_taken(table):
    X, y = table
    weights = np.ones(len(y))
    weights.setflags(write=False)
    assert_array_equal(fast().fit(X, y, sample_weight=weights).predict_proba(X), fast().fit(X, y).predict_proba(X))


def test_the_score_is_weighted(table):
    X, y = table
    estimator = fast().fit(X, y)
    weights = np.where(estimator.predict(X) == y, 3.0, 1.0)
    assert estimator.score(X, y, sample_weight=weights) > estimator.score(X, y)


def test_metadata_routing_passes_sample_weight_on(table):
    X, y = table
    weights = np.where(y == 0, 0.01, 1.0)
    with config_context(enable_metadata_routing=True):
        estimator = fast().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), estimator)
        routed = pipeline.fit(X, y, sample_weight=weights).predict_proba(X)
        scores = cross_validate(estimator, X, y, params={"sample_weight": weights}, cv=2)["test_score"]
        assert np.isfinite(scores).all()
    X_scaled = StandardScaler().fit_transform(X)
    assert_allclose(routed, fast().fit(X_scaled, y, sample_weight=weights).predict_proba(X_scaled), atol=1e-6)
