"""Ctrl-C at any moment: the epochs done are kept whole, or the earlier fit is."""

import contextlib
import copy
import os
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from helpers import (
    Callback,
    Net,
    StopAfter,
    assert_same_fit,
    assert_same_weights,
    auto,
    fast,
    global_random_states,
)
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

import skcoteach
from skcoteach.benchmarks.reliability import pressed_after

pytestmark = pytest.mark.filterwarnings("error")

PACKAGE = os.path.dirname(skcoteach.__file__) + os.sep


# in a training step


class PressesCtrlC(Net):
    """In its n-th training batch."""

    calls = 0
    interrupt_at = 10**9

    def forward(self, x):
        if self.training:
            type(self).calls += 1
            if type(self).calls == self.interrupt_at:
                raise KeyboardInterrupt
        return super().forward(x)


@pytest.fixture
def press_in_batch(monkeypatch):
    """Has it pressed in a batch of an epoch, both from 0; an epoch of 200 rows has 3 batches of 64."""

    def press(epoch, batch):
        monkeypatch.setattr(PressesCtrlC, "calls", 0)
        monkeypatch.setattr(PressesCtrlC, "interrupt_at", 2 * (3 * epoch + batch) + 1)

    return press


@pytest.mark.parametrize("epochs_done", [1, 2])
def test_the_epochs_done_are_kept(epochs_done, table, press_in_batch):
    X, y = table
    parameters = {"module": PressesCtrlC, "num_gradual": 1, "epochs": 5, "epoch_decay_start": 5}
    reference = fast(**parameters).set_callbacks(StopAfter(epochs_done)).fit(X, y)
    press_in_batch(epochs_done, 1)
    estimator = fast(**parameters)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert estimator.n_iter_ == len(estimator.history_) == epochs_done
    assert_same_fit(estimator, reference, X)
    assert_same_weights(estimator, reference)


def test_training_goes_on_as_after_a_stop(table, press_in_batch):
    X, y = table
    parameters = {"module": PressesCtrlC, "num_gradual": 1, "epochs": 5, "epoch_decay_start": 5}
    parameters |= {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.1}
    reference = fast(**parameters).set_callbacks(StopAfter(2)).fit(X, y).partial_fit(X, y)
    press_in_batch(2, 2)
    estimator = fast(**parameters)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert_same_weights(estimator.partial_fit(X, y), reference)


def test_in_the_first_epoch_it_leaves_the_earlier_fit(table, press_in_batch):
    X, y = table
    estimator = fast(module=PressesCtrlC).fit(X, y)
    before, expected = vars(estimator).copy(), estimator.predict_proba(X)
    press_in_batch(0, 1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:100], y[:100])
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is before[name] for name in before)
    assert_array_equal(estimator.predict_proba(X), expected)


# in a callback


class PressesInTask(Callback):
    """At the begin or end of a task."""

    def __init__(self, name, number, when):
        self.at = name, number, when

    def on_fit_task_begin(self, estimator, context):
        if (context.task_name, context.task_id, "begin") == self.at:
            raise KeyboardInterrupt

    def on_fit_task_end(self, estimator, context):
        if (context.task_name, context.task_id, "end") == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("task", "epochs_done"),
    [
        (("epoch", 0, "end"), 1),
        (("epoch", 1, "begin"), 1),
        (("epoch", 1, "end"), 2),
        (("epoch", 3, "end"), 4),
        (("fit", 0, "end"), 4),
    ],
)
def test_in_a_callback_the_epochs_done_are_kept(task, epochs_done, table):
    X, y = table
    estimator = fast(num_gradual=1).set_callbacks(PressesInTask(*task))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert_same_fit(estimator, fast(num_gradual=1).set_callbacks(StopAfter(epochs_done)).fit(X, y), X)


@pytest.mark.parametrize("task", [("fit", 0, "begin"), ("epoch", 0, "begin")])
def test_before_the_first_epoch_nothing_is_fitted(task, table):
    estimator = fast().set_callbacks(PressesInTask(*task))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(*table)
    assert not estimator.__sklearn_is_fitted__()


@pytest.mark.parametrize(
    "task",
    [("estimate", 0, "begin"), ("cross-fit epoch", 0, "end"), ("cross-fit epoch", 3, "end"), ("estimate", 0, "end")],
)
def test_in_the_estimate_it_leaves_the_earlier_fit(task, noisy, found):
    X, given, _ = noisy
    estimator = copy.deepcopy(found).set_callbacks(PressesInTask(*task))
    before, issues, expected = vars(estimator).copy(), estimator.get_label_issues(), estimator.predict_proba(X)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, 2 - given)
    assert all(vars(estimator)[name] is before[name] for name in before)
    assert estimator.get_label_issues().equals(issues)
    assert_array_equal(estimator.predict_proba(X), expected)
    fresh = auto().set_callbacks(PressesInTask(*task))
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X, given)
    assert not fresh.__sklearn_is_fitted__()


def test_after_the_estimate_what_was_found_is_kept(noisy, found):
    X, given, _ = noisy
    estimator = copy.deepcopy(found).set_callbacks(PressesInTask("epoch", 2, "begin"))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, 2 - given)
    assert estimator.n_iter_ == 1
    assert estimator.noise_rate_ > 0 and estimator.noise_rate_std_ > 0
    assert_same_fit(estimator, auto().set_callbacks(StopAfter(1)).fit(X, 2 - given), X)
    assert_array_equal(estimator.get_label_issues()["given_label"], 2 - given)


# wherever Python looks whether it was pressed: where functions begin, and after calls of what is not Python


class CtrlC:
    """Is pressed at a place in the package, after a batch has been augmented so often."""

    def __init__(self, after, place=None):
        self.after = after
        self.place = place
        self.places = {}  # that were come to, in this order
        self.n_batches = 0

    def augment(self, inputs):
        self.n_batches += 1
        if self.n_batches == self.after:
            sys.setprofile(self.look)
        return inputs

    def look(self, frame, event, argument):
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            place = f"{event} in {frame.f_code.co_filename}:{frame.f_lineno}"
            if place == self.place:
                raise KeyboardInterrupt
            self.places[place] = None


TINY = {"epochs": 3, "num_gradual": 1, "module__hidden": (4,), "average_decay": 0.5, "lr": 0.01}


def pressed_everywhere(method, estimator, data, after):
    """The estimator after Ctrl-C at each place that the method comes to, and the place."""

    def run(place=None):
        ctrl_c = CtrlC(after, place)
        own = copy.copy(estimator).set_params(augment=ctrl_c.augment)
        try:
            getattr(own, method)(*data)
        except KeyboardInterrupt:
            assert place is not None
        finally:
            sys.setprofile(None)
        return own, ctrl_c

    _, ctrl_c = run()
    before = global_random_states()
    for place in ctrl_c.places:
        yield run(place)[0], place
        assert global_random_states() == before, place
    other = threading.Thread(target=fast(epochs=1).fit, args=data, daemon=True)
    other.start()
    other.join(timeout=30)
    assert not other.is_alive(), "something is locked for ever"


@pytest.fixture
def profiling():
    """Leaves what profiles this test as it is."""
    found = sys.getprofile()
    yield
    sys.setprofile(found)


def test_at_any_moment_weights_epochs_and_history_agree(table, profiling):
    """Between the step of the second epoch of three and the end of the fit."""
    X, y = (each[:40] for each in table)
    stopped = {n: fast(**TINY).set_callbacks(StopAfter(n)).fit(X, y) for n in (1, 2, 3)}
    gone_on = {n: copy.deepcopy(each).partial_fit(X, y) for n, each in stopped.items()}
    earlier = fast(**TINY).fit(X[:20], y[:20]).set_callbacks(StopAfter(99))
    kept = []
    for estimator, place in pressed_everywhere("fit", earlier, (X, y), after=2):
        assert estimator.n_iter_ in stopped, place
        assert_same_fit(estimator, stopped[estimator.n_iter_], X)
        kept.append(estimator.n_iter_)
        if len(kept) % 5 == 0:
            assert_same_weights(estimator.partial_fit(X, y), gone_on[kept[-1]])
    assert len(kept) > 200 and kept == sorted(kept) and set(kept) == {1, 2, 3}


def fitted_attributes(estimator):
    return {name: each for name, each in vars(estimator).items() if name.endswith("_") or name == "_state"}


def test_at_any_moment_partial_fit_is_done_or_has_not_begun(table, profiling):
    X, y = (each[:40] for each in table)
    earlier = fast(**TINY).fit(X, y)
    before, after = fitted_attributes(earlier), copy.deepcopy(earlier).partial_fit(X, y)
    done = []
    for estimator, place in pressed_everywhere("partial_fit", earlier, (X, y), after=1):
        now = fitted_attributes(estimator)
        done.append(now.keys() != before.keys())
        if done[-1]:
            assert now.keys() == fitted_attributes(after).keys(), place
            assert_same_fit(estimator, after, X)
        else:
            assert all(now[name] is before[name] for name in before), place
    assert len(done) > 100 and done == sorted(done)
    assert_same_weights(earlier.partial_fit(X, y), after)


# by a signal, at moments that nobody has chosen


def test_signals_at_random_moments_leave_whole_epochs_or_what_was_before(noisy, found):
    X, given, _ = noisy
    other = 2 - given
    start = time.perf_counter()
    whole = {n: auto().set_callbacks(StopAfter(n)).fit(X, other) for n in (1, 2, 3)}
    seconds = (time.perf_counter() - start) / 3
    before = fitted_attributes(found)
    states = global_random_states(), torch.is_grad_enabled(), list(warnings.filters)
    left = []
    for moment in np.random.default_rng(0).uniform(0, seconds, 12):
        estimator = copy.copy(found)
        with contextlib.suppress(KeyboardInterrupt), pressed_after(moment):
            estimator.fit(X, other)
        assert (global_random_states(), torch.is_grad_enabled(), list(warnings.filters)) == states
        now = fitted_attributes(estimator)
        is_earlier = all(now.get(name) is before[name] for name in before)
        if not is_earlier:
            assert_same_fit(estimator, whole[estimator.n_iter_], X)
        left.append(is_earlier)
    assert any(left)


def test_in_a_search_it_propagates(table):
    X, y = table
    interrupted = fast(epochs=50).set_callbacks(PressesInTask("epoch", 20, "begin"))
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(interrupted, {"lr": [0.01, 0.1]}, cv=2).fit(X, y)
