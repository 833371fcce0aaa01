"""The experiments run from the command line, and what they share does what it says."""

import json
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch.optim.optimizer import register_optimizer_step_post_hook

from skcoteach.benchmarks import speed
from skcoteach.benchmarks.__main__ import main
from skcoteach.benchmarks.common import mean_and_error, noisy_labels, table, transition_matrix
from skcoteach.benchmarks.data import DATASETS
from skcoteach.benchmarks.digits import CELLS, METHODS, split_with_noise

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
    main(["demo", "--epochs", "2", "--picture", str(picture)])
    printed = capsys.readouterr().out
    for words in ("plain networks", "co-teaching", "test accuracy", "wrong labels among the kept", "seconds"):
        assert words in printed
    assert str(picture) in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_noise_prints_its_tables_and_stores_every_single_figure(tmp_path, capsys):
    file = tmp_path / "noise.json"
    few = ["--datasets", "digits", "--cells", "none", "pair 0.2", "--seeds", "2", "--cv-seeds", "1", "--epochs", "2"]
    main(["noise", *few, "--first-seed", "100", "--jobs", "1", "--json", str(file)])
    printed = capsys.readouterr().out
    for words in ("digits: forget rate", "| pair 0.2 ", "label issues, average precision", "pruned by CleanLearning"):
        assert words in printed
    stored = json.loads(file.read_text())
    assert stored["command"].endswith('--first-seed 100 --epochs 2 --cells "none" "pair 0.2"')
    first, second = stored["figures"]["digits"]["pair 0.2"]
    assert (first["seed"], second["seed"]) == (100, 101)
    assert abs(first["estimated_rate"] - first["true_rate"]) < 0.1
    assert set(first["average_precision"]) == set(first["f1"]) == {"auto", "cv auto", "cv plain", "cv logistic"}
    assert set(second["average_precision"]) == {"auto"}
    assert set(first["accuracy"]) == {"auto", "true", "cv auto", "cv plain"}
    assert stored["figures"]["digits"]["none"][0]["f1"] == {}


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
