"""Sums over epochs become means over the epochs in which an example was seen, and what is told of its label."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcoteach.examples import Examples, Unseen

pytestmark = pytest.mark.filterwarnings("error")

CPU = torch.device("cpu")


def epoch(kept, losses, predicted, seen):
    return (
        torch.tensor(kept, dtype=torch.float64),
        torch.tensor(losses, dtype=torch.float64),
        torch.tensor(predicted),
        torch.tensor(seen, dtype=torch.bool),
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 9))
def test_means_are_those_of_the_epochs_in_which_an_example_was_seen(seed, n_epochs, n):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    seen = rng.random((n_epochs, n)) < 0.7
    seen[0, 0] = True
    kept = rng.random((n_epochs, n)) * seen
    examples = Examples(codes, 3, CPU)
    for k, s in zip(kept, seen, strict=True):
        examples.add(*epoch(k, k, [0] * n, s))
    means = {i: kept[seen[:, i], i].mean() for i in range(n) if seen[:, i].any()}
    frequency = examples.kept_frequency()
    assert examples.never_seen().tolist() == [i for i in range(n) if i not in means]
    for i in range(n):
        alike = [mean for j, mean in means.items() if codes[j] == codes[i]] or list(means.values())
        assert frequency[i] == pytest.approx(means.get(i, np.mean(alike)))


def test_sums_start_anew_and_the_last_prediction_stays():
    examples = Examples(np.array([0, 1]), 2, CPU)
    examples.add(*epoch([1, 1], [9, 9], [1, 1], [True, True]))
    examples.forget()
    examples.add(*epoch([0.5, 0], [0, 0], [0, -1], [True, False]))
    assert examples.kept_frequency().tolist() == [0.5, 0.5]
    labels = examples.labels(np.array([[0.25, 0.75]]), None, np.ones(2), 0.0)
    assert labels.predicted.tolist() == [0, 1] and labels.quality.tolist() == [1, 0.75]


def test_quality_is_the_geometric_mean_of_the_probabilities_and_what_the_unseen_say_counts_as_much():
    examples = Examples(np.array([0, 1, 1]), 2, CPU)
    for losses in (np.log([1, 4, 2]), np.log([4, 4, 8])):
        examples.add(*epoch([1] * 3, losses, [0, 0, 1], [True] * 3))
    none = np.empty((0, 2))
    assert examples.labels(none, None, np.ones(3), 0.4).quality == pytest.approx([0.5, 0.25, 0.25])
    unseen = Unseen(np.array([0.9, 0.05, 0.85]), np.array([0, 0, 1]))
    labels = examples.labels(none, unseen, np.ones(3), 0.4)
    assert labels.quality == pytest.approx([0.7, 0.15, 0.55])
    assert labels.is_issue.tolist() == [False, True, False]


def test_a_wrong_label_that_was_learnt_by_heart_is_predicted_by_those_who_have_not_seen_it():
    examples = Examples(np.array([0, 0, 0]), 3, CPU)
    examples.add(*epoch([1] * 3, [0.1, 0.1, 0.1], [0, 0, 0], [True] * 3))
    unseen = Unseen(np.array([0.1, 0.8, 0.2]), np.array([2, 1, 0]))
    labels = examples.labels(np.empty((0, 3)), unseen, np.ones(3), 0.7)
    assert labels.predicted.tolist() == [2, 0, 0]
    assert labels.is_issue.tolist() == [True, False, False]  # the third is predicted by both


def test_examples_without_weight_are_no_issues_whatever_they_hold():
    examples = Examples(np.array([0, 1]), 2, CPU)
    examples.add(*epoch([1, 0], [5, 0], [1, -1], [True, False]))
    labels = examples.labels(np.array([[np.nan, np.nan]]), None, np.array([1.0, 0.0]), 0.9)
    assert labels.is_issue.tolist() == [True, False] and labels.quality[1] == 0
