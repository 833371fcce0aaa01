"""The state of a training is one plain value: whoever loads it goes on with the bits of who was never interrupted."""

import contextlib
import copy
import dataclasses
import functools
import gc
import io
import math
import os
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from _training.builders import configured, networks_and_data, validated, without_durations
from scipy import sparse
from sklearn.datasets import load_digits, make_classification
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import skcoteach
from skcoteach._fitted import fitted_attributes
from skcoteach._training.crossfit import CrossFit
from skcoteach._training.device import SHARED_STATE, random_state
from skcoteach._training.engines import choice
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains
from skcoteach._training.inference import mean_probabilities, predict
from skcoteach._training.module_state import copied
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import Trainer
from skcoteach.augmentation import RandomFlip, RandomShift
from skcoteach.networks import SmallCNN

pytestmark = pytest.mark.filterwarnings("error")

# --- what is trained -------------------------------------------------------------------------------------------------

#: An epoch has three batches of 20, and leaves out some of the 72 examples.
N, EPOCHS = 72, 3
X, Y = make_classification(N, 6, n_informative=4, n_classes=3, class_sep=2.0, random_state=0)
X = X.astype(np.float32)
Y = np.where(np.arange(N) % 5 == 0, (Y + 1) % 3, Y)
DIGITS, DIGIT = load_digits(n_class=3, return_X_y=True)
IMAGES, DIGIT = (DIGITS[:N] / 16).reshape(-1, 1, 8, 8).astype(np.float32), DIGIT[:N]
IN_COLOUR = np.concatenate([IMAGES, 1 - IMAGES, IMAGES**2], axis=1)
WEIGHTS = np.random.default_rng(0).uniform(0, 2, N) * (np.arange(N) % 7 > 0)


def chain(n_features, n_classes):
    inner = nn.Sequential(nn.Tanh(), nn.Linear(8, 6))
    return nn.Sequential(nn.Linear(n_features, 8), inner, nn.GELU(), nn.Linear(6, n_classes))


class Forward(nn.Module):
    """A chain that is computed by autograd, as it has a ``forward`` of its own."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first, self.last = nn.Linear(n_features, 8), nn.Linear(8, n_classes)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Normed(Forward):
    """With batch statistics, dropout and a buffer that is not stored."""

    def __init__(self, n_features, n_classes, momentum=0.1):
        super().__init__(n_features, n_classes)
        self.norm, self.drop = nn.BatchNorm1d(8, momentum=momentum), nn.Dropout(0.2)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.steps += 1
        return self.last(self.drop(torch.relu(self.norm(self.first(x))))) * (1 + self.steps / 100)


class Buffers(Forward):
    """With buffers that ``forward`` sets: one that is None at first, one of changing shape, one of another dtype, one
    that it registers, one that hangs on its graph.
    """

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.register_buffer("mean", None)
        self.register_buffer("recent", torch.zeros(n_features))
        self.register_buffer("drift", torch.zeros(n_features), persistent=False)
        self.register_buffer("hidden", None)

    def forward(self, x):
        if self.training:
            mean = x.mean(0)
            self.mean = mean if self.mean is None else 0.9 * self.mean + 0.1 * mean
            self.recent = x[: 10 + (len(self.recent) + 1) % 4].clone()
            self.drift = self.drift.double() + mean / 100
            if "count" not in self._buffers:
                self.register_buffer("count", torch.zeros((), dtype=torch.int64))
            self.count += 1
        if self.mean is not None:
            x = x - self.mean + self.recent.mean(0) / 10 + self.drift.to(x.dtype) + self.count / 100
        hidden = self.first(x)
        if self.training:
            self.hidden = hidden
        return self.last(torch.relu(hidden))


def spectral(n_features, n_classes):
    """Its weight is an attribute that every forward computes anew."""
    normed = nn.utils.spectral_norm(nn.Linear(n_features, 8))
    return nn.Sequential(normed, nn.ReLU(), nn.Linear(8, n_classes))


def parametrized(n_features, n_classes):
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(n_features, 8))
    return nn.Sequential(normed, nn.ReLU(), nn.Linear(8, n_classes))


def lazy(n_classes):
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(8, n_classes))


def frozen(n_features, n_classes):
    network = Normed(n_features, n_classes)
    network.first.requires_grad_(False)
    return network


def embedding(n_classes):
    return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(24, n_classes))


class Conv(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(n_channels, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.last = nn.Linear(6, n_classes)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.conv(x))).amax((2, 3)))


class Items(Dataset):
    """Items with noise of their own."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return torch.from_numpy(self.X[index]) + 0.1 * torch.randn(self.X.shape[1]), -1


class OwnMomentum(torch.optim.SGD):
    """To the package any optimizer, whose state happens to be tensors."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)


class Slowing(torch.optim.Optimizer):
    """Keeps lists, strings and tensors of other dtypes than the parameter's, and a counter in its groups."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "n_steps": 0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["n_steps"] += 1
            for parameter in group["params"]:
                own = self.state[parameter]
                own.setdefault("rates", []).append(group["lr"])
                own["sum"] = own.get("sum", 0) + parameter.grad.double() / 3
                own["more"] = {"name": "slowing", "signs": [parameter.grad.sign().long()]}
                step = own["sum"].to(parameter.dtype) + 1e-3 * own["more"]["signs"][0]
                parameter.sub_(step, alpha=sum(own["rates"]) / len(own["rates"]) ** 2 / group["n_steps"])


class Case(NamedTuple):
    """A training: parameters of the estimator, data and an estimate of the noise."""

    parameters: dict
    X: Any = X
    y: np.ndarray = Y
    sample_weight: np.ndarray | None = None
    class_weight: dict | None = None
    estimate: NoiseEstimate = NoiseEstimate(0.2)


RNG = np.random.default_rng(1)
AUTO = NoiseEstimate(
    forget_rate=0.3,
    class_forget_rates=torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64),
    noise_rate=0.3,
    noise_rate_std=0.05,
    noise_matrix=torch.from_numpy(RNG.dirichlet(np.ones(3), 3).T),
    quality=torch.from_numpy(RNG.uniform(0, 1, N)),
    predicted=torch.from_numpy(RNG.integers(0, 3, N)),
    confidence=0.35,  # less than that of networks that have learnt anything
)
SGD, MOMENTUM = {"optimizer": torch.optim.SGD, "lr": 0.05}, {"optimizer__momentum": 0.9}
PACKAGE = os.path.dirname(skcoteach.__file__) + os.sep

CASES = {
    "chains": Case({}),
    "chains, own layers": Case({"module": chain}),
    "chains, float64": Case({"precision": "float64"}, X.astype(float)),
    "chains, tf32": Case({"precision": "tf32"}),
    "chains, weights": Case({}, sample_weight=WEIGHTS),
    "chains, class weights": Case({"class_floor": 0.0}, class_weight={0: 2.0, 1: 0.5}),
    "chains, average": Case({"average_decay": 0.9}),
    "chains, augment": Case({"augment": lambda x: x + 0.1 * torch.randn_like(x) + 0.1 * random.random()}),
    "chains, sparse": Case({}, sparse.csr_array(X * (np.abs(X) > 1))),
    "chains, few batches": Case({"num_iter_per_epoch": 1, "num_gradual": 1}),
    "chains, without warm-up": Case({"num_gradual": 0, "exponent": 0.7}),
    "chains, auto": Case({}, sample_weight=WEIGHTS, estimate=AUTO),
    "chains, amsgrad": Case({"optimizer__amsgrad": True, "optimizer__weight_decay": 0.1}),
    "chains, SGD": Case(SGD),
    "chains, momentum": Case(SGD | MOMENTUM),
    "chains, Adagrad": Case({"optimizer": torch.optim.Adagrad, "lr": 0.05}),
    "chains, NAdam": Case({"optimizer": torch.optim.NAdam}),
    "chains, ASGD": Case({"optimizer": torch.optim.ASGD, "lr": 0.05}),
    "autograd": Case({"module": Forward}),
    "autograd, normed": Case({"module": Normed}),
    "autograd, float64": Case({"module": Normed, "precision": "float64"}, X.astype(float)),
    "autograd, bf16": Case({"module": Normed, "precision": "bf16"}),
    "autograd, bf16 of a chain": Case({"precision": "bf16"}),
    "autograd, average": Case({"module": Normed, "average_decay": 0.9}, sample_weight=WEIGHTS),
    "autograd, auto average": Case({"module": Normed, "average_decay": 0.9}, estimate=AUTO),
    "autograd, few batches": Case({"module": Normed, "num_iter_per_epoch": 2}),
    "autograd, cumulative": Case({"module": Normed, "module__momentum": None, "average_decay": 0.5}),
    "autograd, buffers": Case({"module": Buffers, "average_decay": 0.9}),
    "autograd, spectral": Case({"module": spectral}),
    "autograd, parametrized": Case({"module": parametrized}),
    "autograd, lazy": Case({"module": lazy}),
    "autograd, frozen": Case({"module": frozen, "average_decay": 0.9}),
    "autograd, two modules": Case({"module": Normed, "module2": Forward}),
    "autograd, instances": Case({"module": Normed(6, 3), "module2": Normed(6, 3)}),
    "autograd, dataset": Case({"module": Normed}, Items(X)),
    "autograd, tensor dataset": Case({"module": Normed}, TensorDataset(torch.from_numpy(X))),
    "autograd, embedding": Case({"module": embedding}, np.abs(X * 2).astype(int) % 10),
    "autograd, amsgrad": Case({"module": Normed, "optimizer__amsgrad": True}),
    "autograd, AdamW": Case({"module": Normed, "optimizer": torch.optim.AdamW}),
    "autograd, momentum": Case({"module": Normed} | SGD | MOMENTUM),
    "autograd, Adagrad": Case({"module": Normed, "optimizer": torch.optim.Adagrad, "lr": 0.05}),
    "autograd, Adafactor": Case({"optimizer": torch.optim.Adafactor, "lr": 0.05}),
    "autograd, made by a function": Case({"optimizer": lambda p, lr: torch.optim.Adamax(p, lr=lr)}),
    "autograd, subclass": Case({"module": Normed, "optimizer": OwnMomentum, "lr": 0.05}),
    "autograd, own optimizer": Case({"module": Normed, "optimizer": Slowing, "lr": 0.05}),
    "images": Case({"module__width": 4, "augment": nn.Sequential(RandomFlip(), RandomShift(1))}, IMAGES, DIGIT),
    "images, bytes": Case({"module": SmallCNN, "module__width": 4}, (IMAGES * 255).astype(np.uint8), DIGIT),
    "images, own network": Case({"module": Conv, "average_decay": 0.9}, IN_COLOUR, DIGIT),
    "images, own network, bf16": Case({"module": Conv, "precision": "bf16"}, IN_COLOUR, DIGIT),
}
every_case = pytest.mark.parametrize("name", CASES)


@functools.cache
def prepared(name):
    """The config and the data that all trainers of a case have in common."""
    case = CASES[name]
    defaults = {"epochs": EPOCHS, "num_gradual": 2, "batch_size": 20, "lr": 0.01, "random_state": 3}
    config = configured(**defaults | case.parameters)
    return config, validated(case.X, case.y, case.sample_weight, class_weight=case.class_weight)


def fresh(name, made=0, estimate=None):
    """A trainer whose networks were made anew; those of another number start with other weights."""
    config, given = prepared(name)
    networks, data = networks_and_data(dataclasses.replace(config, seed=made), given)
    return Trainer(config, data, estimate or CASES[name].estimate, networks)


def going_on(name, state, **how):
    """A fresh trainer that has loaded the state."""
    trainer = fresh(name, made=1, **how)
    trainer.load_state_dict(state)
    return trainer


def finish(trainer):
    while trainer.epoch < EPOCHS:
        trainer.run_epoch()
    return trainer


def state_of(trainer):
    """A copy of the whole state, as far as it is the same in every run."""
    state = trainer.snapshot()
    return state | {"history": without_durations(state["history"]), "forget_rates": trainer.forget_rates}


def fitted_by(name, trainer):
    """What users see of it."""
    config, given = prepared(name)
    fitted = fitted_attributes(trainer, given, copies=True)
    combine = functools.partial(mean_probabilities, temperature=fitted["temperature_"])
    with random_state(config.device, (0,)):
        probabilities = predict(
            fitted["modules_"],
            trainer.data.inputs,
            combine,
            n_classes=trainer.data.n_classes,
            precision=config.precision,
        )
    labels = dataclasses.asdict(fitted["_state"].labels)
    public = {key: value for key, value in fitted.items() if key not in ("modules_", "_state")}
    return public | {
        "history_": without_durations(trainer.history), "probabilities": probabilities, "labels": labels
    }  # fmt: skip


class Uninterrupted(NamedTuple):
    """A training without interruption: its snapshots, and what was fitted, after so many epochs; all at the end."""

    snapshots: list[dict]
    fitted: list[dict]
    end: dict


@functools.cache
def uninterrupted(name):
    never_asked, asked = finish(fresh(name)), fresh(name)
    snapshots, fitted = [asked.snapshot()], [{}]
    while asked.epoch < EPOCHS:
        asked.run_epoch()
        snapshots.append(asked.snapshot())
        fitted.append(fitted_by(name, asked))
    assert_same(state_of(asked), state_of(never_asked))
    assert_same(fitted[-1], fitted_by(name, never_asked))
    return Uninterrupted(snapshots, fitted, state_of(never_asked))


def differences(one, other, path=""):
    """Where two values of nested dicts, lists and tuples differ, to the bit."""
    if type(one) is not type(other):
        return [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [path]
        return [each for name in one for each in differences(one[name], other[name], f"{path}/{name}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [path]
        pairs = enumerate(zip(one, other, strict=True))
        return [each for number, pair in pairs for each in differences(*pair, f"{path}/{number}")]
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other) and one.dtype == other.dtype else [path]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    return [] if one == other or (one != one and other != other) else [path]


def assert_same(one, other):
    assert differences(one, other) == []


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for each in inside for tensor in tensors_in(each)]


# --- going on --------------------------------------------------------------------------------------------------------


@every_case
def test_the_state_after_any_epoch_goes_on_in_a_fresh_trainer_with_the_bits_of_an_uninterrupted_training(name):
    whole = uninterrupted(name)
    for epoch, snapshot in enumerate(whole.snapshots):
        trainer = going_on(name, snapshot)
        assert trainer.epoch == epoch
        assert_same(trainer.snapshot(), snapshot)
        if epoch:
            assert_same(fitted_by(name, trainer), whole.fitted[epoch])
        finish(trainer)
        assert_same(state_of(trainer), whole.end)
        assert_same(fitted_by(name, trainer), whole.fitted[-1])


def test_the_cases_are_of_both_engines_and_of_both_memory_layouts():
    """What the tests above stand on."""
    engines = {name: type(fresh(name)._engine) for name in CASES}
    assert {name for name, engine in engines.items() if engine is Chains} == {
        n for n in CASES if n.startswith("chains")
    }
    own = [tensor for tensor in fresh("images, own network").networks[0].parameters() if tensor.ndim == 4]
    assert own and not any(each.is_contiguous() for each in own)
    assert all(isinstance(engine, type) and engine in (Autograd, Chains) for engine in engines.values())


@every_case
def test_the_state_survives_torch_save_and_a_load_of_weights_only(name):
    whole = uninterrupted(name)
    file = io.BytesIO()
    torch.save(whole.snapshots[2], file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    assert_same(loaded, whole.snapshots[2])
    assert_same(state_of(finish(going_on(name, loaded))), whole.end)


@pytest.mark.parametrize("name", ["chains", "autograd, buffers", "autograd, own optimizer", "chains, auto"])
def test_a_training_goes_back_to_an_earlier_state(name):
    whole, trainer = uninterrupted(name), fresh(name)
    for epoch in (3, 1, 2, *[0] * (name != "autograd, buffers")):  # what a forward has registered stays
        trainer.load_state_dict(whole.snapshots[epoch])
        assert trainer.epoch == epoch
        assert_same(state_of(finish(trainer)), whole.end)


@pytest.mark.parametrize(("saved", "loaded"), [(True, False), (False, True)])
def test_a_training_goes_on_in_another_memory_layout(saved, loaded, monkeypatch):
    """Optimizers that go through weights and state number by number must find both in one layout."""
    name = "images, own network"
    monkeypatch.setattr(choice, "take_channels_last", lambda *_: saved)
    trainer = fresh(name)
    trainer.run_epoch(), trainer.run_epoch()
    monkeypatch.setattr(choice, "take_channels_last", lambda *_: loaded)
    other = going_on(name, trainer.snapshot())
    assert [each.networks[0].conv.weight.is_contiguous() for each in (trainer, other)] == [not saved, not loaded]
    ends = [tensors_in(finish(each).state_dict()["networks"]) for each in (trainer, other)]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


# --- a plain value ---------------------------------------------------------------------------------------------------


def kinds_in(value):
    if type(value) is dict:
        return {type(name) for name in value} | {kind for each in value.values() for kind in kinds_in(each)}
    if type(value) in (list, tuple):
        return {kind for each in value for kind in kinds_in(each)}
    return {type(value)}


@every_case
def test_the_state_is_nested_dicts_lists_and_tuples_of_tensors_numbers_bools_strings_and_none(name):
    trainer = fresh(name)
    for state in (trainer.state_dict(), finish(trainer).state_dict(), *uninterrupted(name).snapshots):
        assert kinds_in(state) <= {torch.Tensor, int, float, bool, str, type(None)}
        assert not any(tensor.requires_grad for tensor in tensors_in(state))


def test_with_an_estimate_that_was_made_the_state_is_as_plain():
    X, y = make_classification(600, 6, n_informative=4, n_classes=3, class_sep=3.0, random_state=0)
    y = np.where(np.arange(600) % 10 < 3, (y + 1) % 3, y)
    given = validated(X.astype(np.float32), y, np.full(600, 1.5))
    config = configured(epochs=10, batch_size=100, lr=0.02)
    networks, data = networks_and_data(config, given)
    cross_fit = CrossFit(config, data)
    while not cross_fit.is_finished:
        cross_fit.run_step()
    state = Trainer(config, data, cross_fit.noise_estimate(with_probabilities=True), networks).state_dict()
    assert kinds_in(state["noise_estimate"]) == {str, float, torch.Tensor}
    assert kinds_in(state) <= {torch.Tensor, int, float, bool, str, type(None)}


@pytest.mark.parametrize("name", ["chains, average", "autograd, average", "chains, auto", "autograd, own optimizer"])
def test_the_state_aliases_the_training_as_torchs_does(name):
    trainer = going_on(name, uninterrupted(name).snapshots[2])
    state = trainer.state_dict()
    for tensor in tensors_in(state):
        tensor.zero_()
    assert differences(trainer.state_dict(), state) == []
    assert all((parameter == 0).all() for network in trainer.networks for parameter in network.parameters())
    optimizer_states = [each.state for each in trainer._optimizers]
    assert all((tensor == 0).all() for each in optimizer_states for tensor in tensors_in(list(each.values())))
    assert not any(sums.any() for sums in trainer.label_statistics.state_dict().values())


@every_case
def test_a_snapshot_does_not_change_with_later_epochs_and_what_they_change_in_place_is_copied(name):
    trainer = going_on(name, uninterrupted(name).snapshots[1])
    snapshot = trainer.snapshot()
    changing = "networks", "optimizers", "average"
    copies, own = ({key: state[key] for key in changing} for state in (snapshot, trainer.state_dict()))
    assert not memories(copies) & memories(own)
    finish(trainer)
    assert_same(snapshot, uninterrupted(name).snapshots[1])


def test_the_state_holds_few_bytes_of_each_example():
    """Losses of both networks in float32, the sum of their means, and of what was kept in double precision; flags."""
    for n in (40, 140):
        X, y = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32), np.arange(n) % 2
        given = validated(X, y)
        networks, data = networks_and_data(configured(batch_size=20), given)
        trainer = Trainer(configured(batch_size=20), data, NoiseEstimate(0.2), networks)
        trainer.run_epoch(), trainer.run_epoch()
        state = trainer.state_dict()
        of_examples = [state[name] for name in ("n_keepers", "losses", "kept", "label_statistics")]
        assert sum(each.numel() * each.itemsize for each in tensors_in(of_examples)) == 24 * n
        of_data = (data.codes, data.drawn.numpy(), data.drawn_targets.numpy(), data.targets.numpy())
        assert sum(each.itemsize for each in of_data) == 7
        assert data.codes.ctypes.data == data.targets.data_ptr() == data.drawn_targets.data_ptr()
        assert {data.weights.stride(), data.full_weights.strides, data.sample_weights.strides} == {(0,)}


def memories(state):
    return {tensor.untyped_storage().data_ptr() for tensor in tensors_in(state)} - {0}


@every_case
def test_a_state_is_copied_when_it_is_loaded_so_that_trainings_go_on_apart(name):
    whole = uninterrupted(name)
    state = copied(whole.snapshots[2])
    one, other = (going_on(name, state) for _ in range(2))
    assert not memories(one.state_dict()) & memories(state)
    assert not memories(one.state_dict()) & memories(other.state_dict())
    one.run_epoch()
    finish(other)
    finish(one)
    assert_same(state, whole.snapshots[2])
    assert_same(state_of(one), whole.end)
    assert_same(state_of(other), whole.end)
    third = going_on(name, state)
    for tensor in tensors_in(state):
        tensor.fill_(1)
    state["history"].clear()
    assert_same(state_of(finish(third)), whole.end)


def test_the_estimate_is_that_of_the_state():
    name = "chains, auto"
    whole = uninterrupted(name)
    trainer = going_on(name, whole.snapshots[2], estimate=NoiseEstimate(0.0))
    assert_same(trainer.noise_estimate.state_dict(), AUTO.state_dict())
    assert_same(state_of(finish(trainer)), whole.end)


# --- at rest, and interrupted ----------------------------------------------------------------------------------------


def assert_at_rest(trainer):
    for network in trainer.networks:
        assert not any(module.training for module in network.modules())
        assert all(parameter.grad is None for parameter in network.parameters())
        copy.deepcopy(network)


@every_case
def test_between_epochs_networks_are_in_eval_mode_hold_no_gradients_and_can_be_copied(name):
    trainer = fresh(name)
    assert_at_rest(trainer)
    for _ in range(2):
        trainer.run_epoch()
        assert_at_rest(trainer)
    assert_at_rest(going_on(name, uninterrupted(name).snapshots[2]))
    interrupt(trainer.run_epoch, at=60)
    trainer.load_state_dict(uninterrupted(name).snapshots[2])
    assert_at_rest(trainer)


def of_the_process():
    """Random states and settings that a training changes for a while."""
    cudnn = torch.backends.cudnn
    states = random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()
    return states, cudnn.benchmark, cudnn.deterministic


def interrupt(call, at):
    """Press Ctrl-C when the package has come to the given number of places where Python looks for it.

    Nothing of the process is changed by that, nor is the lock held that fits in other threads wait for.
    """
    before = of_the_process()
    with pytest.raises(KeyboardInterrupt):
        n_calls(call, at)
    assert of_the_process() == before
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(SHARED_STATE.acquire, blocking=False).result()
        thread.submit(SHARED_STATE.release).result()


def n_calls(call, at=math.inf):
    """How many such places are come to: where its functions begin, and after calls of what is not Python.

    Not within other packages: torch's own modes and hooks would stay as they happen to be, for all tests after this.
    """
    n, before = 0, sys.getprofile()

    def profile(frame, event, function):
        nonlocal n
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            n += 1
            if n == at:
                raise KeyboardInterrupt

    # torch's own modes are left as they were found, as the estimator leaves them
    with without_garbage_collection(), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(before)
    return n


@contextlib.contextmanager
def without_garbage_collection():
    """Its calls come at any time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def places(call, number):
    """So many places to press Ctrl-C at while the function runs, the last ones among them."""
    n = n_calls(call)
    return sorted({*np.linspace(1, n - 2, number).astype(int).tolist(), *range(n - 12, n - 2, 3)})


@every_case
def test_an_epoch_interrupted_anywhere_leaves_the_bits_of_the_finished_epochs_to_go_back_to(name):
    often = name in ("chains", "chains, average", "autograd, buffers", "autograd, own optimizer", "images, own network")
    whole = uninterrupted(name)
    trainer = going_on(name, whole.snapshots[2])
    finished, changed = trainer.snapshot(), 0
    for at in places(going_on(name, whole.snapshots[2]).run_epoch, 36 if often else 5):
        interrupt(trainer.run_epoch, at)
        changed += bool(differences(trainer.state_dict(), finished))
        trainer.load_state_dict(finished)
        assert_same(trainer.snapshot(), whole.snapshots[2])
    assert changed > 4
    assert_same(fitted_by(name, trainer), whole.fitted[2])
    assert_same(state_of(finish(trainer)), whole.end)


@pytest.mark.parametrize("name", ["chains, average", "autograd, buffers", "autograd, own optimizer"])
def test_a_snapshot_that_is_interrupted_changes_neither_the_training_nor_an_earlier_snapshot(name):
    whole = uninterrupted(name)
    trainer = going_on(name, whole.snapshots[1])
    earlier = trainer.snapshot()
    trainer.run_epoch()
    for at in places(trainer.snapshot, 20):
        interrupt(trainer.snapshot, at)
        assert_same(state_of(trainer)["networks"], whole.snapshots[2]["networks"])
    assert_same(earlier, whole.snapshots[1])
    assert_same(state_of(finish(trainer)), whole.end)
    trainer.load_state_dict(earlier)
    assert_same(state_of(finish(trainer)), whole.end)


@pytest.mark.parametrize("name", ["chains, average", "autograd, buffers", "autograd, own optimizer"])
def test_a_load_that_is_interrupted_can_be_done_again(name):
    whole = uninterrupted(name)
    trainer = going_on(name, whole.snapshots[3])
    for at in places(lambda: trainer.load_state_dict(whole.snapshots[2]), 20):
        trainer.load_state_dict(whole.snapshots[3])
        interrupt(lambda: trainer.load_state_dict(whole.snapshots[2]), at)
        trainer.load_state_dict(whole.snapshots[2])
        assert_same(trainer.snapshot(), whole.snapshots[2])
    assert_same(state_of(finish(trainer)), whole.end)


# --- no key is idle --------------------------------------------------------------------------------------------------

#: For each key of the state a case in which the end is another one without it.
USED_BY = {
    "history": "chains",
    "networks": "chains",
    "networks/0": "autograd, normed",
    "networks/1": "autograd, normed",
    "optimizers/state": "chains",
    "optimizers/param_groups": "autograd, own optimizer",
    "average": "chains, average",
    "average/n_updates": "chains, average",
    "average/values": "autograd, average",
    "n_keepers": "chains",
    "losses": "chains",
    "label_statistics": "chains",
    "label_statistics/kept": "chains",
    "label_statistics/losses": "chains",
    "label_statistics/n_seen": "chains",
    "label_statistics/predicted": "chains, few batches",
    "noise_estimate": "chains, auto",
    "noise_estimate/forget_rate": "chains, auto",
    "noise_estimate/class_forget_rates": "chains, auto",
    "noise_estimate/noise_rate": "chains, auto",
    "noise_estimate/noise_rate_std": "chains, auto",
    "noise_estimate/noise_matrix": "chains, auto",
    "noise_estimate/quality": "chains, auto",
    "noise_estimate/predicted": "chains, auto",
    "noise_estimate/confidence": "autograd, auto average",
}
#: For :func:`skcoteach._fitted.go_on` alone, which asks whether the state suits the optimizer.
OF_GO_ON = {"optimizers/shapes"}
#: For :meth:`Trainer.starved_classes` alone.
OF_STARVED_CLASSES = {"kept"}
#: For :meth:`Trainer.return_to_best` alone.
OF_EARLY_STOPPING = {"best"}
#: For ``cross_fit_probabilities_`` alone: ``tests/contract/test_cross_fit_probabilities.py``.
OF_PROBABILITIES = {"noise_estimate/probabilities"}


def without(state, key, replacement):
    """The state with what another one has at the key."""
    first, _, rest = key.partition("/")
    if first == "optimizers":  # a list of dicts with the same keys
        return state | {first: [a | {rest: b[rest]} for a, b in zip(state[first], replacement[first], strict=True)]}
    if not rest:
        return state | {first: replacement[first]}
    if first == "networks":
        mixed = [(replacement if number == int(rest) else state)[first][number] for number in range(2)]
        return state | {first: mixed}
    return state | {first: state[first] | {rest: replacement[first][rest]}}


def ends(name, state):
    """What is fitted if the training ended with the state, and what if it went on."""
    trainer = going_on(name, state, estimate=NoiseEstimate(0.0))
    return [fitted_by(name, trainer), fitted_by(name, finish(trainer))]


@pytest.mark.parametrize("key", USED_BY)
def test_without_any_key_of_the_state_the_end_is_another_one(key):
    """Instead of it the fresh trainer's own value is loaded; all others are those of the state."""
    name = USED_BY[key]
    whole = uninterrupted(name)
    own = fresh(name, made=1, estimate=NoiseEstimate(0.1)).snapshot()
    for epoch in (2, 3):
        assert_same(ends(name, whole.snapshots[epoch]), [whole.fitted[epoch], whole.fitted[-1]])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)  # nothing was ever seen
        dropped = [ends(name, without(whole.snapshots[epoch], key, own)) for epoch in (2, 3)]
    expected = [[whole.fitted[epoch], whole.fitted[-1]] for epoch in (2, 3)]
    assert differences(dropped, expected)


def test_classes_that_starved_are_known_again():
    trainer = fresh("chains")
    trainer.run_epoch(torch.tensor([[0.0, 0.99, 0.0]], dtype=torch.float64))
    state = trainer.snapshot()
    state["kept"][torch.from_numpy(trainer.data.codes == 1)] = 0
    loaded = fresh("chains")
    assert not len(loaded.starved_classes())
    loaded.load_state_dict(state)
    assert loaded.starved_classes().tolist() == [1]


def test_these_are_all_keys_of_the_state():
    state = uninterrupted("autograd, auto average").snapshots[-1]
    keys = {*state, "networks/0", "networks/1", *(f"optimizers/{each}" for each in state["optimizers"][0])}
    keys |= {f"{name}/{each}" for name in state if isinstance(state[name], dict) for each in state[name]}
    used_elsewhere = OF_GO_ON | OF_STARVED_CLASSES | OF_EARLY_STOPPING | OF_PROBABILITIES
    assert keys - {"optimizers"} == USED_BY.keys() | used_elsewhere


@pytest.mark.parametrize("name", ["autograd, cumulative", "autograd, buffers"])
def test_without_any_parameter_or_buffer_the_end_is_another_one(name):
    whole = uninterrupted(name)
    own = fresh(name, made=1).snapshot()["networks"][0]
    idle = []
    for tensor in whole.snapshots[2]["networks"][0]:
        networks = copied(whole.snapshots[2]["networks"])
        if tensor in own:
            networks[0][tensor] = own[tensor]
        else:
            networks[0][tensor].zero_()
        trainer = going_on(name, whole.snapshots[2] | {"networks": networks})
        if not differences(fitted_by(name, finish(trainer)), whole.fitted[-1]):
            idle.append(tensor)
    assert idle == ["hidden"] * (name == "autograd, buffers")  # which nothing is computed from
