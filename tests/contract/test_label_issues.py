"""get_label_issues and label_quality_: what the fit has found out about every given label."""

import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import auto, fast, noisy_blobs
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split

pytestmark = pytest.mark.filterwarnings("error")


def test_they_need_a_fit():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        auto().get_label_issues()


def test_they_have_a_row_for_each_example(noisy, found):
    _, given, _ = noisy
    issues = found.get_label_issues()
    assert list(issues.columns) == ["is_label_issue", "label_quality", "given_label", "predicted_label"]
    assert isinstance(issues.index, pd.RangeIndex) and len(issues) == len(given)
    assert_array_equal(issues["given_label"], given)


def test_label_quality_is_the_column_and_a_probability(noisy, found):
    X, given, _ = noisy
    quality = found.label_quality_
    assert quality.shape == given.shape and quality.dtype == np.float64
    assert (0 <= quality).all() and (quality <= 1).all() and quality.std() > 0.1
    issues = found.get_label_issues()
    assert_array_equal(issues["label_quality"], quality)
    assert issues["is_label_issue"].dtype == bool
    assert quality[issues["is_label_issue"]].max() < quality[~issues["is_label_issue"]].min()


def test_they_have_the_index_of_x_or_else_of_y(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdefgh"), index=[f"row {i}" for i in range(len(X))])
    labels = pd.Series(y, index=range(1000, 1000 + len(y)))
    train, _, y_train, _ = train_test_split(frame, labels, random_state=0)
    array = train.to_numpy()
    for X_given, y_given, expected in (
        (train, y_train, train.index),
        (train, y_train.to_numpy(), train.index),
        (array, y_train, y_train.index),
        (array, y_train.tolist(), pd.RangeIndex(len(train))),
    ):
        estimator = fast().fit(X_given, y_given)
        pd.testing.assert_index_equal(pickle.loads(pickle.dumps(estimator)).get_label_issues().index, expected)
    issues = fast().fit(train, y_train).get_label_issues()
    assert train.join(issues)["given_label"].tolist() == y_train.tolist()


def test_they_are_the_callers_to_change(found):
    before = found.get_label_issues()
    changed = found.get_label_issues()
    changed["is_label_issue"] = True
    changed.loc[:, "label_quality"] = 0.0
    assert found.get_label_issues().equals(before)
    assert_array_equal(found.label_quality_, before["label_quality"])


def test_they_are_found_with_a_given_rate_too(noisy):
    X, given, true = noisy
    estimator = auto(forget_rate=0.1, epochs=10).fit(X, given)
    assert estimator.forget_rate_ == 0.1 and not hasattr(estimator, "noise_rate_")
    issues = estimator.get_label_issues()
    assert issues["is_label_issue"].sum() == 60
    assert (given != true)[issues["is_label_issue"]].all()
    assert not auto(forget_rate=0.0).fit(X, given).get_label_issues()["is_label_issue"].any()


def test_nothing_found_is_ever_nan(noisy):
    """Most rows are never seen, and many have no weight, in class 2 nearly all."""
    X, given, _ = noisy
    weights = np.where(np.arange(600) % 3 == 0, 0.0, 2.0) * np.where((given == 2) & (np.arange(600) > 100), 0, 1)
    estimator = auto(batch_size=16, num_iter_per_epoch=1, epochs=2).fit(X, given, sample_weight=weights)
    assert not estimator.get_label_issues().isna().any(axis=None)
    for values in (estimator.label_quality_, estimator.kept_frequency_, estimator.noise_matrix_):
        assert np.isfinite(values).all() and (0 <= values).all() and (values <= 1).all()
    assert np.isfinite(estimator.noise_rate_)


@pytest.mark.parametrize("forget_rate", ["auto", 0.2])
def test_a_row_without_weight_that_holds_rubbish_is_no_nan(forget_rate, noisy):
    X, given, _ = noisy
    X = 0.1 * X
    X[:5] = np.finfo(np.float32).min  # the customary value where there is no data
    estimator = auto(forget_rate=forget_rate).fit(X, given, sample_weight=np.arange(600) >= 5)
    assert not estimator.get_label_issues().isna().any(axis=None)


@pytest.mark.parametrize("forget_rate", ["auto", 0.3])
def test_labels_of_a_class_of_weight_zero_are_no_issues_and_take_no_place_among_them(forget_rate):
    X, _, true = noisy_blobs("pair", 0.0, n=1800)
    wrong = (true > 0) & (np.random.default_rng(0).random(1800) < 0.3)
    given = np.where(wrong, 3 - true, true)
    estimator = auto(forget_rate=forget_rate, class_weight={0: 0.0, 1: 1.0, 2: 1.0}, epochs=10).fit(X, given)
    rate = estimator.noise_rate_ if forget_rate == "auto" else estimator.forget_rate_
    assert rate == pytest.approx(wrong[true > 0].mean(), abs=0.05)
    is_issue = estimator.get_label_issues()["is_label_issue"]
    assert is_issue[true > 0].mean() == pytest.approx(rate, abs=0.02)
    assert is_issue[true == 0].mean() < 0.05


def test_rows_in_another_order_have_nearly_the_same(noisy, found):
    """Other batches are drawn: the rate differs by less than 0.04, and less than 5 % of the verdicts."""
    X, given, _ = noisy
    order = np.random.default_rng(0).permutation(len(X))
    permuted = auto().fit(X[order], given[order])
    assert permuted.noise_rate_ == pytest.approx(found.noise_rate_, abs=0.04)
    np.testing.assert_allclose(permuted.noise_matrix_, found.noise_matrix_, atol=0.06)
    ours, theirs = found.get_label_issues().iloc[order], permuted.get_label_issues()
    assert (ours["is_label_issue"].to_numpy() == theirs["is_label_issue"].to_numpy()).mean() > 0.95
    assert np.corrcoef(ours["label_quality"], theirs["label_quality"])[0, 1] > 0.98
