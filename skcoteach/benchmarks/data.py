"""The data of the experiments: what ships with scikit-learn, and what is fetched or lies in a folder."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split

from skcoteach.benchmarks.options import OptionError, need

#: X_train, X_test, y_train, y_test
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@contextmanager
def _stored(folder: str, file: str, names: tuple[str, ...]) -> Iterator[np.lib.npyio.NpzFile]:
    path = Path(folder) / file
    if not path.is_file():
        raise OptionError(f"--data {folder}: there is no {file}.")
    with np.load(path) as stored:
        if not set(names) <= set(stored):
            raise OptionError(f"{path} must hold {', '.join(names)}; it holds {', '.join(stored)}.")
        yield stored


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
        names = ("X_train", "X_test", "y_train", "y_test")
        with _stored(folder, "mnist.npz", names) as stored:
            X_train, X_test, *y = (stored[name] for name in names)
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


def digit_images(seed: int, folder: str | None = None) -> Split:
    """:func:`digits` as images of shape (n, 1, 8, 8) in [0, 1]."""
    X_train, X_test, y_train, y_test = digits(seed)
    return X_train.reshape(-1, 1, 8, 8) / 16, X_test.reshape(-1, 1, 8, 8) / 16, y_train, y_test


def mnist_images(seed: int, folder: str | None = None) -> Split:
    """:func:`mnist` as images of shape (n, 1, 28, 28), float32 in [0, 1]; the same for every seed."""
    X_train, X_test, y_train, y_test = mnist(folder)
    X_train, X_test = (X[:, None].astype(np.float32) / 255 for X in (X_train, X_test))
    return X_train, X_test, y_train, y_test


def cifar10_images(seed: int, folder: str | None = None) -> Split:
    """CIFAR-10 as images of shape (n, 3, 32, 32), float32 in [0, 1]; the same for every seed.

    From ``cifar10_jpeg.npz`` in the folder, where the images are JPEG-coded, which loses detail: accuracies on these
    are not those on CIFAR-10 proper. Or from OpenML.
    """
    if folder is None:
        X, labels = fetch_openml("CIFAR_10", version=1, return_X_y=True, as_frame=False)
        X, labels = X.astype(np.float32).reshape(-1, 3, 32, 32) / 255, labels.astype(np.int64)
        return X[:50000], X[50000:], labels[:50000], labels[50000:]
    names = ("jpeg_train", "size_train", "y_train", "jpeg_test", "size_test", "y_test")
    with _stored(folder, "cifar10_jpeg.npz", names) as stored:
        X_train, X_test = (_decoded(stored[f"jpeg_{part}"], stored[f"size_{part}"]) for part in ("train", "test"))
        return X_train, X_test, stored["y_train"].astype(np.int64), stored["y_test"].astype(np.int64)


def cifar10n(annotation: str, folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The first 10,000 training and 5,000 test images of CIFAR-10 and what one person said of each.

    Returns
    -------
    X_train, X_test, given, y_train, y_test : ndarray
    """
    names = ("jpeg_train", "size_train", "y_train", "jpeg_test", "size_test", "y_test")
    with _stored(folder, "cifar10_jpeg.npz", names) as stored:
        images, labels = [], []
        for part, n in (("train", 10_000), ("test", 5_000)):
            images.append(_decoded(stored[f"jpeg_{part}"], stored[f"size_{part}"][:n]))
            labels.append(stored[f"y_{part}"][:n].astype(np.int64))
    with _stored(folder, "cifar10n_random.npz", (annotation,)) as stored:
        given = stored[annotation][:10_000].astype(np.int64)
    return images[0], images[1], given, labels[0], labels[1]


def _decoded(files: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Images (n, n_channels, height, width) from the bytes of JPEG files, one after the other."""
    need("PIL", "pillow", "CIFAR-10, JPEG-coded,")
    from PIL import Image

    ends = np.cumsum(sizes, dtype=np.int64)
    images = [Image.open(io.BytesIO(files[end - size : end].tobytes())) for end, size in zip(ends, sizes, strict=True)]
    return np.stack([np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255 for image in images])


#: By name on the command line; called with a seed and a folder.
IMAGES = {"digits": digit_images, "mnist": mnist_images, "cifar10": cifar10_images}
DATASETS = {"digits": digits, "mnist": mnist_vectors}

#: Of the KEEL repository; the last five have a rare class.
TABLES = (
    "german", "titanic", "contraceptive", "segment", "phoneme", "satimage", "vehicle", "mushroom", "banana", "spambase",
    "abalone9-18", "glass5", "yeast4", "page-blocks0", "shuttle-c0-vs-c4",
)  # fmt: skip


def real_table(name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """X (n, n_features) float32 and y (n,) int64 of one of ``TABLES``, from ``tables.npz`` in the folder, or digits."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X.astype(np.float32), y.astype(np.int64)
    assert folder is not None
    with _stored(folder, "tables.npz", (f"{name}.X", f"{name}.y")) as stored:
        return stored[f"{name}.X"].astype(np.float32), stored[f"{name}.y"].astype(np.int64)
