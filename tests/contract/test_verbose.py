"""What a fit prints."""

import pytest
from helpers import QUICK, Callback, auto, fast

from skcoteach._reporting import print_epoch, print_return


class StopInEstimate(Callback):
    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        return context.task_name == "cross-fit epoch"


pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(("verbose", "epochs", "lines"), [(0, 25, 0), (1, 25, 9), (1, 3, 3), (2, 25, 25)])
def test_about_ten_lines_or_one_an_epoch(verbose, epochs, lines, table, capsys):
    fast(verbose=verbose, epochs=epochs).fit(*table)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    if lines:
        assert f"epoch {epochs}/{epochs}" in printed[-1] and "forget 0.20" in printed[-1]


def test_partial_fit_prints_its_epoch(table, capsys):
    X, y = table
    estimator = fast(verbose=2)
    for number in (1, 2):
        estimator.partial_fit(X, y, classes=[0, 1, 2])
        assert f"epoch {number}/4" in capsys.readouterr().out


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_the_estimate_comes_first(verbose, noisy, capsys):
    estimator = auto(verbose=verbose).fit(*noisy[:2])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (1 + QUICK["epochs"] if verbose else 0)
    if verbose:
        found = f"noise rate: {estimator.noise_rate_:.3f} ± {estimator.noise_rate_std_:.3f}"
        assert lines[0] == f"{found}, forget rate: {estimator.forget_rate_:.3f} (chosen by the data)"
        assert estimator.forget_rate_ > 0


def test_where_nothing_is_forgotten_the_estimate_says_so(table, capsys):
    estimator = auto(verbose=1).fit(*table)
    assert estimator.forget_rate_ == 0
    assert ", nothing is forgotten (chosen by the data)" in capsys.readouterr().out.splitlines()[0]


def test_lines_fit_into_80_columns(noisy, capsys):
    X, y = noisy[:2]
    fast(verbose=2, epochs=1000, early_stopping=True, n_iter_no_change=3).fit(X * 1e3, y, X_val=X, y_val=y)
    lines = capsys.readouterr().out.splitlines()
    assert "  val 0." in lines[0] and max(map(len, lines)) <= 80
    assert lines[-1].startswith("kept: the networks of epoch ")


def test_large_numbers_fit_into_80_columns(capsys):
    record = {"epoch": 9999, "forget_rate": 0.5, "loss": (1e30, 2e30), "accuracy": (1.0, 1.0), "agreement": 1.0}
    print_epoch(2, record | {"val_accuracy": 1.0}, 10_000)
    print_return(2, 9998)
    lines = capsys.readouterr().out.splitlines()
    assert "loss 1.5e+30" in lines[0] and "(best_epoch_=9998)" in lines[1]
    assert max(map(len, lines)) <= 80


def test_what_a_callback_has_stopped_is_not_estimated(noisy, capsys):
    with pytest.warns(UserWarning, match="a callback stopped the estimate"):
        auto(verbose=1).set_callbacks(StopInEstimate()).fit(*noisy[:2])
    assert capsys.readouterr().out.splitlines()[0] == "noise rate: not estimated"


def test_nothing_is_said_of_an_estimate_that_there_was_not(table, capsys):
    with pytest.warns(UserWarning, match="too few examples"):
        auto(verbose=1).fit(*(each[:39] for each in table))
    assert "noise rate" not in capsys.readouterr().out
