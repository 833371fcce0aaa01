"""A fitted estimator travels: pickle, joblib, cloudpickle, copies, clone."""

import copy
import io
import pickle

import cloudpickle
import joblib
import numpy as np
import pytest
from helpers import Net, assert_same_findings, assert_same_fit, auto, fast
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skcoteach

pytestmark = pytest.mark.filterwarnings("error")


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "joblib": through_joblib,
    "cloudpickle": lambda estimator: pickle.loads(cloudpickle.dumps(estimator)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("module", [None, Net], ids=["chain", "own forward"])
@pytest.mark.parametrize("way", WAYS)
def test_a_fitted_estimator_travels(way, module, table):
    X, y = table
    estimator = fast(module=module).fit(X, y)
    arrived = WAYS[way](estimator)
    assert_same_fit(arrived, estimator, X)
    assert arrived.history_ == estimator.history_
    expected = copy.deepcopy(estimator).partial_fit(X, y)
    assert_same_fit(arrived.partial_fit(X, y), expected, X)
    assert estimator.n_iter_ == 4 and arrived.n_iter_ == 5


def test_a_pickle_holds_few_bytes_of_each_example_and_none_if_they_are_forgotten():
    sizes, without = [], []
    for n in (200, 5200):
        X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
        estimator = fast(epochs=1, num_iter_per_epoch=1).fit(X, np.arange(n) % 3)
        sizes.append(len(pickle.dumps(estimator)))
        proba = estimator.predict_proba(X)
        assert estimator.forget_training_data() is estimator
        without.append(len(pickle.dumps(estimator)))
        assert_array_equal(estimator.predict_proba(X), proba)
        assert not {"label_quality_", "kept_frequency_"} & vars(estimator).keys()
        with pytest.raises(NotFittedError, match="forget_training_data was called"):
            estimator.get_label_issues()
        assert estimator.partial_fit(X, np.arange(n) % 3).n_iter_ == 2
    assert (sizes[1] - sizes[0]) / 5000 <= 21
    assert without[1] - without[0] < 100
    with pytest.raises(NotFittedError):
        fast().forget_training_data()


def test_a_pickle_of_another_version_says_so(table):
    estimator = fast().fit(*table)
    state = estimator.__getstate__()
    for version in ("0.0.9", None):
        old = {name: value for name, value in state.items() if name != "_version_when_pickled"}
        old |= {} if version is None else {"_version_when_pickled": version}
        arrived = fast()
        words = f"pickled by skcoteach {version or 'of another time'}; here is {skcoteach.__version__}"
        with pytest.warns(UserWarning, match=words):
            arrived.__setstate__(old)
        assert_same_fit(arrived, estimator, table[0])
        assert not [name for name in vars(arrived) if "pickled" in name]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_found_travels(way, found, noisy):
    X, given, _ = noisy
    arrived = WAYS[way](found)
    assert_same_findings(arrived, found)
    assert arrived.get_label_issues().equals(found.get_label_issues())
    assert arrived.temperature_ == found.temperature_
    assert_array_equal(arrived.predict_proba(X), found.predict_proba(X))


def test_a_clone_starts_anew_and_finds_the_same(noisy, found):
    anew = clone(found)
    with pytest.raises(NotFittedError):
        anew.get_label_issues()
    assert_same_findings(anew.fit(*noisy[:2]), found)


def test_a_shallow_copy_that_is_trained_leaves_the_other(noisy, found):
    X, given, _ = noisy
    expected, issues = found.predict_proba(X), found.get_label_issues()
    copy.copy(found).set_params(forget_rate=0.2).partial_fit(X, given).partial_fit(X, given)
    copy.copy(found).set_params(**auto(forget_rate=0.2).get_params()).fit(X[:100], given[:100])
    assert_array_equal(found.predict_proba(X), expected)
    assert found.get_label_issues().equals(issues)
