"""Precision: what the networks compute in, and tables that it does not hold."""

import numpy as np
import pytest
import torch
from helpers import Net, assert_same_findings, auto, fast, told
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_faster_precisions_learn_with_single_precision_weights(precision, table):
    X, y = table
    estimator = fast(precision=precision, epochs=20).fit(X, y)
    assert estimator.score(X, y) > fast(epochs=20).fit(X, y).score(X, y) - 0.05
    assert {p.dtype for network in estimator.modules_ for p in network.parameters()} == {torch.float32}
    proba = estimator.predict_proba(X)
    assert proba.dtype == np.float64
    assert_allclose(proba.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64)])
def test_networks_have_the_precision(precision, dtype, table):
    estimator = fast(precision=precision, epochs=1).fit(*table)
    assert {p.dtype for module in estimator.modules_ for p in module.parameters()} == {dtype}


@pytest.mark.parametrize("module", [None, Net], ids=["chain", "own forward"])
@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_it_is_the_parameter_where_the_caller_is_within_autocast(module, precision, table):
    X, y = table
    estimator = fast(module=module, precision=precision)
    expected = estimator.fit(X, y).partial_fit(X, y).predict_proba(X)
    with torch.autocast("cpu", torch.bfloat16):
        assert_array_equal(estimator.predict_proba(X), expected)
        assert_array_equal(estimator.fit(X, y).partial_fit(X, y).predict_proba(X), expected)
        assert torch.is_autocast_enabled("cpu")


class Large(Net):
    """Whose wrong answers have probabilities that no number holds."""

    def forward(self, x):
        return 1e4 * super().forward(x)


def test_what_numpy_is_told_to_raise_changes_nothing(table):
    X, y = table
    reference = fast(module=Large).fit(X, y)
    assert (reference.label_quality_ == 0).any()
    with np.errstate(all="raise"):
        estimator = fast(module=Large).fit(X, y)
        assert np.geterr()["under"] == "raise"
    assert_array_equal(estimator.label_quality_, reference.label_quality_)


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_fit_works_where_gradients_are_switched_off(switched_off, table):
    X, y = table
    expected = fast().fit(X, y).partial_fit(X, y).predict_proba(X)
    with switched_off():
        assert_array_equal(fast().fit(X, y).partial_fit(X, y).predict_proba(X), expected)


def test_noise_is_found_where_gradients_are_switched_off(noisy, found):
    with torch.inference_mode():
        assert_same_findings(auto().fit(*noisy[:2]), found)


@pytest.mark.parametrize(
    ("make", "columns"),
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
    for call in (lambda: fast(epochs=1).fit(X, y), lambda: fast().partial_fit(X, y, classes=[0, 1, 2])):
        _, text = told(call)
        assert text.startswith(f"Column(s) {columns} of X: float32 does not hold")
        assert "StandardScaler" in text
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
