"""Wrong labels counted, and where classes that overlap cannot be the reason for them."""

from fractions import Fraction

import numpy as np
import pytest
from cleanlab.count import estimate_joint as cleanlab_joint
from helpers import drawn_labels, labels_and_probabilities
from hypothesis import given, settings

from skcoteach._noise_counting import confident_joint, counted_rate, fitted_or_counted_noise, is_flat
from skcoteach._noise_likelihood import fit_noise
from skcoteach.benchmarks.common import noisy_labels, transition_matrix

pytestmark = pytest.mark.filterwarnings("error")


def expected_joint(labels, pred_probs, weights):
    """From the docstring's words, in exact arithmetic, one example after the other."""
    n_classes = pred_probs.shape[1]
    classes, rows = range(n_classes), [i for i in range(len(labels)) if weights[i] > 0]
    weights = [Fraction(weight) for weight in weights]
    joint = [[Fraction(0)] * n_classes for _ in classes]
    for k in classes:
        predicted = sorted((i for i in rows if pred_probs[i].argmax() == k), key=lambda i: -pred_probs[i, k])
        if not predicted:
            continue
        weight = sum(weights[i] for i in predicted)
        upper, reached = [], Fraction(0)
        for i in predicted:
            if reached >= weight / 2 and pred_probs[i, k] < pred_probs[upper[-1], k]:
                break
            upper.append(i)
            reached += weights[i]
        for i in upper:
            joint[labels[i]][k] += weight * weights[i] / reached
    for j in classes:
        share = sum((weights[i] for i in rows if labels[i] == j), Fraction(0)) / sum(weights)
        counted = sum(joint[j])
        for k in classes:
            joint[j][k] = share * (joint[j][k] / counted if counted else int(j == k))
    return np.array(joint, dtype=float)


@settings(max_examples=200, deadline=None)
@given(labels_and_probabilities())
def test_joint_is_that_of_the_confident_half_calibrated_to_the_given_classes(problem):
    labels, pred_probs, weights = problem
    joint = confident_joint(labels, pred_probs, weights)
    np.testing.assert_allclose(joint, expected_joint(labels, pred_probs, weights), rtol=0, atol=1e-12)
    given_shares = np.bincount(labels, weights, pred_probs.shape[1]) / weights.sum()
    np.testing.assert_allclose(joint.sum(axis=1), given_shares, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "noise", [np.eye(3), transition_matrix("pair", 0.2, 3), transition_matrix("symmetric", 0.3, 3)]
)
def test_joint_is_near_that_of_cleanlab(noise):
    """Each cell within 0.03."""
    labels, _, pred_probs = drawn_labels(noise, scale=5.0)
    learnt = pred_probs @ noise.T
    joint = confident_joint(labels, learnt, np.ones(len(labels)))
    np.testing.assert_allclose(joint, cleanlab_joint(labels, learnt), atol=0.03)


# --- whether wrong labels become rarer with confidence --------------------------------------------------------------


def learnt(noise, n=4000, n_classes=4, seed=0, certain=6.0):
    """Given labels, and the probabilities of a model that has learnt the mixture of them; classes hardly overlap."""
    rng = np.random.default_rng(seed)
    true = rng.integers(n_classes, size=n)
    logits = certain * np.eye(n_classes)[true] + rng.normal(size=(n, n_classes))
    pred_probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return noisy_labels(true, noise, seed + 1), pred_probs @ noise.T, np.ones(n)


@pytest.mark.parametrize("kind", ["pair", "symmetric"])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_where_all_are_mislabelled_alike_it_is_flat(kind, rate):
    assert is_flat(*learnt(transition_matrix(kind, rate, 4)))


@pytest.mark.parametrize("noise", [np.eye(4), transition_matrix("pair", 0.1, 4)])
def test_where_classes_overlap_it_is_not(noise):
    labels, _, pred_probs = drawn_labels(noise)
    assert not is_flat(labels, pred_probs @ noise.T, np.ones(len(labels)))


def test_nor_where_the_hard_examples_are_mislabelled():
    labels, pred_probs, weights = learnt(np.eye(4))
    hard = pred_probs.max(axis=1) < np.quantile(pred_probs.max(axis=1), 0.4)
    labels[hard] = (labels[hard] + 1) % 4
    assert not is_flat(labels, pred_probs, weights)


def test_nor_where_it_cannot_be_told():
    """A fifth of ten wrong labels in either quarter is less than their standard error."""
    noise = transition_matrix("pair", 0.2, 4)
    labels, pred_probs, weights = learnt(noise, n=160)
    assert not is_flat(labels, pred_probs, weights)
    assert is_flat(*(np.concatenate([each] * 20) for each in (labels, pred_probs, weights)))


@settings(max_examples=100, deadline=None)
@given(labels_and_probabilities())
def test_weights_count_as_repetition_and_the_order_of_rows_does_not_matter(problem):
    labels, pred_probs, weights = problem
    times = np.rint(weights * 4).astype(int)
    rows = np.repeat(np.arange(len(labels)), times)[::-1]
    repeated = is_flat(labels[rows], pred_probs[rows], np.ones(len(rows)))
    assert repeated == is_flat(labels, pred_probs, times.astype(float))


@pytest.mark.parametrize("kind", ["pair", "symmetric"])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_as_many_labels_are_wrong_as_contradict_the_confident_half(kind, rate):
    problem = learnt(transition_matrix(kind, rate, 4))
    assert counted_rate(*problem) == pytest.approx(rate, abs=0.03)
    assert counted_rate(*problem) == pytest.approx(1 - confident_joint(*problem).trace(), rel=1e-12)


def test_where_classes_overlap_none_is_counted():
    labels, _, pred_probs = drawn_labels(np.eye(4))
    assert counted_rate(labels, pred_probs, np.ones(len(labels))) == 0


@pytest.mark.parametrize("certain", [2.0, 6.0])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_it_is_counted_where_it_is_flat_and_more_is_found_like_that(rate, certain):
    noise = transition_matrix("pair", rate, 4)
    labels, pred_probs, weights = learnt(noise, certain=certain)
    likely, joint = fit_noise(labels, pred_probs, weights), confident_joint(labels, pred_probs, weights)
    found = fitted_or_counted_noise(labels, pred_probs, weights)
    if is_flat(labels, pred_probs, weights):
        assert found.rate == pytest.approx(max(likely.rate, 1 - joint.trace()), rel=1e-12)
        assert found.rate == pytest.approx(rate, abs=0.03)
    else:
        assert found.rate == likely.rate
