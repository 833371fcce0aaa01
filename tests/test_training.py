"""An epoch of co-teaching, held against a plain loop written from the design's words and not from the code."""

import copy
import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from skcoteach import optimizers, training
from skcoteach.batches import Rows
from skcoteach.chains import Chains
from skcoteach.engines import Autograd
from skcoteach.networks import MLP, Standardize
from skcoteach.optimizers import ELEMENTWISE, OneTensorAdam
from skcoteach.streaming import stream
from skcoteach.training import (
    CoTeaching,
    DivergedError,
    TrainingData,
    log_mean_probabilities,
    mean_probabilities,
    predict,
    random_state,
    standardize,
)

pytestmark = pytest.mark.filterwarnings("error")

CPU = torch.device("cpu")
N, N_FEATURES, N_CLASSES = 90, 4, 3
ENGINES = {"autograd": lambda networks: Autograd(networks, N_CLASSES), "chains": Chains}
both_engines = pytest.mark.parametrize("engine", ENGINES)


class WatchedRows(Rows):
    """Rows that remember which of them were asked for, at each time."""

    def __init__(self, X):
        super().__init__(X)
        self.asked = []

    def __getitem__(self, rows):
        self.asked.append(torch.arange(len(self))[rows].tolist())
        return super().__getitem__(rows)


def make_data(n=N, weights=None, dtype=torch.float64, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, N_FEATURES))
    targets = torch.from_numpy(generator.choice(N_CLASSES, n, p=[0.6, 0.3, 0.1]))  # classes with and without a budget
    weights = torch.ones(n, dtype=dtype) if weights is None else torch.as_tensor(weights, dtype=dtype)
    used = weights.nonzero()[:, 0]
    return TrainingData(
        WatchedRows(X).place(CPU, dtype), targets, weights, used, targets[used], N_CLASSES, float(weights.max())
    )


def uneven_weights(n=N):
    """Light and heavy rows, some of weight 0, that are exact in binary."""
    return np.random.default_rng(1).integers(0, 9, n) / 4


def make_networks(module=None, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    module = module or (lambda: MLP(N_FEATURES, N_CLASSES, hidden=6))
    return tuple(module().to(dtype) for _ in range(2))


def make_training(networks=None, optimizer=torch.optim.Adam, n=N, engine="autograd", **parameters):
    networks = networks or make_networks()
    parameters = {
        "batch_size": 32,
        "num_iter_per_epoch": None,
        "class_floor": 0.5,
        "augment": None,
        "seed": 7,
        "keepers": torch.full((n,), 2),
    } | parameters
    engine = ENGINES[engine](networks)
    if optimizer in ELEMENTWISE:
        optimizers = [optimizer([{"params": own} for own in engine.parameters], lr=1.0)]
    else:
        optimizers = [optimizer(own, lr=1.0) for own in engine.parameters]
    return CoTeaching(networks, optimizers, engine=engine, **parameters)


def watched(networks):
    """For each network the inputs of its training steps, filled while it trains."""
    inputs = [], []
    for network, seen in zip(networks, inputs, strict=True):
        network.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0].clone()))
    return inputs


def rows_of(inputs, data):
    """Which rows of the data were seen, batch by batch."""
    X = data.rows[torch.arange(len(data.rows))]
    return [[int((X == x).all(1).nonzero()) for x in batch] for batch in inputs]


def bits(networks):
    return [tensor.clone() for network in networks for tensor in network.state_dict().values()]


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- against a plain loop --------------------------------------------------------------------------------------------


def fill(ranked, weights, budget):
    filled = {}
    for i in ranked:
        filled[i] = min(weights[i], max(budget, 0.0))
        budget -= weights[i]
    return filled


def plain_kept(losses, targets, weights, forget_rate, class_floor):
    """The small-loss budget and the floor of the classes, one example after the other."""
    ranked = sorted(range(len(losses)), key=lambda i: losses[i])  # stable: ties by position
    kept = fill(ranked, weights, (1 - forget_rate) * sum(weights))
    for label in range(N_CLASSES):
        members = [i for i in ranked if targets[i] == label]
        worth = sum(weights[i] for i in members)
        if worth >= 8:
            for i, part in fill(members, weights, class_floor * (1 - forget_rate) * worth).items():
                kept[i] = max(kept[i], part)
    return [kept[i] for i in range(len(losses))]


def plain_epoch(networks, optimizers, data, batches_of_rows, learning_rate, forget_rate, class_floor):
    """Co-teaching on the given batches; what the history should say, what was kept of each row, and its mean loss."""
    X = data.rows[torch.arange(len(data.rows))]
    kept_share, mean_losses = [0.0] * len(X), [0.0] * len(X)
    objectives_of_steps, right, agreed, total = [], [0.0, 0.0], 0.0, 0.0
    for rows in batches_of_rows:
        targets = [int(data.targets[row]) for row in rows]
        weights = [float(data.weights[row]) for row in rows]
        losses_of, predicted_of, kept_of = [], [], []
        for network in networks:
            logits = network(X[rows])
            losses = [row.logsumexp(0) - row[target] for row, target in zip(logits, targets, strict=True)]
            losses_of.append(losses)
            predicted_of.append([max(range(N_CLASSES), key=row.tolist().__getitem__) for row in logits])
            kept_of.append(plain_kept([each.item() for each in losses], targets, weights, forget_rate, class_floor))
        objectives = []
        for own, peer in [(0, 1), (1, 0)]:
            objective = sum(w * each for w, each in zip(kept_of[peer], losses_of[own], strict=True))
            objectives.append(objective / sum(kept_of[peer]))
        for network, optimizer, objective in zip(networks, optimizers, objectives, strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
        objectives_of_steps.append([each.item() for each in objectives])
        for i, row in enumerate(rows):
            kept_share[row] = (kept_of[0][i] + kept_of[1][i]) / 2 / weights[i]
            mean_losses[row] = (losses_of[0][i].item() + losses_of[1][i].item()) / 2
            total += weights[i]
            agreed += weights[i] * (predicted_of[0][i] == predicted_of[1][i])
            for k in range(2):
                right[k] += weights[i] * (predicted_of[k][i] == targets[i])
    record = {
        "lr": learning_rate,
        "loss": [sum(step[k] for step in objectives_of_steps) / len(objectives_of_steps) for k in range(2)],
        "accuracy": [each / total for each in right],
        "agreement": agreed / total,
    }
    return record, kept_share, mean_losses


PLAN = [(0.01, 0.0), (0.02, 0.15), (0.005, 0.45)]  # learning rate and forget rate of three epochs


@both_engines
@pytest.mark.parametrize("class_floor", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["unit weights", "uneven weights"])
def test_epochs_are_those_of_a_plain_loop(class_floor, weights, engine):
    data = make_data(weights=weights)
    co_teaching = make_training(class_floor=class_floor, engine=engine)
    plain = copy.deepcopy(co_teaching.networks)
    plain_optimizers = [torch.optim.Adam(network.parameters()) for network in plain]
    for epoch, (learning_rate, forget_rate) in enumerate(PLAN):
        data.rows.asked.clear()
        record, kept, losses, predicted, seen = co_teaching.run_epoch(data, epoch, learning_rate, forget_rate)
        order = sum(data.rows.asked, [])
        rows = [order[start : start + 32] for start in range(0, len(order), 32)]
        expected, expected_kept, expected_losses = plain_epoch(
            plain, plain_optimizers, data, rows, learning_rate, forget_rate, class_floor
        )
        for a, b in zip(co_teaching.networks, plain, strict=True):
            torch.testing.assert_close(list(a.parameters()), list(b.parameters()), rtol=1e-10, atol=1e-10)
        for name, value in expected.items():
            assert record[name] == pytest.approx(value, rel=1e-10), name
        assert record["forget_rate"] == forget_rate
        assert kept.tolist() == pytest.approx(expected_kept, rel=1e-10, abs=1e-10)
        assert losses.tolist() == pytest.approx(expected_losses, rel=1e-10, abs=1e-10)
        assert seen.nonzero()[:, 0].tolist() == sorted(order)


# --- blocks of batches -----------------------------------------------------------------------------------------------


@both_engines
@pytest.mark.parametrize("class_floor", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "value"), [("BATCHES_PER_BLOCK", 1), ("BATCHES_PER_BLOCK", 2), ("NUMBERS_PER_BLOCK", 1)]
)
def test_rows_in_several_blocks_give_the_bits_of_one_block(name, value, class_floor, engine, monkeypatch):
    results = []
    for in_blocks in (False, True):
        if in_blocks:
            monkeypatch.setattr(training, name, value)
        data = make_data(weights=uneven_weights())
        co_teaching = make_training(batch_size=16, class_floor=class_floor, engine=engine)
        of_examples, records = [], []
        for epoch, (learning_rate, forget_rate) in enumerate(PLAN):
            record, *told = co_teaching.run_epoch(data, epoch, learning_rate, forget_rate)
            of_examples += told
            records.append(record)
        results.append((of_examples + bits(co_teaching.networks) + [co_teaching.keepers], records, data.rows.asked))
    (whole, records, asked), (in_blocks, records_in_blocks, asked_in_blocks) = results
    assert equal(whole, in_blocks)
    for record, record_in_blocks in zip(records, records_in_blocks, strict=True):
        for each in ("loss", "accuracy", "agreement"):  # sums, which blocks add in another order
            assert record_in_blocks[each] == pytest.approx(record[each], rel=1e-14), each
    assert len(asked) == len(PLAN) < len(asked_in_blocks)
    assert sum(asked, []) == sum(asked_in_blocks, [])


@pytest.mark.parametrize(
    ("numbers", "batches", "size"),
    [(10**9, 1, 20), (10**9, 3, 60), (20 * 6 * 2, 9, 40), (20 * 6 * 3 - 1, 9, 40), (1, 9, 20)],
)
def test_blocks_are_whole_batches_of_no_more_numbers_than_allowed_but_one_at_least(numbers, batches, size, monkeypatch):
    """A row counts as its features or as both networks' logits, 6, whichever are more."""
    monkeypatch.setattr(training, "NUMBERS_PER_BLOCK", numbers)
    monkeypatch.setattr(training, "BATCHES_PER_BLOCK", batches)
    data = make_data()
    make_training(batch_size=20).run_epoch(data, 0, 0.01, 0.2)
    assert [len(rows) for rows in data.rows.asked] == [len(block) for block in torch.arange(80).split(size)]


@both_engines
def test_the_augmented_batches_are_trained_on_by_both_engines_alike(engine):
    data = make_data()
    co_teaching = make_training(augment=lambda x: x.flip(1) * 2, engine=engine)
    other = make_training()
    flipped = dataclasses.replace(data, rows=Rows(data.rows.X[:, ::-1] * 2).place(CPU, torch.float64))
    for epoch, (learning_rate, forget_rate) in enumerate(PLAN):
        co_teaching.run_epoch(data, epoch, learning_rate, forget_rate)
        other.run_epoch(flipped, epoch, learning_rate, forget_rate)
    torch.testing.assert_close(bits(co_teaching.networks), bits(other.networks), rtol=1e-10, atol=1e-10)


def test_each_network_learns_from_what_its_peer_keeps():
    """The second network is certain of the labels of the first rows only; the first learns from these alone."""
    data = make_data(n=32)
    inputs = data.rows[torch.arange(32)]
    certain = torch.arange(32) < 16

    class Certain(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

        def forward(self, x):
            rows = [int((inputs == each).all(1).nonzero()) for each in x]
            right = nn.functional.one_hot(data.targets[rows], N_CLASSES) * 50.0
            return right * certain[rows, None] * self.scale

    first, second = make_networks()[0], Certain()
    plain = copy.deepcopy(first)
    make_training((first, second), torch.optim.SGD, n=32, class_floor=0.0).run_epoch(data, 0, 0.1, 0.5)
    nn.functional.cross_entropy(plain(inputs[:16]), data.targets[:16]).backward()
    for a, b in zip(first.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b - 0.1 * b.grad, rtol=1e-12, atol=1e-12)


# --- what is told of each example ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["unit weights", "uneven weights"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@both_engines
def test_losses_are_the_mean_of_both_networks_losses_before_the_step(weights, dtype, engine):
    """Of all examples in the batch, forgotten ones too, not weighted."""
    data = make_data(weights=weights, dtype=dtype)
    co_teaching = make_training(make_networks(dtype=dtype), batch_size=N, engine=engine)
    X = data.rows[torch.arange(N)]
    with torch.no_grad():
        of_each = [network(X).log_softmax(1).gather(1, data.targets[:, None])[:, 0] for network in co_teaching.networks]
    _, kept, losses, predicted, seen = co_teaching.run_epoch(data, 0, 0.5, 0.5)
    assert (losses.shape, losses.dtype) == ((N,), dtype)
    assert not losses.requires_grad
    assert torch.equal(seen, data.weights > 0)
    assert (kept[seen] == 0).any()
    torch.testing.assert_close(losses, torch.where(seen, -(of_each[0] + of_each[1]) / 2, 0), rtol=1e-5, atol=1e-6)


@both_engines
def test_the_predicted_class_has_the_highest_geometric_mean_of_both_probabilities_before_the_step(engine):
    data = make_data()
    co_teaching = make_training(batch_size=N, engine=engine)
    X = data.rows[torch.arange(N)]
    with torch.no_grad():
        of_each = [network(X).softmax(1) for network in co_teaching.networks]
    _, _, _, predicted, _ = co_teaching.run_epoch(data, 0, 0.5, 0.5)
    assert predicted.dtype == torch.int64
    assert torch.equal(predicted, (of_each[0] * of_each[1]).sqrt().argmax(1))
    assert len(predicted.unique()) > 1


# --- what both networks see ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, uneven_weights()])
def test_both_networks_see_the_same_batches_and_every_row_with_weight_once(weights):
    data = make_data(n=96, weights=None if weights is None else uneven_weights(96))
    co_teaching = make_training(batch_size=16, n=96)
    first, second = watched(co_teaching.networks)
    _, _, _, _, seen = co_teaching.run_epoch(data, 0, 0.01, 0.2)
    assert equal(first, second)
    rows = sum(rows_of(first, data), [])
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(data.used.tolist())
    assert len(data.used) - len(rows) < 16  # of a small rest
    assert seen.dtype == torch.bool
    assert seen.nonzero()[:, 0].tolist() == sorted(rows)


def test_rows_that_were_not_seen_have_nothing_kept_and_no_loss():
    co_teaching = make_training(batch_size=20, num_iter_per_epoch=2)
    first, _ = watched(co_teaching.networks)
    _, kept, losses, predicted, seen = co_teaching.run_epoch(make_data(), 0, 0.01, 0.0)
    assert [len(batch) for batch in first] == [20, 20]
    assert seen.sum() == 40
    assert kept[seen].tolist() == pytest.approx([1.0] * 40)  # with a forget rate of zero all is kept
    assert (kept[~seen] == 0).all()
    assert (losses[seen] > 0).all() and (losses[~seen] == 0).all()
    assert (predicted[seen] >= 0).all() and (predicted[~seen] == -1).all()


@both_engines
def test_rows_of_weight_zero_are_as_absent(engine):
    weights = uneven_weights()
    data = make_data(weights=weights)
    present = data.used.numpy()
    alone = make_data(weights=weights)
    alone = TrainingData(
        Rows(alone.rows.X[present]).place(CPU, torch.float64),
        alone.targets[present],
        alone.weights[present],
        torch.arange(len(present)),
        alone.targets[present],
        N_CLASSES,
        alone.largest_weight,
    )
    with_them, without = make_training(engine=engine), make_training(n=len(present), engine=engine)
    _, kept, losses, predicted, seen = with_them.run_epoch(data, 0, 0.01, 0.3)
    _, kept_alone, losses_alone, predicted_alone, seen_alone = without.run_epoch(alone, 0, 0.01, 0.3)
    assert equal(bits(with_them.networks), bits(without.networks))
    assert torch.equal(kept[present], kept_alone)
    assert torch.equal(losses[present], losses_alone)
    assert torch.equal(predicted[present], predicted_alone)
    assert torch.equal(seen[present], seen_alone)
    assert not seen[weights == 0].any()


def test_the_order_is_that_of_the_seed_the_epoch_and_what_was_kept():
    data = make_data()

    def order(epochs, seed=7, keepers=None):
        co_teaching = make_training(seed=seed)
        inputs, _ = watched(co_teaching.networks)
        if keepers is not None:
            co_teaching.keepers = keepers
        for epoch in epochs:
            inputs.clear()
            co_teaching.run_epoch(data, epoch, 0.01, 0.2)
        return rows_of(inputs, data)

    assert order([0]) != order([1])
    assert order([0]) != order([0], seed=8)
    assert order([1]) == order([1])
    assert order([0, 1]) != order([1])  # by now not all were kept
    assert order([1], keepers=torch.arange(N) % 3) != order([1])
    assert order([0]) != [list(range(start, min(start + 32, N))) for start in range(0, N, 32)]


def test_every_batch_gets_its_share_of_what_was_kept_and_of_each_class():
    data = make_data(n=480)
    keepers = torch.from_numpy(np.random.default_rng(2).integers(0, 3, 480))
    co_teaching = make_training(n=480, batch_size=48, keepers=keepers.clone())
    inputs, _ = watched(co_teaching.networks)
    co_teaching.run_epoch(data, 0, 0.01, 0.3)
    for batch in rows_of(inputs, data):
        for kept_by in range(3):
            assert abs((keepers[batch] == kept_by).sum() - (keepers == kept_by).sum() / 10) <= 2
            for c in range(N_CLASSES):
                cell = (keepers == kept_by) & (data.targets == c)
                assert abs(cell[batch].sum() - cell.sum() / 10) <= 2
    assert not torch.equal(co_teaching.keepers, keepers)


@both_engines
def test_keepers_count_the_networks_that_kept_a_row(engine):
    co_teaching = make_training(engine=engine, num_iter_per_epoch=1, keepers=torch.ones(N, dtype=torch.int64))
    _, kept, _, _, seen = co_teaching.run_epoch(make_data(), 0, 0.01, 0.3)
    assert (co_teaching.keepers[~seen] == 1).all()  # what is known of the others stays
    assert co_teaching.keepers[seen].tolist() == (2 * kept[seen]).round().long().tolist()
    assert {0, 2} <= set(co_teaching.keepers[seen].tolist())


def test_augment_gets_each_whole_batch_once_and_both_networks_its_result():
    given = []

    def augment(inputs):
        given.append(inputs)
        return inputs + 100 * len(given)

    co_teaching = make_training(augment=augment)
    first, second = watched(co_teaching.networks)
    co_teaching.run_epoch(make_data(), 0, 0.01, 0.2)
    assert [len(batch) for batch in given] == [32, 32, 26]
    assert all(batch.dtype == torch.float64 for batch in given)
    assert equal(first, [batch + 100 * (i + 1) for i, batch in enumerate(given)])
    assert equal(first, second)


def test_augment_in_place_does_not_change_x():
    data = make_data()
    before = data.rows.X.copy()
    make_training(augment=lambda x: x.mul_(0)).run_epoch(data, 0, 0.01, 0.2)
    assert np.array_equal(data.rows.X, before)


# --- the same seed, the same bits ------------------------------------------------------------------------------------


def noisy_module():
    return nn.Sequential(nn.Linear(N_FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, N_CLASSES))


def noisy_augment(inputs):
    """Randomness from all three places that users take it from."""
    return inputs + torch.randn_like(inputs) + np.random.normal() + random.random()


def disturb_global_random_states():
    torch.manual_seed(random.randrange(2**31))
    np.random.seed(random.randrange(2**31))
    torch.rand(3), np.random.rand(3), random.random()


def test_the_same_seed_and_epoch_give_the_same_bits_whatever_ran_before():
    data = make_data()
    results = []
    for _ in range(2):
        co_teaching = make_training(make_networks(noisy_module), augment=noisy_augment)
        records = []
        for epoch in range(2):
            disturb_global_random_states()
            record, *of_examples = co_teaching.run_epoch(data, epoch, 0.01, 0.3)
            del record["duration"]
            records.append((record, [each.tolist() for each in of_examples]))
        results.append((records, bits(co_teaching.networks)))
    assert results[0][0] == results[1][0]
    assert equal(results[0][1], results[1][1])


def test_another_seed_or_epoch_gives_other_noise():
    data = make_data(n=20)  # one batch, so that its order is all that remains
    results = []
    for seed, epoch in [(7, 0), (8, 0), (7, 1)]:
        noise = []
        co_teaching = make_training(n=20, seed=seed, augment=lambda x, noise=noise: noise.append(torch.randn(1)) or x)
        co_teaching.run_epoch(data, epoch, 0.01, 0.3)
        results.append(noise[0].item())
    assert len(set(results)) == 3


def global_random_states():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def test_global_random_states_are_left_as_they_were_found():
    co_teaching = make_training(make_networks(noisy_module), augment=noisy_augment)
    before = global_random_states()
    co_teaching.run_epoch(make_data(), 0, 0.01, 0.3)
    assert global_random_states() == before


def test_global_random_states_are_restored_when_the_users_code_raises():
    def augment(inputs):
        noisy_augment(inputs)
        raise KeyboardInterrupt

    co_teaching = make_training(augment=augment)
    before = global_random_states()
    with pytest.raises(KeyboardInterrupt):
        co_teaching.run_epoch(make_data(), 0, 0.01, 0.3)
    assert global_random_states() == before


def test_random_state_depends_on_every_number_it_is_given():
    def draw(*entropy):
        with random_state(CPU, *entropy):
            return torch.rand(1).item(), np.random.rand(), random.random()

    assert draw(1) == draw(1)
    assert draw(1, 2) == draw(1, 2)
    for drawn in zip(draw(1), draw(2), draw(1, 1), draw(1, 2), draw(2, 1), strict=True):
        assert len(set(drawn)) == 5


# --- nothing is asked of the device within an epoch ------------------------------------------------------------------


@pytest.mark.parametrize("class_floor", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
@both_engines
@pytest.mark.parametrize("augment", [None, lambda x: x.flip(1)], ids=["plain", "augmented"])
def test_an_epoch_asks_the_device_for_numbers_once(class_floor, optimizer, monkeypatch, engine, augment):
    """The meta device holds shapes only: whoever asks it for a number, or for a shape that depends on one, fails."""
    meta = torch.device("meta")
    networks = [network.to(meta) for network in make_networks()]
    data = make_data()
    data = dataclasses.replace(
        data, rows=data.rows.place(meta, torch.float64), targets=data.targets.to(meta), weights=data.weights.to(meta)
    )
    asked = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: asked.append(tensor.shape) or torch.ones(tensor.shape))
    co_teaching = make_training(networks, optimizer, class_floor=class_floor, augment=augment, engine=engine)
    _, kept, losses, predicted, seen = co_teaching.run_epoch(data, 0, 0.01, 0.3)
    assert len(asked) == 1
    assert {each.device for each in (kept, losses, predicted, seen)} == {meta}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
@pytest.mark.parametrize("way", ["autograd", "chains"])
def test_an_epoch_on_cuda_never_waits_for_the_device(way, monkeypatch):
    device = torch.device("cuda")
    host = make_data(dtype=torch.float32)
    data = dataclasses.replace(
        host,
        rows=Rows(host.rows.X).place(device, torch.float32),
        targets=host.targets.to(device),
        weights=host.weights.to(device),
    )
    data.rows.settle()
    networks = tuple(network.to(device) for network in make_networks(dtype=torch.float32))
    engine = Autograd(networks, N_CLASSES) if way == "autograd" else Chains(networks)
    optimizer = torch.optim.Adam([p for own in engine.parameters for p in own], fused=True)
    co_teaching = CoTeaching(
        networks,
        [optimizer],
        engine=engine,
        batch_size=32,
        num_iter_per_epoch=None,
        class_floor=0.5,
        augment=None,
        seed=7,
        keepers=torch.full((N,), 2),
    )
    co_teaching.run_epoch(data, 0, 0.01, 0.2)
    watched_blocks = []

    def watched(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            for block in stream(*arguments):
                watched_blocks.append(len(block[0]))
                yield block
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training, "stream", watched)
    co_teaching.run_epoch(data, 1, 0.01, 0.2)
    assert sum(watched_blocks) == N


@pytest.mark.parametrize("question", [bool, float, int, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.nonzero])
def test_the_meta_device_cannot_be_asked(question):
    """What the test above stands on."""
    with pytest.raises((RuntimeError, NotImplementedError), match="(?i)meta"):
        question(torch.ones(1, device="meta"))


# --- the record ------------------------------------------------------------------------------------------------------


def test_the_record_is_one_entry_of_the_history():
    record, kept, losses, predicted, seen = make_training().run_epoch(
        make_data(), 4, np.float64(0.01), np.float64(0.25)
    )
    assert list(record) == ["epoch", "lr", "forget_rate", "loss", "accuracy", "agreement", "duration"]
    assert (record["epoch"], record["lr"], record["forget_rate"]) == (4, 0.01, 0.25)
    assert type(record["lr"]) is type(record["forget_rate"]) is type(record["agreement"]) is float
    for pair in (record["loss"], record["accuracy"]):
        assert isinstance(pair, tuple)
        assert [type(each) for each in pair] == [float, float]
    assert record["duration"] > 0
    assert kept.shape == losses.shape == seen.shape == (N,)


def test_networks_are_trained_in_train_mode():
    co_teaching = make_training(make_networks(noisy_module))
    modes = []
    for network in co_teaching.networks:
        network.eval()
        network.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    co_teaching.run_epoch(make_data(), 0, 0.01, 0.3)
    assert modes == [True] * 6


def test_the_learning_rate_is_set_in_every_parameter_group():
    networks = make_networks()
    optimizers = [
        torch.optim.SGD([{"params": [p], "lr": 5.0} for p in network.parameters()], lr=1.0) for network in networks
    ]
    co_teaching = make_training(networks)
    co_teaching.optimizers = optimizers
    co_teaching.run_epoch(make_data(), 0, 0.0, 0.3)
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {0.0}
    assert equal(bits(networks), bits(make_networks()))  # a rate of zero changes nothing


@pytest.mark.parametrize(("index", "name"), [(0, "first"), (1, "second")])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@both_engines
def test_a_loss_that_is_not_finite_is_told_with_network_epoch_and_remedy(index, name, value, engine):
    networks = make_networks()
    with torch.no_grad():
        networks[index][-1].bias[0] = value
    with pytest.raises(DivergedError, match=f"loss of the {name} network became .* in epoch 3.*smaller lr than 0.01"):
        make_training(networks, engine=engine).run_epoch(make_data(), 3, 0.01, 0.3)


def test_divergence_is_a_value_error():
    assert issubclass(DivergedError, ValueError)


# --- save and restore ------------------------------------------------------------------------------------------------


class Slowing(torch.optim.Optimizer):
    """Makes smaller steps from call to call, by a state that is no tensor."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                steps = self.state[parameter].setdefault("steps", [])
                steps.append(group["lr"])
                parameter.sub_(parameter.grad, alpha=sum(steps) / len(steps) ** 2)


class OwnMomentum(torch.optim.SGD):
    """To the training any optimizer, whose state happens to be tensors."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)


def elementwise(optimizer, **options):
    """An optimizer with options, known by its class."""
    return lambda engine: [optimizer([{"params": own} for own in engine.parameters], lr=1.0, **options)]


def one_for_each(optimizer, **options):
    return lambda engine: [optimizer(own, lr=1.0, **options) for own in engine.parameters]


OPTIMIZERS = {
    "Adam": elementwise(torch.optim.Adam),
    "Adam with amsgrad": elementwise(torch.optim.Adam, amsgrad=True),
    "SGD": elementwise(torch.optim.SGD),
    "SGD with momentum": elementwise(torch.optim.SGD, momentum=0.9),
    "NAdam": elementwise(torch.optim.NAdam),
    "ASGD": elementwise(torch.optim.ASGD),
    "Adagrad": elementwise(torch.optim.Adagrad),
    "Adam for each": one_for_each(torch.optim.Adam),
    "subclass with tensors": one_for_each(OwnMomentum),
    "own with lists": one_for_each(Slowing),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def make_restorable(optimizer, engine):
    """A training; with autograd of networks with batch statistics and dropout."""
    networks = make_networks(noisy_module if engine == "autograd" else None)
    co_teaching = make_training(networks, engine=engine)
    co_teaching.optimizers = OPTIMIZERS[optimizer](co_teaching.engine)
    return co_teaching


def train(co_teaching, epochs, data):
    for epoch in epochs:
        co_teaching.run_epoch(data, epoch, 0.02 / (epoch + 1), 0.2)
        co_teaching.save()


def interrupt(co_teaching, epoch, data, at):
    """Press Ctrl-C before the optimizers of the given step."""
    backward, steps = co_teaching.engine.backward, iter(range(100))

    def interrupted(gradient):
        backward(gradient)
        if next(steps) == at:
            raise KeyboardInterrupt

    co_teaching.engine.backward = interrupted
    with pytest.raises(KeyboardInterrupt):
        co_teaching.run_epoch(data, epoch, 0.03, 0.4)
    del co_teaching.engine.backward


def states(co_teaching):
    """Everything that the training goes on from: numbers of the networks, and the optimizers' states as plain lists."""
    return bits(co_teaching.networks), [plain_state(each.state_dict()["state"]) for each in co_teaching.optimizers]


def plain_state(value):
    if isinstance(value, dict):
        return {key: plain_state(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else copy.deepcopy(value)


def assert_same_states(actual, expected):
    assert equal(actual[0], expected[0])
    assert actual[1] == expected[1]


@both_engines
@every_optimizer
@pytest.mark.parametrize(("saved", "at"), [(1, 0), (1, 2), (2, 1), (3, 2)])
def test_after_restore_the_training_goes_on_with_the_bits_of_an_uninterrupted_one(saved, at, optimizer, engine):
    data = make_data()
    straight, interrupted = (make_restorable(optimizer, engine) for _ in range(2))
    train(straight, range(saved), data)
    train(interrupted, range(saved), data)
    interrupt(interrupted, saved, data, at)
    assert at == 0 or not equal(bits(interrupted.networks), bits(straight.networks))
    interrupted.restore()
    assert_same_states(states(interrupted), states(straight))
    for each in (straight, interrupted):
        train(each, range(saved, saved + 2), data)
    assert_same_states(states(interrupted), states(straight))


@both_engines
@every_optimizer
def test_what_is_saved_is_the_state_of_the_call_not_of_later(optimizer, engine):
    data = make_data()
    co_teaching = make_restorable(optimizer, engine)
    train(co_teaching, range(2), data)
    expected = states(co_teaching)
    for epoch in range(2, 4):
        co_teaching.run_epoch(data, epoch, 0.01, 0.3)  # not saved
    co_teaching.restore()
    assert_same_states(states(co_teaching), expected)


@both_engines
@every_optimizer
def test_the_same_can_be_restored_again(optimizer, engine):
    data = make_data()
    co_teaching = make_restorable(optimizer, engine)
    train(co_teaching, range(2), data)
    expected = states(co_teaching)
    for at in (1, 2):
        interrupt(co_teaching, 2, data, at)
        co_teaching.restore()
        assert_same_states(states(co_teaching), expected)


@both_engines
@pytest.mark.parametrize("optimizer", ["Adam", "SGD with momentum", "own with lists"])
@pytest.mark.parametrize("saved", [1, 2, 3])
def test_a_save_that_is_interrupted_half_way_leaves_the_earlier_one_whole(saved, optimizer, engine, monkeypatch):
    data = make_data()
    co_teaching = make_restorable(optimizer, engine)
    train(co_teaching, range(saved), data)
    expected = states(co_teaching)
    for at in (0, 1, 2, *["deepcopy"] * (optimizer == "own with lists")):
        co_teaching.run_epoch(data, saved, 0.01, 0.3)
        with monkeypatch.context() as patch:
            interrupt_copies(patch, at)
            with pytest.raises(KeyboardInterrupt):
                co_teaching.save()
        co_teaching.restore()
        assert_same_states(states(co_teaching), expected)


def interrupt_copies(patch, at):
    """Press Ctrl-C before the given tensor is copied, or before the states of the optimizers are."""

    def interrupted(*_):
        raise KeyboardInterrupt

    if at == "deepcopy":
        patch.setattr(optimizers.copy, "deepcopy", interrupted)
        return
    clone, copies = torch.Tensor.clone, iter(range(1000))
    patch.setattr(
        torch.Tensor, "clone", lambda *each, **how: interrupted() if next(copies) == at else clone(*each, **how)
    )


@both_engines
def test_saving_changes_nothing(engine):
    data = make_data()
    saved, never_saved = (make_restorable("Adam", engine) for _ in range(2))
    for epoch in range(3):
        never_saved.run_epoch(data, epoch, 0.02 / (epoch + 1), 0.2)
    train(saved, range(3), data)
    assert_same_states(states(saved), states(never_saved))


# --- standardisation -------------------------------------------------------------------------------------------------


def test_standardisation_is_that_of_the_weighted_training_rows(monkeypatch):
    weights = uneven_weights()
    data = make_data(weights=weights)
    X = data.rows.X
    networks = make_networks()
    monkeypatch.setattr(training, "_chunk", lambda rows: 7)
    standardize(networks, data)
    mean = np.average(X, axis=0, weights=weights)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    for network in networks:
        assert network[0].mean.tolist() == pytest.approx(mean, rel=1e-12)
        assert network[0].scale.tolist() == pytest.approx(deviation, rel=1e-12)


def test_layers_that_have_seen_data_and_networks_without_such_layers_are_left_alone():
    data = make_data()
    observed = Standardize(N_FEATURES).double()
    observed.observe(torch.eye(N_FEATURES).double() * 9, torch.ones(N_FEATURES))
    before = bits([observed])
    fresh = Standardize(N_FEATURES).double()
    standardize((nn.Sequential(observed, nn.Sequential(fresh)), noisy_module()), data)
    assert equal(bits([observed]), before)
    assert fresh.observed


# --- prediction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20_000, 3), (300, 1, 128, 128)], ids=["table", "images"])
def test_predictions_in_chunks_are_those_of_the_whole(shape):
    generator = np.random.default_rng(0)
    X = generator.normal(size=shape).astype(np.float32)
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape[1:]), 3)).double() for _ in range(2)]
    inputs, _ = watched(networks)
    predicted = predict(networks, Rows(X).place(CPU, torch.float64), mean_probabilities)
    sizes = [len(batch) for batch in inputs]
    whole = torch.from_numpy(X).double()
    expected = (networks[0](whole).softmax(1) + networks[1](whole).softmax(1)) / 2
    torch.testing.assert_close(predicted, expected, rtol=1e-12, atol=1e-12)
    assert not predicted.requires_grad
    assert len(sizes) > 1
    assert sum(sizes) == shape[0]
    assert max(sizes) * math.prod(shape[1:]) <= 2**20


@pytest.mark.parametrize("chunk", [7, 8192])
def test_predictions_of_some_rows_are_those_of_all_at_their_numbers(chunk, monkeypatch):
    monkeypatch.setattr(training, "_chunk", lambda rows: chunk)
    rows, networks = make_data().rows, make_networks()
    everything = predict(networks, rows, mean_probabilities)
    for numbers in (
        torch.arange(N),
        torch.arange(N).flip(0),
        torch.tensor([5, 0, 5, 89, 3, 41, 2, 17]),
        torch.tensor([3]),
    ):
        some = predict(networks, rows, mean_probabilities, numbers)
        torch.testing.assert_close(some, everything[numbers], rtol=1e-12, atol=1e-12)


def test_only_the_rows_that_are_wanted_are_predicted():
    networks = make_networks()
    inputs, _ = watched(networks)
    data = make_data()
    predict(networks, data.rows, mean_probabilities, torch.tensor([4, 1]))
    assert rows_of(inputs, data) == [[4, 1]]


def test_large_examples_go_at_least_64_at_a_time():
    rows = Rows(np.broadcast_to(np.float32(1), (130, 3, 400, 400)))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    inputs, _ = watched([network, nn.Identity()])
    predict((network, network), rows, mean_probabilities)
    assert [len(batch) for batch in inputs[::2]] == [64, 64, 2]


def test_probabilities_are_the_mean_of_both_networks_in_double_precision():
    logits = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)) * 5
    probabilities = mean_probabilities(logits)
    exponentials = np.exp(logits.double().numpy())
    expected = (exponentials / exponentials.sum(2, keepdims=True)).mean(0)
    assert probabilities.dtype == torch.float64
    assert probabilities.numpy() == pytest.approx(expected, rel=1e-13)
    assert probabilities.sum(1).tolist() == pytest.approx([1.0] * 50, abs=1e-15)


def test_logarithm_of_the_probabilities_is_exact_and_finite_for_extreme_logits():
    logits = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(log_mean_probabilities(logits), mean_probabilities(logits).log(), rtol=1e-12, atol=1e-12)
    extreme = torch.tensor([[[0.0, 2000.0]], [[0.0, 3000.0]]])
    assert mean_probabilities(extreme).tolist() == [[0.0, 1.0]]
    # log((exp(-2000) + exp(-3000)) / 2)
    assert log_mean_probabilities(extreme).tolist()[0] == pytest.approx([-2000 - math.log(2), 0.0], abs=1e-12)
    assert torch.isfinite(log_mean_probabilities(torch.tensor([[[-3e38, 3e38]], [[3e38, -3e38]]]))).all()


class CountingData(torch.utils.data.Dataset):
    def __init__(self, X):
        self.X, self.asked = X, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, number):
        self.asked.append(number)
        return torch.from_numpy(self.X[number])


def test_every_item_is_asked_for_once_for_both_networks():
    data = CountingData(np.random.default_rng(0).normal(size=(30, N_FEATURES)))
    rows = Rows(data).place(CPU, torch.float64)
    data.asked.clear()
    predict(make_networks(), rows, mean_probabilities)
    assert data.asked == list(range(30))


@pytest.mark.parametrize("late", [False, True], ids=["from-the-first-rows", "from-later-rows"])
def test_rows_are_never_changed_by_networks_that_work_in_place(late, monkeypatch):
    monkeypatch.setattr(training, "_chunk", lambda rows: 7)

    class Clamping(nn.Module):
        def forward(self, x):
            return x.data.clamp_(max=0.5) if not late or x[0, 0] > 20 else x * 1.0

    X = np.arange(30.0 * N_FEATURES).reshape(30, N_FEATURES)
    kept = X.copy()
    predict((Clamping(), Clamping()), Rows(X).place(CPU, torch.float64), lambda logits: logits.mean(0))
    assert np.array_equal(X, kept)


def test_a_network_may_start_to_work_in_place_at_any_time():
    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.calls = nn.Linear(N_FEATURES, N_CLASSES), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x.mul_(2) if self.calls > 1 else x)

    data, (first, second) = make_data(), make_networks(Doubling)
    inputs = watched((first.linear, second.linear))
    make_training((first, second)).run_epoch(data, 0, 0.01, 0.2)
    assert all(torch.equal(a, b) for a, b in zip(*inputs, strict=True))


def test_a_network_may_scale_its_inputs_in_place_by_what_it_learns():
    class Scaling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = nn.Linear(N_FEATURES, N_CLASSES), nn.Parameter(torch.full((N_FEATURES,), 2.0))

        def forward(self, x):
            x *= self.scale
            return self.linear(x)

    data, networks = make_data(), make_networks(Scaling)
    before = [network.scale.detach().clone() for network in networks]
    make_training(networks, batch_size=len(data.rows)).run_epoch(data, 0, 0.01, 0.2)
    assert not any(torch.equal(network.scale, scale) for network, scale in zip(networks, before, strict=True))


@both_engines
def test_augment_may_work_in_place_with_numbers_that_need_gradients(engine):
    scale = torch.full((), 2.0, dtype=torch.float64, requires_grad=True)
    data, ends = make_data(), []
    for augment in (lambda x: x.mul_(scale).detach(), lambda x: 2 * x):
        record, *_ = make_training(engine=engine, augment=augment, batch_size=8).run_epoch(data, 0, 0.01, 0.2)
        ends.append(record["loss"])
    assert ends[0] == ends[1]
