"""Epochs of a fit: random numbers from the seed alone, the precision that was asked for, and any logits of networks."""

import random

import numpy as np
import pytest
import torch
from _training.builders import N, Net, X, Y, bits, equal, estimator, many, start
from torch import nn

pytestmark = pytest.mark.filterwarnings("error")


# --- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
def test_the_same_random_state_gives_the_same_networks(module):
    first, second, other = (
        estimator(module=module, random_state=random_state, epochs=2).fit(X, Y).modules_ for random_state in (0, 0, 1)
    )
    assert equal(bits(first), bits(second))
    assert not equal(bits(first), bits(other))


def test_without_a_random_state_every_fit_is_another_and_the_global_states_are_left_as_they_were_found():
    networks = []
    for _ in range(2):
        np.random.seed(0)
        random.seed(0)
        torch.manual_seed(0)
        before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
        networks.append(bits(estimator(module=Net, random_state=None, epochs=1).fit(X, Y).modules_))
        assert (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()) == before
    assert not equal(*networks)


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("tf32", torch.float32), ("bf16", torch.float32), ("float64", torch.float64)],
)
def test_networks_inputs_and_weights_have_the_precision(precision, dtype):
    seen = []

    class Watched(Net):
        def forward(self, x):
            seen.append(x.dtype)
            return super().forward(x)

    clf = estimator(precision=precision, module=Watched, epochs=1).fit(X.astype(np.float64), Y)
    tensors = [each for network in clf.modules_ for each in network.state_dict().values() if each.is_floating_point()]
    assert {*seen, *(each.dtype for each in tensors)} == {dtype}
    training = start(precision=precision)
    assert training.trainer.data.weights.dtype == training.trainer.data.inputs[torch.tensor([0])].dtype == dtype


# --- logits ----------------------------------------------------------------------------------------------------------


class Masked(nn.Module):
    """Rules out a class by minus infinity."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)
        self.register_buffer("ruled_out", torch.tensor([0.0, 0.0, -torch.inf, 0.0]))

    def forward(self, x):
        return self.linear(x) + self.ruled_out


def test_classes_may_be_ruled_out_by_infinite_logits():
    y = np.where(np.arange(N) % 4 == 2, 1, np.arange(N) % 4)
    training = start(X, y, classes=[0, 1, 2, 3], module=Masked).run(2)
    assert np.isfinite(training.trainer.history[-1]["loss"]).all()
    assert all(torch.isfinite(p).all() for network in training.trainer.networks for p in network.parameters())
    assert not (training.fitted()["_state"].labels.predicted == 2).any()


class InDouble(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return self.linear(x).double()


def test_logits_of_another_precision_than_the_weights_are_fine():
    X, y, _ = many()
    clf = estimator(module=InDouble, lr=0.05, epochs=10).fit(X, y)
    assert clf.modules_[0].linear.weight.dtype == torch.float32
    assert clf.score(X, y) > 0.9


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_size_beyond_all_memory_is_that_of_all_examples():
    small, large = (start(batch_size=size).run(2).trainer for size in (N, 10**12))
    assert large.batch_size == N
    assert equal(bits(small.networks), bits(large.networks))
