"""Real tables: the defaults beside plain networks, forests, boosting and logistic regression, clean and with noise.

Fifteen tables of the KEEL repository (``tables.npz`` in the folder of ``--data``), five of them with a rare class, or
scikit-learn's digits. 30 % are held out for testing, stratified, with true labels. Noise is symmetric, or pair noise,
which is the same for two classes. All methods see the same split, noise and seed.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cleanlab.classification import CleanLearning
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import mean_and_error, noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.data import TABLES, real_table
from skcoteach.benchmarks.options import OptionError, count, jobs, new_file, rate

#: Tables on which settings were chosen, with seeds from 100 on.
TUNED_ON = ("german", "segment", "phoneme", "satimage", "banana", "abalone9-18", "page-blocks0")
#: Added to the seed of the split and the methods.
FIRST_NOISE_SEED = 8000


def _forest(seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(300, min_samples_leaf=5, random_state=seed, n_jobs=1)


#: What is compared, made from a seed.
METHODS: dict[str, Callable[[int], Any]] = {
    "default": lambda seed: CoTeachingClassifier(random_state=seed),
    "plain": lambda seed: CoTeachingClassifier(forget_rate=0.0, random_state=seed),
    "logistic": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    "forest": _forest,
    "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "CleanLearning(forest)": lambda seed: CleanLearning(
        _forest(seed), seed=seed, find_label_issues_kwargs={"n_jobs": 1}
    ),
    "MLPClassifier": lambda seed: make_pipeline(
        StandardScaler(), MLPClassifier((128, 128), early_stopping=True, random_state=seed)
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--tables", nargs="+", choices=[*TABLES, "digits"], default=list(TABLES), help="all of KEEL")
    parser.add_argument("--noise", nargs="+", type=rate, default=[0.0, 0.2, 0.4], help="noise rates (0 0.2 0.4)")
    parser.add_argument("--kind", choices=("symmetric", "pair"), default="symmetric", help="of noise (symmetric)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="all")
    parser.add_argument("--seeds", type=count, default=5, help="number of splits, noise draws and networks (5)")
    parser.add_argument("--first-seed", type=int, default=0, help="(0) 100 and more for tuning")
    parser.add_argument("--jobs", type=jobs, default=-1, help="processes, of one thread each (all cores)")
    parser.add_argument("--data", metavar="FOLDER", help="where tables.npz lies")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def measure(name: str, kind: str, noise: float, seed: int, methods: list[str], folder: str | None) -> list[dict]:
    """All figures of one table, kind and rate of noise, and seed: a dict for each method."""
    torch.set_num_threads(1)
    X, y = real_table(name, folder)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    n_classes = int(y.max()) + 1
    given = noisy_labels(y_train, transition_matrix(kind, noise, n_classes), FIRST_NOISE_SEED + seed)
    wrong = given != y_train
    return [
        {"table": name, "noise": noise, "seed": seed, "method": method}
        | _measured(METHODS[method](seed), X_train, given, wrong, X_test, y_test, n_classes)
        for method in methods
    ]


def _measured(estimator: Any, X: Any, given: Any, wrong: Any, X_test: Any, y_test: Any, n_classes: int) -> dict:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not converge, or has too few data, shows in the figures
        estimator.fit(X, given)
    seconds = time.perf_counter() - start
    probabilities = np.full((len(y_test), n_classes), 1e-15)
    probabilities[:, np.unique(given)] = estimator.predict_proba(X_test)
    predicted = probabilities.argmax(axis=1)
    figures = {
        "accuracy": float((predicted == y_test).mean()),
        "macro_recall": float(balanced_accuracy_score(y_test, predicted)),
        "log_loss": float(
            log_loss(y_test, probabilities / probabilities.sum(1, keepdims=True), labels=range(n_classes))
        ),
        "true_rate": float(wrong.mean()),
        "seconds": round(seconds, 3),
    }
    for attribute in ("noise_rate_", "noise_rate_std_", "forget_rate_", "temperature_"):
        if hasattr(estimator, attribute):
            figures[attribute] = float(getattr(estimator, attribute))
    quality = getattr(estimator, "label_quality_", None)
    if quality is None and isinstance(estimator, CleanLearning):
        quality = estimator.get_label_issues()["label_quality"].to_numpy()
    if quality is not None and wrong.any():
        figures["average_precision"] = float(average_precision_score(wrong, -quality))
    return figures


def run(options: argparse.Namespace) -> None:
    """Print the tables; store all single figures if asked to."""
    if options.data is None and options.tables != ["digits"]:
        raise OptionError("--data FOLDER is needed, where tables.npz lies. Without it there is --tables digits.")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tasks = [(name, noise, seed) for name in options.tables for noise in options.noise for seed in seeds]
    runs: list[dict] = []
    with Parallel(n_jobs=options.jobs, return_as="generator") as parallel:
        calls = (delayed(measure)(name, options.kind, *rest, options.methods, options.data) for name, *rest in tasks)
        for (name, noise, seed), measured in zip(tasks, parallel(calls), strict=True):
            runs += measured
            if seed == seeds[-1]:
                show(f"{name}, noise {noise:g}: done")
    for figure in ("accuracy", "macro_recall", "log_loss"):
        show_figure(runs, figure)
    show_rates(runs)
    if options.json:
        given = ["--tables", *options.tables, "--noise", *map(str, options.noise), "--methods", *options.methods]
        given += ["--kind", options.kind] * (options.kind != "symmetric")
        given += ["--seeds", str(options.seeds), "--first-seed", str(options.first_seed)]
        write_json(options.json, ["tables", *given], {"runs": runs})


def show_figure(runs: list[dict], figure: str) -> None:
    """A row for each table and noise rate, then the means over the tables."""
    methods = list(dict.fromkeys(each["method"] for each in runs))
    rows = []
    for noise in dict.fromkeys(each["noise"] for each in runs):
        means = []
        for name in dict.fromkeys(each["table"] for each in runs):
            own = [each for each in runs if each["table"] == name and each["noise"] == noise]
            means.append([np.mean([each[figure] for each in own if each["method"] == method]) for method in methods])
            marked = name + " *" * (name in TUNED_ON)
            rows.append([marked, f"{noise:g}", *(f"{mean:.3f}" for mean in means[-1])])
        rows.append(["mean", f"{noise:g}", *(f"{mean:.3f}" for mean in np.mean(means, axis=0))])
    show(f"\n{figure} (* settings were chosen on this table)\n")
    show(table(["table", "noise", *methods], rows) + "\n")


def show_rates(runs: list[dict]) -> None:
    """Estimated noise rates beside the true ones."""
    found = [each for each in runs if "noise_rate_" in each]
    rows = []
    for name, noise in dict.fromkeys((each["table"], each["noise"]) for each in found):
        own = [each for each in found if (each["table"], each["noise"]) == (name, noise)]
        errors = np.abs([each["noise_rate_"] - each["true_rate"] for each in own])
        stds = [each["noise_rate_std_"] for each in own if "noise_rate_std_" in each]
        mean, error = mean_and_error([each["noise_rate_"] for each in own])
        rows.append(
            [name, f"{noise:g}", f"{np.mean([each['true_rate'] for each in own]):.3f}", f"{mean:.3f} ± {error:.3f}"]
            + [f"{errors.mean():.3f}", f"{errors.max():.3f}", f"{np.mean(stds):.3f}" if stds else "–"]
            + [f"{np.mean([each['forget_rate_'] for each in own]):.3f}"]
        )
    if rows:
        header = ["table", "noise", "true rate", "estimated", "mean error", "largest", "its own std", "forget rate"]
        show(table(header, rows) + "\n")
