"""Bad input is told in the user's words, and costs nothing that was there."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Items, Net, fast
from numpy.testing import assert_array_equal
from torch import nn

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def refused(table):
    """Whether fit refuses, and leaves the earlier fit whole, ``feature_names_in_`` included."""
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    estimator = fast().fit(frame, y)
    before, expected = vars(estimator).copy(), estimator.predict_proba(frame)

    def check(words, X=X, y=y, *, error=ValueError, sample_weight=None, **parameters):
        own = {name: getattr(estimator, name) for name in parameters}
        estimator.set_params(**parameters)
        with pytest.raises(error, match=words), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(X, y, sample_weight=sample_weight)
        estimator.set_params(**own)
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[name] is before[name] for name in before)
        assert_array_equal(estimator.predict_proba(frame), expected)

    return check


def with_value(X, value):
    X = X.copy()
    X[3, 2] = value
    return X


BAD_X = {
    "NaN": (lambda X: with_value(X, np.nan), "X contains NaN"),
    "infinity": (lambda X: with_value(X, np.inf), "X contains infinity"),
    "NaN in a tensor": (lambda X: torch.tensor(with_value(X, np.nan)), "X contains NaN"),
    "1-D": (lambda X: X[:, 0], "Expected 2D array"),
    "1-D tensor": (lambda X: torch.tensor(X[:, 0]), "Expected 2D array"),
    "series": (lambda X: pd.Series(X[:, 0]), "Expected a 2-dimensional container"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "complex tensor": (lambda X: torch.tensor(X + 1j), "Complex data not supported"),
    "text": (lambda X: X.astype(str).astype(object) + "x", "could not convert"),
}


@pytest.mark.parametrize("name", BAD_X)
def test_x(name, table, refused):
    change, words = BAD_X[name]
    refused(words, X=change(table[0]))


@pytest.mark.parametrize("make", [np.array, torch.tensor, Items, list], ids=["array", "tensor", "Dataset", "list"])
def test_no_examples(make, refused):
    refused("0 sample|Expected 2D array", X=make(np.empty((0, 8), dtype=np.float32)), y=[])


BAD_Y = {
    "None": (lambda y: None, "requires y"),
    "short": (lambda y: y[:-1], "different lengths: 200 examples and 199 labels"),
    "NaN": (lambda y: np.where(y == 1, np.nan, y), "y contains NaN"),
    "a None": (lambda y: [None, *y[1:].astype(object)], "y contains None"),
    "continuous": (lambda y: y + 0.5, "continuous"),
    "mixed": (lambda y: np.array(["a", *y[1:]], dtype=object), "cannot be sorted"),
    "one class": (lambda y: np.ones_like(y), "1 class"),
    "2-D": (lambda y: np.stack([y, y], 1), "y should be a 1d array"),
}


@pytest.mark.parametrize("name", BAD_Y)
def test_y(name, table, refused):
    change, words = BAD_Y[name]
    refused(words, y=change(table[1]))


BAD_WEIGHTS = {
    "short": ([1.0], "sample_weight"),
    "negative": (-np.ones(200), "[Nn]egative"),
    "NaN": (np.full(200, np.nan), "sample_weight contains NaN"),
    "zero": (np.zeros(200), "non-zero"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights(name, refused):
    weights, words = BAD_WEIGHTS[name]
    refused(words, sample_weight=weights)


BAD_PARAMETERS = {
    "class weight of another class": ({"class_weight": {7: 2.0}}, "not in y"),
    "negative class weight": ({"class_weight": {0: -2.0}}, "finite weights of 0 or more"),
    "class weights all zero": ({"class_weight": {0: 0, 1: 0, 2: 0}}, "weight zero"),
    "forget rate 1": ({"forget_rate": 1.0}, "'forget_rate' parameter"),
    "forget rate as text": ({"forget_rate": "a lot"}, "'forget_rate' parameter"),
    "class floor": ({"class_floor": 1.5}, "'class_floor' parameter"),
    "no epochs": ({"epochs": 0}, "'epochs' parameter"),
    "epochs as float": ({"epochs": 2.0}, "'epochs' parameter"),
    "batch size": ({"batch_size": 0}, "'batch_size' parameter"),
    "num_iter_per_epoch": ({"num_iter_per_epoch": 0}, "'num_iter_per_epoch' parameter"),
    "lr": ({"lr": 0}, "'lr' parameter"),
    "exponent": ({"exponent": 0}, "'exponent' parameter"),
    "average decay": ({"average_decay": 1.0}, "'average_decay' parameter"),
    "precision": ({"precision": "int8"}, "'precision' parameter"),
    "random state": ({"random_state": "x"}, "'random_state' parameter"),
    "module": ({"module": 3}, "'module' parameter"),
    "augment": ({"augment": 3}, "'augment' parameter"),
    "optimizer instance": ({"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1)}, "'optimizer' parameter"),
    "warm-up too long": ({"num_gradual": 5}, r"num_gradual \(5\) is greater than epochs"),
    "unknown device": ({"device": "gpu7"}, "device='gpu7'"),
    "optimizer with a closure": ({"optimizer": torch.optim.LBFGS}, "closure"),
    "diverged": ({"lr": 1e30, "epochs": 3}, "diverged"),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_parameters(name, refused):
    parameters, words = BAD_PARAMETERS[name]
    refused(words, **parameters)


class Wide(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.linear = nn.Linear(n_features, 7)

    def forward(self, x):
        return self.linear(x)


class Failing(Net):
    def forward(self, x):
        raise OSError("the user's own error")


class NoTensor(Net):
    def forward(self, x):
        return (super().forward(x),)


BAD_PLUG_INS = {
    "an optimizer that makes none": ({"optimizer": lambda p, lr: 3}, TypeError, "torch.optim.Optimizer"),
    "a module that makes no module": ({"module": lambda: 3}, TypeError, "torch.nn.Module is expected"),
    "wrong output": ({"module": Wide}, ValueError, r"\(2, 3\).*got shape \(2, 7\)"),
    "no tensor": ({"module": NoTensor}, TypeError, "returned a tuple"),
    "wrong input": (
        {"module": lambda: nn.Linear(5, 3)},
        ValueError,
        r"Linear cannot take a batch of X with shape \(2, 8",
    ),
    "nothing to train": ({"module": nn.Identity}, ValueError, "shape|no parameters"),
    "a module that needs more": ({"module": nn.Linear}, ValueError, "module__in_features"),
    "the user's own error": ({"module": Failing}, OSError, "^the user's own error$"),
}


@pytest.mark.parametrize("name", BAD_PLUG_INS)
def test_modules_and_optimizers(name, refused):
    parameters, error, words = BAD_PLUG_INS[name]
    refused(words, error=error, **parameters)
