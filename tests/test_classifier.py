"""The public contract of CoTeachingClassifier, held through what its users call."""

import copy
import inspect
import io
import pickle
import random
import subprocess
import sys
import textwrap
import warnings
from unittest import mock

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from cleanlab import Datalab
from cleanlab.classification import CleanLearning
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import spearmanr
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits, make_blobs
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import noisy_labels, transition_matrix
from skcoteach.networks import MLP, SmallCNN
from skcoteach.training import CoTeaching

pytestmark = pytest.mark.filterwarnings("error")

FAST = {"forget_rate": 0.2, "epochs": 4, "batch_size": 64, "random_state": 0}


def fast(**parameters):
    return CoTeachingClassifier(**{**FAST, **parameters})


class Net(nn.Module):
    """A user's network, with a parameter of its own and lazy about nothing."""

    def __init__(self, n_features, n_classes, hidden=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, hidden), nn.Tanh(), nn.Linear(hidden, n_classes))

    def forward(self, x):
        return self.layers(x)


class Items(Dataset):
    """A map-style Dataset; its own labels are nonsense and must not be looked at."""

    def __init__(self, X):
        self.X = torch.as_tensor(np.array(X))

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], "not a label"


# scikit-learn's own checks


def run_checks(estimator, expected_failures=None):
    # the checks ask whether torch was built for CUDA where they need to know whether there is a device
    with mock.patch("torch.backends.cuda.is_built", torch.cuda.is_available), warnings.catch_warnings():
        if estimator.forget_rate == "auto":  # the data of the checks are too small for it
            warnings.filterwarnings("ignore", 'forget_rate="auto": too few data to estimate', UserWarning)
        return check_estimator(estimator, on_fail=None, on_skip=None, expected_failed_checks=expected_failures)


def assert_checks_ran(results, allowed_failures=()):
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(allowed_failures)
    absent = ("cupy", "dpnp", "cuda", "XPU", "MPS", "mps", "is not available")
    for result in results:
        if result["status"] == "skipped":
            assert any(word in str(result["exception"]) for word in absent), result
    passed = [r for r in results if r["status"] == "passed"]
    assert len(passed) > 60
    assert sum("array_api" in r["check_name"] for r in passed) >= 7


@pytest.mark.parametrize(
    "parameters", [{}, {"epochs": 40, "batch_size": 512, "forget_rate": 0.1}], ids=["defaults", "short"]
)
def test_every_check_of_scikit_learn_passes_in_float64(parameters):
    assert_checks_ran(run_checks(CoTeachingClassifier(precision="float64", **parameters)))


def test_in_float32_only_the_weight_checks_at_1e_7_may_fail():
    reason = "compares at 1e-7, which float32 cannot hold; test_float32_weights_equal_repetition bounds the difference"
    may_fail = ["check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"]
    results = run_checks(CoTeachingClassifier(), dict.fromkeys(may_fail, reason))
    assert_checks_ran(results, [r["check_name"] for r in results if r["status"] == "xfail"])
    assert {r["check_name"] for r in results if r["status"] == "xfail"} <= set(may_fail)


# parameters


def test_prefixed_parameters_are_attributes_and_parameters():
    estimator = CoTeachingClassifier(module__hidden=7, module2__hidden=9, optimizer__betas=(0.5, 0.9))
    assert estimator.module__hidden == 7
    for deep in (False, True):
        parameters = estimator.get_params(deep=deep)
        assert parameters["module__hidden"] == 7
        assert parameters["module2__hidden"] == 9
        assert parameters["optimizer__betas"] == (0.5, 0.9)


@pytest.mark.parametrize("name", ["hidden", "modul__hidden", "module__", "optimizer", "optimiser__lr", "forgetrate"])
def test_unknown_names_are_refused(name):
    if name != "optimizer":
        with pytest.raises(TypeError, match=name):
            CoTeachingClassifier(**{name: 1})
        estimator = CoTeachingClassifier()
        before = estimator.get_params()
        with pytest.raises(ValueError, match=name):
            estimator.set_params(**{name: 1, "lr": 5.0})
        assert estimator.get_params() == before


def test_set_params_takes_known_and_prefixed_names():
    estimator = CoTeachingClassifier()
    assert estimator.set_params(lr=0.5, module__hidden=3) is estimator
    assert (estimator.lr, estimator.module__hidden) == (0.5, 3)
    assert estimator.set_params() is estimator


def test_clone_repr_and_pickle_keep_nested_parameters():
    estimator = CoTeachingClassifier(Net, module__hidden=5, optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=0.1)
    for other in (clone(estimator), pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert other.get_params() == estimator.get_params()
    assert "module__hidden=5" in repr(estimator)
    assert "optimizer__momentum=0.9" in repr(estimator)
    assert "module__hidden" in estimator._repr_html_()
    with pytest.raises(NotFittedError):
        clone(estimator).predict([[0.0, 1.0]])


@pytest.mark.parametrize("parameters", [{}, {"module__hidden_": 3}, {"optimizer__lambda_": 1}])
def test_an_unfitted_estimator_is_not_taken_for_a_fitted_one(parameters, table):
    estimator = fast(**parameters)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError):
            getattr(estimator, method)(table[0])


def test_prefixed_names_that_nobody_takes_are_refused_in_fit(table):
    for parameters, words in (
        ({"module__hiden": 3}, "module__hiden"),
        ({"module2__hiden": 3}, "module2__hiden"),
        ({"optimizer__momentum": 0.9}, "optimizer__momentum"),
        ({"optimizer__lr": 0.1}, "lr instead"),
    ):
        with pytest.raises(ValueError, match=words):
            fast(**parameters).fit(*table)


def test_optimizer_parameters_arrive(table):
    X, y = table
    plain = fast(optimizer=torch.optim.SGD, lr=0.1).fit(X, y).predict_proba(X)
    momentum = fast(optimizer=torch.optim.SGD, lr=0.1, optimizer__momentum=0.9).fit(X, y).predict_proba(X)
    assert not np.allclose(plain, momentum)


# fitted attributes


def test_fitted_attributes_are_those_of_the_contract(table):
    X, y = table
    estimator = fast(epochs=5, num_gradual=3, forget_rate=0.3, epoch_decay_start=2, lr=0.01).fit(X, y)
    public = {name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")}
    assert public == {
        "classes_",
        "n_features_in_",
        "modules_",
        "forget_rate_",
        "forget_rate_schedule_",
        "n_iter_",
        "history_",
        "kept_frequency_",
        "label_quality_",
    }
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.n_features_in_ == 8
    assert estimator.n_iter_ == 5
    assert estimator.forget_rate_ == 0.3 and isinstance(estimator.forget_rate_, float)
    assert_allclose(estimator.forget_rate_schedule_, [0, 0.15, 0.3, 0.3, 0.3])
    assert len(estimator.modules_) == 2 and not any(module.training for module in estimator.modules_)
    for per_example in (estimator.kept_frequency_, estimator.label_quality_):
        assert per_example.shape == y.shape and per_example.dtype == np.float64
        assert (0 <= per_example).all() and (per_example <= 1).all()

    assert [record["epoch"] for record in estimator.history_] == [0, 1, 2, 3, 4]
    assert_allclose([record["lr"] for record in estimator.history_], [0.01, 0.01, 0.01, 0.01 * 2 / 3, 0.01 / 3])
    assert_allclose([record["forget_rate"] for record in estimator.history_], [0, 0.15, 0.3, 0.3, 0.3])
    for record in estimator.history_:
        assert set(record) == {"epoch", "lr", "forget_rate", "loss", "accuracy", "agreement", "duration"}
        assert len(record["loss"]) == len(record["accuracy"]) == 2
        assert all(0 <= value <= 1 for value in (*record["accuracy"], record["agreement"]))
        assert record["duration"] > 0


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


def test_partial_fit_repeated_is_fit(table):
    X, y = table
    whole = fast().fit(X, y)
    parts = fast()
    for _ in range(FAST["epochs"]):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    assert parts.n_iter_ == whole.n_iter_
    assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))
    without_time = [[{**record, "duration": 0} for record in each.history_] for each in (whole, parts)]
    assert without_time[0] == without_time[1]
    assert not hasattr(parts, "kept_frequency_") and not hasattr(parts, "label_quality_")


def test_partial_fit_goes_on_from_fit_with_the_state_of_the_optimizer(table):
    X, y = table
    estimator = fast(epochs=3).fit(X, y)
    assert hasattr(estimator, "kept_frequency_")
    estimator.partial_fit(X[:50], y[:50])
    assert estimator.n_iter_ == 4 and len(estimator.history_) == 4
    assert estimator.history_[-1]["lr"] == estimator.history_[-2]["lr"]  # beyond the plan its last value holds
    assert not hasattr(estimator, "kept_frequency_") and not hasattr(estimator, "label_quality_")
    steps = [each["step"] for s in estimator._state.optimizer_states for each in s["state"].values()]
    assert steps and {int(step) for step in steps} == {3 * 3 + 1}


def test_partial_fit_takes_the_options_of_the_optimizer_that_are_set_now(table):
    X, y = table
    make = fast(optimizer=torch.optim.SGD, lr=0.1, optimizer__momentum=0.0)
    first = make.fit(X, y)
    changed = copy.deepcopy(first).set_params(optimizer__momentum=0.9)
    for estimator in (first, changed):
        estimator.partial_fit(X, y)
    assert not np.array_equal(first.predict_proba(X), changed.predict_proba(X))


def test_partial_fit_refuses_what_it_cannot_do(table):
    X, y = table
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        fast().partial_fit(X, y)
    with pytest.raises(ValueError, match="not among the classes"):
        fast().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="1d array"):
        fast().partial_fit(X, y, classes=[[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="classes contains NaN"):
        fast().partial_fit(X, y, classes=[0.0, 1.0, 2.0, np.nan])
    with pytest.raises(ValueError, match="balanced"):
        fast(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    estimator = fast().partial_fit(X, y, classes=[0, 1, 2])
    before = estimator.predict_proba(X)
    with pytest.raises(ValueError, match="differs from the classes"):
        estimator.partial_fit(X, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="features"):
        estimator.partial_fit(X[:, :3], y)
    assert estimator.n_iter_ == 1
    assert_array_equal(estimator.predict_proba(X), before)


# data of every kind


def kinds_of_table(X, folder):
    memory_map = np.memmap(folder / "X.dat", dtype=np.float64, mode="w+", shape=X.shape)
    memory_map[:] = X
    memory_map.flush()
    names = [f"column {i}" for i in range(X.shape[1])]
    return {
        "float64": X.astype(np.float64),
        "fortran": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "list": X.tolist(),
        "tensor": torch.tensor(X),
        "tensor64": torch.tensor(X).double(),
        "memmap": np.memmap(folder / "X.dat", dtype=np.float64, mode="r", shape=X.shape),
        "pandas": pd.DataFrame(X, columns=names),
        "polars": pl.DataFrame(X, schema=names),
        "csr": sparse.csr_array(X),
        "csc": sparse.csc_matrix(X),
        "dataset": Items(X),
        "subset": Subset(Items(X), range(len(X))),
        "tensor dataset": TensorDataset(torch.tensor(X)),
        "list of tensors": list(torch.tensor(X)),
        "list of items": [(x, 1) for x in torch.tensor(X)],
    }


def test_every_kind_of_table_gives_the_same_bits(table, tmp_path):
    X, y = table
    expected = fast().fit(X, y).predict_proba(X)
    for kind, data in kinds_of_table(X, tmp_path).items():
        estimator = fast().fit(data, y)
        proba = estimator.predict_proba(data)
        assert isinstance(proba, np.ndarray), kind
        assert_array_equal(proba, expected, err_msg=kind)
        assert estimator.score(data, y) == pytest.approx(np.mean(estimator.classes_[expected.argmax(1)] == y)), kind


def test_x_is_used_in_place_and_never_changed(table):
    X, y = (each.copy() for each in table)
    tensor = torch.from_numpy(X.copy())
    fast().fit(X, y).predict(X)
    fast().fit(tensor, y).predict(tensor)
    assert_array_equal(X, table[0])
    assert_array_equal(tensor.numpy(), table[0])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["ash", "birch", "cedar"]),
        np.array(["ash", "birch", "cedar"], dtype=object),
        np.array([-5, 3, 8]),
        np.array([0.0, 1.0, 7.0]),
        np.array([10, 20, 30], dtype=np.uint8),
    ],
    ids=["str", "object", "int", "float", "uint8"],
)
def test_labels_of_every_kind_come_back(labels, table):
    X, y = table
    estimator = fast(epochs=15).fit(X, labels[y])
    assert_array_equal(estimator.classes_, labels)
    assert estimator.classes_.dtype == labels.dtype
    assert estimator.predict(X).dtype == labels.dtype
    assert estimator.score(X, labels[y]) > 0.8


def test_labels_as_bools_lists_tensors_and_series(table):
    X, y = table
    two = y == 1
    estimator = fast().fit(X, two)
    assert_array_equal(estimator.classes_, [False, True])
    assert estimator.predict(X).dtype == bool
    expected = fast().fit(X, y).predict_proba(X)
    for labels in (y.tolist(), torch.tensor(y), pd.Series(y), pl.Series(y), torch.tensor(y).to(torch.uint8)):
        assert_array_equal(fast().fit(X, labels).predict_proba(X), expected)


def images(n=60, dtype=np.uint8):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.integers(0, 100, (n, 1, 8, 8)) + 100 * y[:, None, None, None] * (np.arange(8) < 4)
    return X.astype(dtype), y


def test_bytes_of_images_are_divided_by_255():
    X, y = images()
    as_bytes = fast(epochs=3).fit(X, y).predict_proba(X)
    scaled = (X / 255).astype(np.float32)
    assert_allclose(as_bytes, fast(epochs=3).fit(scaled, y).predict_proba(scaled), atol=1e-6)
    assert_array_equal(as_bytes, fast(epochs=3).fit(torch.tensor(X), y).predict_proba(torch.tensor(X)))
    assert_array_equal(as_bytes, fast(epochs=3).fit(Items(X), y).predict_proba(Items(X)))


def test_another_kind_of_dtype_at_predict_is_refused():
    X, y = images()
    on_bytes = fast(epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="fitted on uint8"):
        on_bytes.predict(X.astype(np.float32))
    on_floats = fast(epochs=1).fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match="fitted on floating"):
        on_floats.predict(torch.tensor(X))


def test_bytes_and_integers_in_tables_are_numbers(table):
    y = table[1]
    X = np.random.default_rng(0).integers(0, 255, (len(y), 5))
    expected = fast().fit(X.astype(np.float32), y).predict_proba(X.astype(np.float32))
    for dtype in (np.uint8, np.int64, np.uint16, np.int32):
        assert_array_equal(fast().fit(X.astype(dtype), y).predict_proba(X.astype(dtype)), expected)
    assert_array_equal(fast().fit(X.astype(np.float32), y).predict_proba(X), expected)


def test_integers_stay_integers_for_an_embedding():
    class Words(nn.Module):
        def __init__(self, n_classes):
            super().__init__()
            self.embedding = nn.Embedding(10, 4)
            self.linear = nn.Linear(4, n_classes)

        def forward(self, x):
            return self.linear(self.embedding(x).mean(1))

    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    X = rng.integers(0, 5, (80, 6)) + 5 * y[:, None]
    estimator = fast(module=Words, epochs=40, lr=0.05).fit(X, y)
    assert estimator.score(X, y) == 1
    with pytest.raises(ValueError, match="fitted on integers"):
        estimator.predict(X.astype(float))


def test_three_axes_need_a_module_and_work_with_one():
    X, y = images()
    X = X[:, 0]
    with pytest.raises(ValueError, match="module=None makes a network for X of shape"):
        fast().fit(X, y)
    estimator = fast(module=lambda n_features, n_classes: nn.Sequential(nn.Flatten(), nn.Linear(n_features, n_classes)))
    assert estimator.fit(X, y).predict_proba(X).shape == (60, 2)


# tables that float32 cannot hold


@pytest.mark.parametrize(
    "make, columns",
    [
        (lambda X: X + 1e8, "0, 1, 2, 3, 4, ..."),
        (lambda X: X * 1e-50, "0, 1, 2, 3, 4, ..."),
        (lambda X: X + 1e9 * (np.arange(8) == 3), "3"),
        (lambda X: sparse.csr_array(X * (np.arange(8) == 6) * 1e-48), "6"),
        (lambda X: torch.from_numpy(X + 1e9 * (np.arange(8) == 2)), "2"),
    ],
    ids=["offset", "tiny", "one column", "sparse", "tensor"],
)
def test_a_table_whose_differences_float32_does_not_hold_gets_a_warning_that_names_the_columns(make, columns, table):
    X, y = table
    X = make(X.astype(np.float64))
    words = rf"^Column\(s\) {columns} of X: float32 does not hold.*StandardScaler"
    for call in (lambda: fast(epochs=1).fit(X, y), lambda: fast().partial_fit(X, y, classes=[0, 1, 2])):
        with pytest.warns(UserWarning, match=words) as told:
            call()
        assert len(told) == 1 and told[0].filename == __file__
    fast(epochs=1, precision="float64").fit(X, y)


def test_tables_that_float32_holds_get_no_warning(table):
    X, y = table
    X = X.astype(np.float64)
    for held in (
        X * 1e7 + 1.7e9,
        X + 1e4,
        np.c_[X, np.full(len(X), 1e9 + 0.3)],
        np.exp(4 * X),
        X + 1e8 * (y == 1)[:, None],
    ):
        fast(epochs=1).fit(held, y)
    fast(epochs=1).fit((X + 1e8).astype(np.float32), y)  # lost before


# modules


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_networks_whose_weights_are_computed_anew_by_every_forward_go_on(norm, table):
    X, y = table

    def module():
        return nn.Sequential(norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))

    callback = StopWhen(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        instances = module(), module()
        instances[0](torch.from_numpy(X.copy()))  # leaves a weight that hangs on a graph
        estimator = fast(module=module).set_callbacks(callback).fit(X, y)
        assert_array_equal(copy.deepcopy(estimator).predict_proba(X), estimator.predict_proba(X))
        estimator = fast(module=module).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y)
        fitted = fast(module=instances[0], module2=instances[1]).fit(X, y)
    assert len(callback.seen) == 2 and estimator.n_iter_ == 2 and fitted.n_iter_ == 4


def test_scripted_instances_are_refused(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against scripting
        scripted = [torch.jit.script(Net(8, 3)) for _ in range(2)]
    with pytest.raises(ValueError, match="module is a scripted module.*compile=True"):
        fast(module=scripted[0], module2=scripted[1]).fit(*table)


def tokens_with_one_unknown():
    tokens = np.random.default_rng(0).integers(0, 10, (60, 4))
    tokens[-1, 0] = 99
    return tokens, np.arange(60) % 3


def of_tokens(n_classes):
    return nn.Sequential(nn.Embedding(10, 5), nn.Flatten(), nn.Linear(20, n_classes))


def test_an_index_that_the_embedding_does_not_have_is_told_wherever_it_stands():
    X, y = tokens_with_one_unknown()
    with pytest.raises(
        ValueError, match=r"Sequential cannot take a batch of X with shape \(60, 4\).*int64: index out of"
    ):
        fast(module=of_tokens).fit(X, y)
    estimator = fast(module=of_tokens).fit(X[:-1], y[:-1])
    with pytest.raises(ValueError, match="Sequential cannot take a batch of X .* index out of range"):
        estimator.predict(X)


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"optimizer": torch.optim.SparseAdam}, "optimizer=SparseAdam cannot train these networks.*dense gradients"),
        ({"optimizer__differentiable": True}, "optimizer=Adam cannot train these networks with its options"),
        ({"optimizer__capturable": True}, "optimizer=Adam cannot train these networks with its options"),
        ({"optimizer__params": [1]}, "optimizer__params is not used"),
        ({"exponent": 1e-17}, r"exponent=1e-17 makes the warm-up end at a forget rate of 0.2 \*\* exponent = 1"),
    ],
)
def test_options_that_torch_or_arithmetic_refuse_late_are_told(parameters, words, table):
    with pytest.raises(ValueError, match=words):
        fast(**parameters).fit(*table)


def test_what_the_users_own_optimizer_raises_passes_unchanged(table):
    class Refusing(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="^my own$"):
        fast(optimizer=Refusing).fit(*table)


def test_a_batch_larger_than_any_data_is_all_of_them(table):
    X, y = table
    whole, huge = (fast(batch_size=size).fit(X, y).predict_proba(X) for size in (len(X), 2**70))
    assert_array_equal(whole, huge)


def test_default_networks_follow_the_axes_of_x(table):
    assert all(isinstance(module, MLP) for module in fast(epochs=1).fit(*table).modules_)
    assert all(isinstance(module, SmallCNN) for module in fast(epochs=1).fit(*images()).modules_)


def test_an_instance_is_where_the_first_network_starts_and_is_never_changed(table):
    X, y = table
    first, second = Net(8, 3), Net(8, 3)
    before = [parameter.clone() for parameter in first.parameters()]
    estimator = fast(module=first, module2=second, lr=1e-12, epochs=1).fit(X, y)
    for old, now, fitted in zip(before, first.parameters(), estimator.modules_[0].parameters(), strict=True):
        assert torch.equal(old, now)
        assert_allclose(old.detach(), fitted.detach(), atol=1e-6)
    assert estimator.modules_[0] is not first
    with pytest.raises(ValueError, match="module2 must be an instance too"):
        fast(module=first).fit(X, y)


def test_networks_that_can_never_disagree_are_refused(table):
    X, y = table
    shared, other = Net(8, 3), Net(8, 3)
    other.layers[0] = shared.layers[0]
    with pytest.raises(ValueError, match="share parameters|equal weights"):
        fast(module=lambda: shared).fit(X, y)
    with pytest.raises(ValueError, match="equal weights"):
        fast(module=shared, module2=copy.deepcopy(shared)).fit(X, y)


def test_module2_is_made_like_the_first_unless_told_otherwise(table):
    X, y = table
    estimator = fast(module=Net, module__hidden=6, module2__hidden=9).fit(X, y)
    assert [module.layers[0].out_features for module in estimator.modules_] == [6, 9]
    estimator = fast(module=Net, module2=MLP, module__hidden=6, module2__hidden=(5,)).fit(X, y)
    assert isinstance(estimator.modules_[1], MLP)


# weights


def weighted_and_repeated(seed=0, n=40):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, 5)), rng.integers(0, 3, n)
    weights = rng.integers(0, 4, n)
    return X, y, weights


@pytest.mark.parametrize("class_floor", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 0.5, 2: 1.0}])
def test_weights_equal_repetition(class_floor, class_weight):
    X, y, weights = weighted_and_repeated()
    make = fast(
        epochs=30,
        batch_size=512,
        precision="float64",
        forget_rate=0.35,
        class_floor=class_floor,
        class_weight=class_weight,
    )
    weighted = clone(make).fit(X, y, sample_weight=weights)
    repeated = clone(make).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=0, atol=1e-9)
    # what is kept of an example is what is kept of its repetitions on average
    owner = np.arange(len(y)).repeat(weights)
    mean_kept = np.bincount(owner, repeated.kept_frequency_, len(y))[weights > 0] / weights[weights > 0]
    assert_allclose(weighted.kept_frequency_[weights > 0], mean_kept, atol=1e-9)


def test_float32_weights_equal_repetition():
    X, y, weights = weighted_and_repeated()
    make = fast(epochs=30, batch_size=512, forget_rate=0.35)
    weighted = clone(make).fit(X, y, sample_weight=weights)
    repeated = clone(make).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=0, atol=1e-4)


def test_rows_of_weight_zero_are_absent_but_their_class_counts(table):
    X, y = table
    weights = np.where(y == 2, 0.0, 1.0)
    estimator = fast(epochs=30, precision="float64", batch_size=512).fit(X, y, sample_weight=weights)
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.kept_frequency_.shape == y.shape and np.isfinite(estimator.kept_frequency_).all()
    absent = fast(epochs=30, precision="float64", batch_size=512)
    for _ in range(30):
        absent.partial_fit(X[y != 2], y[y != 2], classes=[0, 1, 2])
    assert_allclose(estimator.predict_proba(X), absent.predict_proba(X), atol=1e-9)


def test_metadata_routing_passes_sample_weight_on(table):
    X, y = table
    weights = np.where(y == 0, 0.01, 1.0)
    with config_context(enable_metadata_routing=True):
        estimator = fast().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), estimator)
        routed = pipeline.fit(X, y, sample_weight=weights).predict_proba(X)
        scores = cross_validate(estimator, X, y, params={"sample_weight": weights}, cv=2)["test_score"]
        assert np.isfinite(scores).all()
    X_scaled = StandardScaler().fit_transform(X)
    assert_allclose(routed, fast().fit(X_scaled, y, sample_weight=weights).predict_proba(X_scaled), atol=1e-6)


# randomness

SAME_BITS = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
np.random.rand(int(sys.argv[1])); torch.rand(int(sys.argv[1]))
from sklearn.datasets import make_classification
from skcoteach import CoTeachingClassifier
X, y = make_classification(150, random_state=0)
clf = CoTeachingClassifier(forget_rate=0.2, epochs=3, batch_size=32, random_state=5).fit(X.astype("float32"), y)
print(clf.predict_proba(X.astype("float32")).tobytes().hex())
"""


def test_the_same_seed_gives_the_same_bits_in_another_process():
    outputs = {
        subprocess.run([sys.executable, "-c", SAME_BITS, drawn], capture_output=True, text=True, check=True).stdout
        for drawn in ("1", "1000")
    }
    assert len(outputs) == 1


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(table):
    X, y = table
    first = fast().fit(X, y).predict_proba(X)
    torch.rand(17), np.random.rand(3)
    again = fast().fit(X, y)
    assert_array_equal(first, again.predict_proba(X))
    assert_array_equal(first, again.fit(X, y).predict_proba(X))
    assert not np.array_equal(first, fast(random_state=1).fit(X, y).predict_proba(X))


def test_a_random_state_instance_is_consumed_and_none_differs(table):
    X, y = table
    rng = np.random.RandomState(0)
    estimator = fast(random_state=rng)
    first, second = estimator.fit(X, y).predict_proba(X), estimator.fit(X, y).predict_proba(X)
    assert not np.array_equal(first, second)
    assert_array_equal(first, fast(random_state=np.random.RandomState(0)).fit(X, y).predict_proba(X))
    estimator = fast(random_state=None)
    assert not np.array_equal(estimator.fit(X, y).predict_proba(X), estimator.fit(X, y).predict_proba(X))


def test_a_default_device_of_torch_is_no_obstacle(table):
    X, y = table

    def network(n_features, n_classes):
        return nn.Linear(n_features, n_classes, device="cpu")

    for data in (X, Items(X), sparse.csr_array(X)):
        estimator = fast(device="cpu", module=network)
        expected = estimator.fit(data, y).predict_proba(data)
        torch.set_default_device("meta")  # what is made without saying where holds no numbers
        try:
            assert_array_equal(estimator.fit(data, y).predict_proba(data), expected)
        finally:
            torch.set_default_device(None)


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_random_state_is_untouched(table, random_state):
    import random

    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    before = states()
    fast(random_state=random_state).fit(*table).predict(table[0])
    assert states() == before


def test_parallel_cross_validation_gives_the_same_bits_at_equal_threads(table):
    X, y = table
    cv = StratifiedKFold(3)
    alone = cross_val_predict(fast(), X, y, cv=cv, method="predict_proba")
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        together = cross_val_predict(fast(), X, y, cv=cv, method="predict_proba", n_jobs=2)
    assert_array_equal(alone, together)


def test_in_threads_fits_give_the_same_bits_and_leave_the_global_random_states(table):
    X, y = table

    class Dropping(Net):
        def forward(self, x):
            return super().forward(nn.functional.dropout(x, 0.2, self.training))

    estimator = fast(module=Dropping, epochs=8, augment=lambda x: x + 0.1 * torch.randn_like(x))
    alone = cross_val_predict(estimator, X, y, cv=4, method="predict_proba")
    before = torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()
    for _ in range(3):
        with joblib.parallel_config("threading"):
            together = cross_val_predict(estimator, X, y, cv=4, method="predict_proba", n_jobs=4)
        assert_array_equal(alone, together)
    assert (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()) == before


# scikit-learn's tools


def test_grid_search_over_a_pipeline_in_processes(table):
    X, y = table
    grid = {"cotteaching__lr": [1e-3, 1e-2], "cotteaching__module__hidden": [4, 8]}
    grid = {name.replace("cotteaching", "coteachingclassifier"): values for name, values in grid.items()}
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


def test_cross_val_predict_follows_the_library_of_x_only_under_dispatch(table):
    X, y = table
    arguments = {"cv": 3, "method": "predict_proba"}
    expected = cross_val_predict(fast(), X, y, **arguments)
    as_numpy = cross_val_predict(fast(), torch.tensor(X), torch.tensor(y), **arguments)
    assert isinstance(as_numpy, np.ndarray)
    with config_context(array_api_dispatch=True):
        as_tensor = cross_val_predict(fast(), torch.tensor(X), torch.tensor(y), **arguments)
    assert isinstance(as_tensor, torch.Tensor) and as_tensor.device.type == "cpu"
    assert_array_equal(as_numpy, expected)
    assert_array_equal(as_tensor.numpy(), expected)


def test_under_dispatch_every_array_attribute_and_output_is_a_tensor(table):
    X, y = (torch.tensor(each) for each in table)
    with config_context(array_api_dispatch=True):
        estimator = fast().fit(X, y)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            assert isinstance(getattr(estimator, method)(X), torch.Tensor)
        assert isinstance(estimator.score(X, y), float)
    assert not [name for name, value in vars(estimator).items() if isinstance(value, np.ndarray)]
    for name in ("classes_", "kept_frequency_", "label_quality_", "forget_rate_schedule_"):
        assert isinstance(getattr(estimator, name), torch.Tensor)
    words = np.array(["a", "b", "c"])[table[1]]
    with config_context(array_api_dispatch=True):
        estimator = fast().fit(X, words)
        assert set(estimator.predict(X)) <= {"a", "b", "c"}
        assert isinstance(estimator.predict_proba(X), torch.Tensor)


@pytest.mark.parametrize("kind", ["numpy", "tensor", "dataset"])
def test_datasets_tensors_and_arrays_are_cross_validated_alike(kind, table):
    X, y = table
    data = {"numpy": X, "tensor": torch.tensor(X), "dataset": Items(X)}[kind]
    scores = cross_val_score(fast(epochs=10), data, y, cv=3)
    assert_array_equal(scores, cross_val_score(fast(epochs=10), X, y, cv=3))


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


def test_predict_proba_sums_to_one_and_agrees_with_the_other_outputs(table):
    X, y = table
    estimator = fast().fit(X, y)
    proba = estimator.predict_proba(X)
    assert proba.dtype == np.float64
    assert_allclose(proba.sum(1), 1, rtol=1e-12)
    assert_allclose(np.exp(estimator.predict_log_proba(X)), proba, rtol=1e-9)
    assert_array_equal(estimator.predict(X), proba.argmax(1))
    with torch.no_grad():
        each = [module(torch.tensor(X)).double().softmax(1) for module in estimator.modules_]
    assert_allclose(proba, (each[0] + each[1]).numpy() / 2, atol=1e-6)


def test_rows_do_not_depend_on_their_neighbours(table):
    X, y = table
    estimator = fast(precision="float64").fit(X, y)
    assert_allclose(estimator.predict_proba(X[7:8]), estimator.predict_proba(X)[7:8], rtol=1e-9)


# cleanlab


def cleaned(split, make=np.asarray):
    """Predictions on the test images, and their accuracy."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, test_size=0.3, stratify=y, random_state=split
    )
    given = noisy_labels(y_train, transition_matrix("pair", 0.3, 10), seed=500 + split)
    learner = CleanLearning(CoTeachingClassifier(forget_rate=0.1, epochs=60, random_state=0), seed=0)
    learner.fit(make(X_train), given)
    return learner.predict_proba(make(X_test)), learner.score(make(X_test), y_test)


def test_clean_learning_is_accurate_on_digits_with_pair_noise_whatever_x_is():
    predictions, scores = zip(*(cleaned(split) for split in range(5)), strict=True)
    assert np.mean(scores) >= 0.92
    for make in (torch.tensor, Items):
        same, _ = cleaned(0, make)
        assert_array_equal(same, predictions[0])


# callbacks


class StopWhen:
    """A callback that stops when training has agreed with itself, and notes what it saw."""

    def __init__(self, epochs):
        self.epochs, self.seen = epochs, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        if context.task_name == "epoch":
            self.seen.append((context.task_id, fitted_estimator, fitted_estimator.predict_proba(X), metadata))
            return fitted_estimator.n_iter_ >= self.epochs
        return False


def test_a_callback_can_stop_the_fit_and_sees_copies(table):
    X, y = table
    callback = StopWhen(3)
    estimator = fast(epochs=6, num_gradual=1, epoch_decay_start=6).set_callbacks(callback)
    estimator.fit(X, y, sample_weight=np.ones(len(y)))
    assert estimator.n_iter_ == 3 and [seen[0] for seen in callback.seen] == [0, 1, 2]
    assert_array_equal(callback.seen[0][3]["sample_weight"], np.ones(len(y)))
    plain = fast(epochs=6, num_gradual=1, epoch_decay_start=6).set_callbacks(StopWhen(1)).fit(X, y)
    assert_array_equal(plain.predict_proba(X), callback.seen[0][2])
    for _, copied, proba, _ in callback.seen:
        assert not any(module.training for module in copied.modules_)
        assert_array_equal(copied.predict_proba(X), proba)  # later epochs have not changed it


def test_watching_does_not_change_the_training(table):
    X, y = table
    watched = fast().set_callbacks(ScoringMonitor(scoring="accuracy")).fit(X, y)
    assert_array_equal(watched.predict_proba(X), fast().fit(X, y).predict_proba(X))


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


# interruption


class InterruptedNet(Net):
    """Presses Ctrl-C in its n-th training batch."""

    calls = 0
    interrupt_at = 10**9

    def forward(self, x):
        if self.training:
            type(self).calls += 1
            if type(self).calls == self.interrupt_at:
                raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize("epochs_done", [1, 2])
def test_ctrl_c_keeps_the_epochs_done(table, epochs_done, monkeypatch):
    X, y = table
    parameters = {"module": InterruptedNet, "num_gradual": 1, "epochs": 5, "epoch_decay_start": 5}
    reference = fast(**parameters).set_callbacks(StopWhen(epochs_done)).fit(X, y)
    batches = 3  # an epoch: 200 rows in batches of 64, the last of 8 is skipped
    monkeypatch.setattr(InterruptedNet, "calls", 0)
    monkeypatch.setattr(InterruptedNet, "interrupt_at", 2 * batches * epochs_done + 4)
    estimator = fast(**parameters)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert estimator.n_iter_ == len(estimator.history_) == epochs_done
    assert_array_equal(estimator.predict_proba(X), reference.predict_proba(X))
    assert_array_equal(estimator.kept_frequency_, reference.kept_frequency_)


def test_training_goes_on_after_ctrl_c_as_after_a_stop(table, monkeypatch):
    X, y = table
    parameters = {"module": InterruptedNet, "num_gradual": 1, "epochs": 5, "epoch_decay_start": 5}
    parameters |= {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.1}
    reference = fast(**parameters).set_callbacks(StopWhen(2)).fit(X, y).partial_fit(X, y)
    monkeypatch.setattr(InterruptedNet, "calls", 0)
    monkeypatch.setattr(InterruptedNet, "interrupt_at", 2 * 3 * 2 + 6)
    estimator = fast(**parameters)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    assert_array_equal(estimator.partial_fit(X, y).predict_proba(X), reference.predict_proba(X))


def test_ctrl_c_in_the_first_epoch_leaves_the_earlier_fit(table, monkeypatch):
    X, y = table
    estimator = fast(module=InterruptedNet).fit(X, y)
    before = estimator.predict_proba(X)
    monkeypatch.setattr(InterruptedNet, "calls", 0)
    monkeypatch.setattr(InterruptedNet, "interrupt_at", 2)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:100], y[:100])
    assert_array_equal(estimator.predict_proba(X), before)


# travel


@pytest.mark.parametrize("travel", ["pickle", "joblib", "cloudpickle", "deepcopy", "copy"])
def test_a_fitted_estimator_travels(travel, table):
    X, y = table

    def through_joblib(estimator):
        file = io.BytesIO()
        joblib.dump(estimator, file)
        file.seek(0)
        return joblib.load(file)

    there = {
        "pickle": lambda e: pickle.loads(pickle.dumps(e)),
        "joblib": through_joblib,
        "cloudpickle": lambda e: pickle.loads(cloudpickle.dumps(e)),
        "deepcopy": copy.deepcopy,
        "copy": copy.copy,
    }[travel]
    estimator = fast().fit(X, y)
    arrived = there(estimator)
    assert_array_equal(arrived.predict_proba(X), estimator.predict_proba(X))
    assert arrived.history_ == estimator.history_
    assert_array_equal(
        arrived.partial_fit(X, y).predict_proba(X), copy.deepcopy(estimator).partial_fit(X, y).predict_proba(X)
    )


# bad input


class Wide(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.linear = nn.Linear(n_features, 7)

    def forward(self, x):
        return self.linear(x)


class Failing(Net):
    def forward(self, x):
        raise OSError("the user's own error")


class NoTensor(Net):
    def forward(self, x):
        return (super().forward(x),)


def with_value(X, value):
    X = X.copy()
    X[3, 2] = value
    return X


BAD = {
    # name: (parameters, change of X, change of y, fit arguments, error, words)
    "NaN in X": ({}, lambda X: with_value(X, np.nan), None, {}, ValueError, "X contains NaN"),
    "infinity in X": ({}, lambda X: with_value(X, np.inf), None, {}, ValueError, "X contains infinity"),
    "NaN in a tensor": ({}, lambda X: torch.tensor(with_value(X, np.nan)), None, {}, ValueError, "X contains NaN"),
    "1-D X": ({}, lambda X: X[:, 0], None, {}, ValueError, "Expected 2D array"),
    "1-D tensor": ({}, lambda X: torch.tensor(X[:, 0]), None, {}, ValueError, "Expected 2D array"),
    "empty X": ({}, lambda X: X[:0], lambda y: y[:0], {}, ValueError, "0 sample"),
    "empty tensor": ({}, lambda X: torch.tensor(X[:0]), lambda y: y[:0], {}, ValueError, "0 sample"),
    "no columns": ({}, lambda X: X[:, :0], None, {}, ValueError, "0 feature"),
    "complex X": ({}, lambda X: X + 1j, None, {}, ValueError, "Complex data not supported"),
    "complex tensor": ({}, lambda X: torch.tensor(X + 1j), None, {}, ValueError, "Complex data not supported"),
    "text in X": ({}, lambda X: X.astype(str).astype(object) + "x", None, {}, ValueError, "could not convert"),
    "empty Dataset": ({}, lambda X: Items(X[:0]), lambda y: y[:0], {}, ValueError, "0 sample"),
    "no y": ({}, None, lambda y: None, {}, ValueError, "requires y"),
    "short y": ({}, None, lambda y: y[:-1], {}, ValueError, "different lengths: 200 examples and 199 labels"),
    "NaN in y": ({}, None, lambda y: np.where(y == 1, np.nan, y), {}, ValueError, "y contains NaN"),
    "None in y": ({}, None, lambda y: [None, *y[1:].astype(object)], {}, ValueError, "y contains None"),
    "continuous y": ({}, None, lambda y: y + 0.5, {}, ValueError, "continuous"),
    "mixed y": ({}, None, lambda y: np.array(["a", *y[1:]], dtype=object), {}, ValueError, "cannot be sorted"),
    "one class": ({}, None, lambda y: np.ones_like(y), {}, ValueError, "1 class"),
    "2-D y": ({}, None, lambda y: np.stack([y, y], 1), {}, ValueError, "y should be a 1d array"),
    "short weights": ({}, None, None, {"sample_weight": [1.0]}, ValueError, "sample_weight"),
    "negative weights": ({}, None, None, {"sample_weight": -np.ones(200)}, ValueError, "[Nn]egative"),
    "NaN weights": ({}, None, None, {"sample_weight": np.full(200, np.nan)}, ValueError, "sample_weight contains NaN"),
    "zero weights": ({}, None, None, {"sample_weight": np.zeros(200)}, ValueError, "non-zero"),
    "class weight of another class": ({"class_weight": {7: 2.0}}, None, None, {}, ValueError, "not in y"),
    "negative class weight": ({"class_weight": {0: -2.0}}, None, None, {}, ValueError, "finite weights of 0 or more"),
    "class weights all zero": ({"class_weight": {0: 0, 1: 0, 2: 0}}, None, None, {}, ValueError, "weight zero"),
    "forget rate 1": ({"forget_rate": 1.0}, None, None, {}, ValueError, "'forget_rate' parameter"),
    "forget rate as text": ({"forget_rate": "a lot"}, None, None, {}, ValueError, "'forget_rate' parameter"),
    "class floor": ({"class_floor": 1.5}, None, None, {}, ValueError, "'class_floor' parameter"),
    "no epochs": ({"epochs": 0}, None, None, {}, ValueError, "'epochs' parameter"),
    "epochs as float": ({"epochs": 2.0}, None, None, {}, ValueError, "'epochs' parameter"),
    "batch size": ({"batch_size": 0}, None, None, {}, ValueError, "'batch_size' parameter"),
    "lr": ({"lr": 0}, None, None, {}, ValueError, "'lr' parameter"),
    "exponent": ({"exponent": 0}, None, None, {}, ValueError, "'exponent' parameter"),
    "precision": ({"precision": "int8"}, None, None, {}, ValueError, "'precision' parameter"),
    "random state": ({"random_state": "x"}, None, None, {}, ValueError, "'random_state' parameter"),
    "module": ({"module": 3}, None, None, {}, ValueError, "'module' parameter"),
    "augment": ({"augment": 3}, None, None, {}, ValueError, "'augment' parameter"),
    "warm-up too long": ({"num_gradual": 5}, None, None, {}, ValueError, r"num_gradual \(5\) is greater than epochs"),
    "unknown device": ({"device": "gpu7"}, None, None, {}, ValueError, "device='gpu7'"),
    "optimizer instance": (
        {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1)},
        None,
        None,
        {},
        ValueError,
        "'optimizer' parameter",
    ),
    "optimizer makes none": ({"optimizer": lambda p, lr: 3}, None, None, {}, TypeError, "torch.optim.Optimizer"),
    "optimizer with a closure": ({"optimizer": torch.optim.LBFGS}, None, None, {}, ValueError, "closure"),
    "module makes no module": ({"module": lambda: 3}, None, None, {}, TypeError, "torch.nn.Module is expected"),
    "wrong output": ({"module": Wide}, None, None, {}, ValueError, r"\(2, 3\).*got shape \(2, 7\)"),
    "no tensor": ({"module": NoTensor}, None, None, {}, TypeError, "returned a tuple"),
    "wrong input size": (
        {"module": lambda: nn.Linear(5, 3)},
        None,
        None,
        {},
        ValueError,
        r"Linear cannot take a batch of X with shape \(2, 8\)",
    ),
    "nothing to train": ({"module": nn.Identity}, None, None, {}, ValueError, "shape|no parameters"),
    "a module that needs more": ({"module": nn.Linear}, None, None, {}, ValueError, "module__in_features"),
    "diverged": ({"lr": 1e30, "epochs": 3}, None, None, {}, ValueError, "diverged"),
    "the user's own error": ({"module": Failing}, None, None, {}, OSError, "the user's own error"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_the_users_words_and_nothing_is_lost(name, table):
    parameters, change_X, change_y, arguments, error, words = BAD[name]
    X, y = table
    estimator = fast().fit(pd.DataFrame(X, columns=list("abcdefgh")), y)
    before = vars(estimator).copy()
    expected = estimator.predict_proba(pd.DataFrame(X, columns=list("abcdefgh")))
    old_parameters = {name: getattr(estimator, name) for name in parameters}
    estimator.set_params(**parameters)
    with pytest.raises(error, match=words), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(change_X(X) if change_X else X, change_y(y) if change_y else y, **arguments)
    estimator.set_params(**old_parameters)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is before[name] for name in before)
    assert_array_equal(estimator.predict_proba(pd.DataFrame(X, columns=list("abcdefgh"))), expected)


@pytest.mark.parametrize("names", [list("abcdefgh"), None], ids=["data frame", "array"])
def test_predict_refuses_another_form(names, table):
    X, y = table
    estimator = fast(epochs=1).fit(pd.DataFrame(X, columns=names) if names else X, y)
    with pytest.raises(ValueError, match="expecting 8 features|feature names"):
        estimator.predict(pd.DataFrame(X[:, :3], columns=names[:3]) if names else X[:, :3])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        with pytest.raises(ValueError, match="expecting 8 features|examples of shape"):
            estimator.predict(torch.zeros(4, 9))
        with pytest.raises(ValueError, match="examples of shape"):
            estimator.predict(np.zeros((4, 8, 2)))


def test_outputs_that_look_like_probabilities_get_a_warning(table):
    def with_softmax(n_features, n_classes):
        return nn.Sequential(nn.Linear(n_features, n_classes), nn.Softmax(1))

    with pytest.warns(UserWarning, match="Softmax"):
        fast(module=with_softmax, epochs=1).fit(*table)


class ShortWhileTraining(Net):
    def forward(self, x):
        outputs = super().forward(x)
        return outputs[:-1] if self.training else outputs


class DetachedWhileTraining(Net):
    def forward(self, x):
        outputs = super().forward(x)
        return outputs.detach() if self.training else outputs


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"augment": lambda x: None}, TypeError, "augment must return a tensor.*NoneType"),
        ({"augment": lambda x: x.double()}, TypeError, "augment must return.*float64"),
        ({"augment": lambda x: x[:5]}, ValueError, r"augment must return.*\(5, 8\)"),
        ({"augment": lambda x: x[:, :5]}, ValueError, r"augment.*\(64, 8\) and returned.*\(64, 5\), which the netw"),
        (
            {"augment": lambda x: x[:, :5], "module": Net},
            ValueError,
            r"one of shape \(64, 5\), which the networks cannot",
        ),
        ({"module": ShortWhileTraining}, ValueError, r"\(64, 3\).*got shape \(63, 3\)"),
        ({"module": DetachedWhileTraining}, ValueError, "do not depend on its parameters"),
    ],
)
def test_what_goes_wrong_only_in_training_is_told_too(parameters, error, words, table):
    with pytest.raises(error, match=words):
        fast(**parameters).fit(*table)


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_fit_works_where_gradients_are_switched_off(switched_off, table):
    X, y = table
    expected = fast().fit(X, y).partial_fit(X, y).predict_proba(X)
    with switched_off():
        assert_array_equal(fast().fit(X, y).partial_fit(X, y).predict_proba(X), expected)


@pytest.mark.parametrize("module", [None, Net])
@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_the_precision_is_the_parameter_where_the_caller_is_within_autocast(module, precision, table):
    X, y = table
    estimator = fast(module=module, precision=precision)
    expected = estimator.fit(X, y).partial_fit(X, y).predict_proba(X)
    with torch.autocast("cpu", torch.bfloat16):
        assert_array_equal(estimator.predict_proba(X), expected)
        assert_array_equal(estimator.fit(X, y).partial_fit(X, y).predict_proba(X), expected)
        assert torch.is_autocast_enabled("cpu")


def test_an_augmentation_may_change_the_size_if_the_networks_can_take_it():
    X, y = images()
    assert fast(augment=lambda x: nn.functional.pad(x, (2, 2)), epochs=40).fit(X, y).score(X, y) > 0.9


def test_numbers_of_numpy_do_as_parameters(table):
    X, y = table
    plain = {"batch_size": 32, "epochs": 3, "num_gradual": 2, "num_iter_per_epoch": 100, "epoch_decay_start": 1}
    expected = fast(**plain, lr=0.5**7, class_floor=0.5).fit(X, y).predict_proba(X)
    for kind in (np.int64, np.int32, np.int8, np.uint8):
        numbers = {name: kind(value) for name, value in plain.items()}
        estimator = fast(**numbers, lr=np.float32(0.5**7), class_floor=np.float16(0.5)).fit(X, y)
        assert_array_equal(estimator.predict_proba(X), expected)
        assert all(getattr(estimator, name) is value for name, value in numbers.items())
        estimator.partial_fit(X, y)
    GridSearchCV(fast(), {"batch_size": np.array([16, 32])}, cv=2, error_score="raise").fit(X, y)


def test_the_learning_rate_is_held_as_long_as_is_said_where_the_epochs_are_a_short_integer(table):
    X, y = table
    rates = [each["lr"] for each in fast(epochs=np.int16(500), num_gradual=1).fit(X[:60], y[:60]).history_]
    assert rates[:161] == [1e-3] * 161
    assert rates[161] < 1e-3


def test_networks_that_work_in_place_do_not_disturb_the_other(table):
    X, y = table

    def network(inplace):
        return lambda n_features, n_classes: nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(n_features, n_classes))

    in_place, copying = (fast(module=network(inplace)).fit(X, y) for inplace in (True, False))
    assert_array_equal(in_place.predict_proba(X), copying.predict_proba(X))


def test_lazy_layers_start_with_different_weights(table):
    X, y = table
    estimator = fast(module=lambda n_classes: nn.LazyLinear(n_classes), epochs=1, lr=1e-12).fit(X, y)
    first, second = estimator.modules_
    assert not torch.allclose(first.weight, second.weight)


def test_read_only_weights_are_taken(table):
    X, y = table
    weights = pd.Series(np.ones(len(y)))
    assert_array_equal(fast().fit(X, y, sample_weight=weights).predict(X), fast().fit(X, y).predict(X))


# the loop's options


def test_num_iter_per_epoch_limits_the_batches(table):
    X, y = table
    estimator = fast(num_iter_per_epoch=1, epochs=1, num_gradual=0, batch_size=50).fit(X, y)
    seen = estimator.kept_frequency_
    assert len(set(np.round(seen, 12))) <= 50 + 3  # those not seen get the mean of their class


def test_augment_gets_whole_batches_and_both_networks_see_its_result(table):
    X, y = table
    shapes = []

    def augment(x):
        shapes.append(tuple(x.shape))
        return torch.zeros_like(x)

    estimator = fast(augment=augment, epochs=2).fit(X, y)
    assert shapes == [(64, 8)] * 3 * 2
    # training saw nothing but zeros, so the inputs say nothing about the class
    assert max(estimator.history_[-1]["accuracy"]) < 0.5


def test_verbose_prints_about_ten_lines_or_one_an_epoch(table, capsys):
    X, y = table
    for verbose, epochs, lines in ((0, 25, 0), (1, 25, 9), (1, 3, 3), (2, 25, 25)):
        fast(verbose=verbose, epochs=epochs).fit(X, y)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == lines
    assert "epoch 25/25" in printed[-1] and "forget rate 0.20" in printed[-1]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_faster_precisions_learn_with_single_precision_weights(precision, table):
    X, y = table
    estimator = fast(precision=precision, epochs=20).fit(X, y)
    assert estimator.score(X, y) > fast(epochs=20).fit(X, y).score(X, y) - 0.05
    assert {p.dtype for network in estimator.modules_ for p in network.parameters()} == {torch.float32}
    proba = estimator.predict_proba(X)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)


def test_compiled_training_is_asked_for_both_networks_and_gives_the_same(table, monkeypatch):
    X, y = table
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    estimator = fast(compile=True, precision="float64").fit(X, y)
    assert compiled == list(estimator.modules_)
    expected = fast(compile=False, precision="float64").fit(X, y)
    assert len(compiled) == 2
    np.testing.assert_allclose(estimator.predict_proba(X), expected.predict_proba(X), atol=1e-9)


def test_float64_and_float32_networks_have_that_precision(table):
    for precision, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        estimator = fast(precision=precision, epochs=1).fit(*table)
        assert {p.dtype for module in estimator.modules_ for p in module.parameters()} == {dtype}


def test_forget_rate_zero_learns_from_everything(table):
    estimator = fast(forget_rate=0.0).fit(*table)
    assert_allclose(estimator.kept_frequency_, 1)


def test_the_readmes_early_stop_is_what_it_says():
    """The class of the README, run as it stands there."""
    readme = (pytest.importorskip("pathlib").Path(__file__).parent.parent / "README.md").read_text()
    blocks = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    code = next(block for block in blocks if "on_fit_task_end" in block)
    assert len(code.strip().splitlines()) <= 14
    namespace = {}
    exec(textwrap.dedent(code), namespace)
    stopped = namespace["clf"]
    assert 1 <= stopped.n_iter_ < stopped.epochs


# the forget rate found from the data, and the labels found wrong

QUICK = {"epochs": 3, "batch_size": 64, "random_state": 0}


def auto(**parameters):
    return CoTeachingClassifier(**{**QUICK, **parameters})


def noisy_blobs(kind, rate, n_classes=3, n=600, seed=0):
    """Examples, given labels and true labels of classes that are easy to tell apart."""
    X, true = make_blobs(n, centers=n_classes, n_features=5, cluster_std=1.5, random_state=seed)
    given = noisy_labels(true, transition_matrix(kind, rate, n_classes), seed + 1)
    return X.astype(np.float32), given, true


@pytest.fixture(scope="module")
def noisy():
    """600 examples of three classes of which a fifth are called by the next class's name; true labels come third."""
    return noisy_blobs("pair", 0.2)


@pytest.fixture(scope="module")
def found(noisy):
    """The estimator fitted to them, not to be changed."""
    return auto().fit(*noisy[:2])


@pytest.fixture
def hurry(monkeypatch):
    """A cross-fit of few steps, for tests in which what is found must be the same, but need not be right."""
    monkeypatch.setattr("skcoteach.crossfit.MINIMUM_STEPS", 10)


@pytest.fixture
def found_in_a_hurry(noisy, hurry):
    return auto().fit(*noisy[:2])


def same_findings(a, b):
    """Whether two fits have found the same of every label and of the noise, whatever the classes are called."""
    frames = [each.get_label_issues() for each in (a, b)]
    for column in ("is_label_issue", "label_quality"):
        assert_array_equal(frames[0][column], frames[1][column])
    for column in ("given_label", "predicted_label"):
        codes = [np.searchsorted(each._state.classes, f[column]) for each, f in zip((a, b), frames, strict=True)]
        assert_array_equal(*codes)
    assert a.noise_rate_ == b.noise_rate_
    assert_array_equal(np.asarray(a.noise_matrix_), np.asarray(b.noise_matrix_))
    return True


def test_the_forget_rate_is_found_from_the_data_unless_told_otherwise():
    assert CoTeachingClassifier().forget_rate == "auto"
    assert inspect.signature(CoTeachingClassifier).parameters["forget_rate"].default == "auto"


@pytest.mark.parametrize(
    ("kind", "rate", "n_classes"),
    [("pair", 0.0, 3), ("pair", 0.2, 3), ("pair", 0.4, 4), ("symmetric", 0.3, 2), ("symmetric", 0.5, 4)],
)
def test_noise_is_found_and_its_labels_are_the_issues(kind, rate, n_classes):
    X, given, true = noisy_blobs(kind, rate, n_classes, n=1000)
    wrong = given != true
    estimator = auto(epochs=10).fit(X, given)
    assert estimator.noise_rate_ == estimator.forget_rate_ == estimator.forget_rate_schedule_[-1]
    assert type(estimator.noise_rate_) is type(estimator.forget_rate_) is float
    assert estimator.noise_rate_ == pytest.approx(wrong.mean(), abs=0.05)

    matrix = estimator.noise_matrix_
    assert matrix.shape == (n_classes, n_classes) and matrix.dtype == np.float64
    assert_allclose(matrix.sum(axis=0), 1)
    assert_allclose(matrix, transition_matrix(kind, rate, n_classes), atol=0.1)
    true_shares = np.linalg.solve(matrix, np.bincount(given) / len(given))
    assert 1 - true_shares @ matrix.diagonal() == pytest.approx(estimator.noise_rate_, abs=1e-9)

    issues = estimator.get_label_issues()
    assert issues["is_label_issue"].mean() == pytest.approx(estimator.forget_rate_, abs=1 / len(given))
    assert estimator.score(X, true) > 0.95
    if rate:
        assert average_precision_score(wrong, -estimator.label_quality_) > 0.9
        assert (issues["predicted_label"] == true).mean() > 0.95
        assert f1_score(wrong, issues["is_label_issue"]) > 0.85


def test_too_few_data_are_told_once_to_the_caller_of_fit_and_nothing_is_estimated(table):
    X, y = table
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        estimator = auto().fit(X, y)
    (warning,) = told
    assert warning.category is UserWarning and warning.filename == __file__
    for words in ('forget_rate="auto"', "total sample_weight 200", "0.2 is used"):
        assert words in str(warning.message)
    assert estimator.forget_rate_ == 0.2 and type(estimator.forget_rate_) is float
    assert not hasattr(estimator, "noise_rate_") and not hasattr(estimator, "noise_matrix_")
    assert_array_equal(estimator.predict_proba(X), auto(forget_rate=0.2).fit(X, y).predict_proba(X))
    assert 0.05 < estimator.get_label_issues()["is_label_issue"].mean() < 0.21


def test_what_is_too_few_is_counted_by_sample_weight(noisy):
    X, given, true = noisy
    heavy = auto().fit(X[:400], given[:400], sample_weight=np.full(400, 2.0))
    assert heavy.noise_rate_ == pytest.approx((given != true)[:400].mean(), abs=0.06)
    with pytest.warns(UserWarning, match=r"too few data to estimate the noise rate \(total sample_weight 120"):
        light = auto().fit(np.vstack([X, X]), np.tile(given, 2), sample_weight=np.full(1200, 0.1))
    assert light.forget_rate_ == 0.2 and not hasattr(light, "noise_rate_")


def test_noise_is_counted_by_sample_weight(noisy):
    X, given, true = noisy
    weights = np.where(given != true, 3.0, 1.0)
    estimator = auto(epochs=10).fit(X, given, sample_weight=weights)
    assert estimator.noise_rate_ == pytest.approx(np.average(given != true, weights=weights), abs=0.05)
    is_issue = estimator.get_label_issues()["is_label_issue"]
    assert np.average(is_issue, weights=weights) == pytest.approx(estimator.noise_rate_, abs=0.01)


def test_partial_fit_is_not_there_while_the_forget_rate_is_to_be_found(noisy):
    X, given, _ = noisy
    estimator = auto()
    assert not hasattr(estimator, "partial_fit")
    with pytest.raises(ValueError, match='forget_rate="auto".*which partial_fit does not see. Give forget_rate a num'):
        estimator.partial_fit(X, given, classes=[0, 1, 2])
    assert not hasattr(make_pipeline(estimator), "partial_fit")
    estimator.set_params(forget_rate=0.2)
    assert hasattr(estimator, "partial_fit")
    assert estimator.partial_fit(X, given, classes=[0, 1, 2]) is estimator
    assert "one more epoch" in CoTeachingClassifier.partial_fit.__doc__
    assert list(inspect.signature(CoTeachingClassifier.partial_fit).parameters)[:3] == ["self", "X", "y"]


def test_partial_fit_goes_on_after_the_rate_was_found_and_drops_what_was_found(noisy, found):
    X, given, _ = noisy
    estimator = copy.deepcopy(found).set_params(forget_rate=0.3)
    estimator.partial_fit(X, given)
    assert estimator.n_iter_ == QUICK["epochs"] + 1 and estimator.forget_rate_ == 0.3
    for name in ("noise_rate_", "noise_matrix_", "label_quality_", "kept_frequency_"):
        assert hasattr(found, name) and not hasattr(estimator, name)
    with pytest.raises(NotFittedError, match="trained by partial_fit.*Label issues are found by fit"):
        estimator.get_label_issues()
    estimator.fit(X, given)
    assert not hasattr(estimator, "noise_rate_")
    assert len(estimator.get_label_issues()) == len(X)


def test_every_kind_of_table_has_the_same_noise(noisy, found_in_a_hurry, tmp_path):
    X, given, _ = noisy
    kinds = kinds_of_table(X, tmp_path)
    for kind in ("fortran", "list", "tensor", "memmap", "pandas", "csr", "dataset", "subset", "list of items"):
        assert same_findings(auto().fit(kinds[kind], given), found_in_a_hurry), kind


def test_labels_as_lists_tensors_and_series_have_the_same_noise(noisy, found_in_a_hurry):
    X, given, _ = noisy
    for labels in (given.tolist(), torch.tensor(given), pd.Series(given, index=given * 7)):
        assert same_findings(auto().fit(X, labels), found_in_a_hurry)


def test_noise_of_images_is_found():
    X, true = images(600)
    given = noisy_labels(true, transition_matrix("symmetric", 0.2, 2), seed=0)
    estimator = auto(batch_size=16, epochs=2).fit(X, given)
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.07)
    assert average_precision_score(given != true, -estimator.label_quality_) > 0.95


def test_every_kind_of_images_has_the_same_noise(hurry):
    X, true = images(600)
    given = noisy_labels(true, transition_matrix("symmetric", 0.2, 2), seed=0)
    expected = auto(epochs=1).fit(X, given)
    for make in (torch.tensor, Items):
        assert same_findings(auto(epochs=1).fit(make(X), given), expected)


def test_integers_of_an_embedding_have_noise_too():
    class Words(nn.Sequential):
        def __init__(self, n_classes):
            super().__init__(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(24, n_classes))

    rng = np.random.default_rng(0)
    true = np.arange(600) % 2
    given = noisy_labels(true, transition_matrix("symmetric", 0.2, 2), seed=0)
    X = rng.integers(0, 5, (600, 6)) + 5 * true[:, None]
    estimator = auto(module=Words, lr=0.05).fit(X, given)
    # counted in the confident half of 600: the standard error is 0.023
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.07)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_under_dispatch_the_noise_lives_where_x_does(library, noisy, found_in_a_hurry):
    X, given, _ = noisy
    xp = pytest.importorskip(library)
    with config_context(array_api_dispatch=True):
        estimator = auto().fit(xp.asarray(X), xp.asarray(given))
        kind = type(xp.asarray(X))
        for name in ("noise_matrix_", "label_quality_", "kept_frequency_", "forget_rate_schedule_", "classes_"):
            assert isinstance(getattr(estimator, name), kind)
        assert not [name for name, value in vars(estimator).items() if isinstance(value, np.ndarray)]
        assert type(estimator.noise_rate_) is float
        assert same_findings(estimator, found_in_a_hurry)
        assert estimator.get_label_issues().dtypes.equals(found_in_a_hurry.get_label_issues().dtypes)


LABELS_OF_EVERY_KIND = {
    "int": [0, 1, 2],
    "int32": np.array([0, 1, 2], dtype=np.int32),
    "uint8": np.array([0, 1, 2], dtype=np.uint8),
    "from 5": [5, 6, 7],
    "int32 from 5": np.array([5, 6, 7], dtype=np.int32),
    "float": [0.0, 1.0, 7.0],
    "str": ["ash", "birch", "oak"],
    "object": np.array(["ash", "birch", "oak"], dtype=object),
}


@pytest.mark.parametrize("kind", LABELS_OF_EVERY_KIND)
def test_label_issues_speak_of_the_users_own_classes(kind, noisy, found_in_a_hurry):
    X, given, _ = noisy
    names = np.asarray(LABELS_OF_EVERY_KIND[kind])
    estimator = auto().fit(X, names[given])
    assert same_findings(estimator, found_in_a_hurry)
    issues = estimator.get_label_issues()
    assert issues["given_label"].tolist() == names[given].tolist()
    assert set(issues["predicted_label"]) == set(names.tolist())
    if names.tolist() != [0, 1, 2]:
        for column in ("given_label", "predicted_label"):
            assert issues[column].dtype == pd.Series(names).dtype


def test_label_issues_of_bools_are_bools(noisy):
    X, given, true = noisy
    issues = auto().fit(X, given == 1).get_label_issues()
    assert issues["given_label"].dtype == issues["predicted_label"].dtype == bool
    assert issues["given_label"].tolist() == (given == 1).tolist()
    assert (issues["predicted_label"] == (true == 1)).mean() > 0.95


@pytest.fixture(scope="module")
def cross_validated(noisy):
    """Label issues by cleanlab."""
    learner = CleanLearning(LogisticRegression(), seed=0)
    learner.find_label_issues(*noisy[:2])
    return learner.get_label_issues()


@pytest.mark.parametrize("kind", ["int", "int32", "uint8"])
def test_label_issues_have_the_columns_of_cleanlab(kind, noisy, cross_validated, hurry):
    """Labels that cleanlab takes are integers from 0, and its dtype does not depend on theirs."""
    X, given, _ = noisy
    issues = auto().fit(X, np.asarray(LABELS_OF_EVERY_KIND[kind])[given]).get_label_issues()
    assert isinstance(issues.index, pd.RangeIndex) and issues.index.equals(cross_validated.index)
    assert_array_equal(issues["given_label"], cross_validated["given_label"])
    assert issues.columns.equals(cross_validated.columns)
    assert issues.dtypes.to_dict() == cross_validated.dtypes.to_dict()


def test_label_issues_are_nearly_those_of_cleanlab(found, cross_validated):
    issues = found.get_label_issues()
    assert (issues["is_label_issue"] == cross_validated["is_label_issue"]).mean() > 0.95
    assert (issues["predicted_label"] == cross_validated["predicted_label"]).mean() > 0.95
    assert spearmanr(issues["label_quality"], cross_validated["label_quality"]).statistic > 0.7


def test_label_quality_is_the_column_and_a_probability(noisy, found):
    X, given, _ = noisy
    quality = found.label_quality_
    assert quality.shape == given.shape and quality.dtype == np.float64
    assert (0 <= quality).all() and (quality <= 1).all() and quality.std() > 0.1
    issues = found.get_label_issues()
    assert_array_equal(issues["label_quality"], quality)
    assert issues["is_label_issue"].dtype == bool
    assert quality[issues["is_label_issue"]].max() < quality[~issues["is_label_issue"]].min()


def test_label_issues_are_the_callers_to_change(found):
    before = found.get_label_issues()
    changed = found.get_label_issues()
    changed["is_label_issue"] = True
    changed.loc[:, "label_quality"] = 0.0
    assert found.get_label_issues().equals(before)
    assert_array_equal(found.label_quality_, before["label_quality"])
    estimator = copy.deepcopy(found)
    estimator.label_quality_[:] = 0.0
    assert estimator.get_label_issues().equals(before)


def test_label_issues_are_found_with_a_given_rate_too(noisy):
    X, given, true = noisy
    estimator = auto(forget_rate=0.1, epochs=10).fit(X, given)
    assert estimator.forget_rate_ == 0.1 and not hasattr(estimator, "noise_rate_")
    issues = estimator.get_label_issues()
    assert issues["is_label_issue"].sum() == 60
    assert (given != true)[issues["is_label_issue"]].all()
    assert not auto(forget_rate=0.0).fit(X, given).get_label_issues()["is_label_issue"].any()


def test_nothing_found_is_ever_nan(noisy):
    """Most rows are never seen, and many have no weight, in class 2 nearly all."""
    X, given, _ = noisy
    weights = np.where(np.arange(600) % 3 == 0, 0.0, 2.0) * np.where((given == 2) & (np.arange(600) > 100), 0, 1)
    estimator = auto(batch_size=16, num_iter_per_epoch=1, epochs=2).fit(X, given, sample_weight=weights)
    assert not estimator.get_label_issues().isna().any(axis=None)
    for values in (estimator.label_quality_, estimator.kept_frequency_, estimator.noise_matrix_):
        assert np.isfinite(values).all() and (0 <= values).all() and (values <= 1).all()
    assert np.isfinite(estimator.noise_rate_)


def test_a_row_without_weight_that_holds_rubbish_is_no_nan(noisy, hurry):
    X, given, _ = noisy
    X = 0.1 * X
    X[:5] = np.finfo(np.float32).min  # the customary value where there is no data
    for forget_rate in (0.2, "auto"):
        estimator = auto(forget_rate=forget_rate).fit(X, given, sample_weight=np.arange(600) >= 5)
        assert not estimator.get_label_issues().isna().any(axis=None)


def test_a_class_of_weight_zero_is_no_noise():
    X, _, true = noisy_blobs("pair", 0.0, n=900)
    estimator = auto(class_weight={0: 0.0, 1: 1.0, 2: 1.0}).fit(X, true)
    assert estimator.noise_rate_ < 0.02
    assert_array_equal(estimator.noise_matrix_[:, 0], [1, 0, 0])
    assert estimator.get_label_issues()["is_label_issue"].sum() < 20


@pytest.mark.parametrize("forget_rate", ["auto", 0.3])
def test_labels_of_a_class_of_weight_zero_are_no_issues_and_take_no_place_among_them(forget_rate):
    X, _, true = noisy_blobs("pair", 0.0, n=900)
    wrong = (true > 0) & (np.random.default_rng(0).random(900) < 0.3)
    given = np.where(wrong, 3 - true, true)
    estimator = auto(forget_rate=forget_rate, class_weight={0: 0.0, 1: 1.0, 2: 1.0}, epochs=10).fit(X, given)
    assert estimator.forget_rate_ == pytest.approx(wrong[true > 0].mean(), abs=0.05)
    is_issue = estimator.get_label_issues()["is_label_issue"]
    assert is_issue[true > 0].mean() == pytest.approx(estimator.forget_rate_, abs=0.02)
    assert is_issue[true == 0].mean() < 0.05


def test_label_issues_need_a_fit():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        auto().get_label_issues()


def test_what_was_found_travels(noisy, found):
    for travelled in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):
        assert same_findings(travelled, found)
        assert travelled.get_label_issues().equals(found.get_label_issues())
    anew = clone(found)
    with pytest.raises(NotFittedError):
        anew.get_label_issues()
    assert same_findings(anew.fit(*noisy[:2]), found)


def test_rows_in_another_order_have_nearly_the_same_noise(noisy, found):
    """Other batches are drawn: the rate differs by less than 0.04, and less than 5 % of the verdicts."""
    X, given, _ = noisy
    order = np.random.default_rng(0).permutation(len(X))
    permuted = auto().fit(X[order], given[order])
    assert permuted.noise_rate_ == pytest.approx(found.noise_rate_, abs=0.04)
    assert_allclose(permuted.noise_matrix_, found.noise_matrix_, atol=0.06)
    ours, theirs = found.get_label_issues().iloc[order], permuted.get_label_issues()
    assert (ours["is_label_issue"].to_numpy() == theirs["is_label_issue"].to_numpy()).mean() > 0.95
    assert np.corrcoef(ours["label_quality"], theirs["label_quality"])[0, 1] > 0.98


def test_classes_in_another_order_have_nearly_the_relabelled_noise(noisy, found):
    X, given, _ = noisy
    new = np.array([2, 0, 1])
    relabelled = auto().fit(X, new[given])
    assert relabelled.noise_rate_ == pytest.approx(found.noise_rate_, abs=0.04)
    assert_allclose(relabelled.noise_matrix_[np.ix_(new, new)], found.noise_matrix_, atol=0.06)
    ours, theirs = found.get_label_issues(), relabelled.get_label_issues()
    assert (ours["is_label_issue"] == theirs["is_label_issue"]).mean() > 0.95


def test_scikit_learns_tools_take_the_default(hurry):
    X, given, true = noisy_blobs("pair", 0.2, n=1200)
    search = GridSearchCV(auto(), {"lr": [1e-2, 1e-9]}, cv=2, error_score="raise").fit(X, given)
    assert search.best_params_["lr"] == 1e-2
    assert search.best_estimator_.noise_rate_ == pytest.approx((given != true).mean(), abs=0.06)
    pipeline = make_pipeline(StandardScaler(), auto(lr=1e-2))
    scores = cross_val_score(pipeline, X, given, cv=2, error_score="raise")
    assert_allclose(scores, (given == true).mean(), atol=0.06)
    assert pipeline.fit(X, given)[-1].noise_rate_ == search.best_estimator_.noise_rate_


def test_clean_learning_takes_the_default():
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


def test_datalab_ranks_the_labels_alike(noisy, found):
    X, given, true = noisy
    lab = Datalab({"y": given}, label_name="y", task="classification", verbosity=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword")  # which cleanlab uses
        lab.find_issues(pred_probs=found.predict_proba(X), issue_types={"label": {}})
    theirs, ours = lab.get_issues("label"), found.get_label_issues()
    assert spearmanr(theirs["label_score"], found.label_quality_).statistic > 0.9
    assert (theirs["is_label_issue"] == ours["is_label_issue"]).mean() > 0.95
    assert (theirs["predicted_label"] == ours["predicted_label"]).mean() > 0.97
    for scores in (theirs["label_score"], found.label_quality_):
        assert average_precision_score(given != true, -scores) > 0.9


class RandomAfterTraining(Net):
    """Draws from all three global generators in every call, in eval mode, too."""

    def forward(self, x):
        jitter = torch.randn(x.shape, device=x.device) + np.random.standard_normal() + random.gauss(0, 1)
        return super().forward(x + 0.1 * jitter)


def test_a_module_that_draws_in_eval_mode_leaves_the_global_states_and_gives_the_same_bits(noisy, hurry):
    X, given, _ = noisy

    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    fits = []
    for drawn in (0, 5):
        torch.rand(drawn), np.random.rand(drawn), [random.random() for _ in range(drawn)]
        before = states()
        fits.append(auto(module=RandomAfterTraining, num_iter_per_epoch=1).fit(X, given))  # most rows are never seen
        assert states() == before
    assert same_findings(*fits)
    assert_array_equal(fits[0].kept_frequency_, fits[1].kept_frequency_)


def test_the_same_seed_finds_the_same_whatever_ran_before(noisy, found_in_a_hurry):
    torch.rand(17), np.random.rand(3)
    assert same_findings(auto().fit(*noisy[:2]), found_in_a_hurry)
    other = auto(random_state=1).fit(*noisy[:2])
    assert not np.array_equal(other.label_quality_, found_in_a_hurry.label_quality_)


def test_a_default_device_of_torch_is_no_obstacle_to_the_estimate(noisy, hurry):
    X, given, _ = noisy

    def network(n_features, n_classes):
        return nn.Linear(n_features, n_classes, device="cpu")

    for data in (X, Items(X)):
        estimator = auto(device="cpu", module=network, lr=0.1)
        expected = clone(estimator).fit(data, given)
        torch.set_default_device("meta")  # what is made without saying where holds no numbers
        try:
            assert same_findings(estimator.fit(data, given), expected)
        finally:
            torch.set_default_device(None)


def test_noise_is_found_where_gradients_are_switched_off(noisy, found_in_a_hurry):
    with torch.inference_mode():
        assert same_findings(auto().fit(*noisy[:2]), found_in_a_hurry)


class WideLogits(Net):
    def forward(self, x):
        return super().forward(x).double()


def test_logits_of_double_precision_are_taken_in_single_precision(noisy):
    X, given, true = noisy
    estimator = auto(module=WideLogits, lr=0.02, precision="float32").fit(X, given)
    assert estimator.modules_[0].layers[0].weight.dtype == torch.float32
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.05)
    assert np.isfinite(estimator.label_quality_).all() and estimator.label_quality_.dtype == np.float64


def test_lazy_layers_are_made_for_the_estimate_too(noisy):
    X, given, true = noisy
    estimator = auto(module=lambda n_classes: nn.LazyLinear(n_classes), lr=0.1).fit(X, given)
    assert estimator.noise_rate_ == pytest.approx((given != true).mean(), abs=0.05)


def test_verbose_prints_the_estimate_first(noisy, table, capsys, hurry):
    for verbose in (0, 1, 2):
        estimator = auto(verbose=verbose).fit(*noisy[:2])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == (1 + QUICK["epochs"] if verbose else 0)
        if verbose:
            assert f"forget rate {estimator.forget_rate_:.3f}, estimated from the data" in lines[0]
    with pytest.warns(UserWarning, match="too few data"):
        auto(verbose=1).fit(*table)
    assert "estimated" not in capsys.readouterr().out


def test_callbacks_see_what_was_found(noisy, hurry):
    class Look(StopWhen):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **told):
            self.seen.append((context.task_name, fitted_estimator))

    callback = Look(0)
    estimator = auto().set_callbacks(callback).fit(*noisy[:2])
    assert [name for name, _ in callback.seen].count("epoch") == QUICK["epochs"]
    for _, copied in callback.seen:
        assert copied.noise_rate_ == estimator.noise_rate_
        assert len(copied.get_label_issues()) == len(noisy[0])


@pytest.mark.parametrize("epochs_done", [0, 1])
def test_ctrl_c_leaves_what_was_found_before_or_so_far(noisy, epochs_done, monkeypatch, hurry):
    X, given, _ = noisy
    estimator = auto(epochs=4).fit(X, given)
    before = estimator.get_label_issues()
    made, run_epoch = [], CoTeaching.run_epoch

    def interrupted(training, data, epoch, *rates):
        made.append(training)
        if len(made) == 3 and not epochs_done:  # within the cross-fit
            raise KeyboardInterrupt
        if len(data.used) == len(X) and epoch == epochs_done:
            raise KeyboardInterrupt
        return run_epoch(training, data, epoch, *rates)

    monkeypatch.setattr(CoTeaching, "run_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, 2 - given)
    issues = estimator.get_label_issues()
    assert estimator.noise_rate_ == estimator.forget_rate_
    if epochs_done:
        assert estimator.n_iter_ == 1
        assert_array_equal(issues["given_label"], 2 - given)
    else:
        assert issues.equals(before)
