"""The parameters of a training say how much every epoch forgets, and at what rate it learns."""

import dataclasses

import numpy as np
import pytest
from _training.builders import config_with

from skcoteach._sklearn import InvalidParameterError

pytestmark = pytest.mark.filterwarnings("error")


def expected_forget_rates(epochs, forget_rate, num_gradual):
    rising = [forget_rate * epoch / max(num_gradual - 1, 1) for epoch in range(num_gradual)]
    return rising + [forget_rate] * (epochs - num_gradual)


@pytest.mark.parametrize(
    ("epochs", "num_gradual", "expected_num_gradual"),
    [(100, None, 10), (10, None, 10), (3, None, 3), (1, None, 1), (20, 5, 5), (20, 0, 0), (20, 1, 1), (20, 20, 20)],
)
def test_warm_up_takes_ten_epochs_or_all_unless_told_otherwise(epochs, num_gradual, expected_num_gradual):
    config = config_with(epochs=epochs, num_gradual=num_gradual)
    forget_rates = config.forget_rates(0.4)
    assert forget_rates.tolist() == pytest.approx(expected_forget_rates(epochs, 0.4, expected_num_gradual), rel=1e-14)
    assert (forget_rates.shape, forget_rates.dtype) == ((epochs,), np.float64)
    assert config.last_of_warm_up == max(expected_num_gradual - 1, 0)


def test_exponent_sets_where_the_warm_up_ends():
    rates = config_with(epochs=5, num_gradual=3, exponent=0.5).forget_rates(0.25)
    assert rates.tolist() == pytest.approx([0.0, 0.25, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("epochs", "decay_start", "expected_start"),
    [(250, None, 80), (100, None, 32), (3, None, 0), (10, 10, 10), (10, 4, 4), (10, 0, 0), (10, 99, 99)],
)
def test_learning_rate_decays_from_80_of_250_epochs_unless_told_otherwise(epochs, decay_start, expected_start):
    rates = config_with(epochs=epochs, epoch_decay_start=decay_start, lr=0.5).learning_rates()
    for epoch, rate in enumerate(rates):
        left = 1 if epoch < expected_start else (epochs - epoch) / (epochs - expected_start)
        assert rate == pytest.approx(0.5 * left, rel=1e-14)
    assert len(rates) == epochs


def test_a_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"num_gradual \(7\) is greater than epochs \(6\)"):
        config_with(epochs=6, num_gradual=7).forget_rates(0.2)


def test_a_warm_up_that_ends_where_nothing_is_left_to_learn_from_is_refused():
    with pytest.raises(InvalidParameterError, match=r"a forget rate of 0.3 \*\* exponent = 1, .* a larger exponent"):
        config_with(exponent=1e-20).forget_rates(0.3)


def test_a_config_never_changes():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config_with().lr = 1.0
