"""Parameters: their names, where they go, and the numbers that do for them."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from helpers import FAST, Net, assert_same_fit, auto, fast
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted

from skcoteach import CoTeachingClassifier

pytestmark = pytest.mark.filterwarnings("error")


def test_names_order_and_defaults_are_those_of_the_contract():
    expected = {
        "module": None, "module2": None,
        "forget_rate": "auto", "num_gradual": None, "exponent": 1.0, "class_floor": 0.75,
        "epochs": 100, "batch_size": 128, "num_iter_per_epoch": None,
        "optimizer": torch.optim.Adam, "lr": 1e-3, "epoch_decay_start": None,
        "class_weight": None, "augment": None, "average_decay": None,
        "device": "auto", "precision": "float32", "compile": False,
        "cross_fit_probabilities": False, "early_stopping": False, "validation_fraction": 0.1, "n_iter_no_change": 10,
        "checkpoint": None, "distributed": False, "random_state": None, "verbose": 0,
    }  # fmt: skip
    *parameters, prefixed = inspect.signature(CoTeachingClassifier).parameters.values()
    assert {each.name: each.default for each in parameters} == expected
    assert [each.name for each in parameters if each.kind == each.POSITIONAL_OR_KEYWORD] == ["module", "module2"]
    assert (prefixed.name, prefixed.kind) == ("module__kwargs", prefixed.VAR_KEYWORD)
    assert CoTeachingClassifier().get_params() == expected


def test_prefixed_parameters_are_attributes_and_parameters():
    estimator = CoTeachingClassifier(module__hidden=7, module2__hidden=9, optimizer__betas=(0.5, 0.9))
    assert estimator.module__hidden == 7
    for deep in (False, True):
        parameters = estimator.get_params(deep=deep)
        assert parameters["module__hidden"] == 7
        assert parameters["module2__hidden"] == 9
        assert parameters["optimizer__betas"] == (0.5, 0.9)


@pytest.mark.parametrize("name", ["hidden", "modul__hidden", "module__", "optimiser__lr", "forgetrate"])
def test_unknown_names_are_refused(name):
    with pytest.raises(TypeError, match=name):
        CoTeachingClassifier(**{name: 1})
    estimator = CoTeachingClassifier()
    before = estimator.get_params()
    with pytest.raises(ValueError, match=name):
        estimator.set_params(**{name: 1, "lr": 5.0})
    assert estimator.get_params() == before


def test_set_params_takes_known_and_prefixed_names():
    estimator = CoTeachingClassifier()
    assert estimator.set_params(lr=0.5, module__hidden=3) is estimator
    assert (estimator.lr, estimator.module__hidden) == (0.5, 3)
    assert estimator.set_params() is estimator


def test_clone_repr_and_pickle_keep_nested_parameters():
    estimator = CoTeachingClassifier(Net, module__hidden=5, optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=0.1)
    for other in (clone(estimator), pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert other.get_params() == estimator.get_params()
    assert "module__hidden=5" in repr(estimator)
    assert "optimizer__momentum=0.9" in repr(estimator)
    assert "module__hidden" in estimator._repr_html_()
    with pytest.raises(NotFittedError):
        clone(estimator).predict([[0.0, 1.0]])


@pytest.mark.parametrize("parameters", [{}, {"module__hidden_": 3}, {"optimizer__lambda_": 1}])
def test_an_unfitted_estimator_is_not_taken_for_a_fitted_one(parameters, table):
    estimator = fast(**parameters)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError):
            getattr(estimator, method)(table[0])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("module__hiden", 3, "module__hiden"),
        ("module2__hiden", 3, "module2__hiden"),
        ("optimizer__momentum", 0.9, "optimizer__momentum"),
        ("optimizer__lr", 0.1, "lr instead"),
    ],
)
def test_prefixed_names_that_nobody_takes_are_refused_in_fit(name, value, words, table):
    with pytest.raises(ValueError, match=words):
        fast(**{name: value}).fit(*table)


def test_prefixed_names_that_look_like_fitted_attributes_outlive_a_fit(table):
    class Underscored(Net):
        def __init__(self, n_features, n_classes, hidden_):
            super().__init__(n_features, n_classes, hidden_)

    estimator = fast(module=Underscored, module__hidden_=3).fit(*table).fit(*table)
    assert estimator.get_params()["module__hidden_"] == 3
    assert estimator.modules_[0].layers[0].out_features == 3


def test_optimizer_parameters_arrive(table):
    X, y = table
    plain = fast(optimizer=torch.optim.SGD, lr=0.1).fit(X, y).predict_proba(X)
    momentum = fast(optimizer=torch.optim.SGD, lr=0.1, optimizer__momentum=0.9).fit(X, y).predict_proba(X)
    assert not np.allclose(plain, momentum)


class Longer(CoTeachingClassifier):
    """Has a default of its own, counts the classes before a fit, and leaves the rest to its parent."""

    def __init__(self, epochs=30, *, tag="x", **more):
        super().__init__(epochs=epochs, **more)
        self.tag = tag

    def fit(self, X, y, sample_weight=None):
        self.class_counts_ = np.bincount(y)
        return super().fit(X, y, sample_weight)


class Longest(Longer):
    def __init__(self, lr=0.5, **more):
        super().__init__(lr=lr, **more)


class Inheriting(Longest):
    pass


@pytest.mark.parametrize("kind", [Longer, Longest, Inheriting])
def test_subclasses_that_pass_on_what_they_do_not_name_have_all_parameters(kind):
    estimator = kind(epochs=7, lr=0.25, forget_rate=0.1, tag="y", module__hidden=5)
    assert estimator.get_params() == CoTeachingClassifier(
        epochs=7, lr=0.25, forget_rate=0.1, module__hidden=5
    ).get_params() | {"tag": "y"}
    copy_of_it = clone(estimator).set_params(class_floor=0.5)
    assert copy_of_it.get_params() == estimator.get_params() | {"class_floor": 0.5}
    with pytest.raises(TypeError, match="forgetrate"):
        kind(forgetrate=1)


def test_a_fit_removes_what_a_fit_has_set_and_nothing_else(table, noisy):
    X, y = table
    estimator = Longer(epochs=2, batch_size=64, random_state=0).fit(noisy[0], noisy[1])
    estimator.own_ = 3
    assert hasattr(estimator, "noise_rate_")
    estimator.set_params(forget_rate=0.2).fit(X, y)
    assert estimator.class_counts_.tolist() == np.bincount(y).tolist() and estimator.own_ == 3
    assert not hasattr(estimator, "noise_rate_")
    estimator.partial_fit(X, y)
    assert estimator.own_ == 3 and not hasattr(estimator, "label_quality_")


# numbers of NumPy


def test_bools_and_numbers_of_numpy_do_where_they_are_passed_on(table):
    X, y = table
    plain = {"optimizer__amsgrad": True, "optimizer__weight_decay": 0.5**7, "module__hidden": 4}
    numbers = {
        "optimizer__amsgrad": np.True_,
        "optimizer__weight_decay": np.float32(0.5**7),
        "module__hidden": np.int8(4),
    }
    for module in (None, Net):
        how = {"module": module} if module else {"module__hidden": (4,)}
        assert_same_fit(fast(**numbers | how).fit(X, y), fast(**plain | how).fit(X, y), X)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int8, np.uint8])
def test_integers_of_numpy_do_as_parameters(kind, table):
    X, y = table
    plain = {"batch_size": 32, "epochs": 3, "num_gradual": 2, "num_iter_per_epoch": 100, "epoch_decay_start": 1}
    numbers = {name: kind(value) for name, value in plain.items()}
    estimator = fast(**numbers).fit(X, y)
    assert_same_fit(estimator, fast(**plain).fit(X, y), X)
    assert all(getattr(estimator, name) is value for name, value in numbers.items())
    assert_same_fit(estimator.partial_fit(X, y), fast(**plain).fit(X, y).partial_fit(X, y), X)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_floats_of_numpy_do_as_parameters(kind, table):
    X, y = table
    plain = {"forget_rate": 0.25, "lr": 0.5**7, "exponent": 1.5, "class_floor": 0.75, "average_decay": 0.5}
    numbers = {name: kind(value) for name, value in plain.items()}
    estimator = fast(**numbers).fit(X, y)
    assert_same_fit(estimator, fast(**plain).fit(X, y), X)
    assert type(estimator.forget_rate_) is float
    assert {type(record[name]) for record in estimator.history_ for name in ("lr", "forget_rate")} == {float}
    assert all(getattr(estimator, name) is value for name, value in numbers.items())
    assert_same_fit(estimator.partial_fit(X, y), fast(**plain).fit(X, y).partial_fit(X, y), X)


def test_numbers_of_numpy_do_where_the_forget_rate_is_found(noisy):
    X, given, _ = noisy
    estimator = auto(epochs=np.int64(3), batch_size=np.int16(64), lr=np.float64(1e-3), random_state=np.int64(0))
    assert_same_fit(estimator.fit(X, given), auto().fit(X, given), X)


def test_a_grid_may_hold_arrays(table):
    grid = {"batch_size": np.array([16, 32]), "forget_rate": np.array([0.1, 0.2]), "lr": np.logspace(-3, -2, 2)}
    search = GridSearchCV(fast(), grid, cv=2, error_score="raise").fit(*table)
    assert len(search.cv_results_["params"]) == 8


def test_the_learning_rate_is_held_as_long_as_is_said_where_the_epochs_are_a_short_integer(table):
    X, y = table
    rates = [each["lr"] for each in fast(epochs=np.int16(500), num_gradual=1).fit(X[:60], y[:60]).history_]
    assert rates[:161] == [1e-3] * 161
    assert rates[161] < 1e-3


def test_a_batch_larger_than_any_data_is_all_of_them(table):
    X, y = table
    whole, huge = (fast(batch_size=size).fit(X, y).predict_proba(X) for size in (len(X), 2**70))
    assert_array_equal(whole, huge)


# the plan


def test_forget_rate_and_learning_rate_follow_the_documented_plan(table):
    estimator = fast(epochs=5, num_gradual=3, forget_rate=0.3, epoch_decay_start=2, lr=0.01).fit(*table)
    np.testing.assert_allclose(estimator.forget_rate_schedule_, [0, 0.15, 0.3, 0.3, 0.3])
    history = estimator.history_
    np.testing.assert_allclose([record["forget_rate"] for record in history], [0, 0.15, 0.3, 0.3, 0.3])
    np.testing.assert_allclose([record["lr"] for record in history], [0.01, 0.01, 0.01, 0.01 * 2 / 3, 0.01 / 3])


def test_forget_rate_zero_learns_from_everything(table):
    estimator = fast(forget_rate=0.0).fit(*table)
    np.testing.assert_allclose(estimator.kept_frequency_, 1)


def test_num_iter_per_epoch_limits_the_batches(table):
    estimator = fast(num_iter_per_epoch=1, epochs=1, num_gradual=0, batch_size=50).fit(*table)
    kept = estimator.kept_frequency_
    assert len(set(np.round(kept, 12))) <= 50 + 3  # those not seen get the mean of their class
    assert estimator.n_iter_ < FAST["epochs"]
