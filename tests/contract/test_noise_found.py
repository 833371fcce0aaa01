"""forget_rate="auto": the noise rate and the noise matrix are found from the data."""

import numpy as np
import pytest
from helpers import Net, assert_same_weights, auto, noisy_blobs, told, without_durations
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import train_test_split

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
    assert estimator.forget_rate_ == estimator.forget_rate_schedule_[-1]
    assert {type(each) for each in (estimator.noise_rate_, estimator.noise_rate_std_, estimator.forget_rate_)} == {
        float
    }
    assert estimator.noise_rate_ == pytest.approx(wrong.mean(), abs=2 * estimator.noise_rate_std_ + 0.02)
    assert 0 <= estimator.noise_rate_std_ < 0.1
    assert (estimator.forget_rate_ > 0) == (rate > 0)

    matrix = estimator.noise_matrix_
    assert matrix.shape == (n_classes, n_classes) and matrix.dtype == np.float64
    assert_allclose(matrix.sum(axis=0), 1)
    assert_allclose(matrix, transition_matrix(kind, rate, n_classes), atol=0.1)
    true_shares = np.linalg.solve(matrix, np.bincount(given) / len(given))
    assert 1 - true_shares @ matrix.diagonal() == pytest.approx(estimator.noise_rate_, abs=0.01)

    issues = estimator.get_label_issues()
    assert issues["is_label_issue"].mean() == pytest.approx(estimator.noise_rate_, abs=0.02)
    assert estimator.score(X, true) > 0.95
    if rate:
        assert average_precision_score(wrong, -estimator.label_quality_) > 0.9
        assert (issues["predicted_label"] == true).mean() > 0.95
        assert f1_score(wrong, issues["is_label_issue"]) > 0.85
    else:
        assert estimator.noise_rate_ == 0 and (matrix == np.eye(n_classes)).all()


def test_labels_of_the_next_class_are_found_though_networks_learn_the_mixture_and_classes_overlap():
    """Plain networks then explain the given labels at least as well as noise does."""
    X, true = make_classification(
        3000, 12, n_informative=6, n_classes=6, n_clusters_per_class=1, class_sep=1.5, flip_y=0, random_state=0
    )
    X, X_test, true, y_test = train_test_split(X, true, random_state=0)
    wrong = np.random.default_rng(0).random(len(X)) < 0.4
    given = np.where(wrong, (true + 1) % 6, true)
    estimator = CoTeachingClassifier(random_state=0).fit(X, given)
    plain = CoTeachingClassifier(forget_rate=0.0, random_state=0).fit(X, given)
    assert estimator.noise_rate_ == pytest.approx(wrong.mean(), abs=0.06)
    assert estimator.score(X_test, y_test) > plain.score(X_test, y_test) + 0.08
    found, with_plain = (average_precision_score(wrong, -each.label_quality_) for each in (estimator, plain))
    assert found > with_plain + 0.1


@pytest.mark.parametrize("n_odd", [1, 5])
def test_a_class_of_a_few_examples_hides_no_noise_among_the_others(n_odd):
    X, true = make_classification(700, 12, n_informative=6, n_classes=3, class_sep=1.2, flip_y=0, random_state=4)
    rng = np.random.default_rng(4)
    wrong = rng.random(700) < 0.15
    given = np.where(wrong, (true + rng.integers(1, 3, 700)) % 3, true).astype("<U9")
    given[:n_odd] = "something"
    estimator = auto(epochs=30).fit(X, given)
    assert estimator.noise_rate_ == pytest.approx(wrong.mean(), abs=0.04)
    assert estimator.noise_rate_std_ < 0.05
    assert f1_score(wrong[n_odd:], estimator.get_label_issues()["is_label_issue"][n_odd:]) > 0.7


def test_as_much_is_forgotten_of_each_class_as_is_wrong_of_it():
    X, _, true = noisy_blobs("pair", 0.0, n=1000)
    given = np.where((true == 0) & (np.random.default_rng(0).random(1000) < 0.5), 1, true)
    estimator = auto(epochs=10).fit(X, given)
    rates = estimator.class_forget_rates_
    assert rates.shape == (3,) and rates.dtype == np.float64
    assert rates[1] > 3 * max(rates[0], rates[2])
    assert np.bincount(given) / 1000 @ rates == pytest.approx(estimator.forget_rate_)


@pytest.mark.parametrize("module", [None, Net], ids=["default", "own forward"])
def test_where_nothing_is_forgotten_the_fit_is_bit_for_bit_one_that_was_told_so(module):
    """The estimate takes no random numbers from the training, and says nothing of single labels."""
    X, _, true = noisy_blobs("pair", 0.0)
    estimator, told_so = auto(module=module).fit(X, true), auto(module=module, forget_rate=0.0).fit(X, true)
    assert estimator.forget_rate_ == 0.0 and not hasattr(estimator, "class_forget_rates_")
    assert_same_weights(estimator, told_so)
    assert_array_equal(estimator.kept_frequency_, told_so.kept_frequency_)
    assert_array_equal(estimator.label_quality_, told_so.label_quality_)
    assert without_durations(estimator.history_) == without_durations(told_so.history_)


def assert_nothing_is_known(estimator, n_classes=3):
    assert estimator.forget_rate_ == estimator.noise_rate_ == 0.0
    assert {type(each) for each in (estimator.noise_rate_, estimator.noise_rate_std_, estimator.forget_rate_)} == {
        float
    }
    assert estimator.noise_rate_std_ == pytest.approx((1 - 1 / n_classes) / 3**0.5)
    assert_array_equal(estimator.noise_matrix_, np.eye(n_classes))
    assert not estimator.get_label_issues()["is_label_issue"].any()
    assert estimator.temperature_ == 1.0


def test_too_few_data_are_told_once_to_the_caller_of_fit_and_nothing_is_forgotten(table):
    X, y = table[0][:39], table[1][:39]
    estimator, text = told(lambda: auto().fit(X, y))
    for words in ('forget_rate="auto"', "too few examples", "Nothing is forgotten"):
        assert words in text
    assert_nothing_is_known(estimator)
    told_so = auto(forget_rate=0.0).fit(X, y)
    assert_same_weights(estimator, told_so)
    assert_array_equal(estimator.predict_proba(X), told_so.predict_proba(X))
    assert_array_equal(estimator.label_quality_, told_so.label_quality_)
    assert_array_equal(estimator.kept_frequency_, told_so.kept_frequency_)


def test_what_is_too_few_is_counted_in_examples_that_have_weight(noisy):
    X, given, true = noisy
    light = auto(epochs=10).fit(X, given, sample_weight=np.full(600, 0.1))
    wrong = (given != true).mean()
    assert light.noise_rate_ == pytest.approx(wrong, abs=2 * light.noise_rate_std_ + 0.02)
    with pytest.warns(UserWarning, match="too few examples to say how many labels are wrong"):
        heavy = auto().fit(X, given, sample_weight=np.where(np.arange(600) < 39, 99.0, 0.0))
    assert_nothing_is_known(heavy)


def test_one_example_with_weight_is_too_few(noisy):
    X, given, _ = noisy
    with pytest.warns(UserWarning, match="too few examples to say how many labels are wrong"):
        estimator = auto(epochs=1).fit(X[:60], given[:60], sample_weight=np.arange(60) == 7)
    assert_nothing_is_known(estimator)


@pytest.mark.parametrize("n", [8, 7])
def test_two_classes_with_8_examples_each_are_enough(n, noisy):
    X, given, _ = noisy
    rows = np.concatenate([np.flatnonzero(given == 0), np.flatnonzero(given == 1)[:n]])
    if n == 8:
        auto().fit(X[rows], given[rows])
    else:
        estimator, text = told(lambda: auto().fit(X[rows], given[rows]))
        assert "too few examples" in text
        assert_nothing_is_known(estimator, 2)


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
