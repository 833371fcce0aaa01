"""Labels that people gave: CIFAR-10N, with the default, the true rate, plain networks, and one network alone.

Training images 0 to 9,999 and test images 0 to 4,999 of ``cifar10_jpeg.npz`` (JPEG loses detail, so accuracies are not
those on CIFAR-10 proper), with each of the three single annotations of ``cifar10n_random.npz``, 17 to 18 % of which are
wrong. All train ``SmallCNN(width=16)`` for 20 epochs in batches of 128.
"""

import argparse
import time
from typing import Any
from unittest import mock

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from skcoteach import CoTeachingClassifier
from skcoteach._training import epoch_statistics, steps
from skcoteach.augmentation import RandomFlip, RandomShift
from skcoteach.benchmarks.common import mean_and_error, show, table, write_json
from skcoteach.benchmarks.data import cifar10n
from skcoteach.networks import SmallCNN

ANNOTATIONS = ("random_label1", "random_label2", "random_label3")
#: What is compared, and the forget rate of each; None stands for the true rate.
METHODS: dict[str, float | str | None] = {"plain": 0.0, "one network": None, "true rate": None, "default": "auto"}
HEADER = ["method", "test accuracy", "average precision of the wrong labels", "noise rate found", "seconds"]


def recipe(seed: int, device: str = "cpu") -> CoTeachingClassifier:
    """The classifier of all rows."""
    return CoTeachingClassifier(
        SmallCNN,
        module__width=16,
        epochs=20,
        num_gradual=6,
        augment=nn.Sequential(RandomFlip(), RandomShift(4)),
        average_decay=0.995,
        random_state=seed,
        device=device,
    )


def measure(method: str, annotation: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one training."""
    X, X_test, given, true, y_test = cifar10n(annotation, options.data)
    wrong = given != true
    forget_rate = METHODS[method]
    estimator = recipe(seed, options.device).set_params(
        forget_rate=float(wrong.mean()) if forget_rate is None else forget_rate
    )
    if options.epochs is not None:
        estimator.set_params(epochs=options.epochs, num_gradual=min(6, options.epochs))
    start = time.perf_counter()
    if method == "one network":
        with mock.patch.object(steps, "of_peers", _own), mock.patch.object(epoch_statistics, "of_peers", _own):
            estimator.fit(X, given)
        estimator.modules_ = (estimator.modules_[0], estimator.modules_[0])
    else:
        estimator.fit(X, given)
    figures = {
        "accuracy": round(float((estimator.predict(X_test) == y_test).mean()), 5),
        "average_precision": round(float(average_precision_score(wrong, -estimator.label_quality_)), 5),
        "true_rate": round(float(wrong.mean()), 5),
        "forget_rate": round(estimator.forget_rate_, 5),
        "seconds": round(time.perf_counter() - start, 1),
    }
    for attribute in ("noise_rate_", "noise_rate_std_"):
        if hasattr(estimator, attribute):
            figures[attribute] = round(getattr(estimator, attribute), 5)
    return {"method": method, "annotation": annotation, "seed": seed} | figures


def _own(values: torch.Tensor) -> torch.Tensor:
    """Each network learns from what it keeps itself."""
    return values


def run(options: argparse.Namespace) -> None:
    """Print a row for each method; store all single figures if asked to."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    runs = []
    for annotation in ANNOTATIONS:
        for seed in seeds:
            for method in METHODS:
                runs.append(measure(method, annotation, seed, options))
                show(" ".join(f"{name} {value}" for name, value in runs[-1].items()))
                if options.json:
                    command = ["accuracy", "--recipe", "human", "--seeds", str(options.seeds)]
                    command += ["--first-seed", str(options.first_seed), "--device", options.device]
                    write_json(options.json, command, {"runs": runs})
    show("\nCIFAR-10N (JPEG), 10,000 images, three annotations: mean ± standard error\n")
    show(table(HEADER, rows_of(runs)))


def rows_of(runs: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each method."""
    rows = []
    for method in dict.fromkeys(each["method"] for each in runs):
        own = [each for each in runs if each["method"] == method]
        rates = [each["noise_rate_"] for each in own if "noise_rate_" in each]
        rows.append(
            [method]
            + [
                "{:.4f} ± {:.4f}".format(*mean_and_error([each[key] for each in own]))
                for key in ("accuracy", "average_precision")
            ]
            + [f"{np.mean(rates):.3f}" if rates else "", f"{np.median([each['seconds'] for each in own]):.0f}"]
        )
    return rows
