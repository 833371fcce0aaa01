"""A fit that was killed goes on where it was, with the same bits; one that is finished is not trained again."""

import copy
import functools
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cleanlab.classification import CleanLearning
from helpers import (
    Callback,
    Items,
    Net,
    StopAfter,
    assert_same_fit,
    assert_same_weights,
    auto,
    fast,
    images,
    told,
    words,
)
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from torch import nn
from torch.utils.data import TensorDataset

from skcoteach import CoTeachingClassifier, _checkpoint, _state_file
from skcoteach._training.crossfit import CrossFit
from skcoteach._training.trainer import Trainer
from skcoteach.augmentation import RandomFlip

pytestmark = pytest.mark.filterwarnings("error")


class Killed(BaseException):
    """As if the process were gone."""


class NotedInState(torch.optim.SGD):
    """Whose state holds what no file can."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["noted"] = {"a set"}
        return super().step(closure)


class Counting(Callback):
    """Notes the tasks that begin and end."""

    def __init__(self):
        self.tasks = []

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append(context.task_name)

    def on_fit_task_end(self, estimator, context):
        self.tasks.append(context.task_name)


@pytest.fixture
def epochs(monkeypatch):
    """Notes all epochs of trainings proper (their numbers), and can have the process killed in one of them."""

    class Epochs(list):
        kill_at = None

    noted, run_epoch = Epochs(), Trainer.run_epoch

    def run(trainer, rates=None):
        if rates is None:  # in a cross-fit they are given
            if noted.kill_at == len(noted):
                raise Killed
            noted.append(trainer.epoch)
        return run_epoch(trainer, rates)

    monkeypatch.setattr(Trainer, "run_epoch", run)
    return noted


@pytest.fixture
def every_epoch(monkeypatch):
    """Written, however little time has passed."""
    monkeypatch.setattr(_checkpoint, "SECONDS_BETWEEN_WRITES", 0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "states"


def files(folder):
    return sorted(each.name for each in Path(folder).iterdir())


def the_file(folder):
    (file,) = Path(folder).glob("*.checkpoint")
    return file


# --- the same bits ---------------------------------------------------------------------------------------------------


def with_norm(n_features, n_classes):
    first = nn.Linear(n_features, 8)
    return nn.Sequential(first, nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, n_classes))


SETTINGS = {
    "a given rate": {},
    "a rate that is chosen": {"forget_rate": "auto"},
    "a forward of its own": {"module": Net},
    "a forward of its own and a chosen rate": {"module": Net, "forget_rate": "auto"},
    "batch statistics and dropout": {"module": with_norm},
    "averaged weights": {"average_decay": 0.9, "module": with_norm},
    "momentum": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "AMSGrad": {"optimizer__amsgrad": True},
    "another optimizer a network": {"optimizer": lambda parameters, lr: torch.optim.Adam(parameters, lr)},
    "balanced classes": {"class_weight": "balanced"},
    "short epochs": {"num_iter_per_epoch": 1, "batch_size": 32},
    "double precision": {"precision": "float64"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_fit_goes_on_with_the_bits_of_one_never_killed(name, table, epochs, every_epoch, folder):
    X, y = table
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    parameters = {"epochs": 4, "num_gradual": 2, **SETTINGS[name]}
    reference = fast(**parameters).fit(X, y, weights)
    for killed_at in (0, 1, 3):
        epochs[:] = []
        epochs.kill_at = killed_at
        with pytest.raises(Killed):
            fast(**parameters, checkpoint=folder).fit(X, y, weights)
        epochs.kill_at = None
        resumed = fast(**parameters, checkpoint=folder).fit(X, y, weights)
        assert epochs == [0, 1, 2, 3]  # each once
        assert_same_fit(resumed, reference, X)
        assert_same_weights(resumed, reference)
        assert_same_weights(*(_gone_on_with(each, X, y) for each in (resumed, reference)))
        shutil.rmtree(folder)


def _gone_on_with(estimator, X, y):
    return copy.deepcopy(estimator).set_params(forget_rate=0.2, class_weight=None).partial_fit(X, y)


def test_images_that_are_augmented(epochs, every_epoch, folder):
    X, y = images()
    reference = fast(augment=RandomFlip()).fit(X, y)
    epochs[:], epochs.kill_at = [], 2
    estimator = fast(augment=RandomFlip(), checkpoint=folder)
    with pytest.raises(Killed):
        estimator.fit(X, y)
    epochs.kill_at = None
    assert_same_fit(estimator.fit(X, y), reference, X)
    assert epochs == [0, 1, 2, 3]


def test_the_estimate_is_not_made_again(table, epochs, folder, monkeypatch):
    X, y = table
    epochs.kill_at = 0
    with pytest.raises(Killed):
        auto(checkpoint=folder).fit(X, y)
    epochs.kill_at = None
    monkeypatch.setattr(CrossFit, "run_step", None)
    resumed = auto(checkpoint=folder).fit(X, y)
    monkeypatch.undo()
    assert_same_fit(resumed, auto().fit(X, y), X)


def test_an_interrupted_fit_goes_on(table, epochs, every_epoch, folder, monkeypatch):
    X, y = table
    reference = fast().fit(X, y)

    class Interrupts(Callback):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 2:
                raise KeyboardInterrupt

    epochs[:] = []
    estimator = fast(checkpoint=folder).set_callbacks(Interrupts())
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert estimator.n_iter_ == 2
    assert_same_fit(estimator.set_callbacks().fit(X, y), reference, X)
    assert epochs == [0, 1, 2, 3]


def test_on_another_device_it_goes_on_too(table, epochs, every_epoch, folder):
    X, y = table
    epochs.kill_at = 2
    with pytest.raises(Killed):
        fast(checkpoint=folder).fit(X, y)
    epochs.kill_at = None
    assert fast(checkpoint=folder, device="cpu", verbose=0).fit(X, y).n_iter_ == 4
    assert epochs == [0, 1, 2, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_from_the_cpu_to_cuda(table, epochs, every_epoch, folder):
    X, y = table
    epochs.kill_at = 2
    with pytest.raises(Killed):
        fast(checkpoint=folder, device="cpu", module=with_norm).fit(X, y)
    epochs.kill_at = None
    resumed = fast(checkpoint=folder, device="cuda", module=with_norm).fit(X, y)
    assert epochs == [0, 1, 2, 3]
    assert next(resumed.modules_[0].parameters()).is_cuda


# --- when it is written ----------------------------------------------------------------------------------------------


def test_it_is_written_after_the_estimate_after_ten_seconds_and_at_the_end(table, folder, monkeypatch):
    X, y = table
    written, now, run_epoch = [], [0.0], Trainer.run_epoch
    write = _state_file.write

    def note(file, kind, values, **options):
        written.append((len(values["training"]["history"]), values["is_stopped"]))
        return write(file, kind, values, **options)

    def run(trainer, rates=None):
        now[0] += 3 * (rates is None)
        return run_epoch(trainer, rates)

    monkeypatch.setattr(_state_file, "write", note)
    monkeypatch.setattr(Trainer, "run_epoch", run)
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: now[0])
    auto(checkpoint=folder, epochs=10).fit(X, y)
    assert written == [(0, False), (4, False), (8, False), (10, True)]
    written.clear()
    fast(checkpoint=folder, epochs=5).fit(X, y)
    assert written == [(4, False), (5, True)]


def test_a_finished_fit_leaves_one_file(table, every_epoch, folder):
    fast(checkpoint=folder).fit(*table)
    assert files(folder) == [the_file(folder).name]


def test_partial_fit_does_not_look_at_it(table, folder):
    X, y = table
    fast(checkpoint=folder).partial_fit(X, y, classes=[0, 1, 2])
    assert not folder.exists()


def test_nothing_is_written_where_no_folder_is_given(table, monkeypatch):
    monkeypatch.setattr(_state_file, "write", None)
    fast().fit(*table)


# --- what is finished ------------------------------------------------------------------------------------------------


def test_a_finished_fit_is_taken_from_its_file(table, epochs, folder, capsys):
    X, y = table
    first = fast(checkpoint=folder).fit(X, y)
    counting = Counting()
    second = fast(checkpoint=folder, verbose=1).set_callbacks(counting).fit(X, y)
    assert epochs == [0, 1, 2, 3]
    assert_same_fit(first, second, X)
    assert second.history_ == first.history_  # with the durations of then
    assert counting.tasks == ["fit", "fit"]
    out = capsys.readouterr().out
    assert out == f"taken from {the_file(folder)} (4 of 4 epochs)\n"


def test_one_that_goes_on_says_so(table, epochs, every_epoch, folder, capsys):
    epochs.kill_at = 3
    with pytest.raises(Killed):
        fast(checkpoint=folder).fit(*table)
    epochs.kill_at = None
    fast(checkpoint=folder, verbose=1).fit(*table)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"goes on from {the_file(folder)} (3 of 4 epochs)"
    assert len(lines) == 2 and "epoch 4/4" in lines[1]


def test_one_stopped_by_a_callback_is_finished(table, epochs, every_epoch, folder):
    X, y = table
    stopped = fast(checkpoint=folder).set_callbacks(StopAfter(2)).fit(X, y)
    again = fast(checkpoint=folder).fit(X, y)
    assert epochs == [0, 1]
    assert_same_fit(stopped, again, X)


def test_classes_that_starved_are_named_again(folder):
    X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    y = np.array([0] * 30 + [1] * 10)
    estimator = fast(class_floor=0, forget_rate=0.6, num_gradual=1, batch_size=40, lr=0.1, checkpoint=folder)
    text = [told(lambda: estimator.fit(X, y))[1] for _ in range(2)]
    assert text[0] == text[1]


def test_what_a_file_does_not_hold_comes_from_this_call(table, epochs, folder):
    X, y = table
    fast(checkpoint=folder).fit(X, y)
    index = np.arange(1000, 1000 + len(X))
    frame = pd.DataFrame(X, columns=list("abcdefgh"), index=index)
    found = fast(checkpoint=folder).fit(frame, pd.Series(y, index=index))
    assert len(epochs) == 4  # of the first
    assert list(found.feature_names_in_) == list("abcdefgh")
    assert list(found.get_label_issues().index) == list(index)


# --- whose file ------------------------------------------------------------------------------------------------------

OTHER_PARAMETERS = {
    "random_state": 1,
    "epochs": 5,
    "lr": 0.01,
    "forget_rate": 0.3,
    "class_weight": {0: 1, 1: 2, 2: 1},
    "module": Net,
    "module__hidden": (8,),
    "optimizer": torch.optim.SGD,
    "optimizer__weight_decay": 0.1,
    "augment": lambda batch: batch,
    "num_gradual": 2,
    "average_decay": 0.5,
    "precision": "float64",
}


@pytest.mark.parametrize("parameter", OTHER_PARAMETERS)
def test_other_parameters_have_other_files(parameter, table, folder):
    X, y = table
    fast(checkpoint=folder).fit(X, y)
    other = fast(**{parameter: OTHER_PARAMETERS[parameter]})
    assert_same_fit(clone(other).set_params(checkpoint=folder).fit(X, y), other.fit(X, y), X)
    assert len(files(folder)) == 2


OTHER_DATA = {
    "X": lambda X, y: (X + 1e-6, y),
    "the dtype of X": lambda X, y: (X.astype(np.float64), y),
    "y": lambda X, y: (X, np.r_[(y[0] + 1) % 3, y[1:]]),
    "the names of the classes": lambda X, y: (X, y + 1),
    "weights": lambda X, y: (X, y, np.r_[2.0, np.ones(len(y) - 1)]),
    "rows": lambda X, y: (X[:-1], y[:-1]),
}


@pytest.mark.parametrize("name", OTHER_DATA)
def test_other_data_have_other_files(name, table, folder):
    fast(checkpoint=folder).fit(*table)
    data = OTHER_DATA[name](*table)
    assert_same_fit(fast(checkpoint=folder).fit(*data), fast().fit(*data), data[0])
    assert len(files(folder)) == 2


def test_what_changes_nothing_has_the_same_file(table, epochs, folder, capsys):
    X, y = table
    fast(checkpoint=folder).fit(X, y, np.ones(len(X)))
    same = fast(checkpoint=str(folder), verbose=2, device="cpu", epochs=np.int64(4)).set_callbacks(Callback())
    same.fit(np.asfortranarray(X), y.astype(np.int32).tolist())
    assert len(files(folder)) == 1
    assert len(epochs) == 4


class Subclass(CoTeachingClassifier):
    """With a constant that is no parameter."""

    share = 0.1


def test_a_subclass_has_its_own(table, folder, monkeypatch):
    parameters = {"forget_rate": 0.2, "epochs": 2, "random_state": 0, "checkpoint": folder}
    CoTeachingClassifier(**parameters).fit(*table)
    Subclass(**parameters).fit(*table)
    monkeypatch.setattr(Subclass, "share", 0.2)
    Subclass(**parameters).fit(*table)
    assert len(files(folder)) == 3


def test_of_a_dataset_a_thousand_items_are_looked_at(folder):
    X = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    y = np.arange(3000) % 2
    estimator = fast(checkpoint=folder, epochs=1)
    estimator.fit(Items(X), y)
    changed = X.copy()
    changed[1] += 1  # the hole that the docstring names
    estimator.fit(Items(changed), y)
    assert len(files(folder)) == 1
    changed[0] += 1
    estimator.fit(Items(changed), y)
    estimator.fit(Items(X[:-2]), y[:-2])
    assert len(files(folder)) == 3
    in_memory = TensorDataset(torch.tensor(X)), TensorDataset(torch.tensor(np.r_[X[:1], X[1:] + 1]))
    for each in in_memory:
        estimator.fit(each, y)
    assert len(files(folder)) == 5


# --- searches --------------------------------------------------------------------------------------------------------


def search(folder):
    estimator = fast(checkpoint=folder, epochs=2, num_gradual=1)
    return GridSearchCV(estimator, {"lr": [1e-3, 1e-2], "forget_rate": [0.0, 0.2]}, cv=2)


def without_times(results):
    return {name: value for name, value in results.items() if "time" not in name and name != "params"}


def test_a_killed_search_goes_on_where_it_was(table, epochs, folder):
    X, y = table
    reference = search(None).fit(X, y)
    epochs[:], epochs.kill_at = [], 11  # in the second epoch of the sixth fit
    with pytest.raises(Killed):
        search(folder).fit(X, y)
    epochs.kill_at = None
    found = search(folder).fit(X, y)
    assert len(epochs) == 2 * 9 + 1  # eight fits and that of the best, one epoch of one of them twice
    for name, value in without_times(found.cv_results_).items():
        assert_array_equal(value, reference.cv_results_[name])
    assert_same_fit(found.best_estimator_, reference.best_estimator_, X)


@pytest.mark.parametrize(
    "run",
    [
        lambda estimator, X, y: cross_val_predict(estimator, X, y, cv=3, method="predict_proba"),
        lambda estimator, X, y: CleanLearning(estimator, cv_n_folds=3, seed=0).fit(X, y).predict_proba(X),
    ],
    ids=["cross_val_predict", "CleanLearning"],
)
def test_what_was_finished_is_not_trained_again(run, table, epochs, folder):
    X, y = table
    estimator = fast(epochs=2, num_gradual=1)
    expected = run(estimator, X, y)
    epochs[:], epochs.kill_at = [], 5
    with pytest.raises(Killed):
        run(clone(estimator).set_params(checkpoint=folder), X, y)
    epochs.kill_at = None
    found = run(clone(estimator).set_params(checkpoint=folder), X, y)
    n_fits = len(files(folder))
    assert len(epochs) == 2 * n_fits + 1
    assert_array_equal(found, expected)


def test_several_processes_do_not_disturb_each_other(table, folder):
    X, y = table
    reference = fast().fit(X, y)
    estimators = [fast(checkpoint=folder, random_state=seed) for seed in (0, 1, 0, 1)]
    found = Parallel(n_jobs=2)(delayed(_fit)(each, X, y) for each in estimators)
    assert len(files(folder)) == 2
    for each in found[::2]:
        np.testing.assert_allclose(each.predict_proba(X), reference.predict_proba(X), atol=1e-4)
    assert_array_equal(found[0].predict_proba(X), fast(checkpoint=folder).fit(X, y).predict_proba(X))


def _fit(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return estimator.fit(X, y)


PROGRAM = """
import sys, torch, numpy as np
from torch import nn
from skcoteach import CoTeachingClassifier

torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self, n_features, n_classes, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), activation(), nn.Linear(8, n_classes))
    def forward(self, x):
        return self.layers(x) if x.shape[0] not in {"a", "set", "of", None} else x

def make(slope):
    return lambda n_features, n_classes: Net(n_features, n_classes, lambda: nn.LeakyReLU(slope))

X = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
fixed = {"forget_rate": 0.1, "epochs": 2, "random_state": 0}
classifier = CoTeachingClassifier(make(0.1), checkpoint=sys.argv[1], verbose=1, **fixed)
classifier.fit(X, (X[:, 0] > 0).astype(int))
print(classifier.predict_proba(X).tobytes().hex())
"""


def test_another_process_finds_it_for_functions_of_a_script(folder):
    run = functools.partial(subprocess.run, [sys.executable, "-c", PROGRAM, folder], capture_output=True, text=True)
    runs = [run(env=os.environ | {"PYTHONHASHSEED": seed}, check=True).stdout for seed in ("1", "2")]
    assert "taken from" in runs[1] and "taken from" not in runs[0]
    assert runs[0].splitlines()[-1] == runs[1].splitlines()[-1]


# --- files that cannot be used ---------------------------------------------------------------------------------------


def damaged(content):
    return content[:-9] + b"x" + content[-8:]


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "a bit turned": damaged,
    "empty": lambda content: b"",
    "foreign": lambda content: b"PK not ours",
    "without end of line": lambda content: b"skcoteach",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_is_no_good_is_named_and_trained_anew(name, table, epochs, folder):
    X, y = table
    first = fast(checkpoint=folder).fit(X, y)
    file = the_file(folder)
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[name](whole))
    estimator = fast(checkpoint=folder)
    again, text = told(lambda: estimator.fit(X, y))
    assert str(file) in text
    assert len(epochs) == 8
    assert_same_fit(first, again, X)
    assert fast(checkpoint=folder).fit(X, y).n_iter_ == 4 and len(epochs) == 8  # and is good again


def test_another_fits_file_under_this_name_is_not_used(table, epochs, folder):
    X, y = table
    fast(checkpoint=folder, random_state=1).fit(X, y)
    other = the_file(folder)
    fast(checkpoint=folder).fit(X, y)
    (mine,) = (each for each in folder.iterdir() if each != other)
    shutil.copy(other, mine)
    estimator = fast(checkpoint=folder)
    _, text = told(lambda: estimator.fit(X, y))
    assert str(mine) in text and len(epochs) == 12


def test_the_last_good_one_is_used(table, epochs, every_epoch, folder):
    X, y = table
    reference = fast().fit(X, y)
    epochs[:], epochs.kill_at = [], 3
    estimator = fast(checkpoint=folder)
    with pytest.raises(Killed):
        estimator.fit(X, y)
    epochs.kill_at = None
    file = the_file(folder)
    file.write_bytes(damaged(file.read_bytes()))
    again, text = told(lambda: estimator.fit(X, y))
    assert epochs == [0, 1, 2, 2, 3]
    assert str(file) in text
    assert_same_fit(again, reference, X)


def test_the_last_good_one_survives_a_second_accident(table, epochs, every_epoch, folder, monkeypatch):
    X, y = table
    epochs.kill_at = 3
    estimator = fast(checkpoint=folder)
    with pytest.raises(Killed):
        estimator.fit(X, y)
    file = the_file(folder)
    file.write_bytes(damaged(file.read_bytes()))
    monkeypatch.setattr(os, "fsync", lambda opened: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    epochs.kill_at = 4
    with pytest.raises(Killed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
    epochs.kill_at = None
    del epochs[:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
    assert epochs == [2, 3]


def test_sparse_gradients_with_momentum(epochs, folder):
    X, y = words()
    parameters = {"module": SparseWords, "optimizer": torch.optim.SGD, "optimizer__momentum": 0.5, "lr": 0.1}
    first = fast(**parameters, checkpoint=folder).fit(X, y)
    assert_same_fit(fast(**parameters, checkpoint=folder).fit(X, y), first, X)
    assert len(epochs) == 4


class SparseWords(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__(nn.Embedding(10, 4, sparse=True), nn.Flatten(), nn.Linear(24, n_classes))


def test_too_few_data_are_told_again(folder):
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
    estimator = auto(checkpoint=folder)
    text = [told(lambda: estimator.fit(X, y))[1] for _ in range(2)]
    assert text[0] == text[1] and "too few examples" in text[0]


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_hostile_file_runs_no_code(table, epochs, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = table
    fast(checkpoint=folder).fit(X, y)
    file = the_file(folder)
    _state_file.write(file, f"checkpoint-{file.stem}", {"training": RunsCode(), "is_stopped": False})
    estimator = fast(checkpoint=folder)
    _, text = told(lambda: estimator.fit(X, y))
    assert str(file) in text and len(epochs) == 8
    assert not Path("hacked").exists()


def test_a_file_of_another_training_is_not_used_half(table, epochs, folder):
    X, y = table
    first = fast(checkpoint=folder).fit(X, y)
    file = the_file(folder)
    kind = f"checkpoint-{file.stem}"
    values = _state_file.read(file, kind)
    values["training"]["optimizers"] = [{"state": {}, "param_groups": []}]
    _state_file.write(file, kind, values)
    estimator = fast(checkpoint=folder)
    again, text = told(lambda: estimator.fit(X, y))
    assert str(file) in text and len(epochs) == 8
    assert_same_fit(again, first, X)


def test_the_folder_is_gone_in_the_middle(table, folder, every_epoch):
    X, y = table

    class Removes(Callback):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 1:
                shutil.rmtree(folder)

    estimator = fast(checkpoint=folder).set_callbacks(Removes())
    fitted, text = told(lambda: estimator.fit(X, y))
    assert "cannot be written" in text and str(folder) in text
    assert_same_fit(fitted, fast().fit(X, y), X)


def test_the_disk_is_full(table, folder, every_epoch, monkeypatch):
    X, y = table
    fsync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > 2:  # the first file and its folder
            raise OSError(28, "No space left on device")
        return fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    estimator = fast(checkpoint=folder)
    fitted, text = told(lambda: estimator.fit(X, y))
    assert "No space left" in text
    assert_same_fit(fitted, fast().fit(X, y), X)
    assert [name for name in files(folder) if "unfinished" in name] == []
    monkeypatch.undo()
    assert_same_fit(fast(checkpoint=folder).fit(X, y), fitted, X)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_the_seed_has_to_be_an_integer(random_state, table, folder):
    with pytest.raises(ValueError, match="checkpoint=.* needs an integer random_state"):
        fast(checkpoint=folder, random_state=random_state).fit(*table)


def test_what_has_no_digest_is_named(table, folder):
    drawn = torch.Generator()
    with pytest.raises(ValueError, match="checkpoint: augment's drawn is or holds a torch.*Generator"):
        fast(checkpoint=folder, augment=lambda batch: batch + 0 * torch.rand(1, generator=drawn)).fit(*table)
    assert not folder.exists()


class OtherTensor(torch.Tensor):
    """A tensor of another class."""

    def __deepcopy__(self, memo):
        return self.detach().clone().as_subclass(OtherTensor)


class WithOtherTensor(Net):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.register_buffer("mean", torch.zeros(3).as_subclass(OtherTensor))


def test_modules_that_hold_what_no_file_can_are_refused_before_the_training(table, epochs, folder):
    with pytest.raises(ValueError, match="the state of network 1.mean .*OtherTensor"):
        fast(checkpoint=folder, module=WithOtherTensor).fit(*table)
    assert epochs == []


def test_optimizers_that_hold_such_are_trained_with_a_warning(table, epochs, every_epoch, folder):
    X, y = table
    estimator = fast(checkpoint=folder, optimizer=NotedInState)
    fitted, text = told(lambda: estimator.fit(X, y))
    assert re.search(r"optimizers\[0\]\.state\.0\.noted \(builtins\.set\)", text)
    assert epochs == [0, 1, 2, 3]
    assert_same_fit(fitted, fast(optimizer=NotedInState).fit(X, y), X)
    assert files(folder) == []


@pytest.mark.parametrize("given", [3, True, b"folder"])
def test_the_folder_is_a_path(given, table):
    with pytest.raises(ValueError, match="'checkpoint' parameter"):
        fast(checkpoint=given).fit(*table)


def test_a_folder_that_cannot_be_made_is_told_before_the_training(table, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="checkpoint=.*file.* cannot be made"):
        fast(checkpoint=tmp_path / "file" / "inside").fit(*table)
    with pytest.raises(ValueError, match="checkpoint=.* cannot be made: embedded null"):
        fast(checkpoint="a\0b").fit(*table)
    with pytest.raises(ValueError, match='checkpoint="" names no folder'):
        fast(checkpoint="").fit(*table)
