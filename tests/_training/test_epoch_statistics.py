"""What an epoch tells, held against plain sums over examples."""

import math

import numpy as np
import pytest
import torch
from _training.trainers import (
    N,
    alike,
    both_engines,
    examples_of_epoch,
    make_data,
    make_networks,
    make_trainer,
    uneven_weights,
)

from skcoteach._errors import DivergedError
from skcoteach._training.epoch_statistics import UNSEEN, EpochStatistics, batches_of, in_steps, of_peers, record

pytestmark = pytest.mark.filterwarnings("error")

N_CLASSES, BATCH_SIZE = 3, 10
ORDER = np.random.default_rng(0).permutation(40)[:34]  # of 40 examples, six of which are in no batch
BEFORE = torch.arange(40) % N_CLASSES  # what was predicted of each


def told_of_an_epoch(n_networks=2, seed=0, dtype=torch.float64):
    """Logits of all networks for the examples of ORDER, targets, weights, and how much of each weight they kept."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(n_networks, N_CLASSES, 34)) * 2)
    targets, weights = torch.from_numpy(rng.integers(0, N_CLASSES, 34)), torch.from_numpy(rng.integers(1, 9, 34) / 4)
    kept = torch.from_numpy(rng.choice([0, 0.5, 1, 1], (n_networks, 34))) * weights
    kept[:, ::BATCH_SIZE] = weights[::BATCH_SIZE]  # something in every batch
    return logits.to(dtype), targets, weights.to(dtype), kept.to(dtype)


def statistics_of(logits, targets, weights, kept, sizes=(34,)):
    """The statistics of an epoch in blocks of these sizes."""
    log_probabilities = logits.log_softmax(1)
    losses = -log_probabilities.gather(1, targets.expand(len(logits), 1, -1)).squeeze(1)
    order = torch.from_numpy(ORDER)
    of_all = torch.full((40,), 7, dtype=weights.dtype).index_copy(0, order, weights)
    statistics = EpochStatistics(of_all, BATCH_SIZE, len(logits))
    blocks = [
        each.split(sizes, -1) for each in (order.expand(1, -1), log_probabilities, losses, kept, targets, weights)
    ]
    for (indices,), *block in zip(*blocks, strict=True):
        statistics.add(indices, *block)
    return statistics, losses


BLOCKS = pytest.mark.parametrize("sizes", [(34,), (10, 10, 10, 4), (20, 14)], ids=str)
PAIRS = pytest.mark.parametrize("n_networks", [2, 6])


# --- of each example -------------------------------------------------------------------------------------------------


@BLOCKS
@PAIRS
def test_each_example_has_what_all_networks_found_at_its_own_index(n_networks, sizes):
    logits, targets, weights, kept = told_of_an_epoch(n_networks)
    statistics, losses = statistics_of(logits, targets, weights, kept, sizes)
    probabilities = logits.softmax(1)
    for place, index in enumerate(ORDER):
        share = sum(kept[:, place].tolist()) / n_networks / float(weights[place])
        assert statistics.kept[index].item() == pytest.approx(share, abs=1e-15)
        assert torch.equal(statistics.losses[:, index], losses[:, place])
        assert statistics.predicted[index] == probabilities[:, :, place].prod(0).argmax()
        assert statistics.seen[index]
    assert len(statistics.predicted.unique()) == N_CLASSES + 1


@PAIRS
def test_examples_in_no_batch_have_nothing_kept_an_infinite_loss_and_no_class(n_networks):
    statistics, _ = statistics_of(*told_of_an_epoch(n_networks))
    absent = sorted(set(range(40)) - set(ORDER.tolist()))
    assert (~statistics.seen).nonzero()[:, 0].tolist() == absent
    assert statistics.kept[absent].tolist() == [0.0] * 6
    assert statistics.losses[:, absent].tolist() == [[math.inf] * 6] * n_networks
    assert statistics.predicted[absent].tolist() == [-1] * 6


@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["unit weights", "uneven weights"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@both_engines
def test_losses_are_the_mean_of_both_networks_losses_before_the_step(weights, dtype, engine):
    """Of all examples in the batch, forgotten ones too, not weighted."""
    data = make_data(weights=weights, dtype=dtype)
    trainer = make_trainer(data, make_networks(dtype=dtype), batch_size=N, engine=engine)
    X = torch.from_numpy(data.inputs.X).to(dtype)
    with torch.no_grad():
        of_each = [network(X).log_softmax(1).gather(1, data.targets[:, None])[:, 0] for network in trainer.networks]
    kept, losses, _, seen = examples_of_epoch(trainer, rates=alike(0.5))
    assert (losses.shape, losses.dtype) == ((N,), dtype)
    assert not losses.requires_grad
    assert torch.equal(seen, data.weights > 0)
    assert (kept[seen] == 0).any()
    torch.testing.assert_close(losses, torch.where(seen, -(of_each[0] + of_each[1]) / 2, 0), rtol=1e-5, atol=1e-6)


@both_engines
def test_the_predicted_class_has_the_highest_geometric_mean_of_both_probabilities_before_the_step(engine):
    data = make_data()
    trainer = make_trainer(data, batch_size=N, engine=engine)
    with torch.no_grad():
        of_each = [network(torch.from_numpy(data.inputs.X)).softmax(1) for network in trainer.networks]
    _, _, predicted, _ = examples_of_epoch(trainer)
    assert predicted.dtype == torch.int64
    assert torch.equal(predicted, (of_each[0] * of_each[1]).sqrt().argmax(1))
    assert len(predicted.unique()) > 1


# --- of the epoch ----------------------------------------------------------------------------------------------------


@BLOCKS
@PAIRS
def test_the_entry_is_of_plain_sums_over_batches_and_examples(n_networks, sizes):
    """Neighbours are peers; agreement is the mean of the pairs."""
    logits, targets, weights, kept = told_of_an_epoch(n_networks)
    statistics, losses = statistics_of(logits, targets, weights, kept, sizes)
    totals, _ = statistics.read_back(BEFORE)
    entry = record(totals, n_steps=4, epoch=5, learning_rate=np.float64(0.25), forget_rate=np.float64(0.5))
    classes = logits.argmax(1)
    assert len(entry["loss"]) == len(entry["accuracy"]) == n_networks
    for own, peer in enumerate([1, 0, 3, 2, 5, 4][:n_networks]):
        steps = []
        for start in range(0, 34, BATCH_SIZE):
            by_peer = kept[peer, start : start + BATCH_SIZE]
            steps.append(float((losses[own, start : start + BATCH_SIZE] * by_peer).sum() / by_peer.sum()))
        assert entry["loss"][own] == pytest.approx(np.mean(steps), rel=1e-13)
        right = weights[classes[own] == targets].sum() / weights.sum()
        assert entry["accuracy"][own] == pytest.approx(float(right), rel=1e-13)
    agreed = [weights[classes[i] == classes[i + 1]].sum() / weights.sum() for i in range(0, n_networks, 2)]
    assert entry["agreement"] == pytest.approx(float(sum(agreed)) / len(agreed), rel=1e-13)
    changed = [logits[:, :, i].log_softmax(1).sum(0).argmax() != BEFORE[index] for i, index in enumerate(ORDER)]
    assert entry["changed"] == pytest.approx(float(weights @ torch.tensor(changed).double() / weights.sum()), rel=1e-13)
    assert 0 < entry["changed"] < 1
    assert (entry["epoch"], entry["lr"], entry["forget_rate"]) == (5, 0.25, 0.5)
    assert type(entry["lr"]) is type(entry["forget_rate"]) is float


def test_sums_of_float32_are_in_double_precision():
    """Many blocks of a number that float32 rounds away beside a large one."""
    statistics = EpochStatistics(torch.ones(2, dtype=torch.float32), 1)
    log_probabilities = torch.zeros(2, 2, 1)

    def add(index, weight):
        one = torch.full((2, 1), weight)
        targets, weights = torch.zeros(1, dtype=torch.int64), torch.full((1,), weight)
        statistics.add(torch.tensor([index]), log_probabilities, one, one, targets, weights)

    add(0, 2.0**24)
    for _ in range(9):
        add(1, 1.0)
    totals, _ = statistics.read_back(BEFORE[:2])
    assert totals[5] == 2.0**24 + 9


@PAIRS
def test_what_is_read_back_is_one_copy_with_a_mark_for_examples_in_no_batch(n_networks, monkeypatch):
    statistics, _ = statistics_of(*told_of_an_epoch(n_networks))
    cpu, copies = torch.Tensor.cpu, []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor.shape) or cpu(tensor))
    totals, kept = statistics.read_back(BEFORE)
    assert len(copies) == 1
    assert [type(each) for each in totals] == [float] * (2 * n_networks + 3)
    assert torch.equal(kept, torch.where(statistics.seen, in_steps(statistics.kept), UNSEEN))
    assert kept.dtype == torch.uint8 and len(kept.unique()) > 2


def test_shares_that_were_kept_are_read_back_in_steps_that_tell_little_from_nothing():
    shares = torch.tensor([0, 1e-9, 0.2, 0.3, 0.5, 0.7, 0.8, 1], dtype=torch.float64)
    assert in_steps(shares).tolist() == [0, 1, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(("index", "name"), [(0, "first"), (1, "second"), (2, "first"), (5, "second")])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_an_error_with_network_epoch_and_remedy(index, name, value):
    totals = [1.0] * 15
    totals[index] = value
    with pytest.raises(DivergedError, match=f"loss of the {name} network became {value} in epoch 3.*lr than 0.01,"):
        record(totals, 4, epoch=3, learning_rate=0.01, forget_rate=0.2)


def test_divergence_is_a_value_error():
    assert issubclass(DivergedError, ValueError)


# --- cut into batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (2, 7)])
def test_a_block_is_cut_into_batches_and_padded_with_zeros(shape):
    values = torch.arange(1, math.prod(shape) + 1).view(shape)
    batches = batches_of(values, 3)
    assert batches.shape == (*shape[:-1], 3, 3)
    assert torch.equal(batches.flatten(-2)[..., :7], values)
    assert (batches.flatten(-2)[..., 7:] == 0).all()


def test_a_block_smaller_than_a_batch_is_one_without_padding():
    assert batches_of(torch.arange(5), 8).tolist() == [[0, 1, 2, 3, 4]]


# --- peers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (6, 3), (4, 1, 2)], ids=str)
def test_neighbours_are_peers_and_change_places(shape):
    values = torch.arange(math.prod(shape)).view(shape)
    swapped = of_peers(values)
    assert all(torch.equal(swapped[i], values[i + 1 if i % 2 == 0 else i - 1]) for i in range(shape[0]))
    assert torch.equal(of_peers(swapped), values)
