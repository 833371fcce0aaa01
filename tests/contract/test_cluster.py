"""Searches and cross-validations run on a Dask cluster through joblib; of a worker that is lost, only its fit is."""

import os
import signal
from ast import literal_eval
from collections import Counter
from contextlib import suppress
from itertools import chain, product
from pathlib import Path

import joblib
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict

from skcoteach import CoTeachingClassifier, _checkpoint

distributed = pytest.importorskip("distributed")

GRID = {"lr": [1e-3, 3e-3, 1e-2, 3e-2], "module__hidden": [(16,), (8,), (8, 8)]}
FOLDS, EPOCHS = 2, 3
#: The worker that comes to the end of this epoch of this candidate is killed.
KILLED_IN = (3e-3, (16,), 2)


def classifier(**parameters):
    return CoTeachingClassifier(forget_rate=0.2, epochs=EPOCHS, batch_size=64, random_state=0, **parameters)


def search(estimator, X, y, folds):
    """The scores of all candidates."""
    found = GridSearchCV(estimator, GRID, cv=folds, refit=False).fit(X, y).cv_results_
    return {name: values for name, values in found.items() if name.endswith("_score")}


class KillsOneWorker:
    """A callback that notes every epoch in a file, and kills the first process that comes to the chosen one."""

    def __init__(self, folder):
        self.noted, self.killed = Path(folder) / "epochs", Path(folder) / "killed"

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "epoch":
            return
        epoch = estimator.lr, estimator.module__hidden, fitted_estimator.n_iter_
        with open(self.noted, "a") as file:
            file.write(f"{epoch}\n")
        if epoch == KILLED_IN:
            with suppress(FileExistsError):  # the other worker may be here at the same time, with another fold
                self.killed.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

    def epochs(self):
        return [literal_eval(line) for line in self.noted.read_text().splitlines()]


def write_every_epoch():
    _checkpoint.SECONDS_BETWEEN_WRITES = 0


@pytest.fixture(scope="module")
def client():
    """Of two workers with a thread each. Dask has torch compute with one thread in them, too."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(write_every_epoch)
        client.amm.stop()  # it would take copies of the data away that are needed when a worker is lost
        yield client


@pytest.fixture(scope="module")
def folds(table):
    return list(StratifiedKFold(FOLDS).split(*table))


@pytest.fixture
def on_cluster(client, table, folds):
    """Where joblib gives its tasks to the workers; each has the data."""
    return joblib.parallel_config("dask", scatter=[*table, *chain(*folds)])


@pytest.fixture(scope="module")
def local_scores(table, folds):
    return search(classifier(), *table, folds)


def test_a_search_and_a_cross_validation_have_the_results_of_local_ones(table, folds, local_scores, on_cluster):
    with on_cluster:
        scores = search(classifier(), *table, folds)
        predicted = cross_val_predict(classifier(), *table, cv=folds, method="predict_proba")
    assert_array_equal(predicted, cross_val_predict(classifier(), *table, cv=folds, method="predict_proba"))
    for name in local_scores:
        assert_array_equal(scores[name], local_scores[name])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_when_a_worker_is_killed_no_epoch_is_trained_again_that_was_written(
    table, folds, local_scores, on_cluster, tmp_path
):
    callback = KillsOneWorker(tmp_path)
    with on_cluster:
        scores = search(classifier(checkpoint=tmp_path / "states").set_callbacks(callback), *table, folds)
    assert callback.killed.exists()
    for name in local_scores:
        assert_array_equal(scores[name], local_scores[name])
    each = product(*GRID.values(), range(1, EPOCHS + 1))
    assert Counter(callback.epochs()) == dict.fromkeys(each, FOLDS)
