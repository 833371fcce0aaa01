"""The example of cleanlab's documentation: confident learning prunes, co-teaching learns from the rest.

Northcutt, Jiang, Chuang (2021), arXiv:1911.00068, combined with co-teaching as in ``cleanlab.experimental.coteaching``.
Plain networks predict every training example in a cross-validation; confident learning finds the labels that these
contradict, which are left out; co-teaching trains on the others, each class weighted by how much of it is left.

For the noise of the paper:
``--dataset cifar10 --data FOLDER --noise FOLDER/cifar10_noisy_labels.npz:4_2 --device cuda --precision bf16``.
"""

import argparse
import time

import numpy as np
from cleanlab.count import compute_confident_joint, estimate_latent
from cleanlab.filter import find_label_issues
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skcoteach.benchmarks import data
from skcoteach.benchmarks.accuracy import Problem, final_accuracy, recipe_of, source_of
from skcoteach.benchmarks.common import TestAccuracy, show, write_json
from skcoteach.benchmarks.options import PRECISIONS, count, folds, new_file, rate

#: Of the documented example; the experiment of the co-teaching paper has 200.
DOCUMENTED_EPOCHS = 250


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--dataset", choices=data.IMAGES, default="cifar10", help="(cifar10)")
    parser.add_argument("--noise", required=True, help="pair, symmetric, or a file of labels: F.npy, or F.npz:NAME")
    parser.add_argument("--rate", type=rate, default=0.2, help="noise rate of pair and symmetric (0.2)")
    parser.add_argument("--recipe", choices=("paper", "fast"), default="fast", help="of all networks (fast)")
    parser.add_argument("--epochs", type=count, help="of the co-teaching (fast: as the recipe says, paper: 250)")
    parser.add_argument("--cv-epochs", type=count, help="of every training of the cross-validation (the same)")
    parser.add_argument("--folds", type=folds, default=4, help="of the cross-validation (4)")
    parser.add_argument("--seed", type=int, default=0, help="of networks, folds and noise (0)")
    parser.add_argument("--limit", type=count, help="train on so many random images only (all)")
    parser.add_argument("--data", default="openml", help="a folder with the images; openml to fetch them (openml)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="(float32)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="store the figures there, too")


def run(options: argparse.Namespace) -> None:
    """Prune, train on the rest, print the accuracy on true test labels."""
    start = time.perf_counter()
    if options.recipe == "paper" and options.epochs is None:
        options.epochs = DOCUMENTED_EPOCHS
    problem = Problem(options, options.seed, lambda: None)
    X, given = problem.X, problem.given
    show(f"{options.dataset}, {options.noise}: {len(X)} images, {problem.noise_rate:.1%} of the labels are wrong.")

    shorter = (
        options if options.cv_epochs is None else argparse.Namespace(**vars(options) | {"epochs": options.cv_epochs})
    )
    plain = recipe_of(shorter, options.seed).set_params(forget_rate=0.0, precision=options.precision)
    folds = StratifiedKFold(options.folds, shuffle=True, random_state=options.seed)
    pred_probs = cross_val_predict(plain, X, given, cv=folds, method="predict_proba")
    is_issue = find_label_issues(given, pred_probs, filter_by="both", n_jobs=1)
    found = float((~problem.is_right[is_issue]).sum() / max(is_issue.sum(), 1))
    rest = float((~problem.is_right[~is_issue]).mean())
    show(
        f"Confident learning leaves out {is_issue.mean():.1%} of the labels ({time.perf_counter() - start:.0f} s); of "
        f"those, {found:.1%} are wrong; of the others, {rest:.1%}."
    )

    _, noise_matrix, _ = estimate_latent(compute_confident_joint(given, pred_probs), given)
    weights = 1 / np.diag(noise_matrix).clip(min=0.05)  # P(given = true) is the part of each class that is left
    monitor = TestAccuracy(problem.X_test, problem.y_test)
    classifier = clone(problem.estimator).set_params(class_weight=dict(enumerate(weights)))
    classifier.set_callbacks(monitor).fit(X[~is_issue], given[~is_issue])
    seconds = time.perf_counter() - start
    accuracy = final_accuracy({"accuracy": monitor.curve})
    estimated = "estimated" if hasattr(classifier, "noise_rate_") else "not estimated, too few labels are left"
    show(f"Co-teaching on these, forget rate {classifier.forget_rate_:.3f} ({estimated}).")
    show(f"Test accuracy {accuracy:.1%} after {seconds:.0f} s.")
    if options.json:
        names = ("dataset", "noise", "rate", "recipe", "epochs", "cv_epochs", "folds", "seed", "limit", "device")
        settings = {name: getattr(options, name) for name in (*names, "precision")}
        if options.noise not in ("pair", "symmetric"):
            del settings["rate"]
        command = [f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if value is not None]
        figures = {
            "noise_rate": problem.noise_rate,
            "pruned": float(is_issue.mean()),
            "wrong_among_the_rest": rest,
            "forget_rate": classifier.forget_rate_,
            "accuracy": monitor.curve,
            "seconds": round(seconds, 1),
        }
        stored = {"settings": settings, "source": source_of(options), "figures": figures}
        write_json(options.json, ["confident_learning", *command], stored)
