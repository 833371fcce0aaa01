"""Networks with a Standardize layer start with the moments of the data that they are trained on."""

import numpy as np
import pytest
import torch
from _training.builders import bits, equal
from _training.trainers import N_FEATURES, make_data, make_networks, noisy_module, uneven_weights
from torch import nn

from skcoteach._training import module_factory
from skcoteach._training.distributed import ALONE
from skcoteach._training.module_factory import standardize
from skcoteach.networks import Standardize

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("chunk", [7, 8192])
@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["unit weights", "uneven weights"])
def test_standardisation_is_that_of_the_weighted_training_data(weights, chunk, monkeypatch):
    data = make_data(weights=weights)
    X = data.inputs.X
    networks = make_networks()
    monkeypatch.setattr(module_factory, "chunk_size", lambda inputs: chunk)
    standardize(networks, data, ALONE)
    mean = np.average(X, axis=0, weights=weights)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    for network in networks:
        assert network[0].mean.tolist() == pytest.approx(mean, rel=1e-12)
        assert network[0].scale.tolist() == pytest.approx(deviation, rel=1e-12)


def test_only_examples_with_weight_are_read_each_once():
    data = make_data(weights=uneven_weights())
    standardize(make_networks(), data, ALONE)
    assert sum(data.inputs.asked, []) == data.drawn.tolist()


def test_layers_that_have_seen_data_and_networks_without_such_layers_are_left_alone():
    data = make_data()
    observed = Standardize(N_FEATURES).double()
    observed.observe(torch.eye(N_FEATURES).double() * 9, torch.ones(N_FEATURES))
    before = bits([observed])
    fresh = Standardize(N_FEATURES).double()
    standardize((nn.Sequential(observed, nn.Sequential(fresh)), noisy_module()), data, ALONE)
    assert equal(bits([observed]), before)
    assert fresh.observed


def test_where_there_is_nothing_to_standardise_no_data_are_read():
    data = make_data()
    standardize((noisy_module(), noisy_module()), data, ALONE)
    assert data.inputs.asked == []
