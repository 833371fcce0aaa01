"""Unknown noise: the estimated forget rate against the true one, and the wrong labels that are named.

Digits (1,257 images to train on) and 6,000 MNIST images as vectors, the default network, 100 epochs. The estimator with
its defaults (forget_rate="auto") stands beside the same with the true noise rate given; its label issues beside those
of CleanLearning, which cross-validates in five folds, with the same estimator, with plain networks (forget rate 0) and
with logistic regression. All see the same data, noise and seeds.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from cleanlab.classification import CleanLearning
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import mean_and_error, noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.data import DATASETS
from skcoteach.benchmarks.options import count, jobs, new_file

#: Kind and rate of the noise, by the name on the command line and in the tables.
CELLS = {
    "none": ("pair", 0.0),
    "pair 0.1": ("pair", 0.1),
    "pair 0.2": ("pair", 0.2),
    "pair 0.4": ("pair", 0.4),
    "symmetric 0.2": ("symmetric", 0.2),
    "symmetric 0.5": ("symmetric", 0.5),
    "symmetric 0.7": ("symmetric", 0.7),
}
#: Seeds below 100 are for the tables; tuning takes others.
FIRST_SEED = 0
#: Added to the seed of the data and the networks.
FIRST_NOISE_SEED = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), help="all")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="kinds of noise (all)")
    parser.add_argument("--seeds", type=count, default=8, help="number of splits, noise draws and networks (8)")
    parser.add_argument("--cv-seeds", type=int, default=3, help="on how many of them CleanLearning runs, too (3)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help=f"({FIRST_SEED}) 100 and more for tuning")
    parser.add_argument("--epochs", type=count, default=100, help="epochs of every fit (100)")
    parser.add_argument("--jobs", type=jobs, default=-1, help="processes, of one thread each (all cores)")
    parser.add_argument("--data", metavar="FOLDER", help="where mnist.npz lies; else it is fetched from OpenML")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def measure(dataset: str, cell: str, seed: int, epochs: int, with_cv: bool, folder: str | None) -> dict:
    """All figures of one data set, noise and seed."""
    kind, rate = CELLS[cell]
    torch.set_num_threads(1)
    X_train, X_test, y_train, y_test = DATASETS[dataset](seed, folder)
    given = y_train
    if rate:
        given = noisy_labels(y_train, transition_matrix(kind, rate, 10), FIRST_NOISE_SEED + seed)
    wrong = given != y_train
    auto = CoTeachingClassifier(epochs=epochs, random_state=seed)
    true = CoTeachingClassifier(forget_rate=float(wrong.mean()), epochs=epochs, random_state=seed)
    plain = CoTeachingClassifier(forget_rate=0.0, epochs=epochs, random_state=seed)

    seconds = {"auto": _seconds(lambda: auto.fit(X_train, given)), "true": _seconds(lambda: true.fit(X_train, given))}
    accuracies = {"auto": auto.score(X_test, y_test), "true": true.score(X_test, y_test)}
    issues = {"auto": auto.get_label_issues()}
    if with_cv:
        for name, estimator in {"auto": auto, "plain": plain, "logistic": LogisticRegression()}.items():
            cleaner = CleanLearning(clone(estimator), cv_n_folds=5, seed=seed, find_label_issues_kwargs={"n_jobs": 1})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of logistic regression, which does not converge
                seconds[f"cv {name}"] = _seconds(lambda: cleaner.find_label_issues(X_train, given))
                issues[f"cv {name}"] = cleaner.get_label_issues()
                if name != "logistic":
                    cleaner.fit(X_train, given, label_issues=cleaner.get_label_issues())
                    accuracies[f"cv {name}"] = float((cleaner.predict(X_test) == y_test).mean())
    return {
        "true_rate": float(wrong.mean()),
        "estimated_rate": auto.noise_rate_,
        "seconds": seconds,
        "accuracy": accuracies,
        "average_precision": {
            name: float(average_precision_score(wrong, -each["label_quality"])) for name, each in issues.items()
        }
        if rate
        else {},
        "f1": {name: float(f1_score(wrong, each["is_label_issue"])) for name, each in issues.items()} if rate else {},
    }


def _seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def run(options: argparse.Namespace) -> None:
    """Print the tables; store all single figures if asked to."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, dict[str, list[dict]]] = {}
    with Parallel(n_jobs=options.jobs, return_as="generator") as parallel:
        for dataset in options.datasets:
            tasks = [
                (dataset, cell, seed, options.epochs, i < options.cv_seeds, options.data)
                for cell in options.cells
                for i, seed in enumerate(seeds)
            ]
            cells: dict[str, list[dict]] = {}
            for task, measured in zip(tasks, parallel(delayed(measure)(*task) for task in tasks), strict=True):
                _, cell, seed, *_ = task
                cells.setdefault(cell, []).append({"seed": seed} | measured)
                if len(cells[cell]) == options.seeds:
                    show(f"{dataset}, {cell}: done")
            figures[dataset] = cells
            show_tables(dataset, cells)
    if options.json:
        given = ["--datasets", *options.datasets, "--seeds", str(options.seeds), "--cv-seeds", str(options.cv_seeds)]
        given += ["--first-seed", str(options.first_seed), "--epochs", str(options.epochs)]
        if options.cells != list(CELLS):
            given += ["--cells", *(f'"{cell}"' for cell in options.cells)]
        write_json(options.json, ["noise", *given], {"figures": figures})


def show_tables(dataset: str, cells: dict[str, list[dict]]) -> None:
    """Rates and accuracies, then what is found among the labels."""
    rows = []
    for cell, runs in cells.items():
        rates = np.array([[each["true_rate"], each["estimated_rate"]] for each in runs])
        scores = _columns(runs, "accuracy", ("auto", "true"))
        difference, error = mean_and_error(scores[:, 0] - scores[:, 1])
        ratio = np.median([each["seconds"]["auto"] / each["seconds"]["true"] for each in runs])
        deviation = rates[:, 1] - rates[:, 0]
        rows.append(
            [cell, *(f"{mean:.3f}" for mean in rates.mean(axis=0))]
            + [f"{deviation.mean():+.3f}", f"{np.abs(deviation).max():.3f}"]
            + [f"{mean:.3f}" for mean in scores.mean(axis=0)]
            + [f"{difference:+.3f} ± {error:.3f}", f"{ratio:.2f}"]
        )
    header = ["noise", "true rate", "estimated", "deviation", "largest", "accuracy", "true rate given", "difference"]
    show(f"\n{dataset}: forget rate, and accuracy on true test labels, mean of {len(runs)} seeds\n")
    show(table([*header, "time ratio"], rows) + "\n")

    with_cv = {name: [each for each in runs if "cv auto" in each["f1"]] for name, runs in cells.items()}
    methods = ("auto", "cv auto", "cv plain", "cv logistic")
    rows = []
    for cell, runs in with_cv.items():
        if runs:
            ratio = np.median([each["seconds"]["auto"] / each["seconds"]["cv auto"] for each in runs])
            precisions, f1 = (_columns(runs, figure, methods).mean(axis=0) for figure in ("average_precision", "f1"))
            rows.append([cell, *(f"{p:.3f} / {f:.2f}" for p, f in zip(precisions, f1, strict=True)), f"{ratio:.2f}"])
    if rows:
        show(f"{dataset}: label issues, average precision / F1\n")
        show(table(["noise", "one fit", *methods[1:], "time of one fit / cv auto"], rows) + "\n")

    rows = []
    for cell, runs in {name: [r for r in runs if "cv auto" in r["accuracy"]] for name, runs in cells.items()}.items():
        if runs:
            scores = _columns(runs, "accuracy", ("auto", "cv plain", "cv auto"))
            gain, error = mean_and_error(scores[:, 2] - scores[:, :2].max(axis=1))
            rows.append([cell, *(f"{mean:.3f}" for mean in scores.mean(axis=0)), f"{gain:+.3f} ± {error:.3f}"])
    if rows:
        show(f"{dataset}: pruned by CleanLearning, accuracy\n")
        parts = ["co-teaching", "CleanLearning(plain)", "CleanLearning(co-teaching)", "against the better part"]
        show(table(["noise", *parts], rows) + "\n")


def _columns(runs: list[dict], figure: str, names: tuple[str, ...]) -> np.ndarray:
    return np.array([[each[figure][name] for name in names] for each in runs])
