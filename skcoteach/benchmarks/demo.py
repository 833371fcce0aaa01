"""The main job on real data, in less than a minute: digits with 30 % wrong labels.

Flips the labels of 30 % of the training images of scikit-learn's handwritten digits to the next class, trains plain
networks (forget rate 0) and co-teaching on them, which finds the noise rate itself, and shows both accuracies on true
test labels, and how many of the wrong labels are found. The picture is that of the README (``--picture
notebooks/label_issues.png``).
"""

import argparse
import time

import numpy as np
from sklearn.base import clone

from skcoteach import CoTeachingClassifier
from skcoteach.benchmarks.common import TestAccuracy, show, table
from skcoteach.benchmarks.digits import split_with_noise
from skcoteach.benchmarks.options import count, is_installed, new_file
from skcoteach.display import LabelIssuesDisplay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--picture", type=new_file, metavar="FILE", default="co-teaching-demo.png", help="where the picture goes"
    )
    parser.add_argument("--epochs", type=count, default=100, help="epochs of either training (100)")


def run(options: argparse.Namespace) -> None:
    """Train, print the table, draw the picture."""
    X_train, X_test, given, y_train, y_test = split_with_noise(0, "pair", 0.3)
    wrong = given != y_train
    show(
        f"Handwritten digits: {len(X_train)} images to train on, {wrong.mean():.1%} of them with the label of the next "
        f"digit; {len(X_test)} test images with true labels."
    )
    draws = is_installed("matplotlib")
    if not draws:
        show("There will be no picture of the learning curves, which needs matplotlib: pip install matplotlib")
    rows, curves, fitted = [], {}, {}
    plain = CoTeachingClassifier(forget_rate=0.0, epochs=options.epochs, random_state=0)
    for name, estimator in {
        "plain networks": plain,
        "co-teaching": clone(plain).set_params(forget_rate="auto"),
    }.items():
        monitor = TestAccuracy(X_test, y_test)
        start = time.perf_counter()
        estimator.set_callbacks(monitor).fit(X_train, given)
        seconds = time.perf_counter() - start
        fitted[name] = estimator
        curves[name] = monitor.curve
        kept = estimator.kept_frequency_
        rows.append(
            [
                name,
                f"{estimator.score(X_test, y_test):.1%}",
                f"{wrong.mean():.1%}",
                f"{kept[wrong].sum() / kept.sum():.1%}",
                f"{seconds:.1f}",
            ]
        )
    header = ["", "test accuracy", "wrong labels among all", "wrong labels among the kept", "seconds"]
    show("\n" + table(header, rows) + "\n")
    taught = fitted["co-teaching"]
    named = taught.get_label_issues()["is_label_issue"].to_numpy()
    found = f"Estimated without the true labels: {taught.noise_rate_:.1%} are wrong."
    if named.any():
        found += (
            f" Of the {named.sum()} labels that get_label_issues() names, {wrong[named].mean():.1%} are; these are "
            f"{named[wrong].mean():.1%} of the wrong labels."
        )
    show(found)
    if draws:
        draw(curves, taught, X_train, options.picture)
        show(f"Picture of both learning curves, and of labels to look at: {options.picture}")


def draw(curves: dict[str, list[float]], taught: CoTeachingClassifier, X_train: np.ndarray, file: str) -> None:
    """Learning curves, and the two most suspicious images of every given digit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    for (name, curve), colour in zip(curves.items(), ("tab:grey", "tab:blue"), strict=True):
        left.plot(np.arange(1, len(curve) + 1), curve, color=colour, label=f"{name}: {curve[-1]:.1%}")
    left.set(xlabel="epoch", ylabel="accuracy on true test labels", ylim=(None, 1.0))
    left.set_title("Digits, 30 % of the training labels\nflipped to the next class", loc="left", fontsize=9)
    left.grid(alpha=0.3)
    left.legend(loc="upper right")
    issues = taught.get_label_issues()
    shown = issues.sort_values("label_quality").groupby("given_label").head(2).sort_values("given_label", kind="stable")
    images = list((X_train[shown.index] / 16).reshape(-1, 8, 8))
    n_issues = int(issues["is_label_issue"].sum())
    LabelIssuesDisplay(shown, shown.index.to_numpy(), images, n_label_issues=n_issues).plot(right)
    figure.savefig(file, dpi=150)
