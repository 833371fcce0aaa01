"""scikit-learn's callbacks: what they see of a fit, and what they can do to it."""

import copy

import numpy as np
import pytest
from helpers import FAST, QUICK, Callback, Net, StopAfter, assert_same_fit, assert_same_weights, auto, fast, told
from numpy.testing import assert_array_equal
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("error")


class Watch(Callback):
    """Notes every task, and stops where ``stops`` says so."""

    def __init__(self, stops=lambda context: False):
        self.begun, self.ended, self.copies, self.metadata = [], [], [], []
        self.torn_down = False
        self.stops = stops

    def teardown(self, estimator, context):
        self.torn_down = True

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context)

    def on_fit_task_end(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        self.ended.append(context)
        self.copies.append((fitted_estimator, None if fitted_estimator is None else fitted_estimator.predict_proba(X)))
        self.metadata.append(metadata)
        return self.stops(context)

    def named(self, name):
        """The copies and predictions at the ends of the tasks of this name."""
        return [copied for copied, context in zip(self.copies, self.ended, strict=True) if context.task_name == name]


def tree_of(tasks):
    """Each task's name, number and the name of what it is a part of."""
    return [(each.task_name, each.task_id, each.parent and each.parent.task_name) for each in tasks]


# where the forget rate is given


def test_the_tasks_are_fit_and_its_epochs(table):
    watch = Watch()
    fast().set_callbacks(watch).fit(*table)
    epochs = [("epoch", number, "fit") for number in range(FAST["epochs"])]
    assert tree_of(watch.begun) == [("fit", 0, None), *epochs]
    assert tree_of(watch.ended) == [*epochs, ("fit", 0, None)]
    assert watch.begun[0].max_subtasks == FAST["epochs"]
    assert watch.torn_down


@pytest.mark.parametrize("module", [None, Net], ids=["chain", "own forward"])
def test_a_callback_can_stop_the_fit_and_sees_copies(module, table):
    X, y = table
    parameters = {"module": module, "epochs": 6, "num_gradual": 1, "epoch_decay_start": 6}
    watch, weights = Watch(lambda context: context.task_id == 2), np.ones(len(y))
    estimator = fast(**parameters).set_callbacks(watch).fit(X, y, sample_weight=weights)
    seen = watch.named("epoch")
    assert estimator.n_iter_ == len(seen) == 3
    assert_array_equal(watch.metadata[0]["sample_weight"], weights)
    assert_same_fit(seen[-1][0], estimator, X)
    for number, (copied, proba) in enumerate(seen):
        assert not any(module.training for module in copied.modules_)
        assert_array_equal(copied.predict_proba(X), proba)  # later epochs have not changed it
        stopped = fast(**parameters).set_callbacks(StopAfter(number + 1)).fit(X, y, sample_weight=weights)
        assert_same_fit(copied, stopped, X)
        assert_same_weights(copied.partial_fit(X, y), stopped.partial_fit(X, y))


def test_the_copies_show_nothing_of_an_earlier_fit(noisy, found):
    X, given, _ = noisy
    watch = Watch()
    copy.copy(found).set_params(forget_rate=0.1).set_callbacks(watch).fit(X[:100, :3], given[:100])
    for copied, _ in watch.named("epoch"):
        assert getattr(copied, "noise_rate_", None) is None and getattr(copied, "noise_matrix_", None) is None
        assert copied.n_features_in_ == 3


def test_the_copies_can_be_trained_and_changed_without_harm(table, noisy):
    class Spoil(Callback):
        def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
            if fitted_estimator is not None:
                for name in ("forget_rate_schedule_", "kept_frequency_", "label_quality_", "noise_matrix_"):
                    getattr(fitted_estimator, name, np.zeros(1))[:] = 0.9
                fitted_estimator.set_params(forget_rate=0.5).partial_fit(X, y).partial_fit(X, y)

    for estimator, (X, y) in ((fast(), table), (auto(), noisy[:2])):
        expected = copy.copy(estimator).fit(X, y)
        spoilt = copy.copy(estimator).set_callbacks(Spoil()).fit(X, y)
        assert_same_fit(spoilt, expected, X)
        assert_same_weights(spoilt, expected)


def test_watching_does_not_change_the_training(table, noisy):
    for estimator, data in ((fast(), table), (auto(), noisy[:2])):
        plain = estimator.fit(*data).predict_proba(data[0])
        watched = estimator.set_callbacks(ScoringMonitor(scoring="accuracy"), Watch()).fit(*data)
        assert_array_equal(watched.predict_proba(data[0]), plain)


def test_scoring_monitor_and_progress_bar_work_through_search_and_pipeline(table, capsys):
    X, y = table
    monitor = ScoringMonitor(scoring="accuracy")
    fast().set_callbacks(monitor).fit(X, y)
    assert len([row for row in monitor.get_logs().data if row["task_name"] == "epoch"]) == FAST["epochs"]

    pipeline = make_pipeline(StandardScaler(), fast())
    pipeline.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    assert "CoTeachingClassifier" in capsys.readouterr().out
    search = GridSearchCV(fast(), {"lr": [1e-3, 1e-2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    assert "CoTeachingClassifier" in capsys.readouterr().out
    monitored = GridSearchCV(fast().set_callbacks(monitor := ScoringMonitor(scoring="accuracy")), {"lr": [1e-3]}, cv=2)
    monitored.fit(X, y)
    assert len(monitor.get_logs().data) >= FAST["epochs"]


def test_what_a_callback_raises_passes_and_leaves_the_earlier_fit(table):
    class Failing(Watch):
        def on_fit_task_end(self, estimator, context):
            raise OSError("my own")

    X, y = table
    estimator = fast().fit(X, y)
    before, expected = {name: each for name, each in vars(estimator).items()}, estimator.predict_proba(X)
    estimator.set_callbacks(watch := Failing())
    with pytest.raises(OSError, match="^my own$"):
        estimator.fit(X[:100], y[:100])
    assert watch.torn_down
    assert all(vars(estimator)[name] is each for name, each in before.items())
    assert_array_equal(estimator.predict_proba(X), expected)


class StopWhenNetworksAgree(Callback):
    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        return context.task_name == "epoch" and fitted_estimator.history_[-1]["agreement"] > 0.97


def test_a_callback_that_returns_true_at_the_end_of_an_epoch_stops_the_fit(noisy):
    stopped = fast(epochs=40).set_callbacks(StopWhenNetworksAgree()).fit(*noisy[:2])
    assert 1 <= stopped.n_iter_ < stopped.epochs
    assert stopped.history_[-1]["agreement"] > 0.97


# where it is found


def test_the_estimate_is_a_task_of_its_own_with_steps_and_comes_before_the_epochs(noisy):
    watch = Watch()
    auto().set_callbacks(watch).fit(*noisy[:2])
    begun, ended = tree_of(watch.begun), tree_of(watch.ended)
    n_steps = sum(parent == "estimate" for *_, parent in begun)
    assert n_steps >= 4
    steps = [("cross-fit epoch", number, "estimate") for number in range(n_steps)]
    epochs = [("epoch", number, "fit") for number in range(1, QUICK["epochs"] + 1)]
    assert begun == [("fit", 0, None), ("estimate", 0, "fit"), *steps, *epochs]
    assert ended == [*steps, ("estimate", 0, "fit"), *epochs, ("fit", 0, None)]
    fit, estimate = watch.begun[:2]
    assert fit.max_subtasks == 1 + QUICK["epochs"]
    assert n_steps <= estimate.max_subtasks
    assert watch.torn_down


def test_within_the_estimate_nothing_is_fitted_and_then_all_that_was_found(noisy):
    watch = Watch()
    estimator = auto().set_callbacks(watch).fit(*noisy[:2])
    again = estimator.fit(*noisy[:2])  # nor is it told of the earlier fit
    for name in ("estimate", "cross-fit epoch"):
        assert {copied for copied, _ in watch.named(name)} == {None}
    copies = [copied for copied, _ in watch.named("epoch")]
    assert [copied.n_iter_ for copied in copies] == 2 * [1, 2, 3]
    for copied in copies:
        assert copied.noise_rate_ == again.noise_rate_
        assert len(copied.get_label_issues()) == len(noisy[0])


def test_there_is_no_estimate_where_there_are_too_few_data(table):
    watch = Watch()
    with pytest.warns(UserWarning, match="too few examples"):
        auto().set_callbacks(watch).fit(*(each[:39] for each in table))
    assert tree_of(watch.begun) == [("fit", 0, None), *(("epoch", number, "fit") for number in range(3))]


def test_the_progress_bar_shows_the_estimate(noisy, capsys):
    auto().set_callbacks(ProgressBar()).fit(*noisy[:2])
    shown = capsys.readouterr().out
    assert "CoTeachingClassifier - fit" in shown
    (estimate,) = [line for line in shown.splitlines() if "CoTeachingClassifier - estimate" in line]
    assert "100%" in estimate


def test_progress_moves_within_the_estimate(noisy):
    """As the progress bar counts it: the share of a task's parts that are done, these counting as much as is done."""

    class Progress(Callback):
        def __init__(self):
            self.of_fit = []

        def on_fit_task_end(self, estimator, context):
            if context.task_name == "cross-fit epoch":
                estimate = context.parent
                self.of_fit.append((context.task_id + 1) / estimate.max_subtasks / estimate.parent.max_subtasks)

    auto().set_callbacks(progress := Progress()).fit(*noisy[:2])
    assert 0 < progress.of_fit[0] < 0.1 < progress.of_fit[-1] <= 1 / (1 + QUICK["epochs"])
    assert (np.diff(progress.of_fit) > 0).all()


def test_the_scoring_monitor_scores_the_epochs_of_the_training_proper(noisy):
    monitor = ScoringMonitor(scoring="accuracy")
    estimator = auto().set_callbacks(monitor).fit(*noisy[:2])
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows] == ["fit"] + QUICK["epochs"] * ["epoch"]
    assert [row["task_id"] for row in rows[1:]] == [1, 2, 3]
    assert rows[0]["accuracy"] == rows[-1]["accuracy"] == estimator.score(*noisy[:2])


@pytest.mark.parametrize("step", [0, 2])
def test_a_callback_that_stops_in_the_estimate_ends_it_and_the_training_follows(step, noisy):
    X, given, _ = noisy
    watch = Watch(lambda context: (context.task_name, context.task_id) == ("cross-fit epoch", step))
    estimator, text = told(lambda: auto().set_callbacks(watch).fit(X, given))
    assert "a callback stopped the estimate of the noise rate" in text
    assert [each.task_name for each in watch.begun] == (
        ["fit", "estimate"] + (step + 1) * ["cross-fit epoch"] + QUICK["epochs"] * ["epoch"]
    )
    assert estimator.forget_rate_ == estimator.noise_rate_ == 0.0 and estimator.n_iter_ == QUICK["epochs"]
    assert estimator.noise_rate_std_ == pytest.approx(2 / 3 / 3**0.5)
    assert_array_equal(estimator.noise_matrix_, np.eye(3))
    given_rate = auto(forget_rate=0.0).fit(X, given)
    assert_array_equal(estimator.predict_proba(X), given_rate.predict_proba(X))
    assert_array_equal(estimator.kept_frequency_, given_rate.kept_frequency_)
    assert_same_weights(estimator, given_rate)
    assert estimator.temperature_ == 1.0
    assert estimator.get_label_issues().equals(given_rate.get_label_issues())


def test_a_callback_that_stops_at_its_end_comes_too_late(noisy, found):
    X, given, _ = noisy
    watch = Watch()
    auto().set_callbacks(watch).fit(X, given)
    last = [context.task_id for context in watch.ended if context.task_name == "cross-fit epoch"][-1]
    late = Watch(lambda context: (context.task_name, context.task_id) in (("cross-fit epoch", last), ("estimate", 0)))
    assert_same_fit(auto().set_callbacks(late).fit(X, given), found, X)


def test_one_that_would_stop_everything_stops_after_the_first_epoch(noisy):
    X, given, _ = noisy
    with pytest.warns(UserWarning, match="a callback stopped the estimate"):
        estimator = auto().set_callbacks(Watch(lambda context: True)).fit(X, given)
    assert estimator.n_iter_ == 1
