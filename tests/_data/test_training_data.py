"""What a training learns from is what was handed over, as tensors where and how the networks want it."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from skcoteach import CoTeachingClassifier
from skcoteach._data import training_data
from skcoteach._data.inputs import CPU
from skcoteach._data.training_data import NUMBERS_LOOKED_AT, TrainingData, warn_of_lost_digits
from skcoteach._data.validation import validate

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array(list("cabbac"))
CODES = [2, 0, 1, 1, 0, 2]
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 0.25])


def make(X=X, y=Y, weights=WEIGHTS, class_weight=None, *, device=CPU, dtype=torch.float32, as_indices=False):
    estimator = CoTeachingClassifier(class_weight=class_weight)
    return TrainingData.of(validate(estimator, X, y, weights, reset=True), device, dtype, as_indices=as_indices)


# --- what is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_examples_labels_and_weights_are_those_that_were_handed_over(dtype):
    data = make(class_weight={"b": 4}, dtype=dtype)
    full = WEIGHTS * [1, 1, 4, 4, 1, 1]
    assert data.inputs[torch.arange(6)].tolist() == torch.tensor(X, dtype=dtype).tolist()
    assert (data.n_classes, data.codes.tolist()) == (3, CODES)
    assert (data.targets.dtype, data.targets.tolist()) == (torch.int8, CODES)
    assert (data.weights.dtype, data.weights.tolist()) == (dtype, full.tolist())
    assert (data.sample_weights.tolist(), data.full_weights.tolist()) == (WEIGHTS.tolist(), full.tolist())


def test_examples_with_weight_are_drawn():
    data = make()
    assert (data.drawn.dtype, data.drawn.tolist()) == (torch.int32, [0, 1, 2, 4, 5])
    assert (data.drawn_targets.dtype, data.drawn_targets.tolist()) == (torch.int8, [2, 0, 1, 0, 2])
    assert make(weights=None).drawn.tolist() == list(range(6))
    assert make(class_weight={"c": 0}).drawn.tolist() == [1, 2, 4]


@pytest.mark.parametrize("as_indices", [True, False])
def test_integers_are_indices_where_the_networks_read_them(as_indices):
    data = make(np.arange(18).reshape(6, 3), as_indices=as_indices)
    assert data.inputs.form.as_indices is as_indices
    assert data.inputs[torch.arange(2)].dtype == (torch.int64 if as_indices else torch.float32)


def test_it_lies_on_the_device_but_for_what_orders_are_made_of():
    data = make(device=torch.device("meta"))
    assert data.device.type == "meta"
    assert {each.device.type for each in (data.targets, data.weights, data.inputs[torch.arange(2)])} == {"meta"}
    assert {each.device.type for each in (data.drawn, data.drawn_targets)} == {"cpu"}


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().n_classes = 4


# --- weights that the precision cannot hold --------------------------------------------------------------------------


def test_weights_that_vanish_are_refused_and_those_beside_larger_ones_are_not_drawn():
    with pytest.raises(ValueError, match="All weights are so small that they are zero in torch.float32; multiply them"):
        make(weights=np.full(6, 1e-50))
    assert make(weights=np.full(6, 1e-50), dtype=torch.float64).drawn.tolist() == list(range(6))
    assert make(weights=[1, 1e-50, 1, 1, 1, 1e-50]).drawn.tolist() == [0, 2, 3, 4]


def test_weights_whose_sum_is_too_large_are_refused():
    with pytest.raises(ValueError, match="weights add up to more than torch.float32 can hold; divide them"):
        make(weights=np.full(6, 1e38))
    assert make(weights=np.full(6, 1e38), dtype=torch.float64).weights.tolist() == [1e38] * 6


# --- a part ----------------------------------------------------------------------------------------------------------


def test_a_part_draws_from_the_wanted_examples_that_have_weight_and_shares_the_rest():
    data = make()
    part = data.part(torch.tensor([True, False, True, True, True, False]))
    assert (part.drawn.tolist(), part.drawn_targets.tolist()) == ([0, 2, 4], [2, 1, 0])
    assert data.drawn.tolist() == [0, 1, 2, 4, 5]
    others = [field.name for field in dataclasses.fields(TrainingData) if not field.name.startswith("drawn")]
    assert all(getattr(part, name) is getattr(data, name) for name in others)
    again = part.part(torch.tensor([False] * 4 + [True] * 2))
    assert (again.drawn.tolist(), again.drawn_targets.tolist()) == ([4], [0])


def test_moving_changes_nothing_but_the_inputs(monkeypatch):
    data, moved = make(), object()
    monkeypatch.setattr(type(data.inputs), "moved_to_device", lambda inputs: moved)
    there = data.moved_to_device()
    assert there.inputs is moved and data.inputs is not moved
    others = [field.name for field in dataclasses.fields(TrainingData) if field.name != "inputs"]
    assert all(getattr(there, name) is getattr(data, name) for name in others)


# --- digits ----------------------------------------------------------------------------------------------------------


def far(n_columns, n=6):
    """Columns that float32 takes for constants, but for the first."""
    table = np.arange(n)[:, None] % 5 + np.full(n_columns, 1e9)
    table[:, 0] -= 1e9
    return table


@pytest.mark.parametrize(
    ("n_columns", "listed"), [(2, "1"), (4, "1, 2, 3"), (6, "1, 2, 3, 4, 5"), (9, "1, .*, 5, ...")]
)
@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, sparse.csr_array])
def test_columns_that_float32_cannot_hold_are_named_with_the_remedies(n_columns, listed, form):
    words = rf'^Column\(s\) {listed} of X: float32 does not hold .*StandardScaler say, or use precision="float64"'
    with pytest.warns(UserWarning, match=words) as told:
        warn_of_lost_digits(make(form(far(n_columns))))
    assert told[0].filename == __file__


def test_nothing_is_said_where_no_digit_is_lost():
    warn_of_lost_digits(make())
    warn_of_lost_digits(make(far(4), dtype=torch.float64))
    warn_of_lost_digits(make(list(torch.from_numpy(far(4)))))
    warn_of_lost_digits(make(far(4), weights=[1, 0, 0, 0, 0, 1], y=list("abbbab"), class_weight={"a": 1, "b": 1}))


def test_examples_without_weight_say_nothing_of_the_digits():
    table = far(3)
    table[[0, 1, 2, 3, 4]] = table[5] = 0.5
    table[0] = [1, 1e9, 1e9 + 1]
    weights = [0, 1, 1, 1, 1, 1]
    warn_of_lost_digits(make(table, weights=weights))


@pytest.mark.parametrize(("n", "n_columns"), [(100, 3), (1000, 3), (1001, 7), (10, 2000)])
def test_few_numbers_are_looked_at_from_the_first_example_to_the_last(n, n_columns, monkeypatch):
    monkeypatch.setattr(training_data, "NUMBERS_LOOKED_AT", 600)
    data = make(np.random.default_rng(0).normal(size=(n, n_columns)), np.arange(n) % 2, None)
    asked = []
    monkeypatch.setattr(type(data.inputs), "columns_that_lose_digits", lambda inputs, which: asked.append(which) or [])
    warn_of_lost_digits(data)
    (which,) = asked
    steps = which.diff().unique().tolist()
    assert 1 <= len(which) <= max(600 // n_columns, 1)
    assert which[0] == 0 and len(steps) <= 1
    assert n - which[-1] <= (steps[0] if steps else n)
    assert len(which) * n_columns > 300 or len(which) == n or n_columns > 600


def test_a_small_x_is_looked_at_as_a_whole():
    assert NUMBERS_LOOKED_AT >= 100_000
    table = np.full((500, 2), 0.5)
    table[331, 1] = 1e200
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_lost_digits(make(table, np.arange(500) % 2, None))
    assert len(told) == 1
