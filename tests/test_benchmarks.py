"""The experiments run from the command line, and what they share does what it says."""

import argparse
import contextlib
import functools
import io
import json
import re
import sys
import types
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from cleanlab.experimental import coteaching
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from torch.optim.optimizer import register_optimizer_step_post_hook

from skcoteach import CoTeachingClassifier, recipes
from skcoteach._interrupts import ProcessState
from skcoteach._training import crossfit
from skcoteach.benchmarks import accuracy, confident_learning, distributed, reliability, speed, tables
from skcoteach.benchmarks.__main__ import EXPERIMENTS, main
from skcoteach.benchmarks.common import mean_and_error, noisy_labels, table, transition_matrix
from skcoteach.benchmarks.data import DATASETS, IMAGES
from skcoteach.benchmarks.digits import CELLS, METHODS, split_with_noise
from skcoteach.benchmarks.documented import SharePure
from skcoteach.benchmarks.table import RESULTS, TABLES, filled

pytestmark = pytest.mark.filterwarnings("error")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["pair", "symmetric"]), st.floats(0, 1), st.integers(2, 12))
def test_transition_matrices_have_the_stated_rate_in_every_column(kind, rate, n_classes):
    matrix = transition_matrix(kind, rate, n_classes)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    np.testing.assert_allclose(np.diag(matrix), 1 - rate)


def test_pair_noise_turns_a_class_into_the_next():
    given_labels = noisy_labels(np.arange(5), transition_matrix("pair", 1.0, 5), seed=0)
    assert given_labels.tolist() == [1, 2, 3, 4, 0]


def test_noise_follows_the_matrix_and_the_seed():
    true = np.arange(50_000) % 4
    matrix = np.array([[0.5, 0.0, 0.1, 0.2], [0.5, 1.0, 0.2, 0.2], [0.0, 0.0, 0.6, 0.0], [0.0, 0.0, 0.1, 0.6]])
    drawn = noisy_labels(true, matrix, seed=1)
    for c in range(4):
        np.testing.assert_allclose(np.bincount(drawn[true == c], minlength=4) / 12_500, matrix[:, c], atol=0.02)
    np.testing.assert_array_equal(drawn, noisy_labels(true, matrix, seed=1))
    assert (drawn != noisy_labels(true, matrix, seed=2)).any()


def test_mean_and_error_are_those_of_the_textbook():
    assert mean_and_error([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, np.sqrt(14 / 3 / 4)))


def test_a_single_value_has_no_standard_error():
    mean, error = mean_and_error([2.0])
    assert mean == 2.0 and np.isnan(error)


def test_tables_are_markdown():
    assert table(["a", "bb"], [["long", "1"]]).splitlines() == ["| a    | bb |", "| ---- | -: |", "| long |  1 |"]


def test_splits_are_paired_and_tests_stay_clean():
    X_train, X_test, given_labels, true, y_test = split_with_noise(3, "pair", 0.3)
    assert len(X_train) == len(given_labels) == len(true) == 1257 and len(X_test) == len(y_test) == 540
    assert set((given_labels - true) % 10) == {0, 1}
    assert (given_labels != true).mean() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(X_train, split_with_noise(3, "symmetric", 0.7)[0])


def test_digits_prints_a_row_for_each_noise_and_stores_where_figures_come_from(tmp_path, capsys):
    file = tmp_path / "digits.json"
    main(["digits", "--splits", "2", "--epochs", "1", "--jobs", "1", "--json", str(file)])
    printed = capsys.readouterr().out
    for kind, rate in CELLS:
        assert f"| {kind} {rate:g}" in printed
    stored = json.loads(file.read_text())
    assert stored["command"] == "python -m skcoteach.benchmarks digits --splits 2 --epochs 1"
    assert {"date", "versions", "machine"} <= stored.keys()
    assert {"torch", "scikit-learn", "cleanlab", "skcoteach"} <= stored["versions"].keys()
    scores = stored["accuracy"]["symmetric 0.7"]
    assert set(scores) == set(METHODS) and all(len(each) == 2 for each in scores.values())


def test_the_demo_prints_its_table_and_says_where_the_picture_is(tmp_path, capsys):
    picture = tmp_path / "curves.png"
    main(["demo", "--epochs", "10", "--picture", str(picture)])
    printed = capsys.readouterr().out
    for words in ("plain networks", "co-teaching", "test accuracy", "wrong labels among the kept", "seconds"):
        assert words in printed
    assert str(picture) in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_demo_without_matplotlib_says_so_first_and_prints_its_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    main(["demo", "--epochs", "2", "--picture", str(tmp_path / "curves.png")])
    before, table_and_after = capsys.readouterr().out.split("\n\n", 1)
    assert "pip install matplotlib" in before and "| co-teaching " in table_and_after
    assert not list(tmp_path.iterdir())


def test_parquet_prints_memory_and_speed_of_each_and_leaves_no_files(tmp_path, capsys, monkeypatch):
    def run_here(command, **_):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(command[-1], {})  # noqa: S102
        return types.SimpleNamespace(stdout=printed.getvalue())

    monkeypatch.setattr("skcoteach.benchmarks.parquet.subprocess.run", run_here)
    monkeypatch.setattr("skcoteach.benchmarks.parquet.ROWS_PER_FILE", 1500)
    file, folder = tmp_path / "parquet.json", tmp_path / "data"
    folder.mkdir()
    main(["parquet", "--gigabytes", "0.00032", "--columns", "20", "--folder", str(folder), "--json", str(file)])
    printed = capsys.readouterr().out
    for words in ("4,000 rows of 20 columns", "fit, Parquet", "scan, Parquet", "fit, memory map", "rows a second"):
        assert words in printed
    figures = json.loads(file.read_text())["figures"]
    assert [each["rows"] for each in figures.values()] == [4000] * 3
    assert figures["fit, Parquet"]["accuracy"] > 0.5
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gigabytes", "1e9"], "only .* are free"),
        (["--gigabytes", "1e-6"], "these are 0 rows; at least 1000"),
        (["--folder", "nowhere"], "there is no such folder"),
    ],
)
def test_parquet_says_what_cannot_be_made(options, words, capsys):
    with pytest.raises(SystemExit):
        main(["parquet", *options])
    assert re.search(words, capsys.readouterr().err)


def test_noise_prints_its_tables_and_stores_every_single_figure(tmp_path, capsys):
    file = tmp_path / "noise.json"
    few = ["--datasets", "digits", "--cells", "none", "pair 0.2", "--seeds", "2", "--cv-seeds", "1", "--epochs", "10"]
    main(["noise", *few, "--first-seed", "100", "--jobs", "1", "--json", str(file)])
    printed = capsys.readouterr().out
    for words in ("digits: forget rate", "| pair 0.2 ", "label issues, average precision", "pruned by CleanLearning"):
        assert words in printed
    stored = json.loads(file.read_text())
    assert stored["command"].endswith('--first-seed 100 --epochs 10 --cells "none" "pair 0.2"')
    first, second = stored["figures"]["digits"]["pair 0.2"]
    assert (first["seed"], second["seed"]) == (100, 101)
    assert abs(first["estimated_rate"] - first["true_rate"]) < 0.1
    assert set(first["average_precision"]) == set(first["f1"]) == {"auto", "cv auto", "cv plain", "cv logistic"}
    assert set(second["average_precision"]) == {"auto"}
    assert set(first["accuracy"]) == {"auto", "true", "cv auto", "cv plain"}
    assert stored["figures"]["digits"]["none"][0]["f1"] == {}


def test_rows_prints_what_a_fit_spends_off_its_steps_and_on_a_row_and_stores_it(tmp_path, capsys):
    file = tmp_path / "rows.json"
    main(["rows", "--rows", "3000", "--forget-rate", "auto", "--batch-size", "500", "--json", str(file)])
    printed = capsys.readouterr().out
    assert "3000 rows of 10 columns, batches of 500, 2 epochs, forget rate auto" in printed
    assert "off the steps: " in printed and "| bytes a row " in printed
    stored = json.loads(file.read_text())
    assert stored["command"].endswith("--epochs 2 --forget-rate auto --batch-size 500")
    figures = stored["figures"]
    seconds = figures["seconds"]
    assert all(seconds[each] > 0 for each in ("steps", "fetching", "predictions", "other"))
    assert sum(seconds.values()) == pytest.approx(2 * seconds["fit"])
    assert figures["off_the_steps"] == seconds["other"] / seconds["fit"]
    assert set(figures["bytes"]) == {"1500", "3000"} and figures["bytes"]["3000"]["saved file"] > 1000
    assert 15 < figures["bytes_a_row"]["estimator"] < 25 and abs(figures["bytes_a_row"]["saved file"]) < 1


def test_tables_prints_every_figure_and_stores_every_fit(tmp_path, capsys, monkeypatch):
    X, y = make_classification(150, 4, n_informative=3, n_redundant=0, class_sep=2.0, random_state=0)
    np.savez(tmp_path / "tables.npz", **{"german.X": X.astype(np.float32), "german.y": y.astype(np.int16)})
    methods = ["plain", "forest", "CleanLearning(forest)"]
    monkeypatch.setitem(
        tables.METHODS,
        "plain",
        lambda seed: CoTeachingClassifier(forget_rate=0.0, epochs=9, lr=0.02, random_state=seed),
    )
    monkeypatch.setattr(tables, "_forest", lambda seed: RandomForestClassifier(20, random_state=seed))
    file = tmp_path / "out.json"
    few = ["--tables", "german", "--noise", "0", "0.2", "--methods", *methods, "--seeds", "2", "--first-seed", "100"]
    main(["tables", *few, "--jobs", "1", "--data", str(tmp_path), "--json", str(file)])
    printed = capsys.readouterr().out
    for words in ("accuracy (*", "macro_recall (*", "log_loss (*", "| german * |", "| mean "):
        assert words in printed
    stored = json.loads(file.read_text())
    assert stored["command"].endswith("--seeds 2 --first-seed 100")
    fits = {(each["noise"], each["seed"], each["method"]): each for each in stored["runs"]}
    assert set(fits) == {(noise, seed, method) for noise in (0.0, 0.2) for seed in (100, 101) for method in methods}
    assert {each["true_rate"] for key, each in fits.items() if key[0] == 0} == {0.0}
    assert all(0.1 < each["true_rate"] < 0.3 for key, each in fits.items() if key[0])
    for (noise, _, method), each in fits.items():
        assert each["accuracy"] > 0.7 and each["log_loss"] < 1 and 0 <= each["macro_recall"] <= 1
        assert ("average_precision" in each) == (noise > 0 and method != "forest")


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_labels_of_tables_are_changed_to_any_class_or_to_the_next(kind, monkeypatch):
    rates, seen = [], []

    class Recording(DummyClassifier):
        def fit(self, X, y):
            seen.append(y)
            return super().fit(X, y)

    monkeypatch.setitem(tables.METHODS, "plain", lambda seed: Recording())
    for noise in (0.0, 0.4):
        (figures,) = tables.measure("digits", kind, noise, 0, ["plain"], None)
        rates.append(figures["true_rate"])
    right, noisy = seen
    steps = set(((noisy - right) % 10).tolist())
    assert rates[0] == 0 and rates[1] == (noisy != right).mean() == pytest.approx(0.4, abs=0.05)
    assert steps == ({0, 1} if kind == "pair" else set(range(10)))


def test_rates_of_tables_are_shown_beside_the_true_ones(capsys):
    fit = {"table": "german", "noise": 0.2, "method": "default", "true_rate": 0.2, "forget_rate_": 0.1}
    tables.show_rates([fit | {"noise_rate_": found, "noise_rate_std_": 0.05} for found in (0.18, 0.28)])
    row = capsys.readouterr().out.splitlines()[2]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "german", "0.2", "0.200", "0.230 ± 0.050", "0.050", "0.080", "0.050", "0.100"
    ]  # fmt: skip
    tables.show_rates([{name: each for name, each in fit.items() if name != "forget_rate_"}])
    assert capsys.readouterr().out == ""


def test_reliability_counts_what_it_tried_and_what_broke(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("skcoteach.benchmarks.reliability.EPOCHS_INTERRUPTED", 3)
    file = tmp_path / "reliability.json"
    parts = ["kills", "interrupts", "inputs", "memory"]
    sizes = ["--kills", "1", "--interrupts", "2", "--inputs", "3", "--fits", "4", "--json", str(file)]
    main(["reliability", "--parts", *parts, *sizes])
    figures = json.loads(file.read_text())["figures"]
    assert list(figures) == parts
    assert [found["tried"] for found in figures.values()] == [1, 2, 3, 9]
    assert [found["broken"] for name, found in figures.items() if name != "memory"] == [0, 0, 0]  # so few fits grow
    assert "| kills " in capsys.readouterr().out


def test_a_process_that_is_killed_is_told_by_the_others_and_the_fit_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(distributed.KILLED, "epochs", 3)
    monkeypatch.setitem(distributed.KILLED, "forget_rate", 0.2)
    file = tmp_path / "figures.json"
    main(
        [
            "distributed",
            "--skip",
            "exact",
            "accuracy",
            "errors",
            "messages",
            "speed",
            "--kills",
            "1",
            "--json",
            str(file),
        ]
    )
    found = json.loads(file.read_text())["kills"]
    assert (found["tried"], found["others without a clear error"], found["other bits"]) == (1, 0, 0)


def test_reliability_sees_a_promise_that_is_broken(monkeypatch):
    monkeypatch.setattr(reliability, "EPOCHS_INTERRUPTED", 2)
    monkeypatch.setattr(ProcessState, "put_back", lambda state: torch.rand(1))
    assert reliability.interrupts(argparse.Namespace(interrupts=2, seed=1))["broken"] == 2


def test_mnist_is_read_from_a_folder_and_drawn_with_the_seed(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (6500, 28, 28), np.uint8), rng.integers(0, 10, 6500).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", X_train=X, y_train=y, X_test=X[:9], y_test=y[:9])
    X_train, X_test, y_train, y_test = DATASETS["mnist"](1, str(tmp_path))
    assert X_train.shape == (6000, 784) and X_test.shape == (9, 784) and X_train.dtype == np.float32
    assert (y_train.dtype, y_test.tolist()) == (np.int64, y[:9].tolist())
    assert X_train.max() == 1 and (X_test * 255).round().astype(np.uint8).tolist() == X[:9].reshape(9, -1).tolist()
    same, other = (DATASETS["mnist"](seed, str(tmp_path))[2].tolist() for seed in (1, 2))
    assert same == y_train.tolist() != other


@pytest.fixture
def tiny(monkeypatch):
    """The only workload: 64 examples, 2 epochs of 2 batches."""
    rng = np.random.default_rng(0)
    X, y = (
        rng.normal(size=(64, 5)).astype(np.float32),
        np.arange(64) % 6,
    )  # the documented loop needs five classes or more
    workload = speed.Workload(X, y, None, 32, 2)
    monkeypatch.setattr(speed, "WORKLOADS", {"tiny": (lambda: workload, False), "huge": (None, True)})
    threads = torch.get_num_threads()
    yield workload
    torch.set_num_threads(threads)


def test_speed_prints_ratios_to_every_peer_and_stores_all_times(tiny, tmp_path, capsys):
    file = tmp_path / "speed.json"
    main(["speed", "--rounds", "2", "--threads", "1", "--skip-parts", "--json", str(file)])
    printed = capsys.readouterr().out
    assert "| tiny " in printed and "huge" not in printed
    stored = json.loads(file.read_text())
    assert stored["command"].endswith("speed --rounds 2 --threads 1 --device cpu --precision float32")
    times = stored["seconds"]["tiny"]
    assert set(times) == {"fit", *speed.PEERS}
    assert all(len(each) == 2 and min(each) > 0 for each in times.values())


@pytest.mark.parametrize("method", ["fit", *speed.PEERS])
def test_every_method_takes_the_same_steps_for_both_networks(method, tiny):
    steps = []
    options = types.SimpleNamespace(device="cpu", precision="float32")
    run = speed._methods(tiny, options)[method]
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    try:
        run()
    finally:
        hook.remove()
    trained = sum(parameter.numel() for parameter in tiny.network().parameters())
    taken = sum(p.numel() for each in steps for group in each.param_groups for p in group["params"])
    assert taken == 2 * 4 * trained


def test_an_unknown_experiment_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "invalid choice" in capsys.readouterr().err


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_prints_a_row_for_each_method_and_stores_every_epoch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(crossfit, "MINIMUM_STEPS", 10)  # the rates need not be good
    file = tmp_path / "accuracy.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CleanLearning may leave too few after two epochs
        main(["accuracy", "--epochs", "2", "--seeds", "2", "--limit", "1200", "--rate", "0.3", "--json", str(file)])
    printed = capsys.readouterr().out
    assert "digits (1,200 images), pair 0.3, 2 epochs, recipe fast" in printed and "last epoch" in printed
    for method in accuracy.PEERS:
        assert f"| {method} " in printed
    stored = json.loads(file.read_text())
    assert "--limit 1200 --noise pair --precision float32 --rate 0.3 --recipe fast --seeds 2" in stored["command"]
    runs = stored["runs"]
    assert [(run["method"], run["seed"]) for run in runs] == [(m, s) for m in accuracy.PEERS for s in (0, 1)]
    for run in runs:
        assert len(run["accuracy"]) == (1 if run["method"].startswith("cl-") else 2)
        assert 0.2 < run["noise_rate"] < 0.4 and 0.5 < run["kept_true"] <= 1
        assert ("forget_rate" in run) == (run["method"] in ("true", "auto"))
    by_seed = [{run["noise_rate"] for run in runs if run["seed"] == seed} for seed in (0, 1)]
    assert [len(rates) for rates in by_seed] == [1, 1] and by_seed[0] != by_seed[1]


def accuracy_options(**changed):
    settings = {
        "dataset": "digits", "noise": "pair", "rate": 0.2, "recipe": "fast", "epochs": 2, "limit": 300, "jobs": 1,
        "data": "openml", "device": "cpu", "precision": "float32",
    }  # fmt: skip
    return types.SimpleNamespace(**settings | changed)


@pytest.mark.parametrize("method", ["plain", "documented", "true"])
def test_the_same_seed_gives_the_same_accuracies_and_the_bar_moves_every_epoch(method):
    moves = []
    first, again = (accuracy.measure(method, 3, accuracy_options(), lambda: moves.append(1)) for _ in range(2))
    assert first["accuracy"] == again["accuracy"]
    assert len(moves) == 4


@functools.cache
def predicted_on_digits(method, recipe_for):
    """By a method with the recipe for another data set."""
    with mock.patch.dict(IMAGES, {recipe_for: IMAGES["digits"]}):
        problem = accuracy.Problem(
            accuracy_options(dataset=recipe_for, epochs=20, limit=600, rate=0.45), 0, lambda: None
        )
        accuracy.METHODS[method](problem)
    return problem.estimator.predict_proba(problem.X_test)


@pytest.mark.parametrize("part", recipes.PARTS)
def test_without_a_part_something_else_is_predicted(part):
    recipe_for = "digits" if part in ("weight-decay", "slow-warm-up") else "mnist"
    starves = pytest.warns(UserWarning, match="nothing was kept in the last epoch")
    with starves if part == "floor" else contextlib.nullcontext():
        changed = predicted_on_digits(f"without-{part}", recipe_for)
    difference = changed - predicted_on_digits("true", recipe_for)
    assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize(
    "part, recipe, epochs",
    [("short-warm-up", "fast", 100), ("weight-decay", "fast", 10), ("slow-warm-up", "fast", 10),
     ("augment", "paper", 10), ("average", "paper", 10), ("floor", "paper", 10), ("width", "paper", 10)],
)  # fmt: skip
def test_a_part_that_a_recipe_does_not_have_is_told_before_anything_is_trained(part, recipe, epochs, capsys):
    few = ["--dataset", "mnist", "--recipe", recipe, "--epochs", str(epochs), "--data", "nowhere"]
    words = f"--method without-{part}: The recipe for {epochs} epochs has no such part as '{part}'"
    assert_told(words, ["accuracy", *few, "--method", "true", f"without-{part}"], capsys)


@pytest.mark.parametrize(
    "wrong, words",
    [(["--seeds", "0"], "--seeds: must be at least 1, got 0"), (["--rate", "1"], "--rate: must be .*than 1, got 1"),
     (["--rate", "-0.1"], "--rate: must be at least 0"), (["--limit", "-5"], "--limit: must be at least 1"),
     (["--epochs", "0"], "--epochs: must be at least 1"), (["--epochs", "many"], "--epochs: invalid count value: "),
     (["--jobs", "0"], "--jobs: must be at least 1, or -1"), (["--precision", "fp8"], "--precision: invalid choice"),
     (["--dataset", "mnist", "--data", "nowhere"], "--data nowhere: there is no mnist.npz"),
     (["--dataset", "cifar10", "--data", "nowhere"], "--data nowhere: there is no cifar10_jpeg.npz"),
     (["--limit", "1258"], "there are only 1257 images"), (["--json", "nowhere/f.json"], "there is no such folder"),
     (["--noise", "pear"], "must be pair, symmetric or a file of labels; there is no file 'pear'"),
     (["--rate", "0", "--method", "without-forgetting"], "no such part as 'forgetting'")],
)  # fmt: skip
def test_options_that_cannot_be_are_told_before_anything_is_trained(wrong, words, monkeypatch, capsys):
    monkeypatch.setattr(CoTeachingClassifier, "fit", None)
    assert_told(words, ["accuracy", "--method", "true", "--epochs", "1", *wrong], capsys)


@pytest.mark.parametrize(
    "arguments, words",
    [(["digits", "--splits", "0"], "--splits: must be at least 1"),
     (["noise", "--seeds", "0"], "--seeds: must be at least 1"),
     (["rows", "--forget-rate", "1"], "--forget-rate: must be at least 0 and less than 1, got 1"),
     (["demo", "--picture", "nowhere/p.png"], "--picture: nowhere/p.png: there is no such folder"),
     (["confident_learning", "--noise", "pair", "--folds", "1"], "--folds: must be at least 2, got 1"),
     (["speed", "--workloads", "bogus"], "--workloads bogus: there are only digits, MLP, batch 128; "),
     (["speed", "--workloads", "CIFAR"], r"--workloads CIFAR: .*CifarCNN, batch 128 \(not on a CPU\)")],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_options_of_the_others_that_cannot_be_are_told(arguments, words, capsys):
    assert_told(words, arguments, capsys)


@pytest.mark.parametrize(
    "module, arguments, words",
    [("skorch", ["accuracy", "--method", "true", "plain"], "The plain network needs skorch: "),
     ("skorch", ["accuracy", "--method", "cl-plain"], "The plain network needs skorch: "),
     ("skorch", ["speed", "--workloads", "digits"], "The comparison with skorch needs skorch: "),
     ("PIL", ["accuracy", "--dataset", "cifar10", "--method", "true"], "CIFAR-10, JPEG-coded, needs pillow: "),
     ("PIL", ["accuracy", "--recipe", "human"], "CIFAR-10, JPEG-coded, needs pillow: "),
     ("PIL", ["confident_learning", "--noise", "pair"], "CIFAR-10, JPEG-coded, needs pillow: ")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_extra_that_is_missing_is_told_before_anything_is_trained(
    module, arguments, words, tmp_path, capsys, monkeypatch
):
    names = ("jpeg_train", "size_train", "y_train", "jpeg_test", "size_test", "y_test")
    np.savez(tmp_path / "cifar10_jpeg.npz", **dict.fromkeys(names, np.arange(0)))
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(CoTeachingClassifier, "fit", None)
    folder = [] if module == "skorch" else ["--data", str(tmp_path)]
    installs = f"pip install {'pillow' if module == 'PIL' else module}"
    assert_told(words + installs, [*arguments, *folder], capsys)


def test_without_the_stored_figures_there_are_no_tables(capsys, monkeypatch):
    monkeypatch.setattr("skcoteach.benchmarks.table.RESULTS", Path("nowhere"))
    assert_told("An installed package does not have the stored figures: run this in a checkout", ["table"], capsys)


def assert_told(words, arguments, capsys):
    """By one line, without a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert re.search(words, capsys.readouterr().err.splitlines()[-1])


def test_a_file_of_images_with_other_arrays_is_told(tmp_path, capsys):
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3))
    words = "must hold X_train, X_test, y_train, y_test; it holds x_train"
    few = ["accuracy", "--method", "plain", "--epochs", "1", "--dataset", "mnist"]
    assert_told(words, [*few, "--data", str(tmp_path)], capsys)


@pytest.mark.parametrize("experiment", [[], *([name] for name in EXPERIMENTS)], ids=str)
def test_every_help_can_be_read(experiment, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*experiment, "--help"])
    assert not ended.value.code
    shown = " ".join(capsys.readouterr().out.split())
    assert "30 % wrong labels" in shown or experiment not in ([], ["demo"])
    assert all(name in shown for name in EXPERIMENTS) or experiment


def test_a_method_named_twice_is_run_once(capsys):
    main(["accuracy", "--method", "plain", "plain", "--epochs", "1", "--seeds", "1", "--limit", "100"])
    assert capsys.readouterr().out.count("| plain") == 1


@pytest.mark.parametrize("method", ["plain", "documented"])
def test_plain_and_documented_training_keep_their_learning_rate_whatever_the_recipe_has(method):
    ends = []
    for lr in (1e-3, 0.5):
        problem = accuracy.Problem(accuracy_options(), 0, lambda: None)
        problem.estimator.set_params(lr=lr)
        ends.append(accuracy.METHODS[method](problem)["accuracy"])
    assert ends[0] == ends[1]


def test_the_figures_are_stored_with_where_images_and_labels_come_from_and_the_recipe(tmp_path):
    file = tmp_path / "f.json"
    main(["accuracy", "--method", "plain", "--epochs", "3", "--seeds", "1", "--limit", "100", "--json", str(file)])
    stored = json.loads(file.read_text())
    assert stored["source"] == {"images": "scikit-learn", "labels": "every class gets its share"}
    assert stored["recipe"]["optimizer__weight_decay"] == "0.5" and stored["recipe"]["num_gradual"] == "2"


def test_what_is_done_is_stored_when_a_later_training_fails(tmp_path, monkeypatch):
    def fail(problem):
        raise RuntimeError("late")

    file = tmp_path / "f.json"
    monkeypatch.setitem(accuracy.METHODS, "auto", fail)
    with pytest.raises(RuntimeError, match="late"):
        few = ["--epochs", "1", "--seeds", "1", "--limit", "100"]
        main(["accuracy", "--method", "plain", "auto", *few, "--json", str(file)])
    assert [each["method"] for each in json.loads(file.read_text())["runs"]] == ["plain"]


@pytest.mark.parametrize("labels", [[0, 1, 9], [0.5, 1, 2], [-1, 0, 1]])
def test_a_file_of_labels_must_hold_class_numbers(labels, tmp_path):
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match="must hold class numbers"):
        accuracy.labels_of(f"{tmp_path}/labels.npy", np.array([0, 1, 2]))


def test_noise_from_a_file_stays_with_its_image_when_few_are_drawn(tmp_path, monkeypatch):
    X, y = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), np.arange(40) % 4
    monkeypatch.setitem(IMAGES, "mnist", lambda seed, folder: (X, X, y, y))
    np.save(tmp_path / "labels.npy", (y + (np.arange(40) < 10)) % 4)
    options = accuracy_options(dataset="mnist", noise=f"{tmp_path}/labels.npy", limit=25)
    problem = accuracy.Problem(options, 1, lambda: None)
    rows = problem.X[:, 0, 0, 0].astype(int)
    assert len(set(rows)) == 25 and rows.tolist() != sorted(rows)
    np.testing.assert_array_equal(problem.given, (y[rows] + (rows < 10)) % 4)
    np.testing.assert_array_equal(problem.is_right, rows >= 10)


@pytest.mark.parametrize("noise, words", [("pear", "there is no file 'pear'"), ("f.npy", "split anew for every seed")])
def test_noise_that_cannot_be_is_told(noise, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("f.npy", np.zeros(3))
    with pytest.raises(ValueError, match=words):
        if noise == "pear":
            accuracy.labels_of(noise, np.zeros(3))
        accuracy.Problem(accuracy_options(noise=noise), 0, lambda: None)


def test_the_documented_loop_learns_digits_and_counts_what_it_keeps():
    figures = accuracy.measure("documented", 0, accuracy_options(epochs=30, limit=None), lambda: None)
    assert figures["accuracy"][-1] > 0.8
    assert 0.9 < figures["kept_true"] < 1


def test_share_pure_counts_the_small_losses_of_either_network():
    is_right = np.array([True, True, False, False])
    sampler = SharePure(is_right, first_epoch=1)
    target = torch.zeros(4, dtype=torch.int64)
    for epoch in range(2):
        order = list(sampler)
        # small losses for the right ones in the first network, for the others in the second
        confident = torch.tensor([3.0 if is_right[row] else -3.0 for row in order])
        logits = torch.stack([confident, torch.zeros(4)], 1)
        with sampler.counting(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what the original calls
            coteaching.loss_coteaching(logits, -logits, target, 0.5)
        assert (sampler.kept, sampler.right) == ((0, 0), (4, 2))[epoch]


def test_noise_is_taken_from_a_file(tmp_path):
    true = np.array([0, 1, 2])
    np.savez(tmp_path / "labels.npz", some=[0, 1, 1], other=[2, 2, 2])
    np.save(tmp_path / "labels.npy", [1, 1, 1])
    assert accuracy.labels_of(f"{tmp_path}/labels.npz:some", true).tolist() == [0, 1, 1]
    assert accuracy.labels_of(f"{tmp_path}/labels.npy", true).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="needs the name of an array"):
        accuracy.labels_of(f"{tmp_path}/labels.npz", true)
    with pytest.raises(ValueError, match="there are 2 examples"):
        accuracy.labels_of(f"{tmp_path}/labels.npy", true[:2])


@pytest.mark.parametrize("n_epochs, expected", [(99, 98.0), (100, 94.5), (200, 194.5)])
def test_long_trainings_end_in_the_mean_of_the_last_ten_epochs(n_epochs, expected):
    assert accuracy.final_accuracy({"accuracy": list(range(n_epochs))}) == expected


# --- confident learning, data, tables ---------------------------------------------------------------------------------


def test_confident_learning_prunes_and_ends_in_the_test_accuracy(tmp_path, capsys):
    file = tmp_path / "pruned.json"
    few = ["--dataset", "digits", "--noise", "symmetric", "--rate", "0.3", "--epochs", "12", "--cv-epochs", "10"]
    main(["confident_learning", *few, "--folds", "2", "--json", str(file)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("Test accuracy ")
    stored = json.loads(file.read_text())
    assert "--cv-epochs 10" in stored["command"] and "--folds 2" in stored["command"]
    figures = stored["figures"]
    assert 0 < figures["wrong_among_the_rest"] < figures["noise_rate"]
    assert 0 < figures["pruned"] < 1 and len(figures["accuracy"]) == 12


def test_the_documented_example_of_confident_learning_takes_250_epochs(monkeypatch):
    asked = []
    monkeypatch.setattr(confident_learning, "Problem", lambda options, *_: asked.append(options.epochs) or 1 / 0)
    for more in ([], ["--epochs", "7"]):
        with pytest.raises(ZeroDivisionError):
            main(["confident_learning", "--dataset", "mnist", "--noise", "pair", "--recipe", "paper", *more])
    assert asked == [250, 7]


def test_cifar10_is_decoded_from_a_folder(tmp_path):
    from PIL import Image

    def coded(colours):
        files = []
        for colour in colours:
            stream = io.BytesIO()
            Image.new("RGB", (32, 32), colour).save(stream, "JPEG", quality=95)
            files.append(np.frombuffer(stream.getvalue(), np.uint8))
        return np.concatenate(files), np.array([len(each) for each in files])

    train, sizes = coded([(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    test, test_sizes = coded([(0, 0, 0)])
    np.savez(
        tmp_path / "cifar10_jpeg.npz", jpeg_train=train, size_train=sizes, y_train=np.array([3, 1, 2], np.uint8),
        jpeg_test=test, size_test=test_sizes, y_test=np.array([7], np.uint8),
    )  # fmt: skip
    X_train, X_test, y_train, y_test = IMAGES["cifar10"](0, str(tmp_path))
    assert (X_train.shape, X_test.shape, X_train.dtype) == ((3, 3, 32, 32), (1, 3, 32, 32), np.float32)
    np.testing.assert_allclose(X_train.mean(axis=(2, 3)), np.eye(3), atol=0.02)
    assert (y_train.tolist(), y_test.tolist()) == ([3, 1, 2], [7])


def test_a_hundred_classes_are_digits_crossed_with_levels():
    X_train, X_test, given_labels, true, y_test = split_with_noise(0, "symmetric", 0.5, levels=10)
    assert X_train.shape == (5 * 1257, 74) and X_test.shape == (5 * 540, 74)
    assert set(true) == set(range(100))
    assert (X_train[:, 64:].argmax(axis=1) == true % 10).mean() > 0.9
    np.testing.assert_array_equal(X_train[:1257, :64], X_train[1257:2514, :64])
    assert (given_labels != true).mean() == pytest.approx(0.5, abs=0.03)


PAGES = [Path(__file__).parent.parent / "README.md", RESULTS.parent / "README.md"]


def test_the_tables_of_the_pages_are_those_of_the_stored_figures():
    texts = [page.read_text() for page in PAGES]
    assert all(filled(text) == text for text in texts)
    assert sorted(re.findall(r"<!-- table ([\w-]+) -->", "".join(texts))) == sorted(TABLES)


def test_the_links_of_the_results_page_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", PAGES[1].read_text())
    assert len(links) > 8
    for link in links:
        assert (PAGES[1].parent / link).exists(), link


def test_no_training_of_the_accuracy_table_is_stored_twice():
    """A row takes its methods from several files."""
    trained = []
    for stored in (json.loads(file.read_text()) for file in RESULTS.glob("accuracy-*.json")):
        if not any(run["method"].startswith("without-") for run in stored["runs"]):
            settings = [(name, str(value)) for name, value in sorted(stored["settings"].items())]
            trained += [(*settings, run["method"], run["seed"]) for run in stored["runs"]]
    assert len(set(trained)) == len(trained) > 50


def test_every_table_is_printed(capsys):
    main(["table"])
    printed = capsys.readouterr().out
    for name, render in TABLES.items():
        assert f"{name}: " in printed and render() in printed


def test_tables_are_written_between_their_marks(tmp_path):
    file = tmp_path / "some.md"
    file.write_text("before\n<!-- table digits -->\nold\n<!-- end -->\nafter\n")
    main(["table", "--write", str(file)])
    written = file.read_text()
    assert written == f"before\n<!-- table digits -->\n\n{TABLES['digits']()}\n\n<!-- end -->\nafter\n"
    file.write_text("<!-- table nothing -->\n<!-- end -->")
    with pytest.raises(KeyError):
        main(["table", "--write", str(file)])


def test_a_text_without_a_place_for_a_table_is_told():
    with pytest.raises(ValueError, match="no place for a table"):
        filled("no marks")


def test_drawn_by_class_every_class_gets_its_shares_to_one_example():
    true = np.repeat(np.arange(3), [125, 80, 7])
    for kind, rate in (("pair", 0.45), ("symmetric", 0.5)):
        matrix = transition_matrix(kind, rate, 3)
        draws = [noisy_labels(true, matrix, seed, stratified=True) for seed in range(20)]
        for given_labels in draws:
            counts = np.array([np.bincount(given_labels[true == c], minlength=3) for c in range(3)]).T
            assert np.abs(counts - matrix * np.bincount(true)).max() < 1
        assert 0.2 < np.mean([(given_labels != true)[:20].mean() for given_labels in draws]) < 0.7
        assert any((draws[0] != other).any() for other in draws[1:])
