"""y of every kind: what is predicted and what label issues speak of are the user's own classes."""

import pandas as pd
import polars as pl
import pytest
import torch
from helpers import LABELS_OF_EVERY_KIND, assert_same_findings, auto, fast
from numpy.testing import assert_array_equal

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("kind", LABELS_OF_EVERY_KIND)
def test_labels_come_back(kind, table):
    X, y = table
    labels = LABELS_OF_EVERY_KIND[kind]
    estimator = fast(epochs=15).fit(X, labels[y])
    assert_array_equal(estimator.classes_, labels)
    assert estimator.classes_.dtype == labels.dtype
    assert estimator.predict(X).dtype == labels.dtype
    assert estimator.score(X, labels[y]) > 0.8


def test_bools_come_back(table):
    X, y = table
    estimator = fast().fit(X, y == 1)
    assert_array_equal(estimator.classes_, [False, True])
    assert estimator.predict(X).dtype == bool


def test_lists_tensors_and_series_give_the_same_bits(table):
    X, y = table
    expected = fast().fit(X, y).predict_proba(X)
    for labels in (y.tolist(), torch.tensor(y), pd.Series(y), pl.Series(y), torch.tensor(y).to(torch.uint8)):
        assert_array_equal(fast().fit(X, labels).predict_proba(X), expected)


def test_lists_tensors_and_series_have_the_same_noise(noisy, found):
    X, given, _ = noisy
    for labels in (given.tolist(), torch.tensor(given), pd.Series(given, index=given * 7)):
        assert_same_findings(auto().fit(X, labels), found)


@pytest.mark.parametrize("kind", LABELS_OF_EVERY_KIND)
def test_label_issues_speak_of_the_users_own_classes(kind, noisy, found):
    X, given, _ = noisy
    names = LABELS_OF_EVERY_KIND[kind]
    estimator = auto().fit(X, names[given])
    assert_same_findings(estimator, found)
    issues = estimator.get_label_issues()
    assert issues["given_label"].tolist() == names[given].tolist()
    assert set(issues["predicted_label"]) == set(names.tolist())
    if names.tolist() != [0, 1, 2]:  # those have cleanlab's dtype, see test_label_issues
        for column in ("given_label", "predicted_label"):
            assert issues[column].dtype == pd.Series(names).dtype


def test_label_issues_of_bools_are_bools(noisy):
    X, given, true = noisy
    issues = auto().fit(X, given == 1).get_label_issues()
    assert issues["given_label"].dtype == issues["predicted_label"].dtype == bool
    assert issues["given_label"].tolist() == (given == 1).tolist()
    assert (issues["predicted_label"] == (true == 1)).mean() > 0.95
