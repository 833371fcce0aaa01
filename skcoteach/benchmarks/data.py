"""The data of the experiments: what ships with scikit-learn, and what is fetched or lies in a folder."""

from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split

#: X_train, X_test, y_train, y_test
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def digits(seed: int, folder: str | None = None) -> Split:
    """The 1,797 digits of scikit-learn, 30 % of them for testing, stratified; 8×8 pixels as vectors."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, test_size=0.3, stratify=y, random_state=seed
    )
    return X_train, X_test, y_train, y_test


def mnist(folder: str | None = None) -> Split:
    """MNIST, (60000, 28, 28) and (10000, 28, 28) uint8, from ``mnist.npz`` in the folder or from OpenML."""
    if folder is not None:
        with np.load(Path(folder) / "mnist.npz") as stored:
            X_train, X_test, *y = (stored[name] for name in ("X_train", "X_test", "y_train", "y_test"))
        return X_train, X_test, y[0].astype(np.int64), y[1].astype(np.int64)
    X, labels = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    X, labels = X.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int64)
    return X[:60000], X[60000:], labels[:60000], labels[60000:]


def mnist_vectors(seed: int, folder: str | None = None) -> Split:
    """6,000 random training images of MNIST and all test images, as vectors of numbers in [0, 1]."""
    X_train, X_test, y_train, y_test = mnist(folder)
    drawn = np.random.default_rng(seed).choice(len(X_train), 6000, replace=False)
    X_train, X_test = (X.reshape(len(X), -1).astype(np.float32) / 255 for X in (X_train[drawn], X_test))
    return X_train, X_test, y_train[drawn], y_test


#: By name on the command line; called with a seed and a folder.
DATASETS = {"digits": digits, "mnist": mnist_vectors}
