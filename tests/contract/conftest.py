"""Data with wrong labels, and an estimator that has found them."""

import pytest
from helpers import auto, noisy_blobs


@pytest.fixture(scope="session")
def noisy():
    """600 examples of three classes of which a fifth are called by the next class's name; true labels come third."""
    data = noisy_blobs("pair", 0.2)
    for each in data:
        each.setflags(write=False)
    return data


@pytest.fixture(scope="session")
def found(noisy):
    """The estimator fitted to them, not to be changed."""
    return auto().fit(*noisy[:2])
