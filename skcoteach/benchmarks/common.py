"""What the experiments share: noise with a stated seed, paired statistics, figures that say where they come from."""

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import skcoteach


def transition_matrix(kind: str, rate: float, n_classes: int) -> np.ndarray:
    """P(given | true) of the noise of Han et al. (2018), section 4.

    Parameters
    ----------
    kind : {"pair", "symmetric"}
        Pair: class c becomes c + 1 (the last becomes the first). Symmetric: any other class, equally likely.
    rate : float in [0, 1]
        Share of wrong labels.
    n_classes : int

    Returns
    -------
    ndarray of shape (n_classes, n_classes), float64
        A row for each given class, a column for each true class; columns sum to one, as cleanlab's noise matrices do.

    Examples
    --------
    >>> transition_matrix("pair", 0.25, 3)
    array([[0.75, 0.  , 0.25],
           [0.25, 0.75, 0.  ],
           [0.  , 0.25, 0.75]])
    """
    if kind == "pair":
        return (1 - rate) * np.eye(n_classes) + rate * np.roll(np.eye(n_classes), 1, axis=0)
    return np.where(np.eye(n_classes, dtype=bool), 1 - rate, rate / (n_classes - 1))


def noisy_labels(
    true_labels: np.ndarray, noise_matrix: np.ndarray, seed: int, *, stratified: bool = False
) -> np.ndarray:
    """Draw a given label for each true one, as the paper's code does: each by itself.

    Where classes are small, the share of wrong labels then differs much between them: of 125 examples with pair noise
    of 0.45, in one class of eight more than half of the labels are wrong, and no method can know which class is meant.
    (``cleanlab.benchmarking.noise_generation`` rounds the counts of every pair of classes down, which on small data
    makes symmetric noise of 0.7 one of 0.65.)

    Parameters
    ----------
    true_labels : ndarray of shape (n,), int
    noise_matrix : ndarray of shape (n_classes, n_classes)
        P(given | true), columns sum to one.
    seed : int
    stratified : bool, default=False
        Whether every class gets the shares of the matrix, to one example.

    Returns
    -------
    ndarray of shape (n,), int

    Examples
    --------
    >>> true = np.zeros(125, dtype=int)
    >>> given = noisy_labels(true, transition_matrix("pair", 0.45, 2), seed=0, stratified=True)
    >>> int((given != true).sum())  # 0.45 of 125 is 56.25
    56
    """
    rng = np.random.default_rng(seed)
    drawn = rng.random(len(true_labels))
    if stratified:  # systematic sampling: one draw in each n-th of the way from 0 to 1
        for c in np.unique(true_labels):
            (members,) = np.nonzero(true_labels == c)
            drawn[members] = (rng.permutation(len(members)) + rng.random()) / len(members)
    cumulated = noise_matrix.cumsum(axis=0)[:, true_labels]
    return np.minimum((drawn >= cumulated).sum(axis=0), len(noise_matrix) - 1)


def mean_and_error(values: Any) -> tuple[float, float]:
    """Mean and its standard error (NaN for a single value)."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


class TestAccuracy:
    """A scikit-learn callback that notes the accuracy on held-out data after every epoch.

    Parameters
    ----------
    X, y : array-like
        The held-out data.
    advance : callable, optional
        Called after every epoch.

    Attributes
    ----------
    curve : list of float
        One accuracy an epoch.
    """

    def __init__(self, X: Any, y: Any, advance: Callable[[], object] | None = None):
        self.X, self.y, self.advance = X, y, advance
        self.curve: list[float] = []

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to prepare."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to close."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to note."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        """Note the accuracy of the networks as they are now."""
        if context.task_name == "epoch":
            self.curve.append(fitted_estimator.score(self.X, self.y))
            if self.advance is not None:
                self.advance()


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, aligned for reading as text, too."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    aligned = [
        [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        for row in (header, *rows)
    ]
    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (aligned[0], rule, *aligned[1:]))


def write_json(file: str | Path, command: list[str], figures: dict) -> None:
    """Store figures with the command, the versions, the kind of machine and the date that they belong to."""
    origin = {
        "command": "python -m skcoteach.benchmarks " + " ".join(command),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), "skcoteach": skcoteach.__version__}
        | {name: version(name) for name in ("torch", "numpy", "scikit-learn", "cleanlab")},
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
    Path(file).write_text(json.dumps(origin | figures, indent=1) + "\n")


def show(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text)
    sys.stdout.flush()
