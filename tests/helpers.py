"""Networks, data, estimators and callbacks that several test files use."""

import random
import warnings

import numpy as np
import pandas as pd
import polars as pl
import torch
from hypothesis import assume
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.datasets import make_blobs
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import noisy_labels, transition_matrix

# estimators

FAST = {"forget_rate": 0.2, "epochs": 4, "batch_size": 64, "random_state": 0}
QUICK = {"epochs": 3, "batch_size": 64, "random_state": 0}


def fast(**parameters):
    """An estimator that is told what to forget."""
    return CoTeachingClassifier(**{**FAST, **parameters})


def auto(**parameters):
    """An estimator that finds out what to forget; it wants 500 examples."""
    return CoTeachingClassifier(**{**QUICK, **parameters})


# networks


class Net(nn.Module):
    """A user's network, with a parameter and a ``forward`` of its own."""

    def __init__(self, n_features, n_classes, hidden=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, hidden), nn.Tanh(), nn.Linear(hidden, n_classes))

    def forward(self, x):
        return self.layers(x)


class Words(nn.Sequential):
    """For six words out of ten."""

    def __init__(self, n_classes):
        super().__init__(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(24, n_classes))


# data


class Items(Dataset):
    """A map-style Dataset; its own labels are nonsense and must not be looked at."""

    def __init__(self, X):
        self.X = torch.as_tensor(np.array(X))

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], "not a label"


def images(n=60, dtype=np.uint8):
    """Images of 8 x 8 whose left half is brighter in class 1, and their labels."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.integers(0, 100, (n, 1, 8, 8)) + 100 * y[:, None, None, None] * (np.arange(8) < 4)
    return X.astype(dtype), y


def words(n=80):
    """Six words each, of five that stand for class 0 or of the other five; and the labels."""
    y = np.arange(n) % 2
    return np.random.default_rng(0).integers(0, 5, (n, 6)) + 5 * y[:, None], y


def noisy_blobs(kind, rate, n_classes=3, n=600, seed=0):
    """Examples, given labels and true labels of classes that are easy to tell apart."""
    X, true = make_blobs(n, centers=n_classes, n_features=5, cluster_std=1.5, random_state=seed)
    given = noisy_labels(true, transition_matrix(kind, rate, n_classes), seed + 1)
    return X.astype(np.float32), given, true


def kinds_of_table(X, folder):
    """The table as everything that may hold one, by name."""
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


#: Three classes each.
LABELS_OF_EVERY_KIND = {
    "int": np.array([0, 1, 2]),
    "int32": np.array([0, 1, 2], dtype=np.int32),
    "uint8": np.array([0, 1, 2], dtype=np.uint8),
    "from 5": np.array([5, 6, 7]),
    "int32 from 5": np.array([5, 6, 7], dtype=np.int32),
    "uint8 by tens": np.array([10, 20, 30], dtype=np.uint8),
    "negative": np.array([-5, 3, 8]),
    "float": np.array([0.0, 1.0, 7.0]),
    "str": np.array(["ash", "birch", "oak"]),
    "object": np.array(["ash", "birch", "oak"], dtype=object),
}


# callbacks


class Callback:
    """Does nothing, at every occasion."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


class StopAfter(Callback):
    """Stops after so many epochs of the training proper."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        return context.task_name == "epoch" and fitted_estimator.n_iter_ >= self.epochs


# comparisons


def global_random_states():
    """Of torch, NumPy and Python."""
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def without_durations(history):
    """A ``history_`` but for what a clock has said."""
    return [{name: value for name, value in record.items() if name != "duration"} for record in history]


def weights_of(estimator):
    """All weights and buffers of both networks, as arrays."""
    return [value.numpy(force=True) for module in estimator.modules_ for value in module.state_dict().values()]


def assert_same_weights(a, b):
    """Whether the networks of two estimators are the same bits."""
    for ours, theirs in zip(weights_of(a), weights_of(b), strict=True):
        assert_array_equal(ours, theirs)


def assert_same_fit(a, b, X):
    """Whether two estimators tell the same of X and of their training, bit for bit."""
    assert a.n_iter_ == b.n_iter_
    assert without_durations(a.history_) == without_durations(b.history_)
    assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    names = [{name for name in vars(each) if name.endswith("_")} for each in (a, b)]
    assert names[0] == names[1]
    for name in names[0] & {"kept_frequency_", "label_quality_", "noise_matrix_", "forget_rate_schedule_"}:
        assert_array_equal(getattr(a, name), getattr(b, name))


def assert_same_findings(a, b):
    """Whether two fits have found the same of every label and of the noise, whatever the classes are called."""
    frames = [each.get_label_issues() for each in (a, b)]
    for column in ("is_label_issue", "label_quality"):
        assert_array_equal(frames[0][column], frames[1][column])
    for column in ("given_label", "predicted_label"):
        classes = [np.asarray(each.classes_) for each in (a, b)]
        assert_array_equal(*(np.searchsorted(c, frame[column]) for c, frame in zip(classes, frames, strict=True)))
    assert a.noise_rate_ == b.noise_rate_
    assert_array_equal(np.asarray(a.noise_matrix_), np.asarray(b.noise_matrix_))


def told(call, count=1):
    """What ``call`` returns, and the text of its warnings: so many, and each points at the line where it stands."""
    with warnings.catch_warnings(record=True) as all_told:
        warnings.simplefilter("always")
        returned = call()
    assert len(all_told) == count, [str(warning.message) for warning in all_told]
    here = call.__code__.co_filename, call.__code__.co_firstlineno
    for warning in all_told:
        assert warning.category is UserWarning
        assert (warning.filename, warning.lineno) == here, str(warning.message)
    return returned, "\n".join(str(warning.message) for warning in all_told)


# given labels and probabilities


def drawn_labels(noise_matrix, temperature=1.0, n=4000, seed=0, scale=2.0):
    """Given labels, true labels that were drawn from probabilities, and these made too sure by ``temperature``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, len(noise_matrix)))
    true = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    tempered = np.exp(logits * temperature)
    return noisy_labels(true, noise_matrix, seed + 1), true, tempered / tempered.sum(axis=1, keepdims=True)


@st.composite
def labels_and_probabilities(draw, weights=st.integers(0, 8).map(lambda quarters: quarters / 4)):
    """Labels, probabilities and weights, with ties among rows but none within a row; zeros and ones occur."""
    n, n_classes = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    parts = st.lists(st.integers(n_classes == 1, 12), min_size=n_classes, max_size=n_classes, unique=True)
    numbers = np.array(draw(st.lists(parts, min_size=n, max_size=n)))
    labels = np.array(draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)))
    weights = np.array(draw(st.lists(weights, min_size=n, max_size=n)))
    assume(weights.any())
    return labels, numbers / numbers.sum(axis=1, keepdims=True), weights
