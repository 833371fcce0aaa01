"""A saved classifier predicts the same, bit for bit; its file runs no code and holds no training labels."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import LABELS_OF_EVERY_KIND, Net, Words, auto, fast, images, told, words
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skcoteach
from skcoteach import CoTeachingClassifier, _state_file
from skcoteach.networks import MLP, CifarCNN, SmallCNN
from skcoteach.recipes import PaperAdam

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "classifier"


def saved(estimator, file, **given):
    assert skcoteach.save(estimator, file) is None
    return skcoteach.load(file, **given)


def lazy(n_classes):
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(n_classes))


def with_norm(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_classes))


SETTINGS = {
    "defaults": {},
    "a rate that is chosen": {"forget_rate": "auto"},
    "options of the network": {"module__hidden": (8, 8, 8)},
    "a network of the package": {"module": MLP, "module2": MLP, "module2__hidden": np.int64(4)},
    "averages": {"average_decay": 0.9},
    "double precision": {"precision": "float64"},
    "another optimizer": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "weights of classes": {"class_weight": {np.int64(0): np.float32(1), 1: 2, 2: 1}},
    "a device": {"device": torch.device("cpu")},
    "a checkpoint": {"checkpoint": Path("checkpoints")},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_saved_classifier_predicts_the_same(name, table, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = table
    estimator = fast(**SETTINGS[name]).fit(X, y)
    loaded = saved(estimator, file)
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    assert_array_equal(loaded.predict(X), estimator.predict(X))
    parameters, expected = loaded.get_params(), estimator.get_params()
    assert {each: str(value) for each, value in parameters.items()} == {
        each: str(value) for each, value in expected.items()
    } | {"class_weight": str(parameters["class_weight"])}
    assert not any(isinstance(value, np.generic) for value in parameters.values())


def test_all_that_was_found_of_the_noise_comes_back_and_nothing_of_examples(table, file):
    X, y = table
    estimator = auto().fit(pd.DataFrame(X, columns=list("abcdefgh")), y)
    loaded = saved(estimator, file)
    gone = {"kept_frequency_", "label_quality_"}
    ours, theirs = ({name for name in vars(each) if name.endswith("_")} for each in (loaded, estimator))
    assert ours == theirs - gone
    for name in ours - {"modules_"}:
        one, other = getattr(loaded, name), getattr(estimator, name)
        assert type(one) is type(other), name
        assert_array_equal(one, other)
    with pytest.raises(NotFittedError, match="nothing of single examples"):
        loaded.get_label_issues()


@pytest.mark.parametrize(
    ("module", "X", "y"),
    [
        (Net, None, None),
        (lazy, None, None),
        (with_norm, None, None),
        (Words, *words()),
        (CifarCNN, np.random.default_rng(0).random((16, 3, 28, 28), np.float32), np.arange(16) % 2),
        (SmallCNN, *images()),
        (None, *images()),
        (lambda n_channels, n_classes: SmallCNN(n_channels, n_classes), *images(dtype=np.float32)),
    ],
    ids=["own forward", "lazy", "batch statistics", "words", "CIFAR", "images", "no module", "own images"],
)
def test_networks_of_every_kind(module, X, y, table, file):
    X, y = table if X is None else (X, y)
    estimator = fast(module=module, epochs=1)
    if module is CifarCNN:
        estimator.set_params(module__n_outputs=2)
    estimator.fit(X, y)
    own = module not in (None, SmallCNN, CifarCNN)
    loaded = saved(estimator, file, module=module if own else None)
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


def test_an_instance_is_given_again(table, file):
    X, y = table
    estimator = fast(module=with_norm(8, 3), module2=with_norm(8, 3)).fit(X, y)
    again = [with_norm(8, 3) for _ in range(2)]
    before = [each[0].weight.clone() for each in again]
    loaded = saved(estimator, file, module=again[0], module2=again[1])
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    assert all(torch.equal(each[0].weight, value) for each, value in zip(again, before, strict=True))


@pytest.mark.parametrize("kind", [*LABELS_OF_EVERY_KIND, "bool"])
def test_classes_come_back(kind, table, file):
    X, y = table
    classes = np.array([False, True]) if kind == "bool" else LABELS_OF_EVERY_KIND[kind]
    labels = classes[y % len(classes)]
    estimator = fast(epochs=1).fit(X, labels)
    loaded = saved(estimator, file)
    assert loaded.classes_.dtype == estimator.classes_.dtype
    assert_array_equal(loaded.classes_, estimator.classes_)
    predicted = loaded.predict(X)
    assert predicted.dtype == estimator.predict(X).dtype
    assert_array_equal(predicted, estimator.predict(X))


def test_other_classes_are_refused(table, file):
    X, y = table
    estimator = fast(epochs=1).fit(X, np.array([1, 2, 3], dtype=np.longdouble)[y])
    with pytest.raises(ValueError, match="only numbers, strings and bools can be saved"):
        skcoteach.save(estimator, file)
    assert not file.exists()


def test_partial_fit_goes_on(table, file):
    X, y = table
    estimator = fast(optimizer=torch.optim.SGD, lr=0.1).fit(X, y)  # which has no state
    loaded = saved(estimator, file).partial_fit(X, y)
    assert loaded.n_iter_ == 5
    assert [entry["epoch"] for entry in loaded.history_] == [0, 1, 2, 3, 4]
    expected = estimator.forget_training_data().partial_fit(X, y)
    assert_array_equal(loaded.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_partial_fit_starts_the_optimizer_anew(average_decay, table, file):
    X, y = table
    loaded = saved(fast(average_decay=average_decay).fit(X, y), file)
    assert saved(loaded.partial_fit(X, y), file).n_iter_ == 5


def test_fit_starts_again(table, file):
    X, y = table
    estimator = fast().fit(X, y)
    assert_array_equal(saved(estimator, file).fit(X, y).predict_proba(X), estimator.predict_proba(X))


def test_a_file_holds_no_labels_and_grows_with_no_example(file):
    sizes = []
    for n in (200, 5200):
        X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
        estimator = fast(epochs=1, num_iter_per_epoch=1).fit(X, np.arange(n) % 3)
        skcoteach.save(estimator, file)
        sizes.append(file.stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 200


def test_what_is_left_out_is_named(table, file):
    X, y = table
    estimator = fast(optimizer=PaperAdam, augment=nn.Identity()).fit(X, y)
    skcoteach.save(estimator, file)
    loaded, text = told(lambda: skcoteach.load(file))
    assert text.endswith("as by default: augment, optimizer.")
    assert loaded.augment is None and loaded.optimizer is torch.optim.Adam
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


def activated(n_features, n_classes, activation=nn.ReLU):
    return nn.Sequential(nn.Linear(n_features, 8), activation(), nn.Linear(8, n_classes))


def test_options_of_a_module_that_are_no_numbers_are_named(table, file):
    X, y = table
    estimator = fast(module=activated, module__activation=nn.Tanh).fit(X, y)
    skcoteach.save(estimator, file)
    loaded, text = told(lambda: skcoteach.load(file, module=lambda n_features, n_classes: activated(8, 3, nn.Tanh)))
    assert "module__activation" in text
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


def test_a_network_of_ones_own_is_asked_for(table, file):
    X, y = table
    skcoteach.save(fast(module=Net, module2=with_norm).fit(X, y), file)
    with pytest.raises(ValueError, match=r"give again what makes it, module \(Net\), module2 \(with_norm\)"):
        skcoteach.load(file)
    with pytest.raises(ValueError, match=r"module2 \(with_norm\)"):
        skcoteach.load(file, module=Net)


@pytest.mark.parametrize(
    "other",
    [
        lambda n_features, n_classes: Net(n_features, n_classes, 8),
        lambda n_features, n_classes: nn.Sequential(Net(n_features, n_classes)),
        with_norm,
    ],
)
def test_another_network_is_refused(other, table, file):
    skcoteach.save(fast(module=Net).fit(*table), file)
    with pytest.raises(ValueError, match="is not the one that was saved: .*layers.0.weight"):
        skcoteach.load(file, module=other)


def test_parameters_that_were_changed_after_the_fit_are_told_when_it_is_saved(table, file):
    estimator = fast().fit(*table).set_params(module__hidden=(8,))
    with pytest.raises(ValueError, match="is not the one that was saved"):
        skcoteach.save(estimator, file)
    assert not file.exists()


class Subclass(CoTeachingClassifier):
    """Whose name is not in a file."""


def test_what_cannot_be_saved(table, file):
    with pytest.raises(NotFittedError):
        skcoteach.save(fast(), file)
    with pytest.raises(TypeError, match="A Subclass cannot be saved"):
        skcoteach.save(Subclass(), file)
    with pytest.raises(TypeError, match="A Pipeline cannot be saved.* Save the last step, and the others with joblib"):
        skcoteach.save(make_pipeline(StandardScaler(), fast()), file)
    with pytest.raises(OSError, match="no such folder|No such file"):
        skcoteach.save(fast(epochs=1).fit(*table), file / "inside" / "another")


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_hostile_file_runs_no_code(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _state_file.write(file, "estimator", {"parameters": RunsCode()})
    with pytest.raises(ValueError, match="cannot be loaded"):
        skcoteach.load(file)
    assert not Path("hacked").exists()


@pytest.mark.parametrize("key", ["optimizer", "module"])
def test_nothing_is_looked_up_by_a_name_from_the_file(key, table, file):
    skcoteach.save(fast(epochs=1, module=MLP).fit(*table), file)
    values = _state_file.read(file, "estimator")
    values["parameters"][key] = "system"
    _state_file.write(file, "estimator", values)
    with pytest.raises(ValueError, match="cannot be loaded"):
        skcoteach.load(file)


def changed(values, path, value):
    """The values with another one at a place."""
    if not path:
        return value
    first, *rest = path
    inside = changed(values[first], rest, value) if rest else value
    if isinstance(values, list):
        return [inside if number == first else each for number, each in enumerate(values)]
    return values | {first: inside}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ([], None),
        ([], {}),
        (["given_again"], -1),
        (["left_out"], [1]),
        (["networks"], None),
        (["networks", 0], 5),
        (["networks", 0, "parameters", "1.weight"], 5),
        (["networks", 0, "parameters", "1.weight"], None),
        (["seed"], "x"),
        (["classes", "values"], -1),
        (["classes", "values"], [[1]]),
        (["classes", "dtype"], "nonsense"),
        (["numbers", "temperature_"], "x"),
        (["numbers", "predict"], "hello"),
        (["arrays", "predict"], None),
        (["arrays", "noise_matrix_"], 3),
        (["history"], [1]),
        (["form", "unknown"], 1),
        (["device"], "nonsense"),
        (["precision"], "nonsense"),
        (["parameters", "epochs_"], 1),
    ],
)
def test_what_is_no_classifier_is_refused(path, value, table, file):
    skcoteach.save(fast(epochs=1).fit(*table), file)
    _state_file.write(file, "estimator", changed(_state_file.read(file, "estimator"), path, value))
    with pytest.raises(ValueError, match="cannot be loaded"):
        skcoteach.load(file)


@pytest.mark.parametrize("attribute", ["temperature_", "history_"])
def test_what_was_changed_by_hand_is_written_or_told(attribute, table, file):
    estimator = fast(epochs=1).fit(*table)
    if attribute == "temperature_":
        estimator.temperature_ = np.float64(2)
        assert saved(estimator, file).temperature_ == 2
    else:
        estimator.history_[0]["note"] = {1}
        with pytest.raises(ValueError, match=r"history\[0\].note .*set.* cannot be written"):
            skcoteach.save(estimator, file)


@pytest.mark.parametrize("hidden", [np.array([4, 4]), range(8, 10)])
def test_options_that_are_rows_of_numbers_are_written(hidden, table, file):
    X, y = table
    estimator = fast(epochs=1, module__hidden=hidden).fit(X, y)
    assert_array_equal(saved(estimator, file).predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize("content", [b"", b"skcoteach", b"PK"])
def test_other_files_are_refused(content, file):
    file.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be loaded"):
        skcoteach.load(str(file))
    with pytest.raises(FileNotFoundError):
        skcoteach.load(file.with_name("another"))
