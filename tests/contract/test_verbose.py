"""What a fit prints."""

import pytest
from helpers import QUICK, auto, fast

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(("verbose", "epochs", "lines"), [(0, 25, 0), (1, 25, 9), (1, 3, 3), (2, 25, 25)])
def test_about_ten_lines_or_one_an_epoch(verbose, epochs, lines, table, capsys):
    fast(verbose=verbose, epochs=epochs).fit(*table)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    if lines:
        assert f"epoch {epochs}/{epochs}" in printed[-1] and "forget rate 0.20" in printed[-1]


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
        found = f"noise rate {estimator.noise_rate_:.3f} ± {estimator.noise_rate_std_:.3f}"
        assert f"{found}, forget rate {estimator.forget_rate_:.3f}: chosen by the data" in lines[0]


def test_nothing_is_said_of_an_estimate_that_there_was_not(table, capsys):
    with pytest.warns(UserWarning, match="too few examples"):
        auto(verbose=1).fit(*(each[:39] for each in table))
    assert "noise rate" not in capsys.readouterr().out
