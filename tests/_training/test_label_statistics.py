"""Sums over epochs become means over the epochs in which an example was seen, and what is told of its label."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcoteach._training.label_statistics import LabelStatistics
from skcoteach._training.noise_estimate import NoiseEstimate

pytestmark = pytest.mark.filterwarnings("error")


def statistics_of(codes, n_classes, dtype=torch.float64):
    return LabelStatistics(np.asarray(codes), n_classes, torch.ones(len(codes), dtype=dtype))


def epoch(kept, losses, predicted, seen):
    """With networks of which one has half the loss and the other as much more; infinite where it was not seen."""
    seen = torch.tensor(seen, dtype=torch.bool)
    mean = torch.as_tensor(np.asarray(losses, dtype=float)).masked_fill(~seen, torch.inf)
    return torch.tensor(kept, dtype=torch.float64), torch.stack([mean / 2, mean * 3 / 2]), torch.tensor(predicted), seen


def estimate(forget_rate, quality=None, predicted=None, noise_rate=None):
    quality = None if quality is None else torch.tensor(quality, dtype=torch.float64)
    predicted = None if predicted is None else torch.tensor(predicted)
    return NoiseEstimate(forget_rate, noise_rate=noise_rate, quality=quality, predicted=predicted)


def none_of(n_classes):
    """The probabilities of examples that were in no batch, where there are none."""
    return np.empty((0, n_classes))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 9))
def test_means_are_those_of_the_epochs_in_which_an_example_was_seen(seed, n_epochs, n):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    seen = rng.random((n_epochs, n)) < 0.7
    seen[0, 0] = True
    kept = rng.random((n_epochs, n)) * seen
    statistics = statistics_of(codes, 3)
    for k, s in zip(kept, seen, strict=True):
        statistics.add(*epoch(k, k, [0] * n, s))
    means = {i: kept[seen[:, i], i].mean() for i in range(n) if seen[:, i].any()}
    frequency = statistics.kept_frequency()
    assert statistics.never_seen().tolist() == [i for i in range(n) if i not in means]
    for i in range(n):
        alike = [mean for j, mean in means.items() if codes[j] == codes[i]] or list(means.values())
        assert frequency[i] == pytest.approx(means.get(i, np.mean(alike)))


def test_sums_start_anew_and_the_last_prediction_stays():
    statistics = statistics_of([0, 1], 2)
    statistics.add(*epoch([1, 1], [9, 9], [1, 1], [True, True]))
    statistics.restart()
    statistics.add(*epoch([0.5, 0], [0, 0], [0, -1], [True, False]))
    assert statistics.kept_frequency().tolist() == [0.5, 0.5]
    assert statistics.state_dict()["predicted"].tolist() == [0, 1]
    labels = statistics.labels(np.array([[0.25, 0.75]]), estimate(0.0), np.ones(2))
    assert labels.predicted.tolist() == [0, 1] and labels.quality.tolist() == [1, 0.75]


def test_the_prediction_is_that_of_the_last_epoch_in_which_an_example_was_seen():
    statistics = statistics_of([0, 0, 0], 3)
    statistics.add(*epoch([1] * 3, [0] * 3, [1, 1, 1], [True] * 3))
    statistics.add(*epoch([1, 1, 0], [0] * 3, [2, 0, -1], [True, True, False]))
    assert statistics.labels(none_of(3), estimate(0.0), np.ones(3)).predicted.tolist() == [2, 0, 1]


def test_examples_in_no_batch_have_the_class_and_the_quality_that_the_networks_give_them_now():
    statistics = statistics_of([0, 1, 1], 2)
    statistics.add(*epoch([1, 0, 0], [0, 0, 0], [0, -1, -1], [True, False, False]))
    labels = statistics.labels(np.array([[0.25, 0.75], [0.875, 0.125]]), estimate(0.34), np.ones(3))
    assert labels.quality.tolist() == [1, 0.75, 0.125]
    assert labels.predicted.tolist() == [0, 1, 0]
    assert labels.is_issue.tolist() == [False, False, True]
    assert labels.given.tolist() == [0, 1, 1]


def test_quality_is_the_geometric_mean_of_the_probabilities_and_what_was_found_out_of_sample_counts_as_much():
    statistics = statistics_of([0, 1, 1], 2)
    for losses in (np.log([1, 4, 2]), np.log([4, 4, 8])):
        statistics.add(*epoch([1] * 3, losses, [0, 0, 1], [True] * 3))
    assert statistics.labels(none_of(2), estimate(0.4), np.ones(3)).quality == pytest.approx([0.5, 0.25, 0.25])
    labels = statistics.labels(none_of(2), estimate(0.4, [0.9, 0.05, 0.85], [0, 0, 1]), np.ones(3))
    odds = np.sqrt(np.array([1 * 9, (1 / 3) * (0.05 / 0.95), (1 / 3) * (0.85 / 0.15)]))  # geometric means
    assert labels.quality == pytest.approx(odds / (1 + odds), abs=0.005)
    assert labels.is_issue.tolist() == [False, True, False]


def test_the_mean_loss_is_that_of_all_networks():
    statistics = statistics_of([0, 1], 2)
    losses = torch.tensor([[1.0, 9.0], [2.0, 0.0], [3.0, 0.0], [6.0, 3.0]], dtype=torch.float64)
    statistics.add(torch.ones(2), losses, torch.tensor([0, 1]), torch.tensor([True, True]))
    assert statistics.state_dict()["losses"].tolist() == [3, 3]


def test_what_was_found_out_of_sample_does_not_count_where_nothing_is_forgotten():
    """Networks that learn all labels by heart are the better ones where hardly any is wrong."""
    statistics = statistics_of([0, 1], 2)
    statistics.add(*epoch([1, 1], [0, np.log(2)], [0, 1], [True, True]))
    assert statistics.labels(none_of(2), estimate(0.0, [0.5, 0.25], [0, 1]), np.ones(2)).quality.tolist() == [1, 0.5]
    both = statistics.labels(none_of(2), estimate(0.1, [0.5, 0.25], [0, 1]), np.ones(2)).quality
    odds = np.sqrt(np.array([1.001 / 0.001, 0.251 / 0.751]))  # of 1 and 0.5, 0.5 and 0.25, each moved off 0 and 1
    assert both == pytest.approx(odds / (1 + odds), abs=1e-3)


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_neither_decides_alone_however_sure_it_is(quality):
    statistics = statistics_of([0, 1], 2)
    statistics.add(*epoch([1, 1], -np.log([0.2, 0.8]), [0, 1], [True, True]))
    low, high = statistics.labels(none_of(2), estimate(0.1, [quality] * 2, [0, 1]), np.ones(2)).quality
    assert 0 < low < high < 1


@pytest.mark.parametrize(("noise_rate", "n_issues"), [(None, 2), (0.0, 0), (0.26, 1), (0.8, 3)])
def test_there_are_as_many_issues_as_labels_are_found_wrong_or_else_as_are_forgotten(noise_rate, n_issues):
    statistics = statistics_of([0, 0, 0, 0], 2)
    statistics.add(*epoch([1] * 4, [4, 3, 2, 1], [1] * 4, [True] * 4))  # the first are the worst
    labels = statistics.labels(none_of(2), estimate(0.5, noise_rate=noise_rate), np.ones(4))
    assert labels.is_issue.tolist() == [True] * n_issues + [False] * (4 - n_issues)


def test_a_wrong_label_that_was_learnt_by_heart_is_predicted_by_those_who_have_not_seen_it():
    statistics = statistics_of([0, 0, 0], 3)
    statistics.add(*epoch([1] * 3, [0.1, 0.1, 0.1], [0, 0, 0], [True] * 3))
    labels = statistics.labels(none_of(3), estimate(0.7, [0.1, 0.8, 0.2], [2, 1, 0]), np.ones(3))
    assert labels.predicted.tolist() == [2, 0, 0]
    assert labels.is_issue.tolist() == [True, False, False]  # the third is predicted by both


def test_examples_without_weight_are_no_issues_whatever_they_hold():
    statistics = statistics_of([0, 1], 2)
    statistics.add(*epoch([1, 0], [5, 0], [1, -1], [True, False]))
    labels = statistics.labels(np.array([[np.nan, np.nan]]), estimate(0.9), np.array([1.0, 0.0]))
    assert labels.is_issue.tolist() == [True, False] and labels.quality[1] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_told_is_float64_and_changes_nothing(dtype):
    statistics = statistics_of([0, 1], 2, dtype)
    statistics.add(*epoch([1, 0.5], [1, 2], [0, 1], [True, True]))
    before = {name: each.clone() for name, each in statistics.state_dict().items()}
    assert before["losses"].dtype == dtype
    labels = statistics.labels(none_of(2), estimate(0.9, [0.5, 0.5], [1, 0]), np.ones(2))
    frequency = statistics.kept_frequency()
    assert frequency.dtype == labels.quality.dtype == np.float64
    frequency[:], labels.quality[:], labels.predicted[:] = 7, 7, 7
    assert all(torch.equal(each, before[name]) for name, each in statistics.state_dict().items())


def test_a_state_that_is_taken_over_is_copied_and_goes_on():
    one, other = statistics_of([0, 1], 2), statistics_of([0, 1], 2)
    first, second = (
        epoch([1, 0.5], [1, 2], [0, 1], [True, True]),
        epoch([0, 0], [3, 0], [1, -1], [True, False]),
    )
    other.add(*second)  # to be replaced
    one.add(*first)
    other.load_state_dict(one.state_dict())
    one.add(*second)
    assert other.state_dict()["n_seen"].tolist() == [1, 1]
    other.add(*second)
    assert one.state_dict().keys() == {"kept", "losses", "n_seen", "predicted"}
    for name, each in one.state_dict().items():
        assert torch.equal(each, other.state_dict()[name]), name
