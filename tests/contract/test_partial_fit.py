"""partial_fit: one more epoch, from where the last call or fit has stopped."""

import copy
import inspect

import numpy as np
import pytest
import torch
from helpers import FAST, QUICK, Net, StopAfter, assert_same_weights, auto, fast, without_durations
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skcoteach import CoTeachingClassifier

pytestmark = pytest.mark.filterwarnings("error")


def assert_same_history(parts, whole, n_of_fit=0):
    """But that each call of partial_fit, after so many epochs of fit, knows of no prediction before."""
    expected = without_durations(whole.history_)
    for entry in expected[n_of_fit:]:
        entry["changed"] = 1.0
    assert without_durations(parts.history_) == expected


def test_partial_fit_repeated_is_fit(table):
    X, y = table
    whole = fast(class_floor=0).fit(X, y)  # floors need losses of an epoch before, which no call of partial_fit has
    parts = fast(class_floor=0)
    for _ in range(FAST["epochs"]):
        assert parts.partial_fit(X, y, classes=[0, 1, 2]) is parts
    assert parts.n_iter_ == whole.n_iter_
    assert_same_weights(parts, whole)
    assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))
    assert_same_history(parts, whole)
    assert not hasattr(parts, "kept_frequency_") and not hasattr(parts, "label_quality_")


@pytest.mark.parametrize("module", [None, Net], ids=["chain", "own forward"])
@pytest.mark.parametrize("average_decay", [None, 0.9])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_it_goes_on_from_a_fit_that_was_stopped_as_if_it_had_not_been(optimizer, average_decay, module, table):
    X, y = table
    parameters = {
        "optimizer": optimizer,
        "average_decay": average_decay,
        "module": module,
        "num_gradual": 2,
        "class_floor": 0,
    }
    parameters |= {"optimizer__momentum": 0.9, "lr": 0.1} if optimizer is torch.optim.SGD else {"lr": 0.01}
    whole = fast(**parameters).fit(X, y)
    stopped = fast(**parameters).set_callbacks(StopAfter(2)).fit(X, y)
    assert stopped.n_iter_ == 2
    stopped.partial_fit(X, y).partial_fit(X, y)
    assert_same_weights(stopped, whole)
    assert_same_history(stopped, whole, n_of_fit=2)


def test_beyond_the_plan_its_last_values_hold(table):
    X, y = table
    estimator = fast(epochs=3).fit(X, y)
    assert hasattr(estimator, "kept_frequency_")
    estimator.partial_fit(X[:50], y[:50])
    assert estimator.n_iter_ == 4 and len(estimator.history_) == 4
    for name in ("lr", "forget_rate"):
        assert estimator.history_[-1][name] == estimator.history_[-2][name]
    assert not hasattr(estimator, "kept_frequency_") and not hasattr(estimator, "label_quality_")


def test_the_options_of_the_optimizer_that_are_set_now_are_taken(table):
    X, y = table
    first = fast(optimizer=torch.optim.SGD, lr=0.1, optimizer__momentum=0.0).fit(X, y)
    changed = copy.deepcopy(first).set_params(optimizer__momentum=0.9)
    for estimator in (first, changed):
        estimator.partial_fit(X, y)
    assert not np.array_equal(first.predict_proba(X), changed.predict_proba(X))


def test_what_it_cannot_do_is_refused_and_leaves_everything_as_it_was(table):
    X, y = table
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        fast().partial_fit(X, y)
    with pytest.raises(ValueError, match="not among the classes"):
        fast().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="1d array"):
        fast().partial_fit(X, y, classes=[[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="classes contains NaN"):
        fast().partial_fit(X, y, classes=[0.0, 1.0, 2.0, np.nan])
    with pytest.raises(ValueError, match="balanced"):
        fast(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    estimator = fast().partial_fit(X, y, classes=[0, 1, 2])
    before, expected = vars(estimator).copy(), estimator.predict_proba(X)
    with pytest.raises(ValueError, match="differs from the classes"):
        estimator.partial_fit(X, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="not among the classes"):
        estimator.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="features"):
        estimator.partial_fit(X[:, :3], y)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is before[name] for name in before)
    assert_array_equal(estimator.predict_proba(X), expected)


def test_it_is_not_there_while_the_forget_rate_is_to_be_found(noisy):
    X, given, _ = noisy
    estimator = auto()
    assert not hasattr(estimator, "partial_fit")
    with pytest.raises(ValueError, match='forget_rate="auto".*which partial_fit does not see. Give forget_rate a num'):
        estimator.partial_fit(X, given, classes=[0, 1, 2])
    assert not hasattr(make_pipeline(estimator), "partial_fit")
    estimator.set_params(forget_rate=0.2)
    assert hasattr(estimator, "partial_fit")
    assert estimator.partial_fit(X, given, classes=[0, 1, 2]) is estimator
    assert "one more epoch" in CoTeachingClassifier.partial_fit.__doc__
    assert list(inspect.signature(CoTeachingClassifier.partial_fit).parameters)[:3] == ["self", "X", "y"]


def test_it_goes_on_after_the_rate_was_found_and_drops_what_was_found(noisy, found):
    X, given, _ = noisy
    estimator = copy.deepcopy(found).set_params(forget_rate=0.3)
    estimator.partial_fit(X, given)
    assert estimator.n_iter_ == QUICK["epochs"] + 1 and estimator.forget_rate_ == 0.3
    for name in ("noise_rate_", "noise_matrix_", "label_quality_", "kept_frequency_"):
        assert hasattr(found, name) and not hasattr(estimator, name)
    with pytest.raises(NotFittedError, match="trained by partial_fit.*Label issues are found by fit"):
        estimator.get_label_issues()
    estimator.fit(X, given)
    assert not hasattr(estimator, "noise_rate_")
    assert len(estimator.get_label_issues()) == len(X)


@pytest.mark.parametrize(
    ("optimizer", "option"),
    [(torch.optim.Adam, {"amsgrad": True}), (torch.optim.RMSprop, {"centered": True}),
     (torch.optim.RMSprop, {"momentum": 0.9})],
    ids=["amsgrad", "centered", "momentum"],
)  # fmt: skip
def test_an_option_that_needs_more_state_starts_the_optimizer_anew(optimizer, option, table):
    classifier = fast(optimizer=optimizer).fit(*table)
    classifier.set_params(**{f"optimizer__{name}": value for name, value in option.items()})
    with pytest.warns(UserWarning, match="an option of the optimizer.*starts anew"):
        classifier.partial_fit(*table)
    assert classifier.n_iter_ == FAST["epochs"] + 1
    assert classifier.partial_fit(*table).n_iter_ == FAST["epochs"] + 2
