"""The average of weights is the weighted mean that it says it is, and what it is put into predicts with it."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach.averaging import WeightAverage, exchange

pytestmark = pytest.mark.filterwarnings("error")


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def floating(module):
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def set_all(module, value):
    for tensor in floating(module).values():
        tensor.fill_(value)


def equal(values, module):
    return len(values) == len(floating(module)) and all(
        torch.equal(value, floating(module)[name]) for (_, name), value in values.items()
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.9999), st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_the_average_is_the_mean_in_which_later_updates_count_more(decay, weights):
    module = network()
    average = WeightAverage([module], decay)
    for weight in weights:
        set_all(module, weight)
        average.update()
    counts = decay ** np.arange(len(weights))[::-1]
    expected = np.average(weights, weights=counts)
    for value in average.values.values():
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9)


def test_with_no_decay_the_average_is_the_last_weights():
    module = network()
    average = WeightAverage([module], 0.0)
    for value in (1.0, 5.0):
        set_all(module, value)
        average.update()
    assert equal(average.values, module)


def test_the_average_owes_nothing_to_the_initial_weights():
    module = network()
    set_all(module, 1e6)
    average = WeightAverage([module], 0.999)
    set_all(module, 1.0)
    average.update()
    assert all((value == 1).all() for value in average.values.values())


def test_updating_never_changes_the_networks():
    module = network()
    before = [tensor.clone() for tensor in module.state_dict().values()]
    average = WeightAverage([module], 0.9)
    average.update()
    average.values[0, "0.weight"].fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))


def test_running_statistics_are_averaged_and_counters_are_not():
    assert set(WeightAverage([network(), nn.BatchNorm1d(2)], 0.9).values) == {
        *((0, name) for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")),
        *((1, name) for name in ("weight", "bias", "running_mean", "running_var")),
    }
    assert set(WeightAverage([nn.BatchNorm1d(2, affine=False, track_running_stats=False)], 0.9).values) == set()


def test_frozen_parameters_and_other_buffers_are_not_averaged():
    module = network()
    module[0].bias.requires_grad_(False)
    module.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    average = WeightAverage([module], 0.9)
    assert (0, "0.bias") not in average.values and (0, "mask") not in average.values
    average.update()
    exchange([module], average.values)
    assert module.mask.tolist() == [[0, -torch.inf], [0, 0]]


def test_weights_that_an_optimizer_replaces_are_seen():
    module = network()
    average = WeightAverage([module], 0.0)
    module[0].weight.data = torch.full((2, 3), 5.0, dtype=torch.float64)
    average.update()
    assert (average.values[0, "0.weight"] == 5).all()


def test_an_average_goes_on_where_it_was_left():
    whole, first = network(), network()
    one, two = WeightAverage([whole], 0.8), WeightAverage([first], 0.8)
    for value in (1.0, 2.0, 4.0):
        for module, average in ((whole, one), (first, two)):
            set_all(module, value)
            average.update()
    exchange([first], two.values)  # as a fitted estimator keeps it
    goes_on = WeightAverage([first], 0.8, n_updates=two.n_updates)
    for module, average in ((whole, one), (first, goes_on)):
        set_all(module, 8.0)
        average.update()
    assert goes_on.n_updates == 4
    assert set(one.values) == set(goes_on.values)
    for name, value in one.values.items():
        torch.testing.assert_close(value, goes_on.values[name], rtol=1e-12, atol=1e-12)


def test_exchange_gives_back_copies_of_what_was_there():
    module, other = network(0), network(1)
    before = copy.deepcopy(module)
    returned = exchange([module], WeightAverage([other], 0.5).values)
    assert equal(returned, before) and not equal(returned, module)
    exchange([module], returned)
    assert equal(returned, module)


def test_only_what_has_a_value_is_exchanged():
    module, before = network(0), copy.deepcopy(network(0))
    exchange([module], {(0, "0.bias"): torch.ones(2)})
    assert module[0].bias.tolist() == [1, 1]
    assert torch.equal(module[0].weight, before[0].weight)
