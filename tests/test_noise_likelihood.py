"""Noise by maximum likelihood: laws, labels that were drawn as the model says, and what cannot be told apart."""

import numpy as np
import pytest
from helpers import drawn_labels, labels_and_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from skcoteach import _noise_likelihood
from skcoteach._noise_likelihood import (
    MARGIN,
    fit_noise,
    likely_joint,
    off_diagonal_part,
    probability_right,
    smoothed,
    symmetric_matrix,
)
from skcoteach.benchmarks.common import transition_matrix

pytestmark = pytest.mark.filterwarnings("error")


def fitted(codes, pred_probs, weights=None):
    return fit_noise(np.asarray(codes), np.asarray(pred_probs), np.ones(len(codes)) if weights is None else weights)


def equal(a, b, tolerance=1e-6):
    """What they say of single examples has to be as large in all."""
    of_a, of_b = dict(vars(a)), dict(vars(b))
    norms = [np.linalg.norm(each.pop("log_likelihoods")) for each in (of_a, of_b)]
    assert norms[0] == pytest.approx(norms[1])
    for name, value in of_a.items():
        np.testing.assert_allclose(value, of_b[name], rtol=0, atol=tolerance, err_msg=name)


def test_log_likelihoods_are_those_of_the_given_labels_and_nothing_where_there_is_no_weight():
    labels, _, pred_probs = drawn_labels(transition_matrix("symmetric", 0.2, 3), n=600)
    weights = (np.arange(600) % 3).astype(float)
    fit = fitted(labels, pred_probs, weights)
    tempered = smoothed(pred_probs) ** (1 / fit.temperature)
    likelihoods = ((tempered / tempered.sum(axis=1, keepdims=True)) * fit.matrix[labels]).sum(axis=1)
    np.testing.assert_allclose(fit.log_likelihoods, weights**0.5 * np.log(likelihoods), rtol=1e-9)


# --- how many labels of a class are wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pair", "symmetric"])
@pytest.mark.parametrize("shares", [[0.25, 0.25, 0.5], [0.04, 0.06, 0.9]])
def test_given_classes_are_as_frequent_as_the_noise_makes_the_true_ones(kind, shares):
    matrix = transition_matrix(kind, 0.3, 3)
    expected = matrix * np.array(shares)
    np.testing.assert_allclose(likely_joint(matrix, expected.sum(axis=1)), expected, atol=1e-4)


def test_a_class_that_is_given_less_often_than_by_mistake_alone_is_the_true_one_of_none():
    joint = likely_joint(symmetric_matrix(0.3, 2), np.array([0.75, 0.25]))
    assert joint.sum(axis=1) == pytest.approx([0.75, 0.25])
    assert 0 <= joint[1, 1] < 1e-3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.floats(0.0, 0.45))
def test_it_is_a_distribution_with_the_given_shares_whatever_they_are(given_shares, rate):
    shares = np.array(given_shares) / sum(given_shares)
    joint = likely_joint(symmetric_matrix(rate, len(shares)), shares)
    assert joint.min() >= 0
    assert joint.sum(axis=1) == pytest.approx(shares)


# --- how likely a label is right -------------------------------------------------------------------------------------


def test_it_is_bayes_rule():
    """Of 100 such examples 60 are of class 0, of which 42 are given as 0 and 18 as 1; 36 of the other 40 are as 1."""
    matrix = np.array([[0.7, 0.1], [0.3, 0.9]])
    found = probability_right(np.array([0, 1]), np.full((2, 2), [0.6, 0.4]), matrix, 1.0)
    assert found == pytest.approx([42 / (42 + 4), 36 / (36 + 18)])


@pytest.mark.parametrize("kind", ["pair", "symmetric"])
def test_so_often_labels_are_right_that_were_drawn_as_the_model_says(kind):
    noise = transition_matrix(kind, 0.3, 4)
    labels, true, pred_probs = drawn_labels(noise, temperature := 1.5)
    found = probability_right(labels, pred_probs, noise, temperature)
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)):
        those = (low <= found) & (found <= high)
        error = (found[those] * (1 - found[those])).sum() ** 0.5 / those.sum()
        assert (labels == true)[those].mean() == pytest.approx(found[those].mean(), abs=4 * error)


@settings(max_examples=50, deadline=None)
@given(labels_and_probabilities(), st.floats(0.05, 0.45), st.floats(0.5, 3.0))
def test_under_symmetric_noise_labels_are_as_suspicious_as_they_are_improbable(problem, rate, temperature):
    labels, pred_probs, _ = problem
    found = probability_right(labels, pred_probs, symmetric_matrix(rate, pred_probs.shape[1]), temperature)
    tempered = smoothed(pred_probs) ** (1 / temperature)
    probable = (tempered / tempered.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
    order = np.argsort(probable)
    assert (np.diff(found[order]) >= -1e-12).all() and found.min() >= 0 and found.max() <= 1


def test_without_noise_every_label_is_right():
    labels, _, pred_probs = drawn_labels(np.eye(3), n=50)
    np.testing.assert_allclose(probability_right(labels, pred_probs, np.eye(3), 2.0), 1.0)


# --- labels that were drawn as the model says ------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
@pytest.mark.parametrize(("n_classes", "rate"), [(2, 0.1), (2, 0.25), (4, 0.1), (4, 0.25), (4, 0.5)])
def test_symmetric_noise_is_found_whatever_the_temperature(n_classes, rate, temperature):
    noise = transition_matrix("symmetric", rate, n_classes)
    labels, true, pred_probs = drawn_labels(noise, temperature)
    fit = fitted(labels, pred_probs)
    assert fit.is_symmetric
    assert fit.rate == pytest.approx((labels != true).mean(), abs=2 * fit.rate_std + 0.02)
    assert fit.rate_std < 0.1
    np.testing.assert_allclose(fit.matrix, symmetric_matrix(fit.rate, n_classes), rtol=0, atol=1e-12)


@pytest.mark.parametrize("probability", [1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("n_odd", [0, 1, 5])
def test_a_class_of_a_few_examples_hides_no_symmetric_noise_among_the_others(n_odd, probability):
    labels, true, pred_probs = drawn_labels(transition_matrix("symmetric", 0.2, 3), n=700, seed=2)
    labels[:n_odd] = 3  # which nobody has learnt
    fit = fitted(labels, np.column_stack([(1 - probability) * pred_probs, np.full(700, probability)]))
    assert fit.rate == pytest.approx((labels != true)[n_odd:].mean(), abs=0.05)
    assert 0.02 < fit.rate_std < 0.05
    assert fit.is_symmetric and fit.n_exchanged == 3
    np.testing.assert_allclose(fit.matrix.diagonal(), 1 - fit.rate, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fit.matrix.sum(axis=0), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fit.matrix[3, :3], fit.rate * n_odd / 700, rtol=0, atol=1e-12)


def test_a_rare_class_to_which_labels_are_changed_has_its_part_in_symmetric_noise():
    rng = np.random.default_rng(0)
    pred_probs = rng.dirichlet([1.0, 1.0, 0.05], size=6000)
    true = (pred_probs.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1)
    fit = fitted(np.where(rng.random(6000) < 0.02, (true + rng.integers(1, 3, 6000)) % 3, true), pred_probs)
    assert fit.n_exchanged == 3 and fit.rate == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_noise_of_any_kind_is_found_whatever_the_temperature(rate, temperature):
    noise = transition_matrix("pair", rate, 3)
    labels, true, pred_probs = drawn_labels(noise, temperature)
    fit = fitted(labels, pred_probs)
    assert not fit.is_symmetric
    assert fit.rate == pytest.approx((labels != true).mean(), abs=2 * fit.rate_std + 0.02)
    np.testing.assert_allclose(fit.matrix, noise, rtol=0, atol=0.08)
    expected = np.array([[((labels == j) & (true == k)).mean() for k in range(3)] for j in range(3)])
    np.testing.assert_allclose(fit.joint, expected, rtol=0, atol=0.04)
    assert 1 - fit.joint.trace() == pytest.approx(fit.rate, abs=0.01)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_classes_that_overlap_are_no_noise(n_classes):
    labels, _, pred_probs = drawn_labels(np.eye(n_classes))
    fit = fitted(labels, pred_probs)
    assert fit.rate == 0 and not fit.is_symmetric
    assert 0 <= fit.rate_std < 0.02
    np.testing.assert_array_equal(fit.matrix, np.eye(n_classes))
    np.testing.assert_allclose(fit.joint, np.diag(np.bincount(labels, minlength=n_classes) / len(labels)))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_nor_are_they_where_probabilities_are_too_sure_or_not_sure_enough(n_classes, temperature):
    """The temperatures that are tried are 22 % apart: what lies between them can look like a little noise."""
    labels, _, pred_probs = drawn_labels(np.eye(n_classes), temperature)
    fit = fitted(labels, pred_probs)
    assert fit.rate < 0.02
    assert fit.temperature == pytest.approx(temperature, rel=0.15)


def test_temperature_is_that_of_the_posteriors_where_there_is_noise():
    for temperature in (0.5, 1.5):
        labels, _, pred_probs = drawn_labels(transition_matrix("symmetric", 0.2, 4), temperature)
        assert fitted(labels, pred_probs).temperature == pytest.approx(temperature, rel=0.2)


@pytest.mark.parametrize(
    "noise", [np.eye(4), transition_matrix("symmetric", 0.2, 4), transition_matrix("pair", 0.3, 4)]
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_confidence_is_as_high_as_the_most_likely_true_class_is_true(temperature, noise):
    labels, true, pred_probs = drawn_labels(noise, temperature)
    assert fitted(labels, pred_probs).confidence == pytest.approx((pred_probs.argmax(axis=1) == true).mean(), abs=0.03)


@pytest.mark.parametrize(
    "noise", [np.eye(3), transition_matrix("symmetric", 0.3, 3), transition_matrix("pair", 0.3, 3)]
)
def test_more_examples_say_more(noise):
    stds = [fitted(*drawn_labels(noise, n=n)[::2]).rate_std for n in (60, 600, 6000)]
    assert stds[0] > stds[1] > stds[2]


def test_little_can_be_said_of_few_examples():
    fit = fitted([0, 1, 0, 1], [[0.9, 0.1], [0.1, 0.9]] * 2)
    assert fit.rate == 0 and fit.rate_std > 0.05


def test_evidence_tells_noise_from_overlap_and_pays_for_free_matrices():
    labels, true, pred_probs = drawn_labels(transition_matrix("pair", 0.3, 3))
    assert fitted(true, pred_probs).log_evidence > fitted(labels, pred_probs).log_evidence
    likely = np.log(pred_probs[np.arange(len(true)), true]).sum()
    assert likely - 10 < fitted(true, pred_probs).log_evidence < likely + 10


# --- laws ------------------------------------------------------------------------------------------------------------


laws = settings(max_examples=100, deadline=None)


@laws
@given(labels_and_probabilities())
def test_what_is_found_are_probabilities_and_right_labels_are_the_most_frequent(problem):
    labels, pred_probs, weights = problem
    fit, n_classes = fitted(*problem), pred_probs.shape[1]
    assert fit.matrix.shape == fit.joint.shape == (n_classes, n_classes)
    assert (fit.matrix >= 0).all() and (fit.joint >= 0).all()
    np.testing.assert_allclose(fit.matrix.sum(axis=0), 1, rtol=1e-9)
    assert (fit.matrix.diagonal() > off_diagonal_part(fit.matrix).max(axis=0)).all()
    assert 0 <= fit.rate < 1 and 0 <= fit.rate_std < 1 and np.isfinite(fit.log_evidence)
    assert 1 / n_classes - 1e-9 < fit.confidence < 1 + 1e-9
    given_shares = np.bincount(labels, weights, n_classes) / weights.sum()
    np.testing.assert_allclose(fit.joint.sum(axis=1), given_shares, rtol=0, atol=1e-9)


@laws
@given(labels_and_probabilities(weights=st.integers(0, 3)))
def test_weight_is_the_number_of_times_that_an_example_stands_there(problem):
    labels, pred_probs, weights = problem
    equal(fitted(*problem), fitted(labels.repeat(weights), pred_probs.repeat(weights, axis=0)))


@laws
@given(labels_and_probabilities())
def test_weight_zero_is_the_absence_of_an_example_whatever_its_probabilities(problem):
    labels, pred_probs, weights = problem
    present = weights > 0
    rubbish = np.where(present[:, None], pred_probs, np.nan)
    equal(fitted(labels, rubbish, weights), fitted(labels[present], pred_probs[present], weights[present]), 0)


@laws
@given(labels_and_probabilities(), st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(problem, random):
    labels, pred_probs, weights = problem
    order = random.sample(range(len(labels)), len(labels))
    equal(fitted(labels[order], pred_probs[order], weights[order]), fitted(*problem))


@laws
@given(labels_and_probabilities(), st.randoms(use_true_random=False))
def test_relabelling_the_classes_relabels_what_is_found(problem, random):
    labels, pred_probs, weights = problem
    n_classes = pred_probs.shape[1]
    new = np.array(random.sample(range(n_classes), n_classes))  # class c is called new[c]
    renamed = np.empty_like(pred_probs)
    renamed[:, new] = pred_probs
    fit, expected = fitted(new[labels], renamed, weights), fitted(*problem)
    assert fit.rate == pytest.approx(expected.rate, abs=1e-6)
    assert fit.rate_std == pytest.approx(expected.rate_std, abs=1e-6)
    np.testing.assert_allclose(fit.matrix[np.ix_(new, new)], expected.matrix, rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.joint[np.ix_(new, new)], expected.joint, rtol=0, atol=1e-6)


# --- what is rare ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 10])
def test_of_one_class_there_is_no_noise(n):
    fit = fitted([0] * n, np.ones((n, 1)))
    assert (fit.rate, fit.rate_std, fit.matrix.tolist(), fit.joint.tolist()) == (0.0, 0.0, [[1.0]], [[1.0]])


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7, 1.0])
def test_one_example_is_enough_not_to_fail(probability):
    fit = fitted([1], [[1 - probability, probability]])
    assert (fit.rate == 0) == (probability > 0.5)
    assert fit.rate_std > 0.05


@pytest.mark.parametrize("n_wrong", [0, 10, 40])
def test_certain_probabilities_are_taken_for_less_than_certain(n_wrong):
    """Zeros and ones: what they say is wrong is wrong, as no overlap explains it."""
    codes = np.arange(200) % 2
    predicted = np.where(np.arange(200) < n_wrong, 1 - codes, codes)
    fit = fitted(codes, np.eye(2)[predicted])
    assert fit.rate == pytest.approx(n_wrong / 200, abs=2 * fit.rate_std + 0.01)


def test_probabilities_are_smoothed_towards_uniform_ones():
    smooth = smoothed(np.array([[1, 0], [0.5, 0.5]], dtype=np.float32))
    assert smooth.dtype == np.float64
    np.testing.assert_allclose(smooth.sum(axis=1), 1, rtol=1e-12)
    assert smooth[0, 1] == pytest.approx(0.5e-8, rel=1e-6) and smooth[1].tolist() == [0.5, 0.5]


def test_labels_of_which_nothing_can_be_right_are_as_wrong_as_may_be():
    codes = np.arange(100) % 2
    fit = fitted(codes, np.eye(2)[1 - codes])
    assert MARGIN / 2 - 0.05 < fit.rate < MARGIN / 2


def test_of_very_many_examples_some_say_what_all_do(monkeypatch):
    labels, true, pred_probs = drawn_labels(transition_matrix("symmetric", 0.3, 3), n=9000)
    everything = fitted(labels, pred_probs)
    monkeypatch.setattr(_noise_likelihood, "MAXIMUM_EXAMPLES", 3000)
    some = fitted(labels, pred_probs)
    equal(some, fitted(labels, pred_probs), 0)  # the same ones again
    assert some.rate == pytest.approx(everything.rate, abs=3 * some.rate_std)
    assert some.rate_std > everything.rate_std


def test_of_very_many_examples_some_of_each_class_are_looked_at(monkeypatch):
    labels, true, pred_probs = drawn_labels(transition_matrix("symmetric", 0.2, 2), n=3000)
    order = np.stack([np.flatnonzero(labels == k)[:1400] for k in range(2)], axis=1).ravel()  # the classes take turns
    monkeypatch.setattr(_noise_likelihood, "MAXIMUM_EXAMPLES", 1400)
    fit = fitted(labels[order], pred_probs[order])
    np.testing.assert_allclose(fit.joint.sum(axis=1), [0.5, 0.5], atol=0.1)


def test_noise_is_found_though_probabilities_are_far_too_sure():
    labels, true, pred_probs = drawn_labels(transition_matrix("symmetric", 0.2, 3), temperature=4.0)
    fit = fitted(labels, pred_probs)
    assert fit.rate == pytest.approx((labels != true).mean(), abs=4 * fit.rate_std + 0.02)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.95])
def test_at_every_temperature_the_strength_of_the_noise_is_the_most_likely_one_be_it_at_a_bound(rate):
    given_labels, _, pred_probs = drawn_labels(transition_matrix("symmetric", rate, 3), n=500)
    labels = _noise_likelihood._Labels.of(given_labels, np.log(smoothed(pred_probs)), np.ones(500))
    gains = (1 - labels.right) / 2 - labels.right
    largest = MARGIN * 2 / 3
    found = _noise_likelihood._optimum(labels.right, gains, labels.weights, largest)

    def log_likelihoods(strengths):
        return np.log(labels.right + strengths[:, None] * gains) @ labels.weights

    others = [log_likelihoods(np.full(len(found), each)) for each in np.linspace(1e-5, largest - 1e-5, 1000)]
    assert (log_likelihoods(found) >= np.max(others, axis=0) - 1e-6).all()
    at_bounds = ((found < 1e-4) | (found > largest - 1e-4)).mean()
    assert at_bounds > 0.2 if rate != 0.3 else 0 < at_bounds < 1


# --- matrices --------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 6))
def test_symmetric_matrix_gives_all_other_classes_the_same_share(rate, n_classes):
    matrix = symmetric_matrix(rate, n_classes)
    off_diagonal = matrix[~np.eye(n_classes, dtype=bool)]
    assert off_diagonal == pytest.approx(rate / max(n_classes - 1, 1))
    assert matrix.diagonal() == pytest.approx(1 - rate)


def test_off_diagonal_part_is_the_rest_of_the_diagonal():
    assert off_diagonal_part(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist() == [[0, 2], [3, 0]]
