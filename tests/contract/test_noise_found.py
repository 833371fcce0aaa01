"""forget_rate="auto": the noise rate and the noise matrix are found from the data."""

import numpy as np
import pytest
from helpers import assert_same_fit, auto, noisy_blobs, told
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import average_precision_score, f1_score

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import transition_matrix

pytestmark = pytest.mark.filterwarnings("error")


def test_the_forget_rate_is_found_unless_told_otherwise():
    assert CoTeachingClassifier().forget_rate == "auto"


@pytest.mark.parametrize(
    ("kind", "rate", "n_classes"),
    [("pair", 0.0, 3), ("pair", 0.2, 3), ("pair", 0.4, 4), ("symmetric", 0.3, 2), ("symmetric", 0.5, 4)],
)
def test_noise_is_found_and_its_labels_are_the_issues(kind, rate, n_classes):
    X, given, true = noisy_blobs(kind, rate, n_classes, n=1000)
    wrong = given != true
    estimator = auto(epochs=10).fit(X, given)
    assert estimator.noise_rate_ == estimator.forget_rate_ == estimator.forget_rate_schedule_[-1]
    assert type(estimator.noise_rate_) is type(estimator.forget_rate_) is float
    assert estimator.noise_rate_ == pytest.approx(wrong.mean(), abs=0.05)

    matrix = estimator.noise_matrix_
    assert matrix.shape == (n_classes, n_classes) and matrix.dtype == np.float64
    assert_allclose(matrix.sum(axis=0), 1)
    assert_allclose(matrix, transition_matrix(kind, rate, n_classes), atol=0.1)
    true_shares = np.linalg.solve(matrix, np.bincount(given) / len(given))
    assert 1 - true_shares @ matrix.diagonal() == pytest.approx(estimator.noise_rate_, abs=1e-9)

    issues = estimator.get_label_issues()
    assert issues["is_label_issue"].mean() == pytest.approx(estimator.forget_rate_, abs=1 / len(given))
    assert estimator.score(X, true) > 0.95
    if rate:
        assert average_precision_score(wrong, -estimator.label_quality_) > 0.9
        assert (issues["predicted_label"] == true).mean() > 0.95
        assert f1_score(wrong, issues["is_label_issue"]) > 0.85


def test_the_training_proper_is_that_of_the_rate_found(noisy, found):
    """The estimate takes no random numbers from it."""
    X, given, _ = noisy
    given_rate = auto(forget_rate=found.forget_rate_).fit(X, given)
    for ours, theirs in zip(found.modules_, given_rate.modules_, strict=True):
        assert all(map(np.array_equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert_array_equal(found.kept_frequency_, given_rate.kept_frequency_)


def test_too_few_data_are_told_once_to_the_caller_of_fit_and_nothing_is_estimated(table):
    X, y = table
    estimator, text = told(lambda: auto().fit(X, y))
    for words in ('forget_rate="auto"', "total sample_weight 200", "0.2 is used"):
        assert words in text
    assert estimator.forget_rate_ == 0.2 and type(estimator.forget_rate_) is float
    assert not hasattr(estimator, "noise_rate_") and not hasattr(estimator, "noise_matrix_")
    assert_same_fit(estimator, auto(forget_rate=0.2).fit(X, y), X)
    assert 0.05 < estimator.get_label_issues()["is_label_issue"].mean() < 0.21


def test_what_is_too_few_is_counted_by_sample_weight(noisy):
    X, given, true = noisy
    heavy = auto().fit(X[:400], given[:400], sample_weight=np.full(400, 2.0))
    assert heavy.noise_rate_ == pytest.approx((given != true)[:400].mean(), abs=0.06)
    with pytest.warns(UserWarning, match=r"too few data to estimate the noise rate \(total sample_weight 120"):
        light = auto().fit(np.vstack([X, X]), np.tile(given, 2), sample_weight=np.full(1200, 0.1))
    assert light.forget_rate_ == 0.2 and not hasattr(light, "noise_rate_")


def test_noise_is_counted_by_sample_weight(noisy):
    X, given, true = noisy
    weights = np.where(given != true, 3.0, 1.0)
    estimator = auto(epochs=10).fit(X, given, sample_weight=weights)
    assert estimator.noise_rate_ == pytest.approx(np.average(given != true, weights=weights), abs=0.05)
    is_issue = estimator.get_label_issues()["is_label_issue"]
    assert np.average(is_issue, weights=weights) == pytest.approx(estimator.noise_rate_, abs=0.01)


def test_a_class_of_weight_zero_is_no_noise():
    X, _, true = noisy_blobs("pair", 0.0, n=900)
    estimator = auto(class_weight={0: 0.0, 1: 1.0, 2: 1.0}).fit(X, true)
    assert estimator.noise_rate_ < 0.02
    assert_array_equal(estimator.noise_matrix_[:, 0], [1, 0, 0])
    assert estimator.get_label_issues()["is_label_issue"].sum() < 20


def test_classes_in_another_order_have_nearly_the_relabelled_noise(noisy, found):
    X, given, _ = noisy
    new = np.array([2, 0, 1])
    relabelled = auto().fit(X, new[given])
    assert relabelled.noise_rate_ == pytest.approx(found.noise_rate_, abs=0.04)
    assert_allclose(relabelled.noise_matrix_[np.ix_(new, new)], found.noise_matrix_, atol=0.06)
    ours, theirs = found.get_label_issues(), relabelled.get_label_issues()
    assert (ours["is_label_issue"] == theirs["is_label_issue"]).mean() > 0.95
