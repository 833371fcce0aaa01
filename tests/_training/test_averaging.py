"""The average of weights is the weighted mean that it says it is, and goes on where it was left."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach._training.averaging import WeightAverage
from skcoteach._training.module_state import load_state

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
    return values.keys() == floating(module).keys() and all(
        torch.equal(value, floating(module)[name]) for name, value in values.items()
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
    (values,) = average.values
    for value in values.values():
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9)


def test_with_no_decay_the_average_is_the_last_weights():
    module = network()
    average = WeightAverage([module], 0.0)
    for value in (1.0, 5.0):
        set_all(module, value)
        average.update()
    assert equal(average.values[0], module)


def test_the_average_owes_nothing_to_the_initial_weights():
    module = network()
    set_all(module, 1e6)
    average = WeightAverage([module], 0.999)
    set_all(module, 1.0)
    average.update()
    assert all((value == 1).all() for value in average.values[0].values())


def test_every_network_has_an_average_of_its_own():
    one, other = network(0), network(1)
    average = WeightAverage([one, other], 0.9)
    average.update()
    assert equal(average.values[0], one) and equal(average.values[1], other)
    assert not torch.equal(average.values[0]["0.weight"], average.values[1]["0.weight"])


def test_updating_never_changes_the_networks():
    module = network()
    before = [tensor.clone() for tensor in module.state_dict().values()]
    average = WeightAverage([module], 0.9)
    average.update()
    average.values[0]["0.weight"].fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))


def test_running_statistics_are_averaged_and_counters_are_not():
    average = WeightAverage([network(), nn.BatchNorm1d(2)], 0.9)
    assert [set(values) for values in average.values] == [
        {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"},
        {"weight", "bias", "running_mean", "running_var"},
    ]
    assert WeightAverage([nn.BatchNorm1d(2, affine=False, track_running_stats=False)], 0.9).values == [{}]


def test_frozen_parameters_and_other_buffers_are_not_averaged():
    module = network()
    module[0].bias.requires_grad_(False)
    module.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    average = WeightAverage([module], 0.9)
    assert average.values[0].keys() & {"0.bias", "mask"} == set()
    average.update()
    load_state(module, average.values[0])
    assert module.mask.tolist() == [[0, -torch.inf], [0, 0]]


def test_weights_that_an_optimizer_replaces_are_seen():
    module = network()
    average = WeightAverage([module], 0.0)
    module[0].weight.data = torch.full((2, 3), 5.0, dtype=torch.float64)
    average.update()
    assert (average.values[0]["0.weight"] == 5).all()


def test_weights_and_running_statistics_that_are_loaded_are_seen():
    module = network()
    average = WeightAverage([module], 0.0)
    load_state(module, {name: torch.full_like(each, 5) for name, each in floating(module).items()})
    average.update()
    assert all((value == 5).all() for value in average.values[0].values())


def test_an_average_goes_on_where_it_was_left():
    """In a network that holds the average, as a fitted estimator's does, or another."""
    whole, first = network(), network()
    one, two = WeightAverage([whole], 0.8), WeightAverage([first], 0.8)
    for value in (1.0, 2.0, 4.0):
        for module, average in ((whole, one), (first, two)):
            set_all(module, value)
            average.update()
    load_state(first, two.values[0])
    state, other = two.state_dict(), network(1)
    goes_on = [WeightAverage([module], 0.8) for module in (first, other)]
    goes_on[0].load_state_dict(
        goes_on[0].state_dict() | {"n_updates": state["n_updates"]}
    )  # the weights are the values
    goes_on[1].load_state_dict(state)
    for module, average in ((whole, one), (first, goes_on[0]), (other, goes_on[1])):
        set_all(module, 8.0)
        average.update()
    assert one.state_dict()["n_updates"] == 4
    for average in goes_on:
        assert average.state_dict()["n_updates"] == 4
        assert one.values[0].keys() == average.values[0].keys()
        for name, value in one.values[0].items():
            torch.testing.assert_close(value, average.values[0][name], rtol=1e-12, atol=1e-12)


def test_a_state_that_is_taken_over_is_copied():
    one, other = network(0), network(1)
    average, goes_on = WeightAverage([one], 0.5), WeightAverage([other], 0.5)
    average.update()
    goes_on.load_state_dict(average.state_dict())
    set_all(one, 7.0)
    average.update()
    assert not (goes_on.values[0]["0.weight"] == average.values[0]["0.weight"]).any()
    assert goes_on.state_dict()["n_updates"] == 1
    assert not equal(goes_on.values[0], other)  # the networks are left alone
