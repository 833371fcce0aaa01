"""Bounds and shape of the schedules; that they are the documented ones is checked in ``test_coteaching``."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skcoteach.schedules import forget_rate_schedule, learning_rate_schedule

pytestmark = pytest.mark.filterwarnings("error")

numbers_of_epochs = st.integers(1, 300)
rates = st.floats(0, 0.99)


@given(numbers_of_epochs, rates, st.integers(0, 300), st.floats(1, 4))
def test_forget_rate_rises_from_zero_and_never_falls(epochs, forget_rate, num_gradual, exponent):
    assume(num_gradual <= epochs)
    schedule = forget_rate_schedule(epochs, forget_rate, num_gradual, exponent)
    assert schedule.shape == (epochs,) and schedule.dtype == np.float64
    assert (np.diff(schedule) >= -1e-15).all()
    assert schedule.min() >= 0 and schedule.max() <= forget_rate + 1e-15
    if num_gradual > 0:
        assert schedule[0] == 0


@given(st.integers(2, 300), rates, st.data(), st.floats(0.1, 4))
def test_warm_up_is_linear_and_ends_at_the_power_of_the_forget_rate(epochs, forget_rate, data, exponent):
    num_gradual = data.draw(st.integers(2, epochs))
    schedule = forget_rate_schedule(epochs, forget_rate, num_gradual, exponent)
    expected = [forget_rate**exponent * epoch / (num_gradual - 1) for epoch in range(num_gradual)]
    assert schedule[:num_gradual] == pytest.approx(expected)
    assert (schedule[num_gradual:] == forget_rate).all()


def test_warm_up_of_one_epoch_forgets_nothing_in_it_and_of_none_forgets_from_the_start():
    assert forget_rate_schedule(3, 0.2, 1, 1).tolist() == [0, 0.2, 0.2]
    assert forget_rate_schedule(3, 0.2, 0, 1).tolist() == [0.2, 0.2, 0.2]


def test_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"num_gradual \(10\) is greater than epochs \(5\)"):
        forget_rate_schedule(5, 0.2, 10, 1)


@given(numbers_of_epochs, st.floats(1e-6, 10), st.integers(0, 320))
def test_learning_rate_is_held_and_then_falls_linearly_towards_zero(epochs, lr, epoch_decay_start):
    schedule = learning_rate_schedule(epochs, lr, epoch_decay_start)
    assert len(schedule) == epochs
    assert schedule[: epoch_decay_start + 1] == [lr] * min(epoch_decay_start + 1, epochs)
    decay = schedule[epoch_decay_start:] + [0.0]
    if len(decay) > 1:
        step = lr / (epochs - epoch_decay_start)
        assert np.diff(decay) == pytest.approx(-step)
