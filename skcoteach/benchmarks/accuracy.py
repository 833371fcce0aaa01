"""The papers' tables: accuracy on true test labels after training on noisy ones, every method on the same data.

``plain`` is one network, trained by skorch; ``documented`` the loop of cleanlab's documentation; ``true`` and ``auto``
CoTeachingClassifier with the true noise rate and with the estimated one; ``cl-plain`` and ``cl-auto`` CleanLearning
around either; ``without-PART`` is ``true`` without a part of the recipe (``without-forgetting``: with all else, but
learning from all labels). All take network, epochs and batch size from the recipe, ``documented`` the warm-up, too.
``plain`` and ``documented`` have the learning rates of the documentation, Adam at 0.001 and falling, whatever the
recipe has; its augmentation, averaged weights and weight decay, balanced batches and the class floor are
CoTeachingClassifier's alone.
Seconds include a look at the test data after every epoch, but for CleanLearning.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanlab.classification import CleanLearning
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm

from skcoteach import CoTeachingClassifier, recipes
from skcoteach._config import resolve
from skcoteach._training.module_factory import make_networks
from skcoteach.benchmarks import data, human
from skcoteach.benchmarks.common import TestAccuracy, noisy_labels, show, table, transition_matrix, write_json
from skcoteach.benchmarks.documented import SharePure, train_epochs
from skcoteach.benchmarks.options import PRECISIONS, OptionError, count, jobs, need, new_file, rate
from skcoteach.schedules import default_decay_start, default_num_gradual

#: Added to the seed of the networks. Seeds below 100 are for the tables; tuning takes others.
FIRST_NOISE_SEED = 9000
#: From so many epochs on, accuracy is the mean of the last ten, as in the paper.
EPOCHS_TO_AVERAGE = 100

#: Of the plain network and the documented loop.
USUAL_LR = 1e-3
#: Methods that train one network with skorch.
OF_SKORCH = {"plain", "cl-plain"}
#: Of so few images that independent draws would leave some classes with more wrong labels than right ones.
STRATIFIED = {"digits"}

Measured = dict[str, Any]


class Problem:
    """What every method is given: data, labels with noise, and the recipe."""

    def __init__(self, options: argparse.Namespace, seed: int, advance: Callable[[], object]):
        self.options, self.seed, self.advance = options, seed, advance
        folder = None if options.data == "openml" else options.data
        self.X, self.X_test, true, self.y_test = data.IMAGES[options.dataset](seed, folder)
        if options.noise not in ("pair", "symmetric"):
            if options.dataset == "digits" and Path(options.noise.partition(":")[0]).is_file():
                raise OptionError("digits are split anew for every seed: give pair or symmetric noise, not a file.")
            self.given = labels_of(options.noise, true)
        drawn: Any = slice(None)
        if options.limit is not None:
            if options.limit > len(true):
                raise OptionError(f"--limit {options.limit}: there are only {len(true)} images to train on.")
            drawn = np.random.default_rng(seed).permutation(len(true))[: options.limit]
        self.X, true = self.X[drawn], true[drawn]
        if options.noise in ("pair", "symmetric"):
            matrix = transition_matrix(options.noise, options.rate, int(true.max()) + 1)
            small = options.dataset in STRATIFIED
            self.given = noisy_labels(true, matrix, FIRST_NOISE_SEED + seed, stratified=small)
        else:
            self.given = self.given[drawn]
        self.is_right = self.given == true
        self.estimator = recipe_of(options, seed).set_params(precision=options.precision)
        start, epochs = self.estimator.epoch_decay_start, self.estimator.epochs
        self.decay_start = default_decay_start(epochs) if start is None or start >= epochs else start

    @property
    def noise_rate(self) -> float:
        """The true share of wrong labels."""
        return float(1 - self.is_right.mean())

    @property
    def make_networks(self) -> Callable[[], tuple[nn.Module, nn.Module]]:
        """Makes two fresh networks of the recipe."""
        config = resolve(self.estimator.get_params(deep=False), self.X)
        return functools.partial(make_networks, config, self.X.shape[1:], int(self.given.max()) + 1)

    def plain_network(self, watch: Callable[[Any], object] | None = None) -> Any:
        """One network of the recipe as skorch trains it, with the learning rates of the recipe."""
        from skcoteach.benchmarks.plain import plain_network  # which needs skorch

        torch.manual_seed(self.seed)
        return plain_network(
            functools.partial(_first, self.make_networks),
            epochs=self.estimator.epochs,
            lr=USUAL_LR,
            epoch_decay_start=self.decay_start,
            batch_size=self.estimator.batch_size,
            device=self.options.device,
            watch=watch,
        )

    def score(self, predicted: Any) -> float:
        """Accuracy on the true test labels."""
        return round(float((np.asarray(predicted) == self.y_test).mean()), 5)


def recipe_of(options: argparse.Namespace, seed: int) -> CoTeachingClassifier:
    """The classifier that the command line asks for."""
    epochs = {} if options.epochs is None else {"epochs": options.epochs}
    return getattr(recipes, options.recipe)(options.dataset, random_state=seed, device=options.device, **epochs)


def labels_of(file: str, true: np.ndarray) -> np.ndarray:
    """Given labels from a file: ``labels.npy``, or ``labels.npz:NAME`` for one of its arrays.

    Raises
    ------
    OptionError
        If there is no such file, if these are not as many class numbers as there are examples, or if no name is given
        where one is needed.
    """
    path, _, name = file.partition(":")
    if not Path(path).is_file():
        raise OptionError(f"--noise must be pair, symmetric or a file of labels; there is no file {path!r}.")
    with open(path, "rb") as opened:
        stored = np.load(opened)
        if isinstance(stored, np.lib.npyio.NpzFile):
            if name not in stored:
                raise OptionError(f"--noise {path}:NAME needs the name of an array in it, one of {list(stored)}.")
            stored = stored[name]
    if stored.shape != true.shape:
        raise OptionError(f"--noise {file} holds labels of shape {stored.shape}; there are {len(true)} examples.")
    if stored.dtype.kind not in "iu" or not np.isin(stored, true).all():
        raise OptionError(f"--noise {file} must hold class numbers, integers of those that the true labels have.")
    return stored.astype(true.dtype)


def plain(problem: Problem) -> Measured:
    """One network that learns from all labels."""
    curve = []

    def watch(network: Any) -> None:
        curve.append(problem.score(network.predict(problem.X_test)))
        problem.advance()

    problem.plain_network(watch).fit(problem.X, problem.given)
    return {"accuracy": curve, "kept_true": round(1 - problem.noise_rate, 5)}


def documented(problem: Problem) -> Measured:
    """The loop of cleanlab's documentation; both networks' probabilities are averaged."""
    torch.manual_seed(problem.seed)
    estimator = problem.estimator
    networks = [network.to(problem.options.device) for network in problem.make_networks()]
    warm_up = default_num_gradual(estimator.epochs) if estimator.num_gradual is None else estimator.num_gradual
    sampler = SharePure(problem.is_right, first_epoch=warm_up - 1)
    curve = []
    with sampler.counting():
        for _ in train_epochs(
            networks,
            problem.X,
            problem.given,
            forget_rate=problem.noise_rate,
            num_gradual=warm_up,
            epochs=estimator.epochs,
            lr=USUAL_LR,
            epoch_decay_start=problem.decay_start,
            batch_size=estimator.batch_size,
            device=problem.options.device,
            sampler=sampler,
        ):
            curve.append(problem.score(_predicted(networks, problem.X_test, problem.options.device)))
            problem.advance()
    return {"accuracy": curve, "kept_true": round(sampler.right / sampler.kept, 5)}


@torch.no_grad()
def _predicted(networks: Sequence[nn.Module], X: np.ndarray, device: str) -> np.ndarray:
    parts = []
    for network in networks:
        network.eval()
    for part in np.array_split(X, max(len(X) // 1000, 1)):
        inputs = torch.from_numpy(part).to(device)
        parts.append(sum(network(inputs).softmax(1) for network in networks).argmax(1).cpu().numpy())
    return np.concatenate(parts)


def co_teaching(problem: Problem, *, auto: bool, without: str | None = None) -> Measured:
    """CoTeachingClassifier, the forget rate estimated or the true one; perhaps without a part of the recipe."""
    monitor = TestAccuracy(problem.X_test, problem.y_test, problem.advance)
    estimator = problem.estimator.set_params(forget_rate="auto" if auto else problem.noise_rate)
    if without is not None:
        recipes.without(estimator, without)
    estimator.set_callbacks(monitor).fit(problem.X, problem.given)
    kept = estimator.kept_frequency_
    share = float(kept[problem.is_right].sum() / kept.sum())
    curve = [round(each, 5) for each in monitor.curve]
    return {"accuracy": curve, "kept_true": round(share, 5), "forget_rate": round(estimator.forget_rate_, 5)}


def clean_learning(problem: Problem, *, auto: bool) -> Measured:
    """CleanLearning: cross-validation in five folds, and a training on what is left."""
    wrapped = problem.estimator if auto else problem.plain_network()
    cleaner = CleanLearning(wrapped, seed=problem.seed, find_label_issues_kwargs={"n_jobs": 1})
    cleaner.fit(problem.X, problem.given)
    is_kept = ~cleaner.get_label_issues()["is_label_issue"].to_numpy()
    kept_true = round(float(problem.is_right[is_kept].mean()), 5)
    return {"accuracy": [problem.score(cleaner.predict(problem.X_test))], "kept_true": kept_true}


PEERS: dict[str, Callable[[Problem], Measured]] = {
    "plain": plain,
    "documented": documented,
    "true": functools.partial(co_teaching, auto=False),
    "auto": functools.partial(co_teaching, auto=True),
    "cl-plain": functools.partial(clean_learning, auto=False),
    "cl-auto": functools.partial(clean_learning, auto=True),
}
METHODS = PEERS | {
    f"without-{part}": functools.partial(co_teaching, auto=False, without=part) for part in recipes.PARTS
}


def _first(make: Callable[[], tuple[nn.Module, nn.Module]]) -> nn.Module:
    return make()[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--dataset", choices=data.IMAGES, default="digits", help="(digits)")
    parser.add_argument(
        "--noise", default="pair", help="pair, symmetric, or a file of labels: F.npy, or F.npz:NAME for an array of it"
    )
    parser.add_argument("--rate", type=rate, default=0.45, help="noise rate of pair and symmetric (0.45)")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(PEERS), help="all but without-PART")
    parser.add_argument(
        "--recipe", choices=("paper", "fast", "human"), default="fast", help="human: labels of CIFAR-10N (fast)"
    )
    parser.add_argument("--epochs", type=count, help="of every training (as the recipe says)")
    parser.add_argument("--limit", type=count, help="train on so many random images only (all)")
    parser.add_argument("--seeds", type=count, default=3, help="number of noise draws and networks (3)")
    parser.add_argument("--first-seed", type=int, default=0, help="(0) 100 and more for tuning")
    parser.add_argument(
        "--data", default="openml", help="a folder with mnist.npz or cifar10_jpeg.npz; openml to fetch them (openml)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of CoTeachingClassifier (float32)")
    parser.add_argument("--jobs", type=jobs, default=1, help="processes, of one thread each if they are several (1)")
    parser.add_argument(
        "--json", type=new_file, metavar="FILE", help="store the figures there, too, after every training"
    )


def measure(method: str, seed: int, options: argparse.Namespace, advance: Callable[[], object]) -> Measured:
    """The figures of one method and seed."""
    if options.jobs != 1:
        torch.set_num_threads(1)
    problem = Problem(options, seed, advance)
    start = time.perf_counter()
    figures = METHODS[method](problem)
    seconds = round(time.perf_counter() - start, 1)
    told = {"method": method, "seed": seed, "n_train": len(problem.X), "noise_rate": round(problem.noise_rate, 5)}
    return told | {"seconds": seconds} | figures


def source_of(options: argparse.Namespace) -> dict[str, str]:
    """Where images and labels come from, to be stored with the figures."""
    if options.noise not in ("pair", "symmetric"):
        drawn = "from the file"
    elif options.dataset in STRATIFIED:
        drawn = "every class gets its share"
    else:
        drawn = "every label is drawn by itself"
    images = {"digits": "scikit-learn"}.get(options.dataset, "OpenML" if options.data == "openml" else "folder")
    return {"images": images, "labels": drawn}


def run(options: argparse.Namespace) -> None:
    """Print a row for each method; store all accuracies of all epochs if asked to."""
    if options.recipe == "human":
        human.run(options)
        return
    options.method = list(dict.fromkeys(options.method))
    if OF_SKORCH.intersection(options.method):
        need("skorch", "skorch", "The plain network")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tasks = [(method, seed) for seed in seeds for method in options.method]
    for method in options.method:
        if method not in PEERS:
            recipe = recipe_of(options, 0).set_params(forget_rate=options.rate)
            try:
                recipes.without(recipe, method.removeprefix("without-"))
            except ValueError as error:
                raise OptionError(f"--method {method}: {error}") from error
    runs: list[Measured] = []
    epochs = options.epochs or recipe_of(options, 0).epochs
    with tqdm(total=len(tasks) * epochs, unit="epoch", disable=None) as bar:
        advance = bar.update if options.jobs == 1 else _nothing
        parallel = Parallel(n_jobs=options.jobs, return_as="generator_unordered")
        for done in parallel(delayed(measure)(*task, options, advance) for task in tasks):
            runs.append(done)
            runs.sort(key=lambda each: (options.method.index(each["method"]), each["seed"]))
            bar.update(len(runs) * epochs - bar.n)
            if options.json:
                _store(options, epochs, runs)
    show(f"\n{title(vars(options), epochs, runs)}\n")
    show(table(["method", "test accuracy", "true labels among the kept", "forget rate", "seconds"], rows_of(runs)))


#: Options that figures belong to, beside the methods.
SETTINGS = (
    "dataset", "noise", "rate", "recipe", "limit", "seeds", "first_seed", "device", "precision", "epochs",
)  # fmt: skip


def _store(options: argparse.Namespace, epochs: int, runs: list[Measured]) -> None:
    """Write what is done so far."""
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if options.noise not in ("pair", "symmetric"):
        del given["rate"]
    command = ["accuracy", *(f"--{name.replace('_', '-')} {value}" for name, value in sorted(given.items()))]
    if options.method != list(PEERS):
        command += ["--method", *options.method]
    made = {name: repr(value) for name, value in recipe_of(options, 0).get_params(deep=False).items()}
    figures = {"settings": given | {"epochs": epochs}, "source": source_of(options), "recipe": made, "runs": runs}
    write_json(options.json, command, figures)


def _nothing() -> None:
    pass


def title(settings: dict, epochs: int, runs: list[Measured]) -> str:
    """What the table is about."""
    noise = settings["noise"]
    rate = f" {settings['rate']:g}" if noise in ("pair", "symmetric") else ""
    n_seeds = len({each["seed"] for each in runs})
    mean = "mean of the last ten epochs" if epochs >= EPOCHS_TO_AVERAGE else "last epoch"
    return (
        f"{settings['dataset']} ({runs[0]['n_train']:,} images), {noise}{rate}, {epochs} epochs, "
        f"recipe {settings['recipe']}: accuracy in percent, {mean}; mean ± standard deviation of {n_seeds} seeds"
    )


def rows_of(runs: list[Measured]) -> list[list[str]]:
    """A row for each method: what it is called, accuracy, share of true labels among the kept, forget rate, seconds."""
    rows = []
    for method in dict.fromkeys(each["method"] for each in runs):
        own = [each for each in runs if each["method"] == method]
        rates = [each["forget_rate"] for each in own if "forget_rate" in each]
        rows.append(
            [
                method,
                percent([final_accuracy(each) for each in own]),
                percent([each["kept_true"] for each in own]),
                f"{np.mean(rates):.3f}" if rates else "",
                f"{np.median([each['seconds'] for each in own]):.0f}",
            ]
        )
    return rows


def final_accuracy(measured: Measured) -> float:
    """Accuracy after the last epoch; of long trainings the mean of the last ten, where all of them were noted."""
    curve = measured["accuracy"]
    return float(np.mean(curve[-10:] if len(curve) >= EPOCHS_TO_AVERAGE else curve[-1:]))


def percent(values: Any) -> str:
    """Mean ± standard deviation, in percent; the mean alone of a single value."""
    values = 100 * np.asarray(values)
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")
