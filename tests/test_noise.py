"""The statistics of wrong labels, held against simulations, laws, cleanlab, and exact arithmetic from their words.

How the likelihood finds noise is in ``test_noise_likelihood``.
"""

from fractions import Fraction
from random import Random

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from cleanlab.count import num_label_issues
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from skcoteach._noise_counting import confident_joint
from skcoteach._noise_likelihood import fit_noise
from skcoteach.benchmarks.common import noisy_labels, transition_matrix
from skcoteach.noise import estimate_noise, find_issues

pytestmark = pytest.mark.filterwarnings("error")


def simulate(noise, n=6000, seed=0, shares=None):
    """True labels, given labels, and probabilities of the given ones by a classifier that mistakes 2 to 12 %."""
    rng, n_classes = np.random.default_rng(seed), len(noise)
    true = rng.choice(n_classes, n, p=shares)
    logits = 4 * np.eye(n_classes)[true] + 1.5 * rng.normal(size=(n, n_classes))
    of_true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert 0.02 <= (of_true.argmax(axis=1) != true).mean() <= 0.12
    return true, noisy_labels(true, noise, seed + 1), of_true @ noise.T


NOISES = {
    "none": np.eye(4),
    "pair 0.2": transition_matrix("pair", 0.2, 4),
    "pair 0.4": transition_matrix("pair", 0.4, 4),
    "symmetric 0.3": transition_matrix("symmetric", 0.3, 4),
    "by class": np.array([[0.6, 0, 0, 0.1], [0, 0.95, 0, 0], [0.4, 0.05, 1, 0], [0, 0, 0, 0.9]]),
}

# --- what is estimated -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_known_noise_is_found(noise):
    true, labels, pred_probs = simulate(noise)
    estimate = estimate_noise(labels, pred_probs)
    noise_rate, noise_matrix = estimate
    assert (estimate.noise_rate, estimate.noise_matrix) == (noise_rate, noise_matrix) == tuple(estimate)
    assert type(noise_rate) is type(estimate.noise_rate_std) is float
    assert noise_rate == pytest.approx((labels != true).mean(), abs=0.03)
    assert 0 < estimate.noise_rate_std < 0.02 or noise_rate == 0
    assert noise_matrix.dtype == np.float64
    np.testing.assert_allclose(noise_matrix, noise, atol=0.08)


def test_noise_of_rare_classes_is_found():
    noise = NOISES["by class"]
    true, labels, pred_probs = simulate(noise, n=20_000, shares=[0.1, 0.6, 0.25, 0.05])
    noise_rate, noise_matrix = estimate_noise(labels, pred_probs)
    assert noise_rate == pytest.approx((labels != true).mean(), abs=0.03)
    np.testing.assert_allclose(noise_matrix, noise, atol=0.12)


def test_own_mistakes_of_the_classifier_are_hardly_counted_as_noise():
    true, labels, pred_probs = simulate(np.eye(4))
    mistakes = (pred_probs.argmax(axis=1) != true).mean()
    assert estimate_noise(labels, pred_probs).noise_rate < mistakes / 4


@pytest.mark.parametrize("noise", [NOISES["none"], NOISES["pair 0.2"], NOISES["symmetric 0.3"]])
def test_estimate_is_near_that_of_cleanlab(noise):
    """The rate within 0.05 of its number of issues."""
    _, labels, pred_probs = simulate(noise)
    assert estimate_noise(labels, pred_probs).noise_rate == pytest.approx(
        num_label_issues(labels, pred_probs) / len(labels), abs=0.05
    )


def overlapping(n=3000, seed=0):
    """Labels drawn from probabilities, which are these."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_classes_that_overlap_are_not_taken_for_noise():
    labels, pred_probs = overlapping()
    noise_rate, noise_matrix = estimate = estimate_noise(labels, pred_probs)
    assert 1 - confident_joint(labels, pred_probs, np.ones(len(labels))).trace() > 0.05  # as counting would
    assert noise_rate == 0 and estimate.noise_rate_std < 0.01
    np.testing.assert_array_equal(noise_matrix, np.eye(3))


def test_where_the_noise_was_learnt_too_the_wrong_labels_of_the_confident_half_are_counted():
    """Calibrated probabilities of noisy labels explain a part of these without noise."""
    noise = NOISES["pair 0.2"]
    true, labels, pred_probs = simulate(noise)
    weights = np.ones(len(labels))
    estimate = estimate_noise(labels, pred_probs)
    assert fit_noise(labels, pred_probs, weights).rate < 0.8 * estimate.noise_rate
    assert estimate.noise_rate == pytest.approx(1 - confident_joint(labels, pred_probs, weights).trace(), rel=1e-12)
    joint = confident_joint(labels, pred_probs, weights)
    np.testing.assert_allclose(estimate.noise_matrix, joint / joint.sum(axis=0), rtol=1e-12)
    assert estimate.noise_rate_std == pytest.approx((0.2 * 0.8 / (len(labels) / 2)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    "classifier",
    [
        RandomForestClassifier(n_estimators=30, min_samples_leaf=3, random_state=0),
        KNeighborsClassifier(15),
        GaussianNB(),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_probabilities_of_classifiers_that_do_not_learn_the_noise_do(classifier):
    X, true = make_blobs(600, centers=3, n_features=4, random_state=0)
    names = np.array(["ash", "birch", "oak"])
    labels = noisy_labels(true, transition_matrix("pair", 0.25, 3), seed=0)
    pred_probs = cross_val_predict(classifier, X, names[labels], method="predict_proba")
    noise_rate, noise_matrix = estimate_noise(names[labels], pred_probs)
    assert noise_rate == pytest.approx((labels != true).mean(), abs=0.05)
    np.testing.assert_allclose(noise_matrix, transition_matrix("pair", 0.25, 3), atol=0.1)


# --- laws ------------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw, weights=st.integers(0, 8).map(lambda quarters: quarters / 4)):
    """Labels, probabilities and weights, with ties among rows but none within a row."""
    n, n_classes = draw(st.integers(1, 30)), draw(st.integers(2, 4))
    parts = st.lists(st.integers(0, 12), min_size=n_classes, max_size=n_classes, unique=True)
    numbers = np.array(draw(st.lists(parts, min_size=n, max_size=n)))
    labels = np.array(draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)))
    weights = np.array(draw(st.lists(weights, min_size=n, max_size=n)))
    assume(weights.any())
    return labels, numbers / numbers.sum(axis=1, keepdims=True), weights


def equal(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a.noise_rate, b.noise_rate, rtol=0, atol=tolerance)
    np.testing.assert_allclose(a.noise_rate_std, b.noise_rate_std, rtol=0, atol=tolerance)
    np.testing.assert_allclose(a.noise_matrix, b.noise_matrix, rtol=0, atol=tolerance)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_columns_of_the_noise_matrix_are_probabilities(problem):
    labels, pred_probs, weights = problem
    noise_rate, noise_matrix = estimate_noise(labels, pred_probs, sample_weight=weights)
    assert noise_matrix.shape == (pred_probs.shape[1],) * 2
    assert (noise_matrix >= 0).all()
    np.testing.assert_allclose(noise_matrix.sum(axis=0), 1, rtol=1e-12)
    assert 0 <= noise_rate <= 1


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_noise_matrix_implies_the_noise_rate(noise):
    """Exactly where it is counted, symmetric or none; else but for the prior of the matrix, which weighs 5."""
    _, labels, pred_probs = simulate(noise)
    noise_rate, noise_matrix = estimate_noise(labels, pred_probs)
    true_shares = np.linalg.solve(noise_matrix, np.bincount(labels) / len(labels))
    assert 1 - true_shares @ noise_matrix.diagonal() == pytest.approx(noise_rate, abs=2e-3)


@example((np.array([0] * 17), np.array([[0.0, 1 / 3, 2 / 3]] * 17), np.array([0] * 16 + [1])))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(problems(weights=st.integers(0, 3)))
def test_weight_is_the_number_of_times_that_an_example_stands_there(problem):
    labels, pred_probs, weights = problem
    weighted = estimate_noise(labels, pred_probs, sample_weight=weights)
    repeated = estimate_noise(labels.repeat(weights), pred_probs.repeat(weights, axis=0))
    equal(weighted, repeated)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_weight_zero_is_the_absence_of_an_example(problem):
    labels, pred_probs, weights = problem
    present = weights > 0
    absent = estimate_noise(labels[present], pred_probs[present], sample_weight=weights[present])
    equal(estimate_noise(labels, pred_probs, sample_weight=weights), absent)


@example((np.repeat([1, 0], [4, 12]), np.array([[0.8, 0.2]] * 16), np.ones(16)), Random(1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(problems(), st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(problem, random):
    labels, pred_probs, weights = problem
    order = random.sample(range(len(labels)), len(labels))
    shuffled = estimate_noise(labels[order], pred_probs[order], sample_weight=weights[order])
    equal(shuffled, estimate_noise(labels, pred_probs, sample_weight=weights))


@settings(max_examples=100, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_relabelling_the_classes_relabels_the_noise_matrix(problem, random):
    labels, pred_probs, weights = problem
    n_classes = pred_probs.shape[1]
    new = np.array(random.sample(range(n_classes), n_classes))  # class c is called new[c]
    renamed = np.empty_like(pred_probs)
    renamed[:, new] = pred_probs
    noise_rate, noise_matrix = estimate_noise(new[labels], renamed, sample_weight=weights)
    expected = estimate_noise(labels, pred_probs, sample_weight=weights)
    assert noise_rate == pytest.approx(expected.noise_rate, abs=1e-9)
    np.testing.assert_allclose(noise_matrix[np.ix_(new, new)], expected.noise_matrix, rtol=0, atol=1e-9)


# --- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["ash", "birch", "cedar", "oak"],
        [-5, 3, 8, 1000],
        [5, 6, 7, 8],
        [0.0, 0.5, 1.5, 7.0],
        np.array(["ash", "birch", "cedar", "oak"], dtype=object),
        np.array([0, 1, 2, 3], dtype=np.uint8),
    ],
    ids=["str", "int", "from 5", "float", "object", "uint8"],
)
def test_labels_may_be_of_any_kind(names):
    _, labels, pred_probs = simulate(NOISES["by class"], n=500)
    named = np.asarray(names)[labels]
    expected = estimate_noise(labels, pred_probs)
    for each in (named, named.tolist()):
        equal(estimate_noise(each, pred_probs), expected, 0)
        equal(estimate_noise(each, pred_probs, classes=names), expected, 0)


def test_labels_may_be_bools():
    _, labels, pred_probs = simulate(transition_matrix("pair", 0.3, 2), n=500)
    equal(estimate_noise(labels == 1, pred_probs), estimate_noise(labels, pred_probs), 0)


@pytest.mark.parametrize("missing", [0, 2, 3])
def test_a_class_that_does_not_occur_is_named_by_classes(missing):
    _, labels, pred_probs = simulate(NOISES["symmetric 0.3"], n=500)
    rows = (labels != missing) & (pred_probs.argmax(axis=1) != missing)
    names = np.array(["ash", "birch", "cedar", "oak"])
    estimate = estimate_noise(names[labels[rows]], pred_probs[rows], classes=names)
    assert estimate.noise_matrix.shape == (4, 4)
    equal(estimate, estimate_noise(labels[rows], pred_probs[rows]), 0)  # column numbers need no names
    with pytest.raises(ValueError, match=r"pred_probs has 4 columns, but there are 3 classes: \['.*name the classes"):
        estimate_noise(names[labels[rows]], pred_probs[rows])


def test_a_class_that_is_predicted_but_never_given_has_a_column_of_where_its_examples_went():
    """All of class 1 were called 0: of the true class 1, the given label is 0."""
    pred_probs = np.array([[0.9, 0.1]] * 600 + [[0.2, 0.8]] * 400)
    noise_rate, noise_matrix = estimate_noise([0] * 1000, pred_probs)
    assert noise_rate == pytest.approx(0.4)
    np.testing.assert_allclose(noise_matrix, [[1, 1], [0, 0]])


def test_a_class_that_is_never_predicted_is_no_nan():
    pred_probs = np.array([[0.9, 0.1, 0.0]] * 500 + [[0.2, 0.8, 0.0]] * 500)
    noise_rate, noise_matrix = estimate_noise(np.repeat([0, 2, 1, 2], [400, 100, 300, 200]), pred_probs)
    np.testing.assert_allclose(noise_matrix.sum(axis=0), 1)
    assert noise_rate == pytest.approx(0.3, abs=0.001)


def test_a_single_example_is_enough_not_to_fail():
    noise_rate, noise_matrix = estimate_noise([1], [[0.3, 0.7]])
    assert noise_rate == 0
    np.testing.assert_array_equal(noise_matrix, np.eye(2))


# --- refusals --------------------------------------------------------------------------------------------------------

LABELS, PROBS = [0, 1, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("labels", "pred_probs", "arguments", "words"),
    [
        ([0, 1, 2, 1], PROBS, {}, r"pred_probs has 2 columns, but there are 3 classes: \[0, 1, 2\]"),
        ([5, 6, 7, 5], PROBS, {}, r"pred_probs has 2 columns, but there are 3 classes: \[5, 6, 7\]"),
        ([5, 5, 5, 5], PROBS, {}, r"2 columns, but there are 1 classes: \[5\].*name the classes of the columns"),
        (LABELS, PROBS, {"classes": [0, 1, 2]}, "pred_probs has 2 columns, but there are 3 classes"),
        (list("abca"), PROBS, {"classes": ["a", "b"]}, r"labels holds \['c'\], which are not among the classes \['a',"),
        (LABELS, [[0.9, 0.3]] * 4, {}, r"pred_probs must hold probabilities: rows of numbers in \[0, 1\] that sum"),
        (LABELS, [[1.5, -0.5]] * 4, {}, "pred_probs must hold probabilities"),
        (LABELS, [[2.0, -1.0]] * 4, {}, "pred_probs must hold probabilities"),
        (LABELS, [[np.nan, 0.5]] * 4, {}, "pred_probs contains NaN"),
        (LABELS, [[np.inf, 0.5]] * 4, {}, "pred_probs contains infinity"),
        (LABELS, [0.9, 0.2, 0.6, 0.5], {}, "Expected 2D array, got 1D array"),
        (LABELS[:3], PROBS, {}, r"one label for each of the 4 rows of pred_probs; got shape \(3,\)"),
        ([], np.empty((0, 2)), {}, "0 sample"),
        ([[0, 1]] * 4, PROBS, {}, r"one label for each of the 4 rows of pred_probs; got shape \(4, 2\)"),
        ([0.0, 1.0, np.nan, 1.0], PROBS, {}, "labels contains NaN or None"),
        (["a", None, "b", "a"], PROBS, {}, "labels contains NaN or None"),
        (np.array(["a", 1, "b", "a"], dtype=object), PROBS, {}, "labels cannot be sorted, they are of different types"),
        (list("abba"), PROBS, {"classes": ["b", "a"]}, r"classes must be sorted.*got \['b', 'a'\]"),
        (list("abba"), PROBS, {"classes": ["a", "a", "b"]}, "classes must be sorted, without repetition"),
        (list("abba"), PROBS, {"classes": [["a", "b"]]}, "classes must be"),
        (LABELS, PROBS, {"sample_weight": [1, -1, 1, 1]}, "Negative values in data passed to `sample_weight`"),
        (LABELS, PROBS, {"sample_weight": [0, 0, 0, 0]}, "must contain at least one non-zero number"),
        (LABELS, PROBS, {"sample_weight": [1, np.nan, 1, 1]}, "sample_weight contains NaN"),
        (LABELS, PROBS, {"sample_weight": [1, 1, 1]}, r"sample_weight.shape == \(3,\), expected \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_users_words(labels, pred_probs, arguments, words):
    with pytest.raises(ValueError, match=words):
        estimate_noise(labels, pred_probs, **arguments)


def test_probabilities_may_be_of_single_precision_lists_tensors_or_data_frames():
    expected = estimate_noise(LABELS, np.array(PROBS))
    equal(estimate_noise(pd.Series(LABELS, index=[7, 5, 3, 1]), pd.DataFrame(PROBS)), expected, 0)
    weights = torch.ones(4, requires_grad=True)
    equal(estimate_noise(torch.tensor(LABELS), torch.tensor(PROBS).double(), sample_weight=weights), expected, 1e-6)
    equal(estimate_noise(LABELS, np.float32(PROBS)), expected, 1e-6)
    equal(estimate_noise(np.array(LABELS), PROBS), expected, 0)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_columns_of_a_data_frame_that_are_named_by_the_classes_may_come_in_any_order(order):
    _, labels, pred_probs = simulate(NOISES["by class"], n=500)
    expected = estimate_noise(labels, pred_probs)
    names = np.array(["ash", "birch", "cedar", "oak"])
    for frame in (pd.DataFrame, pl.DataFrame):
        named = frame({names[k]: pred_probs[:, k] for k in order})
        equal(estimate_noise(names[labels], named), expected, 0)
        equal(estimate_noise(names[labels], named, classes=names), expected, 0)
    equal(estimate_noise(labels, pd.DataFrame(pred_probs)[order]), expected, 0)


def test_columns_of_a_data_frame_that_are_named_otherwise_are_taken_as_they_come():
    _, labels, pred_probs = simulate(NOISES["by class"], n=500)
    equal(estimate_noise(labels, pd.DataFrame(pred_probs, columns=list("dcba"))), estimate_noise(labels, pred_probs), 0)


def test_arguments_are_not_changed():
    labels, pred_probs, weights = np.array(LABELS), np.array(PROBS), np.ones(4)
    for each in (labels, pred_probs, weights):
        each.setflags(write=False)
    estimate_noise(labels, pred_probs, sample_weight=weights)


# --- which labels are wrong ------------------------------------------------------------------------------------------


def expected_issues(quality, weights, rate):
    """Of all cuts between two levels the one whose weight is nearest, in exact arithmetic; of two, the lower."""
    weights, levels = [Fraction(weight) for weight in weights], [-1, *sorted(set(quality))]

    def up_to(level):
        return sum((w for w, q in zip(weights, quality, strict=True) if q <= level), Fraction(0))

    best = min(levels, key=lambda level: abs(up_to(level) - Fraction(rate) * sum(weights)))
    return [bool(q <= best) for q in quality]


rates = st.integers(0, 8).map(lambda eighths: eighths / 8)


@st.composite
def qualities(draw, weights=st.integers(0, 8).map(lambda quarters: quarters / 4)):
    n = draw(st.integers(1, 30))
    quality = draw(st.lists(st.integers(0, 16).map(lambda part: part / 16), min_size=n, max_size=n))
    weights = draw(st.lists(weights, min_size=n, max_size=n))
    assume(any(weights))
    return np.array(quality), np.array(weights)


@settings(max_examples=300, deadline=None)
@given(qualities(), rates)
def test_issues_are_the_lowest_qualities_whose_weight_is_nearest_to_the_rate(example, rate):
    quality, weights = example
    is_issue = find_issues(quality, weights, rate)
    assert is_issue.dtype == bool and is_issue.shape == quality.shape
    assert is_issue.tolist() == expected_issues(quality.tolist(), weights.tolist(), rate)


@pytest.mark.parametrize("rate", [0.0, 0.013, 0.2, 0.5, 0.77, 1.0])
def test_number_of_issues_is_the_rate_of_distinct_qualities(rate):
    is_issue = find_issues(np.random.default_rng(0).permutation(1000) / 1000, np.ones(1000), rate)
    assert is_issue.sum() == round(1000 * rate)


@settings(max_examples=100, deadline=None)
@given(qualities(), rates, st.randoms(use_true_random=False))
def test_issues_follow_their_rows_to_another_place(example, rate, random):
    quality, weights = example
    order = random.sample(range(len(quality)), len(quality))
    shuffled = find_issues(quality[order], weights[order], rate)
    assert shuffled.tolist() == find_issues(quality, weights, rate)[order].tolist()


@settings(max_examples=100, deadline=None)
@given(qualities(weights=st.integers(0, 3)), rates)
def test_issues_of_weighted_examples_are_those_of_repeated_ones(example, rate):
    quality, weights = example
    repeated = find_issues(quality.repeat(weights), np.ones(weights.sum()), rate)
    assert find_issues(quality, weights, rate).repeat(weights).tolist() == repeated.tolist()


@pytest.mark.parametrize(("rate", "n_issues"), [(0.0, 0), (0.2, 0), (0.4, 4), (0.45, 4), (0.9, 10), (1.0, 10)])
def test_equal_qualities_are_issues_together_or_not_at_all(rate, n_issues):
    quality = np.array([0.5] * 4 + [0.9] * 6)
    assert find_issues(quality, np.ones(10), rate).sum() == n_issues


def test_no_label_is_an_issue_at_rate_zero_even_if_the_lowest_have_no_weight():
    assert not find_issues(np.array([0.0, 0.0, 0.5]), np.array([0.0, 0.0, 1.0]), 0.0).any()
