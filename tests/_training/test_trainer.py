"""An epoch of co-teaching, held against a plain loop written from the design's words and not from the code."""

import copy
import random

import numpy as np
import pytest
import torch
from _training.builders import bits, equal, without_durations
from _training.trainers import (
    N_CLASSES,
    N,
    alike,
    both_engines,
    data_of,
    examples_of_epoch,
    indices_of,
    make_data,
    make_networks,
    make_trainer,
    noisy_module,
    set_keepers,
    uneven_weights,
    watched,
)
from torch import nn

from skcoteach._data.streaming import stream
from skcoteach._errors import DivergedError
from skcoteach._training import trainer as trainer_module
from skcoteach._training.engines import choice

pytestmark = pytest.mark.filterwarnings("error")


def history(trainer):
    return without_durations(trainer.history)


# --- against a plain loop --------------------------------------------------------------------------------------------


def fill(ranked, weights, budget):
    filled = {}
    for i in ranked:
        filled[i] = min(weights[i], max(budget, 0.0))
        budget -= weights[i]
    return filled


def plain_keeping(data, batches, last, rates, class_floor):
    """Of a network: the floor of each example, what is free in each batch, and what its classes keep in any case."""
    order = sum(batches, [])
    weight, label = data.weights.tolist(), data.targets.tolist()
    floors, of_classes = dict.fromkeys(order, 0.0), [{} for _ in batches]
    for c in range(N_CLASSES) if last is not None else []:
        rare = []
        for batch, budgets in zip(batches, of_classes, strict=True):
            own = [i for i in batch if label[i] == c]
            if sum(weight[i] for i in own) >= 8:
                budgets[c] = class_floor * (1 - rates[c]) * sum(weight[i] for i in own)
            else:
                rare += own
        ranked = sorted(rare, key=lambda i: last.get(i, np.inf))  # ties by position
        floors |= fill(ranked, weight, class_floor * (1 - rates[c]) * sum(weight[i] for i in ranked))
    left = [
        sum((1 - rates[label[i]]) * weight[i] - floors[i] for i in batch) - sum(budgets.values())
        for batch, budgets in zip(batches, of_classes, strict=True)
    ]
    free = [max(each, 0.0) for each in left]
    return floors, [each * sum(left) / sum(free) for each in free], of_classes


def plain_epoch(networks, optimizers, data, batches, last, learning_rate, rates, class_floor):
    """Co-teaching on batches of indices; the history's entry, and of each example what was kept, its mean loss and its
    class. The networks' ``last`` losses of the epoch before become those of this one.
    """
    X = torch.from_numpy(data.inputs.X)
    kept_share, mean_losses, predicted = [0.0] * len(X), [0.0] * len(X), [-1] * len(X)
    objectives_of_steps, right, agreed, total = [], [0.0, 0.0], 0.0, 0.0
    keeping = [plain_keeping(data, batches, own or None, rates, class_floor) for own in last]
    for number, indices in enumerate(batches):
        targets = [int(data.targets[index]) for index in indices]
        weights = [float(data.weights[index]) for index in indices]
        losses_of, probabilities_of, kept_of = [], [], []
        for network, (floors, free, of_classes), own in zip(networks, keeping, last, strict=True):
            logits = network(X[indices])
            losses = [row.logsumexp(0) - row[target] for row, target in zip(logits, targets, strict=True)]
            losses_of.append(losses)
            probabilities_of.append(logits.detach().softmax(1).tolist())
            ranked = sorted(range(len(indices)), key=lambda i, losses=losses: losses[i].item())
            kept = [floors[index] for index in indices]
            for c, budget in of_classes[number].items():
                for i, part in fill([i for i in ranked if targets[i] == c], weights, budget).items():
                    kept[i] += part
            more = fill(ranked, [weight - part for weight, part in zip(weights, kept, strict=True)], free[number])
            kept_of.append([part + more[i] for i, part in enumerate(kept)])
            own |= {index: each.item() for index, each in zip(indices, losses, strict=True)}
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
        for i, index in enumerate(indices):
            kept_share[index] = (kept_of[0][i] + kept_of[1][i]) / 2 / weights[i]
            mean_losses[index] = (losses_of[0][i].item() + losses_of[1][i].item()) / 2
            first, second = probabilities_of[0][i], probabilities_of[1][i]
            predicted[index] = max(range(N_CLASSES), key=lambda c, a=first, b=second: a[c] * b[c])
            classes = [max(range(N_CLASSES), key=each.__getitem__) for each in (first, second)]
            total += weights[i]
            agreed += weights[i] * (classes[0] == classes[1])
            for k in range(2):
                right[k] += weights[i] * (classes[k] == targets[i])
    entry = {
        "lr": learning_rate,
        "loss": [sum(step[k] for step in objectives_of_steps) / len(objectives_of_steps) for k in range(2)],
        "accuracy": [each / total for each in right],
        "agreement": agreed / total,
    }
    return entry, kept_share, mean_losses, predicted


SCHEDULE = {"epochs": 3, "lr": 0.03, "epoch_decay_start": 0, "num_gradual": 3, "forget_rate": 0.45}
PLAN = [(0.03, 0.0), (0.02, 0.225), (0.01, 0.45)]  # its learning rates and forget rates


CLASS_RATES = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)


@both_engines
@pytest.mark.parametrize("class_rates", [None, CLASS_RATES], ids=["all classes alike", "rates of classes"])
@pytest.mark.parametrize("class_floor", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["unit weights", "uneven weights"])
def test_epochs_are_those_of_a_plain_loop(class_floor, weights, class_rates, engine):
    data = make_data(weights=weights)
    trainer = make_trainer(data, class_floor=class_floor, class_rates=class_rates, engine=engine, **SCHEDULE)
    plain = copy.deepcopy(trainer.networks)
    plain_optimizers = [torch.optim.Adam(network.parameters()) for network in plain]
    last = {}, {}
    for epoch, (learning_rate, forget_rate) in enumerate(PLAN):
        data.inputs.asked.clear()
        kept, losses, predicted, seen = examples_of_epoch(trainer)
        order = sum(data.inputs.asked, [])
        batches = [order[start : start + 32] for start in range(0, len(order), 32)]
        at_the_end = [0.45] * N_CLASSES if class_rates is None else class_rates.tolist()
        rates = [rate * forget_rate / 0.45 for rate in at_the_end]
        entry, *expected = plain_epoch(plain, plain_optimizers, data, batches, last, learning_rate, rates, class_floor)
        for a, b in zip(trainer.networks, plain, strict=True):
            torch.testing.assert_close(list(a.parameters()), list(b.parameters()), rtol=1e-10, atol=1e-10)
        for name, value in (entry | {"forget_rate": forget_rate}).items():
            assert trainer.history[epoch][name] == pytest.approx(value, rel=1e-10), name
        assert kept.tolist() == pytest.approx(expected[0], rel=1e-10, abs=1e-10)
        assert losses.tolist() == pytest.approx(expected[1], rel=1e-10, abs=1e-10)
        assert predicted[seen].tolist() == [each for each in expected[2] if each >= 0]
        assert seen.nonzero()[:, 0].tolist() == sorted(order)


@both_engines
def test_floors_that_take_all_of_small_batches_budgets_leave_losses_that_are_numbers(engine):
    """Of few batches that forget nearly everything, the floors of some are above what the batch is to keep."""
    trainer = make_trainer(class_floor=1.0, forget_rate=0.9, batch_size=16, epochs=20, engine=engine)
    for _ in range(20):
        trainer.run_epoch()
    assert trainer.epoch == len(trainer.history) == 20
    for entry in history(trainer):
        assert all(np.isfinite(value).all() for value in entry.values())
    assert all(parameter.isfinite().all() for network in trainer.networks for parameter in network.parameters())


# --- schedules -------------------------------------------------------------------------------------------------------


def test_beyond_the_end_of_the_schedules_their_last_values_hold():
    trainer = make_trainer(**SCHEDULE)
    for _ in range(5):
        trainer.run_epoch()
    assert trainer.epoch == 5
    expected = [*PLAN, PLAN[-1], PLAN[-1]]
    for entry, (learning_rate, forget_rate) in zip(trainer.history, expected, strict=True):
        assert (entry["lr"], entry["forget_rate"]) == pytest.approx((learning_rate, forget_rate), rel=1e-12)


def test_rates_that_are_given_replace_those_of_the_schedule_for_one_epoch():
    trainer = make_trainer(class_rates=CLASS_RATES, **SCHEDULE)
    told = []
    for rates in (alike(0.3), None, alike(0.0)):
        kept, _, _, seen = examples_of_epoch(trainer, rates=rates)
        told.append((kept[seen], trainer.data.targets[seen]))
    assert [entry["forget_rate"] for entry in trainer.history] == pytest.approx([0.3, 0.225, 0.0])
    assert [entry["lr"] for entry in trainer.history] == pytest.approx([0.03, 0.02, 0.01])
    budgets = [0.7 * N, float((1 - CLASS_RATES / 2)[told[1][1]].sum()), N]
    assert [float(kept.sum()) for kept, _ in told] == pytest.approx(budgets, rel=1e-12)
    assert (told[2][0] == 1).all()


def test_the_learning_rate_is_set_in_every_parameter_group():
    made = []

    def groups(parameters, lr):
        made.append(torch.optim.SGD([{"params": [p], "lr": 5.0} for p in parameters], lr=lr))
        return made[-1]

    networks = make_networks()
    trainer = make_trainer(networks=networks, optimizer=groups, lr=0.0)
    trainer.run_epoch()
    assert {group["lr"] for optimizer in made for group in optimizer.param_groups} == {0.0}
    assert equal(bits(networks), bits(make_networks()))  # a rate of zero changes nothing


def test_means_of_examples_are_over_the_epochs_since_the_end_of_the_warm_up():
    """Those in which the forget rate rises say little; the last of them counts."""
    trainer = make_trainer(epochs=6, num_gradual=3)
    seen_in = []
    for _ in range(6):
        trainer.run_epoch()
        seen_in.append(int(trainer.label_statistics.state_dict()["n_seen"].max()))
    assert seen_in == [1, 2, 1, 2, 3, 4]


@pytest.mark.parametrize("num_gradual", [0, 1])
def test_without_a_warm_up_means_of_examples_are_over_all_epochs(num_gradual):
    trainer = make_trainer(num_gradual=num_gradual)
    for _ in range(3):
        trainer.run_epoch()
    assert trainer.label_statistics.state_dict()["n_seen"].max() == 3


# --- classes ---------------------------------------------------------------------------------------------------------


@both_engines
@pytest.mark.parametrize("class_rates", [None, CLASS_RATES], ids=["all classes alike", "rates of classes"])
@pytest.mark.parametrize("batch_size", [16, 48])
@pytest.mark.parametrize("class_floor", [0.75, 0.9])
def test_every_class_keeps_its_floor_and_all_together_the_budget(class_floor, batch_size, class_rates, engine):
    """Of the rarest class a batch may hold an example or two."""
    data = make_data(n=480, weights=uneven_weights(480))
    trainer = make_trainer(
        data,
        batch_size=batch_size,
        class_floor=class_floor,
        class_rates=class_rates,
        forget_rate=0.5,
        engine=engine,
        lr=0.05,
    )
    rates = alike(0.5)[0] if class_rates is None else class_rates
    without_floors = []
    for epoch in range(5):
        kept, _, _, seen = examples_of_epoch(trainer)
        budgets = (1 - rates)[data.targets] * data.weights * seen
        assert float(kept @ data.weights) == pytest.approx(float(budgets.sum()), rel=1e-12)
        for c in range(N_CLASSES):
            own = data.targets == c
            if epoch:
                assert kept[own] @ data.weights[own] >= class_floor * budgets[own].sum() - 1e-9
            else:
                without_floors.append(kept[own] @ data.weights[own] >= class_floor * budgets[own].sum())
    assert not all(without_floors)  # what the test stands on: they make a difference


@both_engines
def test_the_first_epoch_has_no_floors_as_no_losses_are_known(engine):
    trainers = [make_trainer(class_floor=floor, engine=engine, forget_rate=0.5, batch_size=45) for floor in (0.0, 1.0)]
    for same in (True, False):
        for trainer in trainers:
            trainer.run_epoch()
        assert equal(*(bits(trainer.networks) for trainer in trainers)) is same
    state = trainers[0].snapshot()
    for trainer in trainers:
        trainer.load_state_dict(state | {"losses": None})
        trainer.run_epoch()
    assert equal(*(bits(trainer.networks) for trainer in trainers))


def test_of_every_class_something_is_learnt_whatever_is_to_be_forgotten():
    rates = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    trainer = make_trainer(class_rates=rates, forget_rate=0.6, class_floor=1.0)
    trainer.run_epoch()
    kept, _, _, seen = examples_of_epoch(trainer)
    for c, rate in enumerate((0.95, 0.5, 0.0)):
        own = seen & (trainer.data.targets == c)
        assert float(kept[own].mean()) == pytest.approx(1 - rate, rel=1e-12)


# --- losses ----------------------------------------------------------------------------------------------------------


@both_engines
def test_the_state_has_every_networks_losses_of_the_last_epoch_before_its_steps(engine):
    data = make_data(weights=uneven_weights())
    trainer = make_trainer(data, batch_size=N, engine=engine)
    assert trainer.state_dict()["losses"] is None
    for _ in range(2):
        with torch.no_grad():
            logits = [network(torch.from_numpy(data.inputs.X)) for network in trainer.networks]
        expected = torch.stack([nn.functional.cross_entropy(each, data.targets, reduction="none") for each in logits])
        trainer.run_epoch()
        losses = trainer.state_dict()["losses"]
        assert (losses.shape, losses.dtype) == ((2, N), torch.float64)
        assert (losses[:, data.weights == 0] == torch.inf).all()
        torch.testing.assert_close(losses[:, data.drawn], expected[:, data.drawn], rtol=1e-10, atol=1e-10)


def test_losses_of_examples_that_are_in_no_batch_stay_and_are_infinite_at_first():
    trainer = make_trainer(batch_size=20, num_iter_per_epoch=2)
    before = torch.full((2, N), torch.inf, dtype=torch.float64)
    for _ in range(3):
        _, means, _, seen = examples_of_epoch(trainer)
        losses = trainer.state_dict()["losses"]
        assert torch.equal(losses[:, ~seen], before[:, ~seen])
        torch.testing.assert_close(losses[:, seen].mean(0), means[seen], rtol=1e-12, atol=1e-12)
        assert not (losses[:, seen] == before[:, seen]).any()
        before = losses.clone()


# --- several pairs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_floor", [0.0, 0.75])
@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["unit weights", "uneven weights"])
def test_of_several_pairs_each_is_trained_as_alone_on_the_same_batches(weights, class_floor):
    data, networks = make_data(weights=weights), make_networks(n=4)
    options = {"engine": "chains", "class_floor": class_floor, "average_decay": 0.9, "lr": 0.03}
    apart = [make_trainer(data, copy.deepcopy(networks[own]), **options) for own in (slice(0, 2), slice(2, 4))]
    together = make_trainer(data, networks, **options)
    rates = torch.tensor([[0.1, 0.2, 0.0], [0.5, 0.3, 0.8]], dtype=torch.float64)
    for _ in range(3):
        for trainer in apart:
            set_keepers(trainer, together.state_dict()["n_keepers"])
        kept, losses, _, seen = examples_of_epoch(together, rates=rates)
        told = [examples_of_epoch(each, rates=own[None]) for each, own in zip(apart, rates, strict=True)]
        for trainer in apart:
            of_networks = trainer.networks, trainer.average.values, trainer.state_dict()["losses"]
            own = slice(0, 2) if trainer is apart[0] else slice(2, 4)
            torch.testing.assert_close(bits(networks[own]), bits(of_networks[0]), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(together.average.values[own], of_networks[1], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(together.state_dict()["losses"][own], of_networks[2], rtol=1e-10, atol=1e-10)
        entry, first, second = together.history[-1], apart[0].history[-1], apart[1].history[-1]
        for name in ("loss", "accuracy"):
            assert entry[name] == pytest.approx(first[name] + second[name], rel=1e-10)
        for name in ("agreement", "forget_rate"):
            assert entry[name] == pytest.approx((first[name] + second[name]) / 2, rel=1e-10)
        assert torch.equal(seen, told[0][3]) and torch.equal(seen, told[1][3])
        for mean, *of_pairs in zip((kept, losses), told[0], told[1]):
            torch.testing.assert_close(mean, (of_pairs[0] + of_pairs[1]) / 2, rtol=1e-10, atol=1e-10)
    assert not equal(bits(networks[:2]), bits(networks[2:]))


def test_several_pairs_go_on_from_a_snapshot_to_the_bit():
    trainers = [make_trainer(networks=make_networks(n=4, seed=seed), engine="chains") for seed in (0, 1)]
    trainers[0].run_epoch(alike(0.1, 0.5))
    trainers[1].load_state_dict(trainers[0].snapshot())
    for trainer in trainers:
        trainer.run_epoch(alike(0.2, 0.4))
    assert equal(*(bits(trainer.networks) for trainer in trainers))
    assert equal(*([trainer.state_dict()["losses"]] for trainer in trainers))


# --- blocks of batches -----------------------------------------------------------------------------------------------


@both_engines
@pytest.mark.parametrize("class_floor", [0.0, 0.75])
@pytest.mark.parametrize(
    ("name", "value"), [("BATCHES_PER_BLOCK", 1), ("BATCHES_PER_BLOCK", 2), ("NUMBERS_PER_BLOCK", 1)]
)
def test_examples_in_several_blocks_give_the_bits_of_one_block(name, value, class_floor, engine, monkeypatch):
    results = []
    for in_blocks in (False, True):
        if in_blocks:
            monkeypatch.setattr(trainer_module, name, value)
        data = make_data(weights=uneven_weights())
        trainer = make_trainer(data, batch_size=16, class_floor=class_floor, engine=engine, **SCHEDULE)
        told = [each for _ in PLAN for each in examples_of_epoch(trainer)]
        told += [*bits(trainer.networks), trainer.state_dict()["n_keepers"]]
        results.append((told, trainer.history, data.inputs.asked))
    (whole, entries, asked), (in_blocks, entries_in_blocks, asked_in_blocks) = results
    assert equal(whole, in_blocks)
    for entry, entry_in_blocks in zip(entries, entries_in_blocks, strict=True):
        for each in ("loss", "accuracy", "agreement"):  # sums, which blocks add in another order
            assert entry_in_blocks[each] == pytest.approx(entry[each], rel=1e-14), each
    assert len(asked) == len(PLAN) < len(asked_in_blocks)
    assert sum(asked, []) == sum(asked_in_blocks, [])


@pytest.mark.parametrize(
    ("numbers", "batches", "size"),
    [(10**9, 1, 20), (10**9, 3, 60), (20 * 6 * 2, 9, 40), (20 * 6 * 3 - 1, 9, 40), (1, 9, 20)],
)
def test_blocks_are_whole_batches_of_no_more_numbers_than_allowed_but_one_at_least(numbers, batches, size, monkeypatch):
    """An example counts as its features or as both networks' logits, 6, whichever are more."""
    monkeypatch.setattr(trainer_module, "NUMBERS_PER_BLOCK", numbers)
    monkeypatch.setattr(trainer_module, "BATCHES_PER_BLOCK", batches)
    data = make_data()
    make_trainer(data, batch_size=20).run_epoch()
    assert [len(indices) for indices in data.inputs.asked] == [len(block) for block in torch.arange(80).split(size)]


def test_a_batch_has_no_more_examples_than_there_are():
    data = make_data(n=20)
    trainer = make_trainer(data, batch_size=1000)
    trainer.run_epoch()
    assert trainer.batch_size == 20
    assert [len(indices) for indices in data.inputs.asked] == [20]


# --- what both networks see ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, uneven_weights()])
def test_both_networks_see_the_same_batches_and_every_example_with_weight_once(weights):
    data = make_data(n=96, weights=None if weights is None else uneven_weights(96))
    trainer = make_trainer(data, batch_size=16)
    first, second = watched(trainer.networks)
    _, _, _, seen = examples_of_epoch(trainer)
    assert equal(first, second)
    indices = sum(indices_of(first, data), [])
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(data.drawn.tolist())
    assert len(data.drawn) - len(indices) < 16  # of a small rest
    assert seen.nonzero()[:, 0].tolist() == sorted(indices)


def test_examples_that_were_not_seen_have_nothing_kept_no_loss_and_no_class():
    trainer = make_trainer(batch_size=20, num_iter_per_epoch=2)
    first, _ = watched(trainer.networks)
    kept, losses, predicted, seen = examples_of_epoch(trainer, rates=alike(0.0))
    assert [len(batch) for batch in first] == [20, 20]
    assert seen.sum() == 40
    assert (kept[seen] == 1).all()  # with a forget rate of zero all is kept
    assert (kept[~seen] == 0).all()
    assert (losses[seen] > 0).all() and (losses[~seen] == 0).all()
    assert (predicted[seen] >= 0).all() and (predicted[~seen] == -1).all()


@both_engines
def test_examples_of_weight_zero_are_as_absent(engine):
    weights = uneven_weights()
    data = make_data(weights=weights)
    present = data.drawn.numpy()
    alone = data_of(data.inputs.X[present], data.codes[present], weights[present])
    with_them, without = make_trainer(data, engine=engine), make_trainer(alone, engine=engine)
    told, told_alone = ([*examples_of_epoch(each), *examples_of_epoch(each)] for each in (with_them, without))
    assert equal(bits(with_them.networks), bits(without.networks))
    assert equal([each[present] for each in told], told_alone)
    assert history(with_them) == history(without)
    assert not told[3][weights == 0].any()


def test_the_order_is_that_of_the_seed_the_epoch_and_what_was_kept():
    data = make_data()

    def order(epoch, seed=7, keepers=None, trained=False):
        trainer = make_trainer(data, seed=seed, keepers=keepers)
        inputs, _ = watched(trainer.networks)
        if trained:
            trainer.run_epoch()
        else:  # at once at a later position
            trainer.load_state_dict(trainer.state_dict() | {"history": [{}] * epoch})
        inputs.clear()
        trainer.run_epoch()
        return indices_of(inputs, data)

    assert order(0) != order(1)
    assert order(0) != order(0, seed=8)
    assert order(1) == order(1)
    assert order(1, trained=True) != order(1)  # by now not all were kept
    assert order(1, keepers=torch.arange(N) % 3) != order(1)
    assert order(0) != [list(range(start, min(start + 32, N))) for start in range(0, N, 32)]


def test_every_batch_gets_its_share_of_what_was_kept_and_of_each_class():
    data = make_data(n=480)
    keepers = torch.from_numpy(np.random.default_rng(2).integers(0, 3, 480))
    trainer = make_trainer(data, batch_size=48, keepers=keepers.clone())
    inputs, _ = watched(trainer.networks)
    trainer.run_epoch()
    for batch in indices_of(inputs, data):
        for kept_by in range(3):
            assert abs((keepers[batch] == kept_by).sum() - (keepers == kept_by).sum() / 10) <= 2
            for c in range(N_CLASSES):
                cell = (keepers == kept_by) & (data.targets == c)
                assert abs(cell[batch].sum() - cell.sum() / 10) <= 2
    assert not torch.equal(trainer.state_dict()["n_keepers"], keepers)


@both_engines
def test_keepers_count_the_networks_that_kept_an_example(engine):
    trainer = make_trainer(engine=engine, num_iter_per_epoch=1, keepers=torch.ones(N, dtype=torch.int64))
    kept, _, _, seen = examples_of_epoch(trainer, rates=alike(0.5))
    keepers = trainer.state_dict()["n_keepers"]
    assert (keepers[~seen] == 1).all()  # what is known of the others stays
    assert keepers[seen].tolist() == (2 * kept[seen]).round().long().tolist()
    assert {0, 2} <= set(keepers[seen].tolist())


def test_at_first_every_example_counts_as_kept_by_both():
    assert make_trainer().state_dict()["n_keepers"].tolist() == [2] * N


# --- the same seed, the same bits ------------------------------------------------------------------------------------


def noisy_augment(inputs):
    """Random numbers from all three places that users take them from."""
    return inputs + torch.randn_like(inputs) + np.random.normal() + random.random()


def disturb_global_random_states():
    torch.manual_seed(random.randrange(2**31))
    np.random.seed(random.randrange(2**31))
    torch.rand(3), np.random.rand(3), random.random()


def test_the_same_seed_and_epoch_give_the_same_bits_whatever_ran_before():
    results = []
    for _ in range(2):
        trainer = make_trainer(networks=make_networks(noisy_module), augment=noisy_augment)
        told = []
        for _ in range(2):
            disturb_global_random_states()
            told += examples_of_epoch(trainer)
        results.append((history(trainer), told + bits(trainer.networks)))
    assert results[0][0] == results[1][0]
    assert equal(results[0][1], results[1][1])


def test_another_seed_or_epoch_gives_other_noise():
    data = make_data(n=20)  # one batch, so that its order is all that remains
    noise = []
    for seed, n_epochs in [(7, 2), (8, 1)]:
        trainer = make_trainer(data, seed=seed, augment=lambda x: noise.append(torch.randn(1).item()) or x)
        for _ in range(n_epochs):
            trainer.run_epoch()
    assert len(set(noise)) == 3


def global_random_states():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def test_global_random_states_are_left_as_they_were_found():
    trainer = make_trainer(networks=make_networks(noisy_module), augment=noisy_augment)
    before = global_random_states()
    trainer.run_epoch()
    assert global_random_states() == before


def test_global_random_states_are_restored_when_the_users_code_raises():
    def augment(inputs):
        noisy_augment(inputs)
        raise KeyboardInterrupt

    trainer = make_trainer(augment=augment)
    before = global_random_states()
    with pytest.raises(KeyboardInterrupt):
        trainer.run_epoch()
    assert global_random_states() == before


# --- nothing is asked of the device within an epoch ------------------------------------------------------------------


@pytest.mark.parametrize("class_floor", [0.0, 0.75])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
@both_engines
@pytest.mark.parametrize("augment", [None, lambda x: x.flip(1)], ids=["plain", "augmented"])
@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_an_epoch_asks_the_device_for_numbers_once(class_floor, optimizer, monkeypatch, engine, augment, average_decay):
    """The meta device holds shapes only: whoever asks it for a number, or for a shape that depends on one, fails."""
    meta = torch.device("meta")
    data = make_data()
    data = data_of(data.inputs.X, data.codes, device=meta)
    networks = [network.to(meta) for network in make_networks()]
    plain_adam = (
        {"fused": False} if optimizer is torch.optim.Adam and engine == "autograd" else {}
    )  # torch has no other
    trainer = make_trainer(
        data,
        networks,
        optimizer=optimizer,
        optimizer_options=plain_adam,
        class_floor=class_floor,
        augment=augment,
        engine=engine,
        average_decay=average_decay,
    )
    asked = []
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda tensor: asked.append(tensor.shape) or torch.ones(tensor.shape, dtype=tensor.dtype)
    )
    trainer.run_epoch(), trainer.run_epoch()  # there are floors in the second
    assert len(asked) == 2
    assert {each.device for each in trainer.label_statistics.state_dict().values()} == {meta}


@pytest.mark.parametrize("question", [bool, float, int, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.nonzero])
def test_the_meta_device_cannot_be_asked(question):
    """What the test above stands on."""
    with pytest.raises((RuntimeError, NotImplementedError), match="(?i)meta"):
        question(torch.ones(1, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
@both_engines
def test_an_epoch_on_cuda_never_waits_for_the_device(engine, monkeypatch):
    host = make_data()
    data = data_of(host.inputs.X, host.codes, dtype=torch.float32, device=torch.device("cuda")).moved_to_device()
    networks = tuple(network.to("cuda") for network in make_networks(dtype=torch.float32))
    trainer = make_trainer(data, networks, engine=engine)
    trainer.run_epoch()
    watched_blocks = []

    def watched_stream(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            for block in stream(*arguments):
                watched_blocks.append(len(block[0]))
                yield block
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(trainer_module, "stream", watched_stream)
    trainer.run_epoch()
    assert sum(watched_blocks) == N


# --- the networks and the history ------------------------------------------------------------------------------------


def test_every_epoch_adds_one_entry_to_the_history():
    trainer = make_trainer(forget_rate=0.25)
    assert (trainer.epoch, trainer.history) == (0, [])
    for n_epochs in (1, 2):
        trainer.run_epoch()
        assert trainer.epoch == len(trainer.history) == n_epochs
    entry = trainer.history[1]
    assert list(entry) == ["epoch", "lr", "forget_rate", "loss", "accuracy", "agreement", "changed", "duration"]
    assert (entry["epoch"], entry["lr"], entry["forget_rate"]) == (1, 0.01, 0.25)
    assert type(entry["lr"]) is type(entry["forget_rate"]) is type(entry["agreement"]) is float
    for pair in (entry["loss"], entry["accuracy"]):
        assert isinstance(pair, tuple)
        assert [type(each) for each in pair] == [float, float]
    assert entry["duration"] > 0


def test_networks_are_trained_in_train_mode_and_at_rest_in_eval_mode_without_gradients():
    networks = make_networks(noisy_module)
    networks[0].train(), networks[1].eval()
    trainer = make_trainer(networks=networks)
    modes = []
    for network in networks:
        assert not any(module.training for module in network.modules())
        network.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    trainer.run_epoch()
    assert modes == [True] * 6
    for network in trainer.networks:
        assert not any(module.training for module in network.modules())
        assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("index", "name"), [(0, "first"), (1, "second")])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@both_engines
def test_a_loss_that_is_not_finite_is_told_with_network_epoch_and_remedy(index, name, value, engine):
    trainer = make_trainer(engine=engine)
    trainer.run_epoch()
    with torch.no_grad():
        trainer.networks[index][-1].bias[0] = value
    with pytest.raises(DivergedError, match=f"loss of the {name} network became .* in epoch 1.*smaller lr than 0.01"):
        trainer.run_epoch()
    assert trainer.epoch == 1  # an epoch that diverged is none


def test_the_average_is_of_the_weights_after_every_step():
    weights = []  # for each network those after each step

    def watched_sgd(parameters, lr):
        optimizer, own = torch.optim.SGD(parameters, lr=lr), []
        optimizer.register_step_post_hook(lambda *_: own.append([p.detach().clone() for p in parameters]))
        weights.append(own)
        return optimizer

    trainer = make_trainer(average_decay=0.9, batch_size=20, optimizer=watched_sgd, lr=0.5)
    trainer.run_epoch(), trainer.run_epoch()
    assert trainer.state_dict()["average"]["n_updates"] == 2 * 4
    counts = 0.9 ** np.arange(8)[::-1]
    for network, averages, own in zip(trainer.networks, trainer.average.values, weights, strict=True):
        assert len(own) == 8
        for (name, _), *each in zip(network.named_parameters(), *own, strict=True):
            expected = sum(count * value for count, value in zip(counts / counts.sum(), each, strict=True))
            torch.testing.assert_close(averages[name], expected, rtol=1e-12, atol=1e-12)


def test_without_average_decay_there_is_no_average():
    assert make_trainer().average is None
    assert make_trainer().state_dict()["average"] is None


@pytest.mark.parametrize(("module", "owns"), [(None, True), (noisy_module, False)])
def test_whether_weights_lie_as_suits_the_engine_is_said(module, owns, monkeypatch):
    assert choice.make_engine is trainer_module.make_engine
    assert make_trainer(networks=make_networks(module), engine=None).owns_memory is owns


def test_networks_of_different_structure_may_teach_each_other():
    networks = make_networks()[0], make_networks(noisy_module)[0]
    before = [network[-1].weight.detach().clone() for network in networks]
    make_trainer(networks=networks, engine=None).run_epoch()
    assert not any(torch.equal(network[-1].weight, weight) for network, weight in zip(networks, before, strict=True))
