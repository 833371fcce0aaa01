"""cleanlab's tools take the estimator and what it has found."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from cleanlab import Datalab
from cleanlab.classification import CleanLearning
from helpers import LABELS_OF_EVERY_KIND, Items, auto, noisy_blobs
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import noisy_labels, transition_matrix

pytestmark = pytest.mark.filterwarnings("error")


def noisy_digits(split):
    """Images and given labels to train on, images and true labels to test on."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, test_size=0.3, stratify=y, random_state=split
    )
    given = noisy_labels(y_train, transition_matrix("pair", 0.3, 10), seed=500 + split)
    return X_train, given, X_test, y_test


def test_clean_learning_is_accurate_on_digits_with_pair_noise():
    scores = []
    for split in range(5):
        X, given, X_test, y_test = noisy_digits(split)
        estimator = CoTeachingClassifier(forget_rate=0.1, epochs=40, batch_size=64, random_state=0)
        learner = CleanLearning(estimator, cv_n_folds=3, seed=0)
        scores.append(learner.fit(X, given).score(X_test, y_test))
    assert np.mean(scores) >= 0.92


def test_clean_learning_gives_the_same_whatever_x_is():
    X, given, X_test, _ = noisy_digits(0)

    def predictions(make):
        learner = CleanLearning(CoTeachingClassifier(forget_rate=0.1, epochs=5, random_state=0), seed=0)
        return learner.fit(make(X), given).predict_proba(make(X_test))

    expected = predictions(np.array)
    for make in (torch.tensor, Items):
        assert_array_equal(predictions(make), expected)


def test_clean_learning_takes_one_that_finds_the_forget_rate():
    X, given, true = noisy_blobs("pair", 0.2, n=1200)
    learner = CleanLearning(auto(epochs=5), cv_n_folds=2, seed=0).fit(X, given)
    assert learner.score(X, true) > 0.95


def test_clean_learning_takes_the_label_issues(noisy, found):
    X, given, true = noisy
    learner = CleanLearning(LogisticRegression()).fit(X, given, label_issues=found.get_label_issues())
    assert learner.score(X, true) > 0.95
    kept = ~found.get_label_issues()["is_label_issue"].to_numpy()
    assert_array_equal(learner.predict(X), LogisticRegression().fit(X[kept], given[kept]).predict(X))
    again = CleanLearning(auto(forget_rate=0.05)).fit(X, given, label_issues=found.get_label_issues())
    assert again.clf.kept_frequency_.shape == (kept.sum(),)


@pytest.fixture(scope="module")
def cross_validated(noisy):
    """Label issues by cleanlab."""
    learner = CleanLearning(LogisticRegression(), seed=0)
    learner.find_label_issues(*noisy[:2])
    return learner.get_label_issues()


@pytest.mark.parametrize("kind", ["int", "int32", "uint8"])
def test_label_issues_have_the_columns_of_cleanlab(kind, noisy, cross_validated):
    """Labels that cleanlab takes are integers from 0, and its dtype does not depend on theirs."""
    X, given, _ = noisy
    issues = auto().fit(X, LABELS_OF_EVERY_KIND[kind][given]).get_label_issues()
    assert isinstance(issues.index, pd.RangeIndex) and issues.index.equals(cross_validated.index)
    assert_array_equal(issues["given_label"], cross_validated["given_label"])
    assert issues.columns.equals(cross_validated.columns)
    assert issues.dtypes.to_dict() == cross_validated.dtypes.to_dict()


def test_label_issues_are_nearly_those_of_cleanlab(noisy, found, cross_validated):
    """Their order is another one, as they go by the noise matrix, too; wrong labels are named as well."""
    wrong, issues = noisy[1] != noisy[2], found.get_label_issues()
    assert (issues["is_label_issue"] == cross_validated["is_label_issue"]).mean() > 0.95
    assert (issues["predicted_label"] == cross_validated["predicted_label"]).mean() > 0.95
    ours, theirs = (average_precision_score(wrong, -each["label_quality"]) for each in (issues, cross_validated))
    assert ours > theirs - 0.005


def test_datalab_names_the_same_labels(noisy, found):
    X, given, true = noisy
    lab = Datalab({"y": given}, label_name="y", task="classification", verbosity=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword")  # which cleanlab uses
        lab.find_issues(pred_probs=found.predict_proba(X), issue_types={"label": {}})
    theirs, ours = lab.get_issues("label"), found.get_label_issues()
    assert (theirs["is_label_issue"] == ours["is_label_issue"]).mean() > 0.95
    assert (theirs["predicted_label"] == ours["predicted_label"]).mean() > 0.97
    precisions = [
        average_precision_score(given != true, -each) for each in (found.label_quality_, theirs["label_score"])
    ]
    assert min(precisions) > 0.9 and precisions[0] > precisions[1] - 0.005
