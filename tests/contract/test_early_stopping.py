"""X_val and early stopping: what is told of a validation set, and what it decides."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from helpers import Callback, Items, StopAfter, auto, fast, noisy_blobs
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skcoteach
from skcoteach._data.validation_set import ValidationSet

pytestmark = pytest.mark.filterwarnings("error")

LONG = {"epochs": 40, "early_stopping": True, "n_iter_no_change": 4}


@pytest.fixture(scope="module")
def held_out():
    """Other examples of the same blobs, with wrong labels, too."""
    X, y, _ = noisy_blobs("pair", 0.2, n=900)
    return X[:200], y[:200]


class PressAfter(Callback):
    """Ctrl-C at the end of an epoch, counted from 0."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch" and len(fitted_estimator.history_) > self.epoch:
            raise KeyboardInterrupt


def weights_of(estimator):
    return [tensor for network in estimator.modules_ for tensor in network.state_dict().values()]


def assert_same_networks(one, other):
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        assert torch.equal(a, b)


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_the_last_epoch_tells_the_score_and_log_loss_of_the_fitted_networks(noisy, held_out, average_decay):
    X_val, y_val = held_out
    estimator = fast(average_decay=average_decay).fit(*noisy[:2], X_val=X_val, y_val=y_val)
    last = estimator.history_[-1]
    assert last["val_accuracy"] == pytest.approx(estimator.score(X_val, y_val))
    assert last["val_loss"] == pytest.approx(log_loss(y_val, estimator.predict_proba(X_val)))
    assert len(estimator.history_) == 4 and not hasattr(estimator, "best_epoch_")


def test_under_auto_the_loss_goes_through_the_noise_matrix(noisy, held_out):
    X_val, y_val = held_out
    estimator = auto(epochs=10).fit(*noisy[:2], X_val=X_val, y_val=y_val)
    assert estimator.noise_rate_ > 0.1
    as_trained = sum(network(torch.from_numpy(X_val)).softmax(1) for network in estimator.modules_) / 2
    of_given = as_trained.detach().double().numpy() @ estimator.noise_matrix_.T
    of_given /= of_given.sum(1, keepdims=True)
    assert estimator.history_[-1]["val_loss"] == pytest.approx(log_loss(y_val, of_given), rel=1e-4)


def test_weights_of_the_validation_set_count(noisy, held_out):
    X_val, y_val = held_out
    weights = np.arange(len(y_val)) % 3
    estimator = fast().fit(*noisy[:2], X_val=X_val, y_val=y_val, sample_weight_val=weights)
    assert estimator.history_[-1]["val_accuracy"] == pytest.approx(estimator.score(X_val, y_val, weights))


@pytest.mark.parametrize("weight", [1e308, 1e-323])
def test_very_large_and_small_weights_of_the_validation_set_count_alike(weight, noisy, held_out):
    X_val, y_val = held_out
    weighted, plain = (
        fast().fit(*noisy[:2], X_val=X_val, y_val=y_val, sample_weight_val=np.full(len(y_val), each)).history_[-1]
        for each in (weight, 1.0)
    )
    assert (weighted["val_accuracy"], weighted["val_loss"]) == (plain["val_accuracy"], plain["val_loss"])


@pytest.mark.parametrize("make", [fast, auto])
def test_watching_changes_nothing(make, noisy, held_out):
    X_val, y_val = held_out
    plain, watched = make().fit(*noisy[:2]), make().fit(*noisy[:2], X_val=X_val, y_val=y_val)
    assert_same_networks(plain, watched)
    assert_array_equal(plain.label_quality_, watched.label_quality_)


def test_the_share_of_changed_predictions_is_told(noisy):
    changed = [entry["changed"] for entry in fast(epochs=20).fit(*noisy[:2]).history_]
    assert changed[0] == 1 and all(0 <= each < 1 for each in changed[1:])
    assert np.mean(changed[-5:]) < np.mean(changed[1:6])


@pytest.mark.parametrize("kind", ["list", "tensor", "strings"])
def test_kinds_of_validation_sets(kind, noisy, held_out):
    (X, y, _), (X_val, y_val) = noisy, held_out
    if kind == "strings":
        y, y_val = np.array(["a", "b", "c"])[y], np.array(["a", "b", "c"])[y_val]
    if kind == "list":
        X_val, y_val = X_val.tolist(), y_val.tolist()
    if kind == "tensor":
        X_val, y_val = torch.from_numpy(X_val), torch.from_numpy(y_val)
    told, plain = (
        fast().fit(*data, X_val=beside[0], y_val=beside[1]).history_[-1]
        for data, beside in (((X, y), (X_val, y_val)), (noisy[:2], held_out))
    )
    assert (told["val_accuracy"], told["val_loss"]) == (plain["val_accuracy"], plain["val_loss"])


def test_columns_of_an_earlier_fit_are_not_asked_for(noisy, held_out):
    (X, y, _), (X_val, y_val) = noisy, held_out
    names = list("abcde")
    estimator = fast().fit(pd.DataFrame(X, columns=names), y)
    estimator.fit(X, y, X_val=X_val, y_val=y_val)  # which warns of nothing
    assert (
        estimator.history_[-1]["val_accuracy"]
        == fast()
        .fit(pd.DataFrame(X, columns=names[::-1]), y, X_val=pd.DataFrame(X_val, columns=names[::-1]), y_val=y_val)
        .history_[-1]["val_accuracy"]
    )


def test_a_pipeline_transforms_it_like_x(noisy, held_out):
    X_val, y_val = held_out
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = fast().set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), classifier)
        pipeline.set_params(transform_input=["X_val"]).fit(*noisy[:2], X_val=X_val, y_val=y_val)
    assert pipeline[-1].history_[-1]["val_accuracy"] == pytest.approx(pipeline.score(X_val, y_val))


# --- what it decides -------------------------------------------------------------------------------------------------


def test_a_validation_set_that_a_pipeline_hands_on_as_it_is_leads_to_the_right_option(noisy, held_out):
    X_val, y_val = held_out
    pipeline = make_pipeline(StandardScaler(), fast())
    beside = {"X_val": pd.DataFrame(X_val).assign(city="Rome"), "y_val": y_val}
    with pytest.raises(ValueError, match=r"X_val: .*\['city'\] .*do not .*transform_input=\['X_val'\]"):
        pipeline.fit(*noisy[:2], **{f"{pipeline.steps[-1][0]}__{name}": each for name, each in beside.items()})


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_the_training_ends_and_the_networks_of_the_best_epoch_are_kept(given, average_decay, noisy, held_out):
    beside = dict(zip(("X_val", "y_val"), held_out, strict=True)) if given else {}
    estimator = fast(**LONG, average_decay=average_decay).fit(*noisy[:2], **beside)
    accuracies = [entry["val_accuracy"] for entry in estimator.history_]
    best = int(np.argmax(accuracies))
    assert (estimator.best_epoch_, estimator.n_iter_) == (best, best + 1 + 4)
    assert estimator.n_iter_ == len(estimator.history_) < 40
    stopped = fast(**LONG, average_decay=average_decay).set_callbacks(StopAfter(best + 1)).fit(*noisy[:2], **beside)
    assert stopped.n_iter_ == best + 1
    assert_same_networks(estimator, stopped)
    assert_array_equal(estimator.label_quality_, stopped.label_quality_)


def test_without_an_end_the_best_epoch_is_kept_all_the_same(noisy, held_out):
    X_val, y_val = held_out
    estimator = fast(epochs=15, early_stopping=True, n_iter_no_change=99).fit(*noisy[:2], X_val=X_val, y_val=y_val)
    assert estimator.n_iter_ == 15
    best = estimator.history_[estimator.best_epoch_]
    assert best["val_accuracy"] == max(entry["val_accuracy"] for entry in estimator.history_)
    assert estimator.score(X_val, y_val) == pytest.approx(best["val_accuracy"])


def test_held_out_examples_have_quality_and_issues_and_are_not_learnt_from(noisy):
    """No network can learn labels that are drawn by lot; those learnt from it learns by heart."""
    X, y = noisy[0], np.random.default_rng(0).integers(0, 3, len(noisy[1]))
    estimator = fast(
        forget_rate=0,
        epochs=60,
        batch_size=32,
        lr=0.01,
        early_stopping=True,
        n_iter_no_change=99,
        validation_fraction=0.3,
    )
    last = estimator.fit(X, y).history_[-1]
    assert last["val_accuracy"] < 0.45 < np.mean(last["accuracy"])
    assert len(estimator.get_label_issues()) == len(estimator.label_quality_) == len(X)
    assert ((estimator.label_quality_ >= 0) & (estimator.label_quality_ <= 1)).all()


@pytest.mark.parametrize("make", [fast, auto])
def test_labels_that_are_held_out_change_nothing_but_the_choice_of_the_epoch(make, noisy, monkeypatch):
    X, y, _ = noisy
    rows = torch.arange(len(y)) % 5 == 0

    def hold_these_out(data, share):
        chosen = rows.nonzero()[:, 0]
        own = data.codes[rows.numpy()], data.sample_weights[rows.numpy()]
        return data.part(~rows), ValidationSet(data.inputs, chosen, *own, data.n_classes)

    monkeypatch.setattr("skcoteach._classifier.hold_out", hold_these_out)
    estimator = make(early_stopping=True, n_iter_no_change=99)
    told = []
    for labels in (y, np.where(rows, (y + 1) % 3, y)):
        estimator = clone(estimator).fit(X, labels)
        told.append([{n: v for n, v in entry.items() if n[:3] not in ("dur", "val")} for entry in estimator.history_])
        told[-1].append(getattr(estimator, "noise_rate_", None))
    assert told[0] == told[1]


def test_interrupted_it_keeps_the_best_of_the_epochs_done(noisy, held_out):
    X_val, y_val = held_out
    whole = fast(**LONG).fit(*noisy[:2], X_val=X_val, y_val=y_val)
    estimator = fast(**LONG).set_callbacks(PressAfter(whole.n_iter_ - 2))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(*noisy[:2], X_val=X_val, y_val=y_val)
    assert estimator.best_epoch_ == whole.best_epoch_ and estimator.n_iter_ < whole.n_iter_
    assert_same_networks(estimator, whole)


def test_a_killed_fit_goes_on_and_ends_with_the_same_networks(noisy, held_out, tmp_path, monkeypatch):
    monkeypatch.setattr("skcoteach._checkpoint.SECONDS_BETWEEN_WRITES", 0.0)
    X_val, y_val = held_out
    whole = fast(**LONG).fit(*noisy[:2], X_val=X_val, y_val=y_val)
    for kill in (whole.best_epoch_ + 1, whole.n_iter_ - 2):
        folder = tmp_path / str(kill)
        killed = fast(**LONG, checkpoint=folder).set_callbacks(PressAfter(kill))
        with pytest.raises(KeyboardInterrupt):
            killed.fit(*noisy[:2], X_val=X_val, y_val=y_val)
        for _ in range(2):  # the second time it is finished
            again = fast(**LONG, checkpoint=folder).fit(*noisy[:2], X_val=X_val, y_val=y_val)
            assert (again.best_epoch_, again.n_iter_) == (whole.best_epoch_, whole.n_iter_)
            assert_same_networks(again, whole)
            assert_array_equal(again.label_quality_, whole.label_quality_)
        assert len(list(folder.iterdir())) == 1


def test_another_validation_set_is_another_fit(noisy, held_out, tmp_path):
    X_val, y_val = held_out
    for beside in ({}, {"X_val": X_val, "y_val": y_val}, {"X_val": X_val + 1, "y_val": y_val}):
        fast(epochs=1, checkpoint=tmp_path).fit(*noisy[:2], **beside)
    assert len(list(tmp_path.iterdir())) == 3


def test_it_can_be_searched_over_cloned_saved_and_fitted_again(noisy, tmp_path):
    search = GridSearchCV(fast(**LONG | {"epochs": 6}), {"validation_fraction": [0.1, 0.2]}, cv=2).fit(*noisy[:2])
    best = search.best_estimator_
    assert clone(best).get_params()["early_stopping"] is True
    skcoteach.save(best, tmp_path / "file")
    loaded = skcoteach.load(tmp_path / "file")
    assert_array_equal(loaded.predict(noisy[0]), best.predict(noisy[0]))
    assert (loaded.best_epoch_, loaded.history_) == (best.best_epoch_, best.history_)
    best.set_params(early_stopping=False).fit(*noisy[:2])
    assert not hasattr(best, "best_epoch_") and "val_loss" not in best.history_[0]


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda X, y: {"X_val": X}, ValueError, "X_val is given, but y_val is not"),
        (lambda X, y: {"y_val": y}, ValueError, "y_val is given, but X_val is not"),
        (lambda X, y: {"sample_weight_val": y}, ValueError, "sample_weight_val is given, but X_val and y_val are not"),
        (lambda X, y: {"X_val": X[:, :1], "y_val": y}, ValueError, "^X_val: X has 1 features"),
        (lambda X, y: {"X_val": X * np.nan, "y_val": y}, ValueError, "^X_val: Input X contains NaN"),
        (lambda X, y: {"X_val": X, "y_val": y + 1}, ValueError, "y_val: y holds labels that are not among the classes"),
        (lambda X, y: {"X_val": X, "y_val": y[1:]}, ValueError, "y_val: X and y have different lengths"),
        (lambda X, y: {"X_val": X, "y_val": y, "sample_weight_val": -y - 1}, ValueError, "^sample_weight_val: "),
        (lambda X, y: {"X_val": "abc", "y_val": y}, TypeError, "^X_val: X is a str"),
    ],
)
def test_a_validation_set_that_cannot_be_used_is_told_by_its_name(change, error, message, noisy, held_out):
    estimator = fast().fit(*noisy[:2])
    before = weights_of(estimator)
    with pytest.raises(error, match=message):
        estimator.fit(*noisy[:2], **change(*held_out))
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(estimator), strict=True))


class OwnError(ValueError):
    """With arguments of its own."""

    def __init__(self, position, reason):
        super().__init__(position, reason)


class Unreadable(Items):
    def __getitem__(self, i):
        raise OwnError(i, "unreadable")


def test_errors_of_the_users_own_dataset_pass_as_they_are(noisy, held_out):
    with pytest.raises(OwnError) as raised:
        fast().fit(*noisy[:2], X_val=Unreadable(held_out[0]), y_val=held_out[1])
    assert raised.value.args == (0, "unreadable")


def test_partial_fit_cannot_stop_early(noisy):
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        fast(early_stopping=True).partial_fit(*noisy[:2], classes=[0, 1, 2])


@pytest.mark.parametrize(
    "parameters", [{"validation_fraction": 0.0}, {"validation_fraction": 1.0}, {"n_iter_no_change": 0}]
)
def test_numbers_out_of_range_are_refused(parameters, noisy):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        fast(early_stopping=True, **parameters).fit(*noisy[:2])
