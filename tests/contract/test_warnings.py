"""Every warning points at the line that called the estimator."""

import copy

import numpy as np
import pytest
from helpers import Net, StopAfter, auto, fast, told
from sklearn import config_context
from torch import nn

pytestmark = pytest.mark.filterwarnings("error")


def with_softmax(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, n_classes), nn.Softmax(1))


def test_outputs_that_look_like_probabilities(table):
    X, y = table
    for call in (
        lambda: fast(module=with_softmax, epochs=1).fit(X, y),
        lambda: fast(module=with_softmax).partial_fit(X, y, classes=[0, 1, 2]),
    ):
        _, text = told(call, count=2)
        assert "made by module look like probabilities" in text and "made by module2 look like" in text


def test_too_few_data(table):
    X, y = (each[:39] for each in table)
    _, text = told(lambda: auto().fit(X, y))
    assert "too few examples" in text


def test_a_class_of_which_nothing_is_kept(table):
    X, y = table
    few = np.flatnonzero(y == 1)[:4]
    rows = np.sort(np.concatenate([np.flatnonzero(y != 1), few]))
    names = np.array(["ash", "birch", "cedar"])
    X, y = X[rows], names[y[rows]]
    _, text = told(lambda: fast(class_floor=0.0, forget_rate=0.2, num_gradual=0).fit(X, y))
    assert "given label(s) ['birch'] nothing was kept" in text and "class_floor above 0" in text
    fast(class_floor=1.0, forget_rate=0.2, num_gradual=0).fit(X, y)


def test_lost_digits(table):
    X, y = table[0] + np.float64(1e8), table[1]
    for call in (lambda: fast(epochs=1).fit(X, y), lambda: fast().partial_fit(X, y, classes=[0, 1, 2])):
        _, text = told(call)
        assert "float32 does not hold" in text


def test_an_optimizer_that_starts_anew(table):
    X, y = table

    def frozen(estimator):
        estimator = copy.deepcopy(estimator)
        for module in estimator.modules_:
            next(module.parameters()).requires_grad_(False)
        return estimator

    for module in (Net, None):
        estimator = frozen(fast(module=module).fit(X, y))
        again, text = told(lambda: estimator.partial_fit(X, y))  # noqa: B023
        assert "the optimizer starts anew" in text
        again.partial_fit(X, y)  # of this it knows


@pytest.mark.parametrize("wrapped", ["callbacks", "metadata routing", "array API", "no wrapper"])
def test_whatever_wraps_fit(wrapped, table):
    X, y = (each[:39] for each in table)
    estimator = auto()
    if wrapped == "callbacks":
        estimator.set_callbacks(StopAfter(1), StopAfter(2))
    options = {"metadata routing": {"enable_metadata_routing": True}, "array API": {"array_api_dispatch": True}}
    with config_context(**options.get(wrapped, {})):
        told(lambda: estimator.fit(X, y))


def test_a_function_of_the_users_own_that_calls_fit_is_pointed_at(table):
    X, y = (each[:39] for each in table)

    def own():
        return auto().fit(X, y)

    with pytest.warns(UserWarning, match="too few examples") as all_told:
        own()
    assert all_told[0].lineno == own.__code__.co_firstlineno + 1
