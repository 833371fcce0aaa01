"""What is known of the noise before the training: whether there are data enough to ask, and what is done where not."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from _training.builders import X, Y, chain, estimator, many, training_data

from skcoteach._training.noise_estimate import NoiseEstimate, stopped_early, too_few_data, unknown

pytestmark = pytest.mark.filterwarnings("error")

FOUND = NoiseEstimate(
    forget_rate=0.3,
    class_forget_rates=torch.tensor([0.2, 0.4], dtype=torch.float64),
    noise_rate=0.28,
    noise_rate_std=0.02,
    noise_matrix=torch.eye(2, dtype=torch.float64),
    quality=torch.linspace(0, 1, 4, dtype=torch.float64),
    predicted=torch.arange(4),
    confidence=0.9,
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
    assert all(
        each.startswith('forget_rate="auto": too few examples to say how many labels are wrong') for each in words
    )
    return not too_few


# --- what is enough --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "weight", "enough"), [(40, 1.0, True), (39, 1.0, False), (39, 9.0, False), (40, 0.1, True)]
)
def test_40_examples_are_enough_whatever_they_weigh(n, weight, enough):
    assert are_enough(*many(n, weight)) == enough


@pytest.mark.parametrize(("n_second", "enough"), [(8, True), (7, False)])
@pytest.mark.parametrize("n_third", [0, 1, 7])
def test_8_examples_of_the_second_most_frequent_class_are_enough(n_third, n_second, enough):
    X, _, _ = many(100)
    y = np.zeros(100, dtype=int)
    y[:n_second], y[50 : 50 + n_third] = 1, 2
    assert are_enough(X, y) == enough


def test_one_class_alone_is_never_enough():
    X, _, _ = many(100)
    assert not are_enough(X, np.zeros(100, dtype=int), classes=[0, 1])


def test_examples_without_weight_do_not_count():
    X, y, _ = many(800)
    assert not are_enough(X, y, (np.arange(800) < 39).astype(float))
    assert not are_enough(X, y, class_weight={0: 1.0, 1: 0.0, 2: 0.0})
    assert are_enough(X, y, (y != 2).astype(float))
    assert are_enough(X, y, class_weight={2: 0.0, 1: 1.0, 0: 0.01})


def test_the_warning_says_what_is_needed_and_what_is_done():
    _, (words,) = told(too_few_data, training_data(*many(30)))
    assert (
        "(40 in all and 8 of each of two classes are needed). Nothing is forgotten; give forget_rate a number" in words
    )


# --- where there is no estimate --------------------------------------------------------------------------------------


def is_unknown(estimate, n_classes):
    """Whether nothing is forgotten, and no noise is told but with a standard error that says how little is known."""
    told = vars(estimate) | {"noise_matrix": estimate.noise_matrix.tolist()}
    assert estimate.noise_matrix.dtype == torch.float64
    return told == {field.name: None for field in dataclasses.fields(NoiseEstimate)} | {
        "forget_rate": 0.0,
        "noise_rate": 0.0,
        "noise_rate_std": pytest.approx((1 - 1 / n_classes) / 3**0.5),
        "noise_matrix": np.eye(n_classes).tolist(),
    }


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10])
def test_without_an_estimate_nothing_is_forgotten_and_any_noise_is_as_likely_as_any_other(n_classes):
    assert is_unknown(unknown(n_classes), n_classes)


def test_an_estimate_that_a_callback_stops_is_told_and_is_none():
    estimate, (words,) = told(stopped_early, 3)
    assert is_unknown(estimate, 3)
    assert (
        'forget_rate="auto": a callback stopped the estimate of the noise rate before its end. Nothing is for' in words
    )


def test_where_data_are_too_few_the_fit_forgets_nothing_and_tells_of_no_noise():
    clf, words = told(estimator(forget_rate="auto").fit, X[:39], Y[:39])
    assert len(words) == 1 and "too few examples to say how many labels are wrong" in words[0]
    assert clf.forget_rate_ == clf.noise_rate_ == 0.0
    assert clf.noise_rate_std_ == pytest.approx(2 / 3 / 3**0.5)
    assert clf.noise_matrix_.tolist() == np.eye(3).tolist()
    assert clf.temperature_ == 1.0
    assert "class_forget_rates_" not in vars(clf)


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
    assert not {"noise_rate_", "noise_rate_std_", "noise_matrix_", "class_forget_rates_"} & vars(clf).keys()


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
    for name in ("class_forget_rates", "noise_matrix", "quality", "predicted"):
        assert getattr(estimate, name).data_ptr() != state[name].data_ptr()
