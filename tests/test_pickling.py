"""What is written is on the CPU, what is read goes home where home is there, and what was pickled stays as it was.

There need not be an accelerator: the meta device, which has shapes but no numbers, stands for one that is there, and a
device with a number that nobody has for one that is not.
"""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skcoteach import CoTeachingClassifier, _pickling
from skcoteach._fitted import FitState
from skcoteach._pickling import CPU, for_cpu, for_here

pytestmark = pytest.mark.filterwarnings("error")

META, ABSENT = torch.device("meta"), torch.device("cuda", 99)

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 2


def fitted():
    parameters = {"forget_rate": 0.2, "epochs": 2, "batch_size": 20, "device": "cpu", "random_state": 0}
    return CoTeachingClassifier(module__hidden=4, **parameters).fit(X, Y)


def tensors(value):
    """All tensors in a state, whatever they are in."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return [*value.parameters(), *value.buffers()]
    if isinstance(value, dict):
        return [tensor for each in value.values() for tensor in tensors(each)]
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in tensors(each)]
    return tensors(vars(value)) if isinstance(value, FitState) else []


def devices(value):
    return {tensor.device for tensor in tensors(value)}


@pytest.fixture
def written_for_meta(monkeypatch):
    """The other way around: what is on the CPU comes from an accelerator, and is written for the meta device."""
    monkeypatch.setattr(_pickling, "CPU", META)


# --- on the CPU ------------------------------------------------------------------------------------------------------


def test_a_state_on_the_cpu_is_written_as_it_is():
    state = vars(fitted())
    assert for_cpu(state) is state


@pytest.mark.parametrize("travel", [lambda clf: pickle.loads(pickle.dumps(clf)), copy.deepcopy, copy.copy])
def test_a_round_trip_on_the_cpu_changes_no_bit(travel):
    clf = fitted()
    back = travel(clf)
    assert vars(back).keys() == vars(clf).keys()
    assert back.history_ == clf.history_
    assert back.kept_frequency_.tolist() == clf.kept_frequency_.tolist()
    assert back.label_quality_.tolist() == clf.label_quality_.tolist()
    assert back.get_label_issues().equals(clf.get_label_issues())
    before, after = tensors(vars(clf)), tensors(vars(back))
    assert len(before) == len(after) == 20  # two networks, the state of their optimizer and what was kept last
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert np.array_equal(back.predict_proba(X), clf.predict_proba(X))


def test_training_goes_on_after_a_round_trip_as_without_it():
    clf = fitted()
    back = pickle.loads(pickle.dumps(clf))
    clf.partial_fit(X, Y)
    back.partial_fit(X, Y)
    assert np.array_equal(back.predict_proba(X), clf.predict_proba(X))


def test_an_unfitted_estimator_travels():
    clf = CoTeachingClassifier(forget_rate=0.3, module__hidden=4)
    back = pickle.loads(pickle.dumps(clf))
    assert vars(back) == vars(clf)


# --- from an accelerator ---------------------------------------------------------------------------------------------


def test_every_tensor_is_written_for_the_cpu(written_for_meta):
    state = vars(fitted())
    assert devices(state) == {CPU}
    written = for_cpu(state)
    assert devices(written) == {META}
    assert len(tensors(written)) == len(tensors(state))


def test_writing_changes_nothing_that_was_there(written_for_meta):
    clf = fitted()
    state, before = dict(vars(clf)), [tensor.clone() for tensor in tensors(vars(clf))]
    for_cpu(vars(clf))
    assert vars(clf) == state
    assert all(torch.equal(a, b) for a, b in zip(tensors(vars(clf)), before, strict=True))


def test_arrays_under_dispatch_and_an_instance_of_a_module_are_written_for_the_cpu_too(written_for_meta):
    state = {"classes_": torch.arange(3), "module": nn.Linear(2, 2), "module2": None, "lr": 0.1, "name": "x"}
    written = for_cpu(state)
    assert devices([written["classes_"], written["module"]]) == {META}
    assert (written["module2"], written["lr"], written["name"]) == (None, 0.1, "x")


def test_a_dataclass_of_the_user_is_written_as_it_is_but_for_its_tensors(written_for_meta):
    @dataclasses.dataclass(frozen=True)
    class Options:
        scale: torch.Tensor
        name: str = "mine"
        made: bool = dataclasses.field(default=False, init=False)

        def __post_init__(self):
            if self.scale.is_meta:
                raise ValueError("only for what has numbers")
            object.__setattr__(self, "made", True)

    options = Options(torch.ones(2))
    written = for_cpu({"module__options": options, "classes_": torch.arange(2)})["module__options"]
    assert (type(written), written.name, written.made, written.scale.device) == (Options, "mine", True, META)
    assert options.scale.device == CPU


def test_values_that_need_not_move_are_not_copied(written_for_meta):
    there, network = torch.ones(2, device=META), nn.Linear(2, 2, device=META)
    written = for_cpu({"elsewhere": torch.ones(2), "there": there, "network": network})
    assert written["there"] is there
    assert written["network"] is network


# --- and back --------------------------------------------------------------------------------------------------------


def written_on(device):
    """The state of a fitted estimator as it is written where its networks and classes are on ``device``."""
    state = dict(vars(fitted())) | {"classes_": torch.arange(2), "schedule_": np.ones(3)}
    return state | {_pickling._HOMES: {"modules_": device, "classes_": device}}


def test_what_was_on_a_device_goes_back_there_where_it_is_there():
    back = for_here(written_on(META))
    assert devices([back["modules_"], back["classes_"]]) == {META}
    assert devices(back["_state"]) == {CPU}  # has no home of its own: the next training takes it where it is needed
    assert isinstance(back["schedule_"], np.ndarray)
    assert _pickling._HOMES not in back


def test_what_was_on_a_device_that_is_not_there_stays_on_the_cpu_and_works():
    clf = CoTeachingClassifier.__new__(CoTeachingClassifier)
    clf.__setstate__(_pickling.with_version(written_on(ABSENT)))
    assert devices(vars(clf)) == {CPU}
    assert _pickling._HOMES not in vars(clf)
    assert np.array_equal(clf.predict_proba(X), fitted().predict_proba(X))
    assert clf.partial_fit(X, Y).n_iter_ == 3


def test_homes_are_noted_by_attribute_and_only_where_they_are_not_the_cpu(written_for_meta):
    state = {"classes_": torch.arange(3, device=META), "modules_": (nn.Linear(2, 2), nn.Linear(2, 2)), "lr": 0.1}
    written = for_cpu(state)
    assert written[_pickling._HOMES] == {"modules_": CPU}  # the meta device stands for the CPU here
    pickle.dumps(written[_pickling._HOMES])


def test_a_state_without_homes_is_read_as_it_is():
    state = vars(fitted())
    back = for_here(state)
    assert back == state
    assert all(back[name] is value for name, value in state.items())
