"""The same seed gives the same bits, whatever ran before, and leaves the global random states alone."""

import os
import random
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from helpers import (
    Items,
    Net,
    assert_same_findings,
    assert_same_fit,
    assert_same_weights,
    auto,
    fast,
    global_random_states,
)
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import nn

pytestmark = pytest.mark.filterwarnings("error")

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


@pytest.mark.parametrize("module", [None, Net])
def test_the_default_dtype_of_torch_changes_nothing_and_stays(module, table):
    X, y = table
    expected = fast(module=module).fit(X, y)
    torch.set_default_dtype(torch.float64)
    try:
        again = fast(module=module).fit(X, y)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_fit(again, expected, X)


class Jittered(Items):
    """Draws from all three global generators."""

    def __getitem__(self, index):
        x = super().__getitem__(index)[0]
        return x + 0.1 * torch.randn(8) + 0.1 * np.random.rand() + 0.1 * random.random()


def test_a_dataset_that_draws_gives_the_same_bits_and_leaves_the_global_states(table, noisy):
    X, y = table
    for estimator in (fast(), auto()):
        fits = []
        for drawn in (0, 5):
            torch.rand(drawn), np.random.rand(drawn)
            before = global_random_states()
            fits.append(clone(estimator).fit(Jittered(X), y))
            assert global_random_states() == before
        assert_same_weights(*fits)
        assert_array_equal(fits[0].label_quality_, fits[1].label_quality_)


FORK = """
import os, threading, time, warnings
import numpy as np, torch
torch.set_num_threads(1)
warnings.simplefilter("ignore")
from skcoteach import CoTeachingClassifier
X = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
y = np.arange(200) % 2
started = threading.Event()

class Slow(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        if threading.current_thread() is not threading.main_thread():
            started.set()
            time.sleep(0.01)
        return super().forward(x)

def fit():
    return CoTeachingClassifier(Slow, forget_rate=0.2, epochs=5, random_state=0).fit(X, y).predict_proba(X)

thread = threading.Thread(target=fit)
thread.start()
started.wait()
child = os.fork()
expected = fit()
if child == 0:
    print("child", expected.sum().hex(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
print("parent", expected.sum().hex())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_is_forked_while_another_thread_fits_can_fit():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=60)
    child, parent = sorted(done.stdout.split("\n")[:2])
    assert child.removeprefix("child") == parent.removeprefix("parent")


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(table):
    X, y = table
    first = fast().fit(X, y)
    torch.rand(17), np.random.rand(3)
    again = fast().fit(X, y)
    assert_same_fit(again, first, X)
    assert_same_fit(again.fit(X, y), first, X)
    assert not np.array_equal(first.predict_proba(X), fast(random_state=1).fit(X, y).predict_proba(X))


def test_the_same_seed_finds_the_same_whatever_ran_before(noisy, found):
    torch.rand(17), np.random.rand(3)
    again = auto().fit(*noisy[:2])
    assert_same_findings(again, found)
    assert_same_weights(again, found)
    other = auto(random_state=1).fit(*noisy[:2])
    assert not np.array_equal(other.label_quality_, found.label_quality_)


def test_a_random_state_instance_is_consumed_and_none_differs(table):
    X, y = table
    rng = np.random.RandomState(0)
    estimator = fast(random_state=rng)
    first, second = estimator.fit(X, y).predict_proba(X), estimator.fit(X, y).predict_proba(X)
    assert not np.array_equal(first, second)
    assert_array_equal(first, fast(random_state=np.random.RandomState(0)).fit(X, y).predict_proba(X))
    estimator = fast(random_state=None)
    assert not np.array_equal(estimator.fit(X, y).predict_proba(X), estimator.fit(X, y).predict_proba(X))


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_random_states_are_untouched(random_state, table, noisy):
    before = global_random_states()
    fast(random_state=random_state).fit(*table).partial_fit(*table).predict(table[0])
    auto(random_state=random_state).fit(*noisy[:2]).get_label_issues()
    assert global_random_states() == before


def test_parallel_cross_validation_gives_the_same_bits_at_equal_threads(table):
    X, y = table
    cv = StratifiedKFold(3)
    alone = cross_val_predict(fast(), X, y, cv=cv, method="predict_proba")
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        together = cross_val_predict(fast(), X, y, cv=cv, method="predict_proba", n_jobs=2)
    assert_array_equal(alone, together)


class Dropping(Net):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.2, self.training))


def test_in_threads_fits_give_the_same_bits_and_leave_the_global_random_states(table):
    X, y = table
    estimator = fast(module=Dropping, epochs=8, augment=lambda x: x + 0.1 * torch.randn_like(x))
    alone = cross_val_predict(estimator, X, y, cv=4, method="predict_proba")
    before = global_random_states()
    for _ in range(3):
        with joblib.parallel_config("threading"):
            together = cross_val_predict(estimator, X, y, cv=4, method="predict_proba", n_jobs=4)
        assert_array_equal(alone, together)
    assert global_random_states() == before


def linear_on_the_cpu(n_features, n_classes):
    return nn.Linear(n_features, n_classes, device="cpu")


@pytest.fixture
def default_device_without_numbers():
    """What torch makes without being told where holds no numbers, in the part of the test that asks for it."""

    def begin():
        torch.set_default_device("meta")

    yield begin
    torch.set_default_device(None)


@pytest.mark.parametrize("make", [np.array, Items, sparse.csr_array])
def test_a_default_device_of_torch_is_no_obstacle(make, table, default_device_without_numbers):
    X, y = make(table[0]), table[1]
    estimator = fast(device="cpu", module=linear_on_the_cpu)
    expected = estimator.fit(X, y).predict_proba(X)
    default_device_without_numbers()
    assert_array_equal(estimator.fit(X, y).predict_proba(X), expected)


@pytest.mark.parametrize("make", [np.array, Items])
def test_a_default_device_of_torch_is_no_obstacle_to_the_estimate(make, noisy, default_device_without_numbers):
    X, given = make(noisy[0]), noisy[1]
    estimator = auto(device="cpu", module=linear_on_the_cpu, lr=0.1)
    expected = clone(estimator).fit(X, given)
    default_device_without_numbers()
    assert_same_findings(estimator.fit(X, given), expected)
