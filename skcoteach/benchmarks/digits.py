"""Handwritten digits with flipped training labels: plain training, ranking by batch alone, the default.

The 1,797 images that ship with scikit-learn, ten stratified splits (1,257 to train), the default network, the true
noise rate given, 100 epochs, accuracy on true test labels after the last epoch. All three methods see the same splits,
noise and seeds, so differences are paired. With ``--levels 10`` every image comes five times, each time with one of
ten levels of a second factor in further, noisy columns, and a class is a digit with a level: 100 classes.
"""

import argparse
import numpy as np
import torch
from joblib import Parallel, delayed

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks import data
from skcoteach.benchmarks.common import mean_and_error, noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.options import count, jobs, new_file

CELLS = (("pair", 0.2), ("pair", 0.3), ("pair", 0.45), ("symmetric", 0.5), ("symmetric", 0.7))
METHODS = ("plain", "class_floor=0", "default")
#: Splits 0 to 9 take the noise seeds 7000 to 7009; nothing was tuned on them.
FIRST_NOISE_SEED = 7000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--splits", type=count, default=10, help="number of splits (10)")
    parser.add_argument("--epochs", type=count, default=100, help="epochs of every fit (100)")
    parser.add_argument("--batch-size", type=count, default=128, help="examples of a mini-batch (128)")
    parser.add_argument("--levels", type=count, default=1, help="of a second factor: 10 levels make 100 classes (1)")
    parser.add_argument("--jobs", type=jobs, default=-1, help="processes, of one thread each (all cores)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def split_with_noise(split: int, kind: str, rate: float, levels: int = 1) -> tuple[np.ndarray, ...]:
    """X_train, X_test, given and true training labels, y_test."""
    X_train, X_test, y_train, y_test = data.digits(split)
    if levels > 1:
        rng = np.random.default_rng(split)
        X_train, y_train = _crossed(X_train, y_train, levels, rng)
        X_test, y_test = _crossed(X_test, y_test, levels, rng)
    given = noisy_labels(y_train, transition_matrix(kind, rate, 10 * levels), FIRST_NOISE_SEED + split)
    return X_train, X_test, given, y_train, y_test


def _crossed(X: np.ndarray, y: np.ndarray, levels: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Five times the rows, each with a level of a second factor as a noisy indicator; classes are pairs."""
    X, y = np.tile(X, (5, 1)), np.tile(y, 5)
    level = rng.integers(levels, size=len(y))
    indicator = np.eye(levels)[level] + rng.normal(scale=0.3, size=(len(y), levels))
    return np.hstack([X, indicator.astype(X.dtype)]), y * levels + level


def accuracy(method: str, split: int, kind: str, rate: float, options: argparse.Namespace) -> float:
    """Test accuracy of one method on one split."""
    torch.set_num_threads(1)
    X_train, X_test, given, y_train, y_test = split_with_noise(split, kind, rate, options.levels)
    forget_rate = 0.0 if method == "plain" else float((given != y_train).mean())
    classifier = CoTeachingClassifier(
        forget_rate=forget_rate, epochs=options.epochs, batch_size=options.batch_size, random_state=split
    )
    if method == "class_floor=0":
        classifier.set_params(class_floor=0.0)
    return classifier.fit(X_train, given).score(X_test, y_test)


def run(options: argparse.Namespace) -> None:
    """Print a row for each kind of noise; store all single accuracies if asked to."""
    figures: dict[str, dict] = {}
    rows = []
    splits = range(options.splits)
    with Parallel(n_jobs=options.jobs) as parallel:
        for kind, rate in CELLS:
            tasks = [(method, split, kind, rate, options) for method in METHODS for split in splits]
            scores = np.reshape(parallel(delayed(accuracy)(*task) for task in tasks), (len(METHODS), len(splits)))
            figures[f"{kind} {rate}"] = {m: [round(float(s), 5) for s in each] for m, each in zip(METHODS, scores)}
            plain, batch, default = scores
            rows.append(
                [f"{kind} {rate:g}"]
                + [f"{mean:.3f} ± {error:.3f}" for mean, error in map(mean_and_error, scores)]
                + [f"{m:+.3f} ± {e:.3f}" for m, e in map(mean_and_error, (default - plain, default - batch))]
            )
            show(f"{kind} {rate:g} done")
    header = ["noise", *METHODS, "default − plain", "default − class_floor=0"]
    show(f"\nTest accuracy on digits, mean ± standard error over {options.splits} splits, {options.epochs} epochs\n")
    show(table(header, rows))
    if options.json:
        command = ["digits", "--splits", str(options.splits), "--epochs", str(options.epochs)]
        if options.batch_size != 128:
            command += ["--batch-size", str(options.batch_size)]
        if options.levels != 1:
            command += ["--levels", str(options.levels)]
        write_json(options.json, command, {"accuracy": figures})
