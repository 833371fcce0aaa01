"""What is held out of the training data, and what is given beside them."""

import numpy as np
import pytest
import torch
from _training.builders import training_data, validated
from hypothesis import given, settings
from hypothesis import strategies as st

from skcoteach import CoTeachingClassifier
from skcoteach._data.validation import validate_beside
from skcoteach._data.validation_set import ValidationSet, hold_out

pytestmark = pytest.mark.filterwarnings("error")


def labelled(y, weights=None):
    X = np.arange(len(y), dtype=np.float32)[:, None]
    return training_data(X, np.asarray(y), weights)


def parted(data, share, seed=0):
    torch.manual_seed(seed)
    return hold_out(data, share)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    share=st.floats(0.001, 0.9999),
    seed=st.integers(0, 2**31),
)
def test_every_example_is_learnt_from_or_held_out_and_every_class_is_learnt(sizes, share, seed):
    y = np.repeat(np.arange(len(sizes)), sizes)
    data = labelled(y)
    if len(y) == len(sizes):  # each is the last of its class
        return
    rest, held_out = parted(data, share, seed)
    both = torch.cat([rest.drawn, held_out.indices])
    assert sorted(both.tolist()) == list(range(len(y)))
    assert set(y[rest.drawn]) == set(range(len(sizes)))
    assert torch.equal(rest.drawn_targets, torch.from_numpy(y[rest.drawn]))
    assert len(held_out.indices) == min(np.ceil(share * len(y)), len(y) - len(sizes))


def test_each_class_has_its_share_held_out():
    y = np.repeat([0, 1, 2], [500, 300, 200])
    held_out = parted(labelled(y), 0.1)[1]
    assert np.abs(np.bincount(held_out.codes) - [50, 30, 20]).max() <= 1
    assert np.array_equal(held_out.codes, y[held_out.indices])


def test_it_is_drawn_anew_with_another_seed_and_alike_with_the_same():
    data = labelled(np.arange(100) % 2)
    first, again, other = (parted(data, 0.2, seed)[1].indices for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_examples_without_weight_are_in_neither_part():
    weights = np.where(np.arange(100) % 4 == 0, 0.0, 2.5)
    rest, held_out = parted(labelled(np.arange(100) % 2, weights), 0.2)
    assert not set(torch.cat([rest.drawn, held_out.indices]).tolist()) & set(range(0, 100, 4))
    assert held_out.weights.tolist() == [2.5] * len(held_out.indices)


def test_the_last_example_of_a_class_is_learnt_from():
    y = np.r_[np.zeros(20, int), 1]
    for seed in range(20):
        rest, _ = parted(labelled(y), 0.5, seed)
        assert 20 in rest.drawn


def test_where_each_is_the_last_of_its_class_nothing_can_be_held_out():
    with pytest.raises(ValueError, match="early_stopping=True: of 2 examples none can be held out.*X_val and y_val"):
        parted(labelled([0, 1]), 0.1)


def test_what_is_given_beside_is_where_the_training_is_without_those_of_no_weight():
    data, beside = training_data(dtype=torch.float64), validated()
    X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found = validate_beside(CoTeachingClassifier(), beside, X, ["a", "c", "a"], [1, 0, 2])
    validation = ValidationSet.of(found, data)
    assert validation.inputs[validation.indices].dtype == torch.float64
    assert validation.indices.tolist() == [0, 2]
    assert (validation.codes.tolist(), validation.weights.tolist(), validation.n_classes) == ([0, 0], [1.0, 2.0], 3)
