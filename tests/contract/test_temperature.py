"""Probabilities that are about as sure as they are right, where the data have told how sure that is."""

import copy

import numpy as np
import pytest
import torch
from helpers import Net, assert_same_weights, auto, fast
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from torch import nn

pytestmark = pytest.mark.filterwarnings("error")


class Scaled(Net):
    """Its last layer is not linear."""

    def forward(self, x):
        return 3 * super().forward(x)


def softly_capped(n_features, n_classes):
    """The same, as a chain."""
    return nn.Sequential(nn.Linear(n_features, 64), nn.ReLU(), nn.Linear(64, n_classes), nn.Softsign(), Times(20))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


#: Networks that become surer than they are right on the data below.
TOO_SURE = {
    "default": {"lr": 0.01, "epochs": 12},
    "averaged": {"lr": 0.01, "epochs": 12, "average_decay": 0.9},
    "not linear at the end": {"lr": 0.05, "epochs": 12, "module": Scaled, "module__hidden": 64},
    "a chain not linear at the end": {"lr": 0.01, "epochs": 12, "module": softly_capped},
    "float64": {"lr": 0.01, "epochs": 12, "precision": "float64"},
}


def hard_examples():
    """1,200 with right labels, in many more columns than tell of the class: half of them are learnt by heart."""
    X, y = make_classification(
        1200, n_features=20, n_informative=5, n_classes=3, n_clusters_per_class=1, class_sep=1.0, random_state=0
    )
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def hard():
    """To train on."""
    X, y = hard_examples()
    return X[:600], y[:600]


@pytest.fixture(scope="module", params=TOO_SURE)
def too_sure(request, hard):
    """Not to be changed."""
    return auto(**TOO_SURE[request.param]).fit(*hard)


def logits_of(estimator, X):
    dtype = next(estimator.modules_[0].parameters()).dtype
    with torch.no_grad():
        return [module(torch.tensor(X, dtype=dtype)).double() for module in estimator.modules_]


def test_probabilities_are_the_mean_of_both_networks_at_the_temperature(too_sure, hard):
    X, _ = hard
    assert type(too_sure.temperature_) is float and too_sure.temperature_ > 1.1
    first, second = (logits / too_sure.temperature_ for logits in logits_of(too_sure, X))
    expected = (first.softmax(1) + second.softmax(1)) / 2
    assert_allclose(too_sure.predict_proba(X), expected, atol=1e-6)
    assert_allclose(np.exp(too_sure.predict_log_proba(X)), expected, atol=1e-6)
    assert_array_equal(too_sure.predict(X), expected.argmax(1))


def test_they_are_nearer_to_being_right_on_new_examples(too_sure):
    X, y = (each[600:] for each in hard_examples())
    untempered = copy.copy(too_sure)
    untempered.temperature_ = 1.0
    losses = [-each.predict_log_proba(X)[np.arange(600), y].mean() for each in (too_sure, untempered)]
    assert losses[0] < losses[1]


def test_the_weights_are_those_of_a_fit_that_was_told_the_same_forget_rate(too_sure, hard):
    assert not hasattr(too_sure, "class_forget_rates_")  # of all classes the same
    given = copy.copy(too_sure).set_params(forget_rate=too_sure.forget_rate_).fit(*hard)
    assert_same_weights(too_sure, given)
    assert given.temperature_ == 1.0
    assert too_sure.history_[-1]["loss"] == given.history_[-1]["loss"]


def test_partial_fit_keeps_the_temperature_and_goes_on_from_the_weights_trained_last(too_sure, hard):
    X, y = hard
    found = copy.deepcopy(too_sure).set_params(forget_rate=too_sure.forget_rate_)
    given = copy.deepcopy(found).fit(X, y)
    for _ in range(2):
        found.partial_fit(X, y)
        given.partial_fit(X, y)
        assert_same_weights(found, given)
        assert found.temperature_ == too_sure.temperature_ and given.temperature_ == 1.0
    first, second = (logits / too_sure.temperature_ for logits in logits_of(found, X))
    assert_allclose(found.predict_proba(X), (first.softmax(1) + second.softmax(1)) / 2, atol=1e-6)


def test_the_next_fit_forgets_it(too_sure, hard):
    X, y = hard
    again = copy.deepcopy(too_sure).set_params(forget_rate=0.1).fit(X, y)
    assert again.temperature_ == 1.0


def test_it_is_one_where_the_forget_rate_is_given(table):
    X, y = table
    estimator = fast(lr=0.1).fit(X, y)
    assert estimator.temperature_ == 1.0 and type(estimator.temperature_) is float
    assert estimator.partial_fit(X, y).temperature_ == 1.0
    assert fast().partial_fit(X, y, classes=[0, 1, 2]).temperature_ == 1.0
    with pytest.warns(UserWarning, match="too few examples"):
        assert auto().fit(X[:39], y[:39]).temperature_ == 1.0
