"""A step of co-teaching: what is asked of the engine, of ``augment`` and of the optimizers, and what is given back."""

import copy

import pytest
import torch
from _training.builders import bits, config_with, equal
from _training.trainers import (
    N_CLASSES,
    N_FEATURES,
    N,
    both_engines,
    data_of,
    make_data,
    make_networks,
    make_trainer,
    noisy_module,
    uneven_weights,
    watched,
)
from torch import nn

from skcoteach._training.averaging import WeightAverage
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains
from skcoteach._training.optimizers import make_optimizers
from skcoteach._training.steps import Steps, check_augmented

pytestmark = pytest.mark.filterwarnings("error")

CHAIN = {"autograd": lambda networks: Autograd(networks, N_CLASSES), "chains": Chains}


def make_steps(networks, engine="autograd", average=None, batch_size=32, **config):
    engine = CHAIN[engine](networks)
    engine.start()
    config = config_with(lr=0.1, **config)
    optimizers = make_optimizers(config, engine)
    return Steps(config, engine, optimizers, average, batch_size=batch_size, n_classes=N_CLASSES)


def block(data, free=None, n_networks=2, batch_size=32):
    """All examples without floors; ``free`` is the share of each batch that every network keeps."""
    if free is not None:
        sizes = torch.tensor([len(batch) for batch in data.weights.split(batch_size)], dtype=torch.float64)
        free = (free * sizes).expand(n_networks, -1)
    floors = torch.zeros(n_networks, len(data.weights), dtype=torch.float64)
    return torch.from_numpy(data.inputs.X), data.targets, data.weights, floors, free


# --- who learns from whom --------------------------------------------------------------------------------------------


def test_each_network_learns_from_what_its_peer_keeps():
    """The second network is certain of the labels of the first examples only; the first learns from these alone."""
    data = make_data(n=32)
    X = torch.from_numpy(data.inputs.X)
    certain = torch.arange(32) < 16

    class Certain(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

        def forward(self, x):
            indices = [int((X == each).all(1).nonzero()) for each in x]
            right = nn.functional.one_hot(data.targets[indices], N_CLASSES) * 50.0
            return right * certain[indices, None] * self.scale

    first, second = make_networks()[0], Certain()
    plain = copy.deepcopy(first)
    make_steps((first, second), optimizer=torch.optim.SGD).train(*block(data, free=0.5))
    nn.functional.cross_entropy(plain(X[:16]), data.targets[:16]).backward()
    for a, b in zip(first.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b - 0.1 * b.grad, rtol=1e-12, atol=1e-12)


@both_engines
@pytest.mark.parametrize("batch_size", [30, 90])
def test_what_is_given_back_is_of_both_networks_before_each_step(engine, batch_size):
    data, networks = make_data(), make_networks()
    X, targets, *rest = block(data, free=0.6, batch_size=batch_size)
    plain = copy.deepcopy(networks)
    steps = make_steps(networks, engine, batch_size=batch_size, optimizer=torch.optim.SGD)
    log_probabilities, losses, kept = steps.train(X, targets, *rest)
    assert (log_probabilities.shape, losses.shape, kept.shape) == ((2, N_CLASSES, N), (2, N), (2, N))
    assert not (log_probabilities.requires_grad or losses.requires_grad or kept.requires_grad)
    for start in range(0, N, batch_size):
        batch = slice(start, start + batch_size)
        expected = [network(X[batch]).log_softmax(1) for network in plain]
        of_labels = [each[torch.arange(batch_size), targets[batch]] for each in expected]
        for own in range(2):
            torch.testing.assert_close(log_probabilities[own, :, batch], expected[own].T, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(losses[own, batch], -of_labels[own], rtol=1e-10, atol=1e-10)
            n_kept = round(0.6 * batch_size)
            assert kept[own, batch].sum() == n_kept
            assert set(losses[own, batch].argsort()[:n_kept].tolist()) == set(kept[own, batch].nonzero()[:, 0].tolist())
            (-(of_labels[own] * kept[1 - own, batch]).sum() / n_kept).backward()
            with torch.no_grad():
                for parameter in plain[own].parameters():
                    parameter.sub_(0.1 * parameter.grad)
                    parameter.grad = None
    torch.testing.assert_close(bits(networks), bits(plain), rtol=1e-10, atol=1e-10)


@both_engines
def test_without_a_budget_all_weight_is_kept_to_the_bit(engine):
    data = make_data(weights=uneven_weights() / 3)
    _, _, kept = make_steps(make_networks(), engine).train(*block(data))
    assert torch.equal(kept, data.weights.expand(2, -1))


@both_engines
def test_what_is_kept_are_the_floors_and_the_smallest_losses_that_have_none(engine):
    """One network keeps the last two examples of each batch and three more, the other the first and none beside."""
    data = make_data()
    X, targets, weights, floors, _ = block(data)
    for start in range(0, N, 30):
        floors[0, start + 28 : start + 30] = 1
        floors[1, start] = 1
    free = torch.tensor([[3.0], [0.0]], dtype=torch.float64).expand(-1, 3)
    steps = make_steps(make_networks(), engine, batch_size=30)
    _, losses, kept = steps.train(X, targets, weights, floors, free)
    assert torch.equal(kept[1], floors[1])
    for start in range(0, N, 30):
        best = losses[0, start : start + 28].argsort()[:3] + start
        assert kept[0, start : start + 30].nonzero()[:, 0].tolist() == sorted([*(best - start).tolist(), 28, 29])
        assert (kept[0, [*best.tolist(), start + 28, start + 29]] == 1).all()


def test_of_several_pairs_each_learns_from_its_own_peers_what_it_learns_alone():
    """In pairs that keep different shares."""
    data, networks = make_data(), make_networks(n=6)
    alone = copy.deepcopy(networks)
    shares = torch.tensor([0.3, 0.3, 0.9, 0.9, 0.6, 0.6], dtype=torch.float64)[:, None]
    free = shares * torch.tensor([32.0, 32.0, 26.0], dtype=torch.float64)
    given = block(data, n_networks=6)[:-1]
    told = make_steps(networks, "chains").train(*given, free)
    for first in (0, 2, 4):
        own = slice(first, first + 2)
        *inputs, floors = given
        told_alone = make_steps(alone[own], "chains").train(*inputs, floors[own], free[own])
        for together, apart in zip(told, told_alone, strict=True):
            torch.testing.assert_close(together[own], apart, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(bits(networks), bits(alone), rtol=1e-10, atol=1e-10)


def test_the_average_takes_part_in_every_step():
    data, networks = make_data(), make_networks()
    average = WeightAverage(networks, 0.5)
    make_steps(networks, average=average).train(*block(data, free=0.8))
    assert average.state_dict()["n_updates"] == 3


# --- augment ---------------------------------------------------------------------------------------------------------


@both_engines
def test_the_augmented_batches_are_trained_on_by_both_engines_alike(engine):
    data = make_data()
    trainer = make_trainer(data, augment=lambda x: x.flip(1) * 2, engine=engine)
    other = make_trainer(data_of(data.inputs.X[:, ::-1] * 2, data.codes))
    for network in trainer.networks + other.networks:  # what comes from augment is standardised
        network[0].observe(torch.randn(50, N_FEATURES, generator=torch.Generator().manual_seed(0)), torch.ones(50))
    for _ in range(3):
        trainer.run_epoch(), other.run_epoch()
    torch.testing.assert_close(bits(trainer.networks), bits(other.networks), rtol=1e-10, atol=1e-10)


def test_augment_gets_each_whole_batch_once_and_both_networks_its_result():
    given = []

    def augment(inputs):
        given.append(inputs)
        return inputs + 100 * len(given)

    trainer = make_trainer(augment=augment)
    first, second = watched(trainer.networks)
    trainer.run_epoch()
    assert [len(batch) for batch in given] == [32, 32, 26]
    assert all(batch.dtype == torch.float64 for batch in given)
    assert equal(first, [batch + 100 * (i + 1) for i, batch in enumerate(given)])
    assert equal(first, second)


def test_augment_in_place_does_not_change_x():
    data = make_data()
    before = data.inputs.X.copy()
    make_trainer(data, augment=lambda x: x.mul_(0)).run_epoch()
    assert (data.inputs.X == before).all()


@both_engines
def test_augment_may_work_in_place_with_numbers_that_need_gradients(engine):
    scale = torch.full((), 2.0, dtype=torch.float64, requires_grad=True)
    ends = []
    for augment in (lambda x: x.mul_(scale).detach(), lambda x: 2 * x):
        trainer = make_trainer(engine=engine, augment=augment, batch_size=8)
        trainer.run_epoch()
        ends.append(trainer.history[0]["loss"])
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("augmented", "error", "told"),
    [
        (None, TypeError, "tensor of 8 rows, torch.float32 on cpu.*returned a NoneType"),
        (torch.zeros(8, 3, dtype=torch.float64), TypeError, "returned torch.float64 on cpu"),
        (torch.zeros(8, 3, device="meta"), TypeError, "returned torch.float32 on meta"),
        (torch.zeros(7, 3), ValueError, r"returned a tensor of shape \(7, 3\)"),
        (torch.zeros(()), ValueError, r"returned a tensor of shape \(\)"),
    ],
)
def test_what_cannot_stand_for_the_batch_is_refused(augmented, error, told):
    with pytest.raises(error, match=f"augment must return.*{told}"):
        check_augmented(augmented, torch.zeros(8, 3))


def test_augment_may_return_another_shape_of_an_example():
    augmented = torch.zeros(8, 2, 2)
    assert check_augmented(augmented, torch.zeros(8, 3)) is augmented


@both_engines
def test_augmented_batches_that_the_networks_cannot_take_are_told_with_both_shapes(engine):
    networks = make_networks(lambda: nn.Sequential(nn.Linear(N_FEATURES, N_CLASSES)))
    steps = make_steps(networks, engine, augment=lambda x: x[:, :2])
    told = r"given a tensor of shape \(32, 4\) and returned one of shape \(32, 2\), which the networks cannot take"
    with pytest.raises(ValueError, match=told):
        steps.train(*block(make_data(), free=0.8))


@pytest.mark.parametrize("augment", [lambda x: x + 1, lambda x: x[:, :2]], ids=["same shape", "other shape"])
@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_the_errors_of_the_users_own_network_pass_as_they_are(error, augment):
    class Failing(nn.Linear):
        def forward(self, x):
            raise error("mine")

    networks = make_networks(lambda: Failing(N_FEATURES, N_CLASSES))
    with pytest.raises(error, match="^mine$"):
        make_steps(networks, augment=augment).train(*block(make_data(), free=0.8))


def test_augment_is_not_blamed_where_it_keeps_the_shape():
    networks = make_networks(lambda: nn.Sequential(nn.Linear(7, N_CLASSES)))
    with pytest.raises(ValueError, match=r"Sequential cannot take a batch of X with shape \(32, 4\)"):
        make_steps(networks, augment=lambda x: x + 1).train(*block(make_data(), free=0.8))


def test_a_device_that_is_out_of_memory_is_not_blamed_on_augment():
    scope = {"error": torch.OutOfMemoryError("too much")}
    exec(compile("def forward(x): raise error", torch.__file__, "exec"), scope)  # as if torch had raised it
    networks = make_networks(lambda: nn.Linear(N_FEATURES, N_CLASSES))
    for network in networks:
        network.forward = scope["forward"]
    with pytest.raises(torch.OutOfMemoryError, match="^too much$"):
        make_steps(networks, augment=lambda x: x[:, :2]).train(*block(make_data(), free=0.8))


# --- optimizers and networks of users --------------------------------------------------------------------------------


def test_what_torchs_optimizer_cannot_train_is_told_by_its_name():
    class OwnLinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(N_FEATURES, N_CLASSES)

        def forward(self, x):
            return self.linear(x)

    steps = make_steps(make_networks(OwnLinear), optimizer=torch.optim.SparseAdam)
    with pytest.raises(ValueError, match="optimizer=SparseAdam cannot train these networks.*dense gradients"):
        steps.train(*block(make_data(), free=0.8))


def test_the_errors_of_the_users_own_optimizer_pass_as_they_are():
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("mine")

    steps = make_steps(make_networks(), optimizer=Failing)
    with pytest.raises(RuntimeError, match="^mine$"):
        steps.train(*block(make_data(), free=0.8))


def test_a_network_may_start_to_work_in_place_at_any_time():
    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.calls = nn.Linear(N_FEATURES, N_CLASSES), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x.mul_(2) if self.calls > 1 else x)

    first, second = make_networks(Doubling)
    inputs = watched((first.linear, second.linear))
    make_steps((first, second)).train(*block(make_data(), free=0.8))
    assert len(inputs[0]) == 3
    assert all(torch.equal(a, b) for a, b in zip(*inputs, strict=True))


def test_a_network_may_scale_its_inputs_in_place_by_what_it_learns():
    class Scaling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = nn.Linear(N_FEATURES, N_CLASSES), nn.Parameter(torch.full((N_FEATURES,), 2.0))

        def forward(self, x):
            x *= self.scale
            return self.linear(x)

    networks = make_networks(Scaling)
    before = [network.scale.detach().clone() for network in networks]
    make_trainer(networks=networks, batch_size=N).run_epoch()
    assert not any(torch.equal(network.scale, scale) for network, scale in zip(networks, before, strict=True))


def test_batch_statistics_are_those_of_each_batch():
    data, networks = make_data(), make_networks(noisy_module)
    inputs, _ = watched([network[1] for network in networks])
    make_steps(networks).train(*block(data, free=0.8))
    expected = torch.zeros(8, dtype=torch.float64)
    for batch in inputs:
        expected = 0.9 * expected + 0.1 * batch.mean(0)
    torch.testing.assert_close(networks[0][1].running_mean, expected, rtol=1e-12, atol=1e-12)
