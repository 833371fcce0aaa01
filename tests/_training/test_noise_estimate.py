"""What is known of the noise before the training: whether there are data enough to ask, and what is done where not."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from _training.builders import X, Y, chain, estimator, many, training_data

from skcoteach._training.noise_estimate import NoiseEstimate, fallback, stopped_early, too_few_data

pytestmark = pytest.mark.filterwarnings("error")

FOUND = NoiseEstimate(
    forget_rate=0.3,
    noise_rate=0.3,
    noise_matrix=torch.eye(2, dtype=torch.float64),
    quality=torch.linspace(0, 1, 4, dtype=torch.float64),
    predicted=torch.arange(4),
    temperature=2.0,
    logit_scale=1.5,
)


def told(function, *arguments):
    """What a function returns, and the words of its warnings; all are told to the caller from outside the package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        returned = function(*arguments)
    assert {warning.filename for warning in caught} <= {__file__}
    return returned, [str(warning.message) for warning in caught]


def are_enough(*data, **more):
    """Whether data are enough for an estimate; where they are not, and only there, a warning must say so."""
    too_few, words = told(too_few_data, training_data(*data, **more))
    assert len(words) == too_few
    assert all(each.startswith('forget_rate="auto": too few data to estimate the noise rate') for each in words)
    return not too_few


# --- what is enough --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "weight", "enough"), [(500, 1.0, True), (499, 1.0, False), (250, 2.0, True), (2000, 0.25, True)]
)
def test_500_examples_worth_of_weight_are_enough(n, weight, enough):
    assert are_enough(*many(n, weight)) == enough


@pytest.mark.parametrize(
    ("n_rare", "weight", "enough"), [(50, 1.0, True), (49, 1.0, False), (25, 2.0, True), (199, 0.25, False)]
)
def test_50_examples_worth_of_weight_in_the_rarest_class_are_enough(n_rare, weight, enough):
    X, _, _ = many(1000)
    y = np.where(np.arange(1000) < n_rare, 1, np.arange(1000) % 2 * 2)
    assert are_enough(X, y, np.where(y == 1, weight, 1.0)) == enough


def test_a_class_without_weight_is_not_too_small_a_class():
    X, y, _ = many(800)
    assert are_enough(X, y, (y != 2).astype(float))
    assert are_enough(X, y, class_weight={2: 0.0, 1: 1.0, 0: 0.01})


def test_what_is_enough_does_not_hang_on_class_weights():
    assert are_enough(*many(600), class_weight={0: 0.01, 1: 0.1, 2: 0.1})
    assert not are_enough(*many(400), class_weight={0: 9.0, 1: 9.0, 2: 9.0})


def test_a_pair_needs_two_examples_however_much_they_weigh():
    X, y, _ = many(800)
    weights = np.where(np.arange(800) < 4, 1000.0, 0.0)
    assert are_enough(X, y, weights)
    weights[3] = 0.0
    assert not are_enough(X, y, weights)


def test_the_warning_counts_by_weight_and_says_what_is_used():
    y = np.repeat([0, 1, 2], [100, 80, 4])
    X = np.zeros((184, 4), dtype=np.float32)
    _, (words,) = told(too_few_data, training_data(X, y, np.where(y == 2, 2.5, 0.5)))
    assert "(total sample_weight 100, 10 in the rarest class; 500 and 50 are needed, where" in words
    assert "0.2 is used, for the number of label issues, too; give forget_rate a number" in words


# --- where there is no estimate --------------------------------------------------------------------------------------


def nothing_but(forget_rate):
    return {field.name: None for field in dataclasses.fields(NoiseEstimate)} | {
        "forget_rate": forget_rate,
        "logit_scale": pytest.approx(math.nan, nan_ok=True),
    }


def test_without_an_estimate_a_fifth_is_forgotten_and_nothing_else_is_known():
    assert vars(fallback()) == nothing_but(0.2)


def test_an_estimate_that_a_callback_stops_is_told_and_is_none():
    estimate, (words,) = told(stopped_early)
    assert vars(estimate) == nothing_but(0.2)
    assert 'forget_rate="auto": a callback stopped the estimate of the noise rate before its end. 0.2 is used' in words


def test_where_data_are_too_few_the_fit_forgets_a_fifth_and_tells_of_no_noise():
    clf, words = told(estimator(forget_rate="auto").fit, X, Y)
    assert len(words) == 1 and "too few data to estimate the noise rate" in words[0]
    assert clf.forget_rate_ == 0.2
    assert clf.temperature_ == 1.0
    assert not {"noise_rate_", "noise_matrix_"} & vars(clf).keys()


@pytest.mark.parametrize("forget_rate", [0.0, 0.3])
def test_no_noise_is_estimated_where_the_forget_rate_is_given(forget_rate):
    made = []

    def module(n_features, n_classes):
        made.append(chain(n_features, n_classes))
        return made[-1]

    clf = estimator(forget_rate=forget_rate, module=module, epochs=1).fit(*many())
    assert len(made) == 2
    assert clf.forget_rate_ == forget_rate
    assert clf.temperature_ == 1.0
    assert not {"noise_rate_", "noise_matrix_"} & vars(clf).keys()


# --- the estimate is a value -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimate", [FOUND, NoiseEstimate(0.1)], ids=["found", "given"])
def test_an_estimate_comes_back_from_its_state(estimate):
    state = estimate.state_dict()
    assert {*state} == {field.name for field in dataclasses.fields(NoiseEstimate)}
    assert str(NoiseEstimate.from_state(state)) == str(estimate)


def test_changing_the_state_leaves_the_estimate_as_it_was():
    FOUND.state_dict()["forget_rate"] = 0.9
    assert FOUND.forget_rate == 0.3
    with pytest.raises(dataclasses.FrozenInstanceError):
        FOUND.forget_rate = 0.9


def test_what_comes_from_a_state_shares_no_memory_with_it():
    state = FOUND.state_dict()
    estimate = NoiseEstimate.from_state(state)
    for name in ("noise_matrix", "quality", "predicted"):
        assert getattr(estimate, name).data_ptr() != state[name].data_ptr()
