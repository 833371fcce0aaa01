"""What a fit says of its examples and their labels is what its epochs found since the end of the warm-up."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from _training.builders import N, X, Y, many, start

from skcoteach._training import trainer as trainer_module
from skcoteach._training.epoch_statistics import UNSEEN, EpochStatistics, in_steps
from skcoteach._training.label_statistics import ODDS_MARGIN
from skcoteach._training.noise_estimate import NoiseEstimate

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def script(monkeypatch):
    """Have the next epochs find what is written down, for each example: the share that was kept, the loss, the class.

    None: it was in no batch. What is not written down is 0.
    """

    def write(*, kept=None, losses=None, predicted=None):
        n_epochs = len(kept or losses)
        of_epochs = [each or [None] * n_epochs for each in (kept, losses, predicted)]
        epochs = iter([*zip(*of_epochs, strict=True)])

        class Scripted:
            def __init__(self, weights, batch_size, n_networks, class_dtype):
                kept, losses, predicted = next(epochs)
                self.seen = torch.tensor([each is not None for each in kept or losses])
                self.kept, self.losses = (
                    torch.tensor([each or 0.0 for each in some or [0.0] * len(weights)], dtype=torch.float64)
                    for some in (kept, losses)
                )
                self.losses = self.losses.repeat(n_networks, 1)
                classes = [0] * len(weights) if predicted is None else predicted
                self.predicted = torch.where(self.seen, torch.as_tensor(classes), -1).to(class_dtype)

            def add(self, *block):
                pass

            def read_back(self, before):
                return [1.0] * 7, torch.where(self.seen, in_steps(self.kept), UNSEEN)

        monkeypatch.setattr(trainer_module, "EpochStatistics", Scripted)

    return write


# --- kept frequency --------------------------------------------------------------------------------------------------


def frequency_of(script, epochs, y=(0, 0, 1, 1), n_planned=None, num_gradual=2):
    script(kept=epochs)
    training = start(X[: len(y)], list(y), epochs=n_planned or len(epochs), num_gradual=num_gradual)
    return training.run(len(epochs)).fitted()["kept_frequency_"].tolist()


def test_kept_frequency_is_the_mean_from_the_end_of_the_warm_up(script):
    epochs = [[0, 1, 1, 1], [1, 1, 0.5, 0], [1, 0, 0.25, 0], [1, 0.5, 0, 0]]
    assert frequency_of(script, epochs, num_gradual=2) == [1, 0.5, 0.25, 0]
    assert frequency_of(script, epochs, num_gradual=4) == [1, 0.5, 0, 0]
    for num_gradual in (0, 1):
        assert frequency_of(script, epochs, num_gradual=num_gradual) == [0.75, 0.625, 0.4375, 0.25]


def test_kept_frequency_counts_only_epochs_in_which_the_example_was_in_a_batch(script):
    epochs = [[0, 0, 0, 0], [1, None, 0.5, 0], [None, 0, 0.5, None], [0.5, 1, None, None]]
    assert frequency_of(script, epochs) == [0.75, 0.5, 0.5, 0]


def test_an_example_never_seen_after_the_warm_up_gets_the_mean_of_its_given_class(script):
    epochs = [[0, 0, 0, 0, 0, 0], [None, 1, 0.5, None, 0.25, 0.75]]
    assert frequency_of(script, epochs, y=[0, 0, 0, 1, 1, 1]) == [0.75, 1, 0.5, 0.5, 0.25, 0.75]


def test_an_example_of_a_class_never_seen_gets_the_mean_of_all(script):
    assert frequency_of(script, [[0, 0, 0, 0], [1, 0.5, None, None]]) == [1, 0.5, 0.75, 0.75]


def test_kept_frequency_before_the_end_of_the_warm_up_is_of_the_epochs_done(script):
    assert frequency_of(script, [[1, 0, 1, 0], [0, 0, 1, 1]], n_planned=5, num_gradual=5) == [0.5, 0, 1, 0.5]


def test_kept_frequency_of_a_training_is_the_mean_of_what_its_epochs_find(monkeypatch):
    epochs = []

    class Kept(EpochStatistics):
        def read_back(self, before):
            epochs.append((self.kept.clone(), self.seen))
            return super().read_back(before)

    monkeypatch.setattr(trainer_module, "EpochStatistics", Kept)
    weights = np.random.default_rng(0).integers(0, 3, N)
    few = {"num_gradual": 3, "num_iter_per_epoch": 1, "batch_size": 8}
    training = start(X, Y, weights, forget_rate=0.3, precision="float64", **few).run(6)
    frequency = training.fitted()["kept_frequency_"]
    expected = {}
    for i in range(N):
        shares = [float(kept[i]) for kept, seen in epochs[2:] if seen[i]]
        if shares:
            expected[i] = sum(shares) / len(shares)
    assert any(weights == 0) and len(expected) < (weights > 0).sum()  # of both kinds of unseen examples there are some
    for i in range(N):
        same_class = [value for j, value in expected.items() if Y[j] == Y[i]]
        assert frequency[i] == pytest.approx(expected.get(i, math.fsum(same_class) / len(same_class)), rel=1e-12)
    assert frequency.dtype == np.float64
    assert (weights[list(expected)] > 0).all()


# --- label quality ---------------------------------------------------------------------------------------------------


def labels_of(training):
    fitted = training.fitted()
    return dataclasses.replace(fitted["_state"].labels, quality=fitted["label_quality_"])


def found_for(y):
    """A noise estimate of networks that take every example for one of class 0, half of the time."""
    probabilities = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return NoiseEstimate(
        forget_rate=0.2,
        noise_rate=0.2,
        noise_matrix=torch.eye(3, dtype=torch.float64),
        quality=probabilities[torch.as_tensor(y)],
        predicted=torch.zeros(len(y), dtype=torch.int64),
    )


def test_label_quality_is_the_geometric_mean_probability_from_the_end_of_the_warm_up(script):
    script(losses=[[9, 9, 9, 9], [1, None, 0, 0.5], [2, 4, 0, None], [3, 0, 0, None]])
    quality = start(X[:4], [0, 0, 1, 1], epochs=4, num_gradual=2).run(4).fitted()["label_quality_"]
    assert quality.tolist() == pytest.approx([math.exp(-2), math.exp(-2), 1, math.exp(-0.5)])
    assert quality.dtype == np.float64


def test_label_quality_of_an_example_never_seen_after_the_warm_up_is_what_the_networks_say_at_the_end(script):
    script(losses=[[9] * 6, [1.0, 3.0, None, None, 0.25, 0.75]], predicted=[[1, 1, 1, 0, 0, 0]] * 2)
    training = start(X[:6], [0, 0, 0, 1, 1, 1], epochs=2, num_gradual=2).run(2)
    labels, inputs = labels_of(training), torch.from_numpy(X[:6])
    now = sum(network(inputs).detach().double().softmax(1).numpy() for network in training.trainer.networks) / 2
    assert labels.quality[[2, 3]].tolist() == pytest.approx([now[2, 0], now[3, 1]], rel=1e-6)
    assert labels.predicted[[2, 3]].tolist() == now[[2, 3]].argmax(axis=1).tolist()
    assert labels.quality[[0, 5]].tolist() == pytest.approx([math.exp(-1), math.exp(-0.75)])
    assert labels.predicted[[0, 1, 4, 5]].tolist() == [1, 1, 0, 0]


def test_label_quality_is_averaged_with_the_probability_of_those_who_have_not_seen_the_label(script):
    X, y, weights = many()
    losses = np.random.default_rng(0).exponential(size=(2, 600))
    script(losses=losses.tolist(), predicted=[(y + 1) % 3] * 2)
    training = start(X, y, weights, noise_estimate=found_for(y), epochs=2, num_gradual=1, precision="float64").run(2)
    fitted, labels = training.fitted(), labels_of(training)
    both = np.stack([np.exp(-losses.mean(axis=0)), np.array([0.5, 0.3, 0.2])[y]])
    odds = ((both + ODDS_MARGIN) / (1 - both + ODDS_MARGIN)).prod(axis=0) ** 0.5  # a geometric mean
    expected = odds / (1 + odds)
    np.testing.assert_allclose(fitted["label_quality_"], expected, rtol=1e-12)
    np.testing.assert_array_equal(labels.quality, fitted["label_quality_"])
    np.testing.assert_array_equal(labels.given, y)
    assert labels.is_issue.sum() == 120  # the rate of 0.2
    assert labels.quality[labels.is_issue].max() < labels.quality[~labels.is_issue].min()


# --- label issues ----------------------------------------------------------------------------------------------------


def test_predicted_label_is_that_of_the_last_epoch_in_which_the_example_was_seen(script):
    script(
        losses=[[1, 1, 1, 1], [1, None, 1, 1], [1, None, None, 1]],
        predicted=[[0, 1, 2, 1], [1, 0, 1, 2], [2, 0, 0, 0]],
    )
    training = start(X[:4], [0, 1, 2, 0], epochs=3, num_gradual=1).run(3)
    assert labels_of(training).predicted.tolist() == [2, 1, 1, 0]


def test_of_low_qualities_that_were_learnt_those_who_have_not_seen_them_decide(script):
    """Of the fifth with large losses half are predicted as given, by heart; those of class 0 by the others, too."""
    X, y, weights = many()
    bad, by_heart = np.arange(600) < 120, np.arange(600) < 60
    predicted = np.where(by_heart | ~bad, y, (y + 1) % 3)
    script(losses=[np.where(bad, 10.0, 0.0).tolist()], predicted=[predicted])
    labels = labels_of(start(X, y, weights, noise_estimate=found_for(y), epochs=1, num_gradual=1).run(1))
    assert labels.predicted.tolist() == np.where(by_heart, 0, predicted).tolist()
    assert labels.is_issue.tolist() == (bad & ~(by_heart & (y == 0))).tolist()


def test_no_label_that_is_predicted_is_an_issue(script):
    y = np.arange(20) % 2
    predicted = np.where(np.arange(20) < 4, y, 1 - y)
    script(losses=[np.arange(20)[::-1].tolist()], predicted=[predicted])  # the first are the worst
    training = start(many(20)[0], y, forget_rate=0.5, epochs=1, num_gradual=0).run(1)
    assert np.flatnonzero(labels_of(training).is_issue).tolist() == [*range(4, 10)]


@pytest.mark.parametrize("class_weight", [None, {0: 3.0, 1: 3.0, 2: 3.0}])
def test_issues_are_counted_by_weight(class_weight, script):
    X, y, _ = many(100)
    weights = np.where(np.arange(100) < 50, 3.0, 1.0)
    script(losses=[np.arange(100)[::-1].tolist()] * 2, predicted=[(y + 1) % 3] * 2)  # the first are the worst
    training = start(X, y, weights, forget_rate=0.3, epochs=2, class_weight=class_weight).run(2)
    assert np.flatnonzero(labels_of(training).is_issue).tolist() == [*range(20)]  # 60 of 200


def test_issues_are_counted_by_the_weights_of_the_classes_too(script):
    X, y, _ = many(100)
    y = (np.arange(100) >= 40).astype(int)
    script(losses=[np.arange(100)[::-1].tolist()], predicted=[1 - y])
    training = start(X, y, forget_rate=0.3, epochs=1, class_weight={0: 3.0, 1: 1.0}).run(1)
    assert np.flatnonzero(labels_of(training).is_issue).tolist() == [*range(18)]  # 54 of 180


def test_where_the_noise_rate_was_estimated_issues_are_counted_without_the_weights_of_the_classes(script):
    """It is a share of the labels as they were given."""
    X = many(100)[0]
    y, weights = (np.arange(100) >= 40).astype(int), np.where(np.arange(100) < 10, 2.0, 1.0)
    script(losses=[np.arange(100)[::-1].tolist()], predicted=[1 - y])
    estimate = NoiseEstimate(0.2, noise_rate=0.3, noise_matrix=torch.eye(2, dtype=torch.float64))
    training = start(X, y, weights, noise_estimate=estimate, epochs=1, class_weight={0: 3.0, 1: 1.0}).run(1)
    assert np.flatnonzero(labels_of(training).is_issue).tolist() == [*range(23)]  # 33 of 110
