"""The experiment on labels that people gave, on a few made images."""

import json

import numpy as np
import pytest

from skcoteach.benchmarks import human
from skcoteach.benchmarks.__main__ import main

pytestmark = pytest.mark.filterwarnings("error")


def test_every_method_has_a_row_for_each_annotation_and_seed(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.random((96, 3, 8, 8), dtype=np.float32)
    y = np.arange(96) % 3
    X[:, 0] += y[:, None, None]
    given = np.where(np.arange(96) % 6 == 0, (y + 1) % 3, y)
    asked = []

    def stored(annotation, folder):
        asked.append((annotation, folder))
        return X, X[:30], given, y, y[:30]

    monkeypatch.setattr(human, "cifar10n", stored)
    file = tmp_path / "human.json"
    arguments = ["--recipe", "human", "--seeds", "1", "--first-seed", "7", "--epochs", "4", "--data", "FOLDER"]
    main(["accuracy", *arguments, "--json", str(file)])
    assert {each for each, _ in asked} == set(human.ANNOTATIONS) and {folder for _, folder in asked} == {"FOLDER"}
    figures = json.loads(file.read_text())
    assert "--recipe human" in figures["command"]
    assert [(run["method"], run["annotation"]) for run in figures["runs"]] == [
        (method, annotation) for annotation in human.ANNOTATIONS for method in human.METHODS
    ]
    runs = {run["method"]: run for run in figures["runs"]}
    assert [runs[method]["forget_rate"] for method in ("plain", "one network", "true rate")] == [
        0, *[pytest.approx(1 / 6, abs=1e-5)] * 2
    ]  # fmt: skip
    assert "noise_rate_std_" in runs["default"] and "noise_rate_" not in runs["plain"]
    shown = capsys.readouterr().out
    assert all(f"| {method} " in shown for method in human.METHODS)
