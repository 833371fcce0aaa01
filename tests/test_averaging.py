"""The average of weights is the weighted mean that it says it is, and what it is put into predicts with it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach.averaging import WeightAverage, averaged_tensors, exchange

pytestmark = pytest.mark.filterwarnings("error")


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def set_all(module, value):
    with torch.no_grad():
        for tensor in averaged_tensors([module]):
            tensor.fill_(value)


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
    for value in average.values:
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9)


def test_with_no_decay_the_average_is_the_last_weights():
    module = network()
    average = WeightAverage([module], 0.0)
    for value in (1.0, 5.0):
        set_all(module, value)
        average.update()
    assert all(torch.equal(a, b) for a, b in zip(average.values, averaged_tensors([module]), strict=True))


def test_the_average_owes_nothing_to_the_initial_weights():
    module = network()
    set_all(module, 1e6)
    average = WeightAverage([module], 0.999)
    set_all(module, 1.0)
    average.update()
    assert all((value == 1).all() for value in average.values)


def test_updating_never_changes_the_networks():
    module = network()
    before = [tensor.clone() for tensor in module.state_dict().values()]
    average = WeightAverage([module], 0.9)
    average.update()
    average.values[0].fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))


def test_running_statistics_are_averaged_and_counters_are_not():
    module = network()
    names = {name for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    assert {"1.running_mean", "1.running_var"} <= names and "1.num_batches_tracked" not in names
    assert len(WeightAverage([module], 0.9).values) == len(names)


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
    for a, b in zip(one.values, goes_on.values, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_exchange_gives_back_copies_of_what_was_there():
    module, other = network(0), network(1)
    before = [tensor.clone() for tensor in averaged_tensors([module])]
    returned = exchange([module], list(averaged_tensors([other])))
    assert all(torch.equal(a, b) for a, b in zip(returned, before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(averaged_tensors([module]), averaged_tensors([other]), strict=True))
    exchange([module], returned)
    assert all(torch.equal(a, b) for a, b in zip(averaged_tensors([module]), before, strict=True))
