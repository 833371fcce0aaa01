"""The two rules of keeping, held against plain Python written from the design's words and not from the code."""

import itertools
from fractions import Fraction
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot, pad
from torch.nn.utils.rnn import pad_sequence

from skcoteach._training.selection import (
    batch_budgets,
    class_budgets,
    class_floors,
    free_budgets,
    kept_weights,
    small_loss_indices,
)

pytestmark = pytest.mark.filterwarnings("error")

N_CLASSES = 4


class Epoch(NamedTuple):
    """The examples of an epoch in their order, and how many of them each batch has."""

    last: list[float]  # losses of the epoch before
    now: list[float]
    targets: list[int]
    weights: list[float]
    sizes: list[int]

    @property
    def batches(self):
        """For each batch the places of its examples."""
        ends = list(itertools.accumulate(self.sizes))
        return [range(end - size, end) for size, end in zip(self.sizes, ends, strict=True)]

    def taken(self, places, sizes):
        """The epoch of the examples at these places."""
        return Epoch(*([values[i] for i in places] for values in self[:4]), sizes)


def one_batch(now, targets, weights, last=None):
    return Epoch(now if last is None else last, now, targets, weights, [len(now)])


def fill(ranked, weights, budget):
    """What each of the ``ranked`` examples gets when a budget is filled in that order."""
    filled = {}
    for i in ranked:
        filled[i] = min(weights[i], budget)
        budget -= filled[i]
    return filled


def exact_budget(epoch, rates, places):
    """What is to be kept of these examples."""
    return sum((1 - Fraction(rates[epoch.targets[i]])) * Fraction(epoch.weights[i]) for i in places)


def exact_floor(epoch, rates, class_floor, label):
    """What is to be kept of a class in any case."""
    return Fraction(class_floor) * exact_budget(epoch, rates, of_class(epoch, label))


def of_class(epoch, label):
    return [i for i, target in enumerate(epoch.targets) if target == label]


def expected_kept(epoch, rates, class_floor):
    """The budget rule in exact arithmetic, one example after the other."""
    weights, places = [Fraction(weight) for weight in epoch.weights], range(len(epoch.weights))
    floors = {}
    for label in set(epoch.targets):
        share, rare = Fraction(class_floor) * (1 - Fraction(rates[label])), []
        for batch in epoch.batches:
            own = [i for i in batch if epoch.targets[i] == label]
            amount = sum(weights[i] for i in own)
            if amount >= 8:  # ranked within the batch
                floors |= fill(sorted(own, key=lambda i: (epoch.now[i], i)), weights, share * amount)
            else:
                rare += own
        ranked = sorted(rare, key=lambda i: (epoch.last[i], i))
        floors |= fill(ranked, weights, share * sum(weights[i] for i in rare))
    free = [max(exact_budget(epoch, rates, each) - sum(floors[i] for i in each), Fraction(0)) for each in epoch.batches]
    left = exact_budget(epoch, rates, places) - sum(floors.values())
    kept = dict(floors)
    for batch, own in zip(epoch.batches, free, strict=True):
        ranked = sorted(batch, key=lambda i: (epoch.now[i], i))
        lacking = {i: weights[i] - floors[i] for i in batch}
        for i, part in fill(ranked, lacking, own * left / sum(free) if own else own).items():
            kept[i] += part
    return [float(kept[i]) for i in places]


def actual_kept(epoch, rates, class_floor, dtype=torch.float64):
    """By the package, as if a single network kept it."""
    last, now, weights = (torch.tensor(each, dtype=dtype) for each in (epoch.last, epoch.now, epoch.weights))
    targets, rates = torch.tensor(epoch.targets), torch.tensor([rates], dtype=dtype)
    given = one_hot(targets, rates.shape[1]).T.to(dtype)
    floors, free, of_classes = keeping(last[None], targets, weights, rates, class_floor, epoch.sizes)
    cut = zip(*(each.split(epoch.sizes, -1) for each in (now[None], weights, floors)), strict=True)
    batches = zip(cut, free.split(1, 1), given.split(epoch.sizes, 1), of_classes.unbind(1), strict=True)
    return torch.cat([kept_weights(*own, left, classes, budgets)[0] for own, left, classes, budgets in batches])


def keeping(last, targets, weights, rates, class_floor, sizes):
    """What is kept in any case and what is free, for every network."""
    shares, of_batches = class_floor * (1 - rates), (padded(targets, sizes), padded(weights, sizes))
    of_classes, is_rare = class_budgets(*of_batches, shares)
    of_classes = of_classes.to(weights)
    is_rare = torch.cat([own[:size] for own, size in zip(is_rare, sizes, strict=True)])
    floors = class_floors(last, targets, weights * is_rare, shares)
    in_any_case = torch.stack([padded(each, sizes).sum(1) for each in floors]) + of_classes.sum(-1)
    return floors, free_budgets(batch_budgets(*of_batches, rates), in_any_case), of_classes


def padded(values, sizes):
    """The batches below each other, filled up with zeros."""
    return pad_sequence(values.split(sizes), batch_first=True)


def close(a, b, tolerance=1e-12):
    return a == pytest.approx(b, rel=tolerance, abs=tolerance)


QUARTERS = st.integers(0, 20).map(lambda quarters: quarters / 4)


@st.composite
def epochs(draw, weights=QUARTERS, max_batches=4, ties=True):
    """Epochs with weights exact in binary, some of whose examples were in no batch of the epoch before."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=max_batches))
    n = sum(sizes)
    if ties:
        losses = [
            draw(st.lists(values, min_size=n, max_size=n))
            for values in (st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, torch.inf]), st.integers(0, 12).map(float))
        ]
    else:
        losses = [[float(each) for each in draw(st.permutations(range(n)))] for _ in range(2)]
    targets = draw(st.lists(st.integers(0, N_CLASSES - 1), min_size=n, max_size=n))
    return Epoch(*losses, targets, draw(st.lists(weights, min_size=n, max_size=n)), sizes)


rates_of_classes = st.lists(
    st.sampled_from([0.0, 0.125, 0.2, 0.45, 0.5, 0.7, 0.95]), min_size=N_CLASSES, max_size=N_CLASSES
)
floors_of_classes = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
law = settings(max_examples=150, deadline=None)

# --- the documented rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 6))
def test_small_losses_are_kept_in_order_with_ties_by_position(n):
    for losses in itertools.product([0.0, 1.0, 2.0], repeat=n):
        ranked = sorted(range(n), key=lambda i: (losses[i], i))
        for n_kept in range(1, n + 1):
            forget_rate = 1 - (n_kept + 0.5) / (n + 0.5)
            n_expected = max(int((1 - forget_rate) * n), 1)
            kept = small_loss_indices(torch.tensor(losses), forget_rate)
            assert kept.tolist() == ranked[:n_expected]


@pytest.mark.parametrize(("n", "forget_rate", "n_kept"), [(10, 0.0, 10), (10, 0.25, 7), (4, 0.75, 1), (128, 0.2, 102)])
def test_number_of_small_losses_is_rounded_down(n, forget_rate, n_kept):
    assert len(small_loss_indices(torch.arange(float(n)), forget_rate)) == n_kept


@pytest.mark.parametrize("forget_rate", [0.9, 1.0])
def test_at_least_one_example_is_kept(forget_rate):
    assert small_loss_indices(torch.tensor([3.0, 1.0, 2.0]), forget_rate).tolist() == [1]


# --- the budget rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_floor", [0.0, 0.75, 1.0])
def test_budget_rule_on_every_small_epoch(class_floor):
    """All losses of before and of now (with ties), labels and weights of a batch of two examples and one of one."""
    examples = list(itertools.product([0.0, 1.0], [0.0, 1.0], [0, 1], [1.0, 2.5]))
    rates = [0.5, 0.25]
    for together in itertools.product(examples, repeat=3):
        epoch = Epoch(*map(list, zip(*together, strict=True)), [2, 1])
        expected, actual = expected_kept(epoch, rates, class_floor), actual_kept(epoch, rates, class_floor).tolist()
        assert max(abs(a - e) for a, e in zip(actual, expected, strict=True)) < 1e-12, epoch


@law
@given(epochs(), rates_of_classes, floors_of_classes)
def test_budget_rule_on_larger_epochs(epoch, rates, class_floor):
    expected = expected_kept(epoch, rates, class_floor)
    assert close(actual_kept(epoch, rates, class_floor).tolist(), expected)
    assert close(actual_kept(epoch, rates, class_floor, dtype=torch.float32).tolist(), expected, 1e-4)


@law
@given(epochs(), rates_of_classes, floors_of_classes)
def test_every_class_keeps_its_floor_and_all_together_the_budget(epoch, rates, class_floor):
    kept, targets = actual_kept(epoch, rates, class_floor), torch.tensor(epoch.targets)
    for label in range(N_CLASSES):
        assert kept[targets == label].sum() >= float(exact_floor(epoch, rates, class_floor, label)) - 1e-12
    assert close(float(kept.sum()), float(exact_budget(epoch, rates, range(len(targets)))))
    assert (kept >= 0).all() and (kept <= torch.tensor(epoch.weights, dtype=torch.float64) + 1e-12).all()


@law
@given(epochs(), rates_of_classes)
def test_without_floors_every_batch_keeps_its_own_budget(epoch, rates):
    kept = actual_kept(epoch, rates, 0.0)
    for batch in epoch.batches:
        assert close(float(kept[batch].sum()), float(exact_budget(epoch, rates, batch)))


@law
@given(epochs(weights=st.integers(0, 4), max_batches=1), rates_of_classes, floors_of_classes)
def test_weight_is_the_number_of_times_that_an_example_stands_in_its_batch(epoch, rates, class_floor):
    original = [i for i, weight in enumerate(epoch.weights) for _ in range(weight)]
    if not original:
        return
    repeated = epoch.taken(original, [len(original)])._replace(weights=[1] * len(original))
    kept = torch.zeros(len(epoch.weights), dtype=torch.float64)
    kept.index_add_(0, torch.tensor(original), actual_kept(repeated, rates, class_floor))
    assert close(actual_kept(epoch, rates, class_floor).tolist(), kept.tolist(), 1e-9)


@law
@given(epochs(), rates_of_classes, floors_of_classes)
def test_weight_zero_is_the_absence_of_an_example(epoch, rates, class_floor):
    present = [i for i, weight in enumerate(epoch.weights) if weight > 0]
    if not present:
        return
    sizes = [sum(i in batch for i in present) for batch in epoch.batches]
    alone = epoch.taken(present, [size for size in sizes if size])
    kept = actual_kept(epoch, rates, class_floor).tolist()
    assert [own for i, own in enumerate(kept) if i not in present] == [0.0] * (len(kept) - len(present))
    assert close([kept[i] for i in present], actual_kept(alone, rates, class_floor).tolist())


@law
@given(epochs(ties=False), rates_of_classes, floors_of_classes, st.randoms())
def test_where_no_losses_are_equal_the_order_of_batches_and_within_them_does_not_count(
    epoch, rates, class_floor, random
):
    batches = [random.sample(batch, len(batch)) for batch in epoch.batches]
    random.shuffle(batches)
    order = sum(batches, [])
    shuffled = epoch.taken(order, [len(batch) for batch in batches])
    kept = actual_kept(epoch, rates, class_floor)[order]
    assert close(actual_kept(shuffled, rates, class_floor).tolist(), kept.tolist())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=16, max_size=16), st.integers(0, 15), st.sampled_from([1, 2, 3]))
def test_rules_agree_on_whole_examples_of_unit_weight_without_a_class_floor(losses, n_forgotten, copies):
    losses, forget_rate = [float(loss) for loss in losses] * copies, n_forgotten / 16
    expected = torch.zeros(len(losses), dtype=torch.float64)
    expected[small_loss_indices(torch.tensor(losses), forget_rate)] = 1
    kept = actual_kept(one_batch(losses, [0] * len(losses), [1.0] * len(losses)), [forget_rate], 0.0)
    assert kept.tolist() == expected.tolist()


def test_class_with_large_losses_keeps_its_floor():
    epoch = one_batch(torch.arange(32.0).tolist(), [0] * 24 + [1] * 8, [1.0] * 32)
    kept = actual_kept(epoch, [0.5, 0.5], 0.5)
    assert kept[:24].tolist() == [1.0] * 14 + [0.0] * 10  # what the other class keeps is no more for this one
    assert kept[24:].tolist() == [1.0] * 2 + [0.0] * 6
    assert actual_kept(epoch, [0.5, 0.5], 0.0)[24:].sum() == 0


def test_classes_that_a_batch_has_enough_of_are_ranked_by_the_losses_of_now():
    """Eight examples' worth is enough; each batch then keeps its part of the class."""
    last, now = [*range(16)], [*range(8, 0, -1), *range(8, 0, -1)]
    kept = actual_kept(Epoch(last, now, [0] * 16, [1.0] * 16, [8, 8]), [0.5], 1.0)
    assert kept.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    kept = actual_kept(Epoch(last, now, [0] * 16, [0.875] * 16, [8, 8]), [0.5], 1.0)
    assert kept.tolist() == [0.875] * 8 + [0] * 8  # the best of before, and nothing is free for the others


def test_floors_of_rare_classes_are_filled_by_the_losses_of_before_and_the_rest_by_those_of_now():
    """Of eight examples six are kept: one and a half of each class in any case, namely the best of before."""
    epoch = one_batch([9.0, 8.0, 2.0, 3.0, 7.0, 6.0, 0.0, 1.0], [0] * 4 + [1] * 4, [1.0] * 8, [1, 2, 3, 4, 4, 3, 2, 1])
    assert actual_kept(epoch, [0.25, 0.25], 0.5).tolist() == [1, 0.5, 1, 1, 0, 0.5, 1, 1]


def test_examples_without_a_last_loss_fill_floors_last_and_in_order():
    epoch = one_batch([1.0] * 4, [0] * 4, [1.0] * 4, [torch.inf, 5.0, torch.inf, torch.inf])
    assert actual_kept(epoch, [0.375], 1.0).tolist() == [1, 1, 0.5, 0]


@pytest.mark.parametrize(
    ("class_floor", "expected"), [(0.0, [0, 1, 1, 0]), (0.75, [1, 0.5, 0.5, 0]), (1.0, [1, 1, 0, 0])]
)
def test_where_the_floors_of_a_batch_are_more_than_its_budget_the_others_keep_less(class_floor, expected):
    epoch = Epoch([0, 1, 2, 3], [3, 2, 1, 4], [0] * 4, [1.0] * 4, sizes=[2, 2])
    assert actual_kept(epoch, [0.5], class_floor).tolist() == expected


@pytest.mark.parametrize("class_floor", [0.75, 1.0])
def test_of_a_hundred_classes_of_which_every_batch_holds_one_example_each_keeps_its_best(class_floor):
    """An example is not kept for being alone in its batch, nor is its class forgotten for that."""
    quality = torch.rand(10, 100, generator=torch.Generator().manual_seed(0)).argsort(0)  # of a class, batch by batch
    losses = (quality + 20 * torch.arange(100)).flatten().double().tolist()  # classes are more and less easy to learn
    epoch = Epoch(losses, losses, list(range(100)) * 10, [1.0] * 1000, [100] * 10)
    kept = actual_kept(epoch, [0.375] * 100, class_floor).view(10, 100)
    at_least = class_floor * 6.25
    for rank in range(10):
        floor = min(max(at_least - rank, 0.0), 1.0)
        assert (kept[quality == rank] >= floor - 1e-12).all()
    assert (kept.sum(0) >= at_least - 1e-12).all()
    assert float(kept.sum()) == pytest.approx(625, abs=1e-9)
    assert (kept[:, 80:][quality[:, 80:] > at_least] == 0).all()  # of classes that are hard to learn


def test_every_class_is_forgotten_at_its_own_rate():
    epoch = one_batch(torch.arange(24.0).tolist(), [0, 1, 2] * 8, [1.0] * 24)
    kept = actual_kept(epoch, [0.0, 0.25, 0.75], 1.0).view(8, 3)
    assert kept.sum(0).tolist() == [8, 6, 2]
    assert kept[:, 2].tolist() == [1, 1] + [0] * 6


def test_ranking_is_by_the_unweighted_loss():
    for class_floor in (0.0, 1.0):
        kept = actual_kept(one_batch([1.0, 2.0], [0, 0], [8.0, 2.0]), [0.5], class_floor)
        assert kept.tolist() == [5.0, 0.0]


@law
@given(epochs())
def test_where_nothing_is_forgotten_all_is_kept(epoch):
    for class_floor in (0.0, 0.75, 1.0):
        assert close(actual_kept(epoch, [0.0] * N_CLASSES, class_floor).tolist(), epoch.weights)


# --- budgets, floors and what is free --------------------------------------------------------------------------------


def test_the_budget_of_a_batch_is_the_sum_over_its_examples_for_every_pair():
    targets, weights = torch.tensor([[0, 1, 1], [1, 1, 0]]), torch.tensor([[8.0, 1.0, 2.0], [4.0, 0.0, 0.0]])
    rates = torch.tensor([[0.25, 0.5], [0.0, 0.75]])
    assert batch_budgets(targets, weights, rates).tolist() == [[7.5, 2.0], [8.75, 1.0]]


def test_a_class_has_a_budget_in_a_batch_that_holds_eight_examples_worth_of_it():
    targets = torch.tensor([[0, 1, 1], [1, 1, 0]])
    weights = torch.tensor([[8.0, 5.0, 2.0], [4.0, 4.0, 0.0]])
    budgets, is_rare = class_budgets(targets, weights, torch.tensor([[0.25, 0.5], [0.0, 0.75]]))
    assert budgets.tolist() == [[[2.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 6.0]]]
    assert is_rare.tolist() == [[False, True, True], [False, False, True]]


def test_the_example_on_the_boundary_of_a_floor_counts_in_part_by_its_weight():
    floors = class_floors(
        torch.tensor([[3.0, 1.0, 2.0, 1.0]]),
        torch.tensor([1, 1, 1, 0]),
        torch.tensor([1.0, 2.0, 5.0, 8.0]),
        torch.tensor([[0.25, 0.5]]),
    )
    assert floors.tolist() == [[0, 2, 2, 2]]


def test_the_boundary_does_not_hang_on_how_much_weight_stands_before_it():
    """Single precision rounds 2**24 + 1 to 2**24."""
    losses, targets = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]]), torch.tensor([0, 1, 1, 1, 1])
    floors = class_floors(losses, targets, torch.tensor([2.0**24, 1, 1, 1, 1]), torch.tensor([[1.0, 0.625]]))
    assert floors.tolist() == [[2.0**24, 1, 1, 0.5, 0]]


def test_classes_without_examples_have_no_floors():
    floors = class_floors(torch.tensor([[1.0, 2.0]]), torch.tensor([3, 1]), torch.ones(2), torch.full((1, 6), 0.5))
    assert floors.tolist() == [[0.5, 0.5]]


@law
@given(st.lists(st.tuples(QUARTERS, QUARTERS), min_size=1, max_size=9))
def test_what_is_free_and_the_floors_are_no_more_than_the_budgets(batches):
    budgets, floors = (torch.tensor([each], dtype=torch.float64) for each in zip(*batches, strict=True))
    free = free_budgets(budgets, floors)
    assert (free >= 0).all() and (free <= (budgets - floors).clamp(min=0) + 1e-12).all()
    assert close(float(free.sum()), max(float((budgets - floors).sum()), 0.0))
    left = [max(budget - floor, 0.0) for budget, floor in batches]
    assert close((free[0] * sum(left)).tolist(), [each * float(free.sum()) for each in left])  # in proportion


def test_floors_stay_and_what_is_free_goes_to_what_they_lack_in_the_order_of_the_losses():
    floors = torch.tensor([[0.0, 3.0, 1.0], [0.5, 0.0, 0.0]])
    losses, free = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), torch.tensor([[4.0], [6.0]])
    kept = kept_weights(losses, torch.tensor([2.0, 5.0, 4.0]), floors, free)
    assert kept.tolist() == [[0, 4, 4], [2, 4.5, 0]]


# --- several networks at once, and any tensors -----------------------------------------------------------------------


@law
@given(st.data(), epochs(), st.integers(2, 4), floors_of_classes)
def test_what_several_networks_keep_is_what_each_keeps(data, epoch, n_networks, class_floor):
    n = len(epoch.weights)
    losses = data.draw(st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n_networks, max_size=4))
    last = torch.tensor(losses[:n_networks], dtype=torch.float64)
    rates = torch.tensor([data.draw(rates_of_classes) for _ in range(n_networks)], dtype=torch.float64)
    targets, weights = torch.tensor(epoch.targets), torch.tensor(epoch.weights, dtype=torch.float64)

    def kept(own):
        """By the networks of a slice, one batch after the other."""
        floors, free, of_classes = keeping(last[own], targets, weights, rates[own], class_floor, epoch.sizes)
        batches = zip(
            last[own].flip(1).split(epoch.sizes, 1),
            weights.split(epoch.sizes),
            floors.split(epoch.sizes, 1),
            free.split(1, 1),
            one_hot(targets, N_CLASSES).T.to(weights).split(epoch.sizes, 1),
            of_classes.unbind(1),
            strict=True,
        )
        return floors, free, of_classes, torch.cat([kept_weights(*batch) for batch in batches], 1)

    each = [kept(slice(number, number + 1)) for number in range(n_networks)]
    for together, apart in zip(kept(slice(None)), zip(*each, strict=True), strict=True):
        assert torch.equal(together, torch.cat(apart))


@law
@given(epochs(max_batches=1), rates_of_classes, floors_of_classes, st.integers(1, 9), st.integers(0, 3), QUARTERS)
def test_examples_without_weight_that_fill_up_a_batch_change_nothing(epoch, rates, class_floor, n, target, loss):
    more = Epoch(
        *(values + [own] * n for values, own in zip(epoch[:4], (loss, loss, target, 0.0), strict=True)),
        [epoch.sizes[0] + n],
    )
    kept = actual_kept(epoch, rates, class_floor)
    torch.testing.assert_close(actual_kept(more, rates, class_floor), pad(kept, (0, n)), rtol=1e-12, atol=1e-12)


def test_kept_weights_carry_no_gradient():
    losses, weights = torch.rand(2, 16, requires_grad=True), torch.ones(16)
    floors = class_floors(losses, torch.arange(16) % 2, weights, torch.full((2, 2), 0.25))
    given = one_hot(torch.arange(16) % 2).T.float()
    kept = kept_weights(losses, weights, floors, torch.full((2, 1), 3.0), given, torch.full((2, 2), 1.0))
    assert not (floors.requires_grad or kept.requires_grad)


def test_selection_never_asks_the_device_for_a_number():
    """Tensors on the meta device have shapes and no values: whatever depends on a value raises."""
    losses, weights = torch.empty(4, 32, device="meta"), torch.empty(32, device="meta")
    targets = torch.empty(32, dtype=torch.int64, device="meta")
    budgets = batch_budgets(targets.view(2, 16), weights.view(2, 16), torch.empty(2, 3, device="meta"))
    floors = class_floors(losses, targets, weights, torch.empty(4, 3, device="meta"))
    of_classes, is_rare = class_budgets(targets.view(2, 16), weights.view(2, 16), torch.empty(4, 3, device="meta"))
    free = free_budgets(budgets.repeat_interleave(2, 0), floors.view(4, 2, 16).sum(-1))
    given = torch.empty(3, 16, device="meta")
    kept = kept_weights(losses[:, :16], weights[:16], floors[:, :16], free[:, :1], given, of_classes[:, 0])
    assert [(each.shape, each.device.type) for each in (budgets, floors, of_classes, is_rare, free, kept)] == [
        ((2, 2), "meta"), ((4, 32), "meta"), ((4, 2, 3), "meta"),
        ((2, 16), "meta"), ((4, 2), "meta"), ((4, 16), "meta"),
    ]  # fmt: skip
    assert small_loss_indices(losses[0], 0.0).shape == (32,)


def test_losses_may_lie_in_memory_in_any_order():
    losses, weights = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]).T, torch.ones(3)
    floors = class_floors(losses, torch.tensor([0, 0, 0]), weights, torch.tensor([[0.5], [0.5]]))
    assert floors.tolist() == [[0, 0.5, 1], [1, 0.5, 0]]
    assert kept_weights(losses, weights, floors * 0, torch.full((2, 1), 1.5)).tolist() == floors.tolist()


def test_of_an_empty_batch_nothing_is_kept():
    nothing = torch.ones(0)
    assert kept_weights(torch.ones(2, 0), nothing, torch.ones(2, 0), torch.zeros(2, 1)).shape == (2, 0)
