"""scikit-learn's tools take it: pipelines, searches, ensembles, inspection."""

import numpy as np
import pytest
import torch
from helpers import FAST, Net, auto, fast, noisy_blobs
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcoteach import CoTeachingClassifier

pytestmark = pytest.mark.filterwarnings("error")


def test_grid_search_over_a_pipeline_in_processes(table):
    X, y = table
    grid = {"coteachingclassifier__lr": [1e-3, 1e-2], "coteachingclassifier__module__hidden": [4, 8]}
    pipeline = make_pipeline(StandardScaler(), CoTeachingClassifier(Net, **FAST))
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_[-1]
    assert best.modules_[0].layers[0].out_features == search.best_params_["coteachingclassifier__module__hidden"]
    assert search.score(X, y) > 0.5


def test_grid_search_with_labels_as_a_tensor(table):
    X, y = table
    search = GridSearchCV(fast(), {"lr": [1e-3, 1e-2]}, cv=3).fit(torch.tensor(X), torch.tensor(y))
    reference = GridSearchCV(fast(), {"lr": [1e-3, 1e-2]}, cv=3).fit(X, y)
    assert_array_equal(search.cv_results_["mean_test_score"], reference.cv_results_["mean_test_score"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: StackingClassifier([("co", clf), ("lr", LogisticRegression())], cv=2),
        lambda clf: VotingClassifier([("co", clf), ("lr", LogisticRegression())], voting="soft"),
        lambda clf: BaggingClassifier(clf, n_estimators=2, random_state=0),
    ],
    ids=["calibrated", "stacking", "voting", "bagging"],
)
def test_meta_estimators_take_it(wrap, table):
    X, y = table
    estimator = wrap(fast(epochs=15)).fit(X, y)
    assert estimator.score(X, y) > 0.75
    assert_allclose(estimator.predict_proba(X).sum(1), 1)


def test_permutation_importance_and_learning_curve(table):
    X, y = table
    estimator = fast(epochs=15).fit(X, y)
    assert permutation_importance(estimator, X, y, n_repeats=2, random_state=0).importances_mean.max() > 0.05
    _, train, test = learning_curve(fast(), X, y, train_sizes=[0.5, 1.0], cv=2)
    assert train.shape == test.shape == (2, 2) and np.isfinite(test).all()


def test_they_take_one_that_finds_the_forget_rate():
    X, given, true = noisy_blobs("pair", 0.2, n=1200)
    search = GridSearchCV(auto(), {"lr": [1e-2, 1e-9]}, cv=2, error_score="raise").fit(X, given)
    assert search.best_params_["lr"] == 1e-2
    assert search.best_estimator_.noise_rate_ == pytest.approx((given != true).mean(), abs=0.06)
    pipeline = make_pipeline(StandardScaler(), auto(lr=1e-2))
    scores = cross_val_score(pipeline, X, given, cv=2, error_score="raise")
    assert_allclose(scores, (given == true).mean(), atol=0.06)
    # standardised twice, the inputs are rounded differently, and the likelihood sees every digit
    assert pipeline.fit(X, given)[-1].noise_rate_ == pytest.approx(search.best_estimator_.noise_rate_, abs=1e-6)
