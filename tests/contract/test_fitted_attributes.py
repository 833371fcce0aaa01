"""What a fit leaves: names, types, sizes."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Net, assert_same_weights, auto, fast, weights_of
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skcoteach.benchmarks.common import noisy_labels, transition_matrix

pytestmark = pytest.mark.filterwarnings("error")

OF_EVERY_TRAINING = {
    "classes_", "n_features_in_", "modules_", "temperature_", "forget_rate_", "forget_rate_schedule_", "n_iter_",
    "history_",
}  # fmt: skip
OF_THE_ESTIMATE = {"noise_rate_", "noise_rate_std_", "noise_matrix_"}
OF_EVERY_FIT = OF_EVERY_TRAINING | {"kept_frequency_", "label_quality_"}


def public_attributes(estimator):
    return {name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")}


def test_fitted_attributes_are_those_of_the_contract(table, noisy):
    X, y = table
    estimator = fast()
    assert public_attributes(estimator) == set()
    assert estimator.fit(X, y) is estimator
    assert public_attributes(estimator) == OF_EVERY_FIT
    assert public_attributes(estimator.partial_fit(X, y)) == OF_EVERY_TRAINING
    assert public_attributes(fast().partial_fit(X, y, classes=[0, 1, 2])) == OF_EVERY_TRAINING
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    assert public_attributes(estimator.fit(frame, y)) == OF_EVERY_FIT | {"feature_names_in_"}
    assert public_attributes(estimator.fit(X, y)) == OF_EVERY_FIT
    estimator.set_params(forget_rate="auto").fit(*noisy[:2])
    assert public_attributes(estimator) == OF_EVERY_FIT | OF_THE_ESTIMATE | {"class_forget_rates_"}
    estimator.fit(noisy[0], noisy[2])  # where nothing is forgotten, it is so of all classes alike
    assert public_attributes(estimator) == OF_EVERY_FIT | OF_THE_ESTIMATE
    assert public_attributes(estimator.set_params(forget_rate=0.1).fit(X, y)) == OF_EVERY_FIT


def test_fitted_attributes_have_the_types_of_the_contract(table):
    X, y = table
    estimator = fast(epochs=5, forget_rate=0.3).fit(pd.DataFrame(X, columns=list("abcdefgh")), y)
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.n_features_in_ == 8
    assert estimator.feature_names_in_.tolist() == list("abcdefgh")
    assert estimator.n_iter_ == 5
    assert estimator.forget_rate_ == 0.3 and type(estimator.forget_rate_) is float
    assert estimator.forget_rate_schedule_.shape == (5,) and estimator.forget_rate_schedule_.dtype == np.float64
    assert isinstance(estimator.modules_, tuple) and len(estimator.modules_) == 2
    for per_example in (estimator.kept_frequency_, estimator.label_quality_):
        assert per_example.shape == y.shape and per_example.dtype == np.float64
        assert (0 <= per_example).all() and (per_example <= 1).all()


@pytest.mark.parametrize("module", [None, Net], ids=["chain", "own forward"])
def test_the_networks_are_in_eval_mode_and_hold_no_gradients(module, table):
    X, y = table
    estimator = fast(module=module)
    for fitted in (estimator.fit(X, y), estimator.partial_fit(X, y)):
        assert not any(each.training for network in fitted.modules_ for each in network.modules())
        assert all(parameter.grad is None for network in fitted.modules_ for parameter in network.parameters())


def test_history_has_an_entry_for_each_epoch(table):
    history = fast(epochs=5).fit(*table).history_
    assert [record["epoch"] for record in history] == [0, 1, 2, 3, 4]
    for record in history:
        assert set(record) == {"epoch", "lr", "forget_rate", "loss", "accuracy", "agreement", "changed", "duration"}
        assert len(record["loss"]) == len(record["accuracy"]) == 2
        assert all(0 <= value <= 1 for value in (*record["accuracy"], record["agreement"]))
        assert record["duration"] > 0


def test_another_fit_leaves_nothing_of_the_one_before(table, noisy):
    again = fast().fit(*table).set_params(forget_rate="auto").fit(*noisy[:2])
    assert_same_weights(again, auto(epochs=4).fit(*noisy[:2]))
    assert again.n_iter_ == len(again.history_) == 4 and again.n_features_in_ == 5


def test_kept_frequency_is_lower_for_wrong_labels():
    X, y = load_digits(return_X_y=True)
    X, y = X[:800].astype(np.float32), y[:800]
    given = noisy_labels(y, transition_matrix("symmetric", 0.3, 10), seed=3)
    kept = fast(epochs=25, forget_rate=0.3).fit(X, given).kept_frequency_
    wrong = given != y
    assert kept[wrong].mean() < 0.35 < 0.8 < kept[~wrong].mean()
    assert kept.mean() == pytest.approx(0.7, abs=0.03)


def test_the_standardisation_makes_tables_in_any_unit_work():
    X, y = load_digits(return_X_y=True)
    units = np.logspace(-4, 4, X.shape[1])
    X_train, X_test, y_train, y_test = train_test_split(X * units + 1e3 * units, y, random_state=0, stratify=y)
    assert fast(epochs=20, forget_rate=0.0).fit(X_train, y_train).score(X_test, y_test) > 0.93


@pytest.mark.parametrize("average_decay", [None, 0.9])
@pytest.mark.parametrize(("optimizer", "copies"), [(torch.optim.SGD, 1), (torch.optim.Adam, 3)])
def test_a_pickle_is_hardly_bigger_than_the_weights_and_what_the_optimizer_keeps_of_each(
    optimizer, copies, average_decay, table
):
    estimator = fast(module__hidden=(300, 300), optimizer=optimizer, average_decay=average_decay).fit(*table)
    weights = sum(each.nbytes for each in weights_of(estimator))
    copies += average_decay is not None  # those trained last, which partial_fit goes on from
    assert len(pickle.dumps(estimator)) < 1.05 * copies * weights


def test_attributes_can_be_changed_without_harm(table):
    X, y = table
    estimator = fast().fit(X, y)
    expected, issues = estimator.predict_proba(X), estimator.get_label_issues()
    for name in ("kept_frequency_", "forget_rate_schedule_"):
        getattr(estimator, name)[:] = 0.0
    estimator.history_.clear()
    assert_allclose(estimator.predict_proba(X), expected, rtol=0)
    assert estimator.get_label_issues().equals(issues)
    estimator.label_quality_[:] = 0.0  # which is held once: the column follows
    assert estimator.get_label_issues().equals(issues.assign(label_quality=0.0))


def test_the_html_repr_shows_noise_rate_temperature_and_epochs(found):
    rows = dict(re.findall(r">\s*(\w+_)</a>\s*</td>\s*<td[^>]*>[^<]*</td>\s*<td>([^<]*)</td>", found._repr_html_()))
    for name in ("noise_rate_", "noise_rate_std_", "temperature_"):
        assert float(rows[name]) == pytest.approx(getattr(found, name), rel=1e-3)
    assert rows["n_iter_"] == str(found.n_iter_)
