"""Settings that must hold before anything is imported, and data that several test files use."""

import os
import signal

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # SciPy reads it once, when it is imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import make_classification  # noqa: E402

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell has its background jobs ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # small data: more threads only disturb the other test processes


@pytest.fixture(scope="session")
def table():
    """A small table of three classes, float32, and its labels."""
    X, y = make_classification(n_samples=200, n_features=8, n_informative=5, n_classes=3, class_sep=2.0, random_state=0)
    X = X.astype(np.float32)
    X.setflags(write=False)
    y.setflags(write=False)
    return X, y
