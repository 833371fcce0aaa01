"""Scores on a validation set, held against plain NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from skcoteach._data.inputs import Inputs
from skcoteach._data.validation_set import ValidationSet
from skcoteach._training.validation_scores import validation_scores

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(50, 4))
CHOSEN = np.random.default_rng(1).permutation(50)[:30]
CODES = np.random.default_rng(2).integers(0, 3, 30)
WEIGHTS = np.random.default_rng(3).uniform(0.1, 2, 30)
T = np.array([[0.8, 0.1, 0.0], [0.2, 0.9, 0.0], [0.0, 0.0, 1.0]])  # [given, true]


def networks(scale=1.0):
    torch.manual_seed(0)
    pair = [nn.Linear(4, 3).double().eval() for _ in range(2)]
    for network in pair:
        network.weight.data *= scale
    return pair


def scores(pair, noise_matrix=None):
    validation = ValidationSet(Inputs(X, dtype=torch.float64), torch.from_numpy(CHOSEN), CODES, WEIGHTS, n_classes=3)
    return validation_scores(pair, validation, noise_matrix, precision="float64")


def mean_of_both(pair):
    with torch.no_grad():
        return sum(network(torch.from_numpy(X[CHOSEN])).softmax(1) for network in pair).numpy() / 2


def test_without_a_noise_matrix_they_are_accuracy_and_log_loss():
    pair = networks()
    found, probabilities = scores(pair), mean_of_both(pair)
    right = probabilities.argmax(1) == CODES
    assert found["val_accuracy"] == pytest.approx(np.average(right, weights=WEIGHTS), rel=1e-12)
    likelihood = probabilities[np.arange(30), CODES]
    assert found["val_loss"] == pytest.approx(-np.average(np.log(likelihood), weights=WEIGHTS), rel=1e-12)


def test_with_one_the_loss_is_of_the_given_labels():
    pair = networks()
    found, of_given = scores(pair, torch.from_numpy(T)), mean_of_both(pair) @ T.T
    likelihood = of_given[np.arange(30), CODES]
    assert found["val_loss"] == pytest.approx(-np.average(np.log(likelihood), weights=WEIGHTS), rel=1e-12)
    assert found["val_accuracy"] == scores(pair)["val_accuracy"]


def test_a_label_that_is_impossible_has_a_finite_loss():
    assert 100 < scores(networks(scale=1e4))["val_loss"] < 800
