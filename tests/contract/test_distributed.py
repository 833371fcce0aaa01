"""``distributed=True``: several processes train together as one would, and none is left waiting."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import distributed_script as script
import numpy as np
import pytest
import torch
import torch.distributed as dist

from skcoteach import CoTeachingClassifier

SCRIPT = Path(script.__file__)
#: Seconds until whoever waits for another process would be a failure.
WITHOUT_WAITING = 60


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What came of all that the script does, in each of two processes: by name, what was returned or raised."""
    return results_of(2, tmp_path_factory.mktemp("two"))


def results_of(size, folder, *arguments):
    """Run the script in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(size), port, str(folder), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    printed = [each.communicate(timeout=240)[0] for each in started]
    assert all(each.returncode == 0 for each in started), printed
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(script):  # what was pickled where the script was the main module
            patch.setattr(sys.modules["__main__"], name, getattr(script, name), raising=False)
        of_each = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(size)]
    for results in of_each:
        assert all(seconds < WITHOUT_WAITING for _, seconds in results.values())
    return [{name: value for name, (value, _) in results.items()} for results in of_each]


def have_same_bits(results):
    first, *others = results
    assert all(each["history"] == first["history"] for each in others)
    return all(np.array_equal(a, b) for each in others for a, b in zip(first["arrays"], each["arrays"], strict=True))


# --- as one process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", script.ALIKE)
def test_two_processes_learn_what_one_learns(found, name):
    alone = script.bits(script.fit_alike(name))
    together = [each[name] for each in found]
    assert have_same_bits(together)
    for one, other in zip(alone["arrays"], together[0]["arrays"], strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-8)
    assert [entry["epoch"] for entry in together[0]["history"]] == [entry["epoch"] for entry in alone["history"]]


def test_four_processes_learn_what_one_learns(tmp_path):
    together = [each["weights"] for each in results_of(4, tmp_path, "weights")]
    assert have_same_bits(together)
    for one, other in zip(script.bits(script.fit_alike("weights"))["arrays"], together[0]["arrays"], strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["random numbers", "augmented images", "stopped by a callback"])
def test_all_end_with_the_same_bits(found, name):
    assert have_same_bits([each[name] for each in found])


def test_a_callback_of_the_first_process_stops_all(found):
    assert [len(each["stopped by a callback"]["history"]) for each in found] == [3, 3]


def test_callbacks_and_verbose_speak_in_the_first_process_alone(found):
    assert [each["callbacks told"] for each in found] == [2, 0]
    first, second = (each["printed"] for each in found)
    assert "noise rate" in first and "epoch 4/4" in first
    assert second == ""


def test_of_a_dataset_each_process_reads_its_part(found):
    for read_in_an_epoch in (each["rows read"] for each in found):
        assert len(script.X) // 2 <= read_in_an_epoch <= len(script.X) // 2 + 5


def test_a_checkpoint_of_the_first_process_is_gone_on_with_by_all(found):
    of_each = [each["gone on with"] for each in found]
    assert have_same_bits([each[when] for each in of_each for when in ("whole", "resumed")])
    assert "goes on from" in of_each[0]["printed"] and of_each[1]["printed"] == ""
    assert [each["files"] > 0 for each in of_each] == [True, False]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "failing", "words"),
    [
        ("forward", 1, "OSError: the user's own forward"),
        ("Dataset", 1, "OSError: the user's own Dataset"),
        ("callback", 0, "OSError: a callback"),
        ("bad input", 1, "ValueError: Input X contains NaN"),
    ],
)
def test_what_one_process_raises_is_told_by_the_other(found, name, failing, words):
    own, other = found[failing][name], found[1 - failing][name]
    assert type(own).__name__ == words.split(":")[0] and str(own).startswith(words.split(": ")[1])
    assert isinstance(other, RuntimeError)
    assert f"process {failing} has ended the fit with {words}" in str(other)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other labels", "the same y"),
        ("other parameter", "the same parameter lr"),
        ("diverged", "the training diverged"),
        ("batch statistics", "the layer '1', BatchNorm1d"),
        ("own batch statistics", "network 1, mean: is not the same"),
        ("partial_fit", "partial_fit does not support distributed=True"),
    ],
)
def test_what_is_wrong_everywhere_is_told_everywhere(found, name, words):
    first, second = (each[name] for each in found)
    assert isinstance(first, ValueError) and words in str(first)
    assert str(first) == str(second)


def test_who_is_interrupted_keeps_the_epochs_done_and_the_other_raises(found):
    assert found[1]["interrupted"] == ("interrupted", 2)
    assert "process 1 has ended the fit with KeyboardInterrupt" in str(found[0]["interrupted"])


def test_a_second_fit_beside_the_first_is_refused(found):
    for each in found:
        assert ["Another fit with distributed=True" in error for error in each["in a thread"]] == [True]


def test_failures_leave_nothing_behind(found):
    assert have_same_bits([each[name] for each in found for name in ("chain", "after all failures")])


# --- without a group -------------------------------------------------------------------------------------------------


def test_without_a_process_group_the_error_shows_how_to_make_one(table):
    with pytest.raises(ValueError, match=r'init_process_group\("gloo"\).*torchrun --nproc-per-node'):
        CoTeachingClassifier(distributed=True).fit(*table)


def test_a_group_of_one_process_trains_as_without_a_group(table, tmp_path):
    parameters = {
        "forget_rate": 0.2,
        "epochs": 2,
        "random_state": 0,
        "module": torch.nn.LazyLinear,
        "module__bias": True,
    }
    parameters["module__out_features"] = 3
    alone = CoTeachingClassifier(**parameters).fit(*table).predict_proba(table[0])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        in_group = CoTeachingClassifier(distributed=True, **parameters).fit(*table).predict_proba(table[0])
    finally:
        dist.destroy_process_group()
    np.testing.assert_array_equal(in_group, alone)
