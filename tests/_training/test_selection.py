"""The two rules of keeping, held against plain Python written from the design's words and not from the code."""

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcoteach._training.selection import batch_budgets, fill_budgets, kept_weights, small_loss_indices

pytestmark = pytest.mark.filterwarnings("error")


def fill(ranked, weights, budget):
    """What each of the ``ranked`` examples gets when a budget is filled in that order."""
    filled = {}
    for i in ranked:
        filled[i] = min(weights[i], budget)
        budget -= filled[i]
    return filled


def expected_kept(losses, targets, weights, forget_rate, class_floor):
    """The budget rule in exact arithmetic, one example after the other."""
    weights = [Fraction(weight) for weight in weights]
    remember_rate, class_floor = 1 - Fraction(forget_rate), Fraction(class_floor)
    ranked = sorted(range(len(losses)), key=lambda i: (losses[i], i))
    kept = fill(ranked, weights, remember_rate * sum(weights))
    for label in set(targets):
        members = [i for i in ranked if targets[i] == label]
        class_weight = sum(weights[i] for i in members)
        if class_weight >= 8:
            for i, part in fill(members, weights, class_floor * remember_rate * class_weight).items():
                kept[i] = max(kept[i], part)
    return [float(kept[i]) for i in range(len(losses))]


def actual_kept(losses, targets, weights, forget_rate, class_floor, n_classes=4, dtype=torch.float64):
    return kept_weights(
        torch.tensor(losses, dtype=dtype),
        torch.tensor(targets),
        torch.tensor(weights, dtype=dtype),
        forget_rate,
        class_floor=class_floor,
        n_classes=n_classes,
    )


def close(a, b, tolerance=1e-12):
    return a == pytest.approx(b, rel=tolerance, abs=tolerance)


@st.composite
def batches(draw, weights=st.integers(0, 20).map(lambda quarters: quarters / 4)):
    """A batch with ties among its losses, weights exact in binary, and classes on both sides of 8 examples' worth."""
    n = draw(st.integers(1, 40))
    return tuple(
        draw(st.lists(values, min_size=n, max_size=n))
        for values in (st.integers(0, 12).map(float), st.integers(0, 3), weights)
    )


forget_rates = st.sampled_from([0.0, 0.125, 0.2, 0.45, 0.5, 0.7, 0.95])
class_floors = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])

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


@pytest.mark.parametrize(("forget_rate", "class_floor"), [(0.5, 0.5), (0.3, 1.0), (0.75, 0.25), (0.0, 0.5)])
def test_budget_rule_on_every_small_batch(forget_rate, class_floor):
    """All losses (with ties), labels and weights (absent, light, enough for a class of its own) of three examples."""
    examples = list(itertools.product([0.0, 1.0, 2.0], [0, 1], [0, 1, 8]))
    for batch in itertools.product(examples, repeat=3):
        losses, targets, weights = map(list, zip(*batch, strict=True))
        expected = expected_kept(losses, targets, weights, forget_rate, class_floor)
        actual = actual_kept(losses, targets, weights, forget_rate, class_floor, n_classes=2).tolist()
        assert max(abs(a - e) for a, e in zip(actual, expected, strict=True)) < 1e-12, batch


@pytest.mark.parametrize("class_floor", [0.0, 0.5])
def test_budget_rule_in_every_order_of_a_batch(class_floor):
    losses, targets, weights = [0.0, 1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1, 1], [1.0, 2.5, 3.0, 0.5, 7.0]
    kept = expected_kept(losses, targets, weights, 0.55, class_floor)
    for order in itertools.permutations(range(5)):
        shuffled = ([values[i] for i in order] for values in (losses, targets, weights))
        assert close(actual_kept(*shuffled, 0.55, class_floor).tolist(), [kept[i] for i in order])


@settings(max_examples=200, deadline=None)
@given(batches(), forget_rates, class_floors)
def test_budget_rule_on_larger_batches(batch, forget_rate, class_floor):
    expected = expected_kept(*batch, forget_rate, class_floor)
    assert close(actual_kept(*batch, forget_rate, class_floor).tolist(), expected)
    assert close(actual_kept(*batch, forget_rate, class_floor, dtype=torch.float32).tolist(), expected, 1e-4)


@settings(max_examples=100, deadline=None)
@given(batches(weights=st.integers(0, 4)), forget_rates, class_floors)
def test_weight_is_the_number_of_times_that_an_example_stands_there(batch, forget_rate, class_floor):
    losses, targets, weights = batch
    repeats = torch.tensor(weights)
    repeated = [torch.tensor(values).repeat_interleave(repeats).tolist() for values in (losses, targets)]
    if not repeated[0]:
        return
    kept_of_repeated = actual_kept(*repeated, [1] * len(repeated[0]), forget_rate, class_floor)
    original = torch.arange(len(losses)).repeat_interleave(repeats)
    kept = torch.zeros(len(losses), dtype=torch.float64).index_add_(0, original, kept_of_repeated)
    assert close(actual_kept(losses, targets, weights, forget_rate, class_floor).tolist(), kept.tolist())


@settings(max_examples=100, deadline=None)
@given(batches(), forget_rates, class_floors)
def test_weight_zero_is_the_absence_of_an_example(batch, forget_rate, class_floor):
    present = [i for i, weight in enumerate(batch[2]) if weight > 0]
    if not present:
        return
    kept = actual_kept(*batch, forget_rate, class_floor).tolist()
    kept_without = actual_kept(*([values[i] for i in present] for values in batch), forget_rate, class_floor).tolist()
    assert [weight for i, weight in enumerate(kept) if i not in present] == [0.0] * (len(kept) - len(present))
    assert close([kept[i] for i in present], kept_without)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=16, max_size=16), st.integers(0, 15), st.sampled_from([1, 2, 3]))
def test_rules_agree_on_whole_examples_of_unit_weight_without_a_class_floor(losses, n_forgotten, copies):
    losses, forget_rate = [float(loss) for loss in losses] * copies, n_forgotten / 16
    expected = torch.zeros(len(losses), dtype=torch.float64)
    expected[small_loss_indices(torch.tensor(losses), forget_rate)] = 1
    kept = actual_kept(losses, [0] * len(losses), [1.0] * len(losses), forget_rate, 0.0)
    assert kept.tolist() == expected.tolist()


@settings(max_examples=100, deadline=None)
@given(batches(), forget_rates)
def test_higher_class_floor_takes_nothing_from_any_example(batch, forget_rate):
    kept = torch.stack([actual_kept(*batch, forget_rate, floor) for floor in (0.0, 0.25, 0.5, 0.9, 1.0)])
    assert (kept.diff(dim=0) >= -1e-12).all()


@settings(max_examples=100, deadline=None)
@given(batches(), forget_rates, class_floors)
def test_at_least_the_budget_and_at_most_the_weight_is_kept(batch, forget_rate, class_floor):
    kept, weights = actual_kept(*batch, forget_rate, class_floor), torch.tensor(batch[2], dtype=torch.float64)
    assert (kept >= 0).all() and (kept <= weights).all()
    assert kept.sum() >= (1 - forget_rate) * weights.sum() - 1e-12
    if class_floor == 0:
        assert close(kept.sum().item(), (1 - forget_rate) * weights.sum().item())


def test_class_with_large_losses_keeps_its_floor():
    losses = torch.arange(32.0).tolist()
    targets = [0] * 24 + [1] * 8
    kept = actual_kept(losses, targets, [1.0] * 32, 0.5, 0.5)
    assert kept[:24].tolist() == [1.0] * 16 + [0.0] * 8
    assert kept[24:].tolist() == [1.0] * 2 + [0.0] * 6
    assert actual_kept(losses, targets, [1.0] * 32, 0.5, 0.0)[24:].sum() == 0


@pytest.mark.parametrize(("n_rare", "weight", "n_kept"), [(7, 1.0, 0), (8, 1.0, 2), (8, 0.75, 0), (4, 2.0, 2)])
def test_class_floor_needs_eight_examples_worth_of_weight(n_rare, weight, n_kept):
    losses, targets = torch.arange(24.0 + n_rare).tolist(), [0] * 24 + [1] * n_rare
    kept = actual_kept(losses, targets, [10.0] * 24 + [weight] * n_rare, 0.5, 0.5)
    assert kept[24:].sum() == n_kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_rare", range(1, 40))
def test_class_floor_does_not_hang_on_how_eight_is_rounded(n_rare, dtype):
    """Balanced class weights give all classes the same weight up to rounding, often exactly at the bound."""
    losses, targets = torch.arange(8.0 + n_rare).tolist(), [0] * 8 + [1] * n_rare
    kept = actual_kept(losses, targets, [1.0] * 8 + [8 / n_rare] * n_rare, 0.5, 0.5, dtype=dtype)
    assert kept[8:].sum().item() == pytest.approx(2)


def test_ranking_is_by_the_unweighted_loss():
    kept = actual_kept([1.0, 2.0], [0, 1], [8.0, 2.0], 0.5, 0.0)
    assert kept.tolist() == [5.0, 0.0]


def test_kept_weights_carry_no_gradient():
    losses = torch.rand(16, requires_grad=True)
    kept = kept_weights(losses, torch.zeros(16, dtype=torch.int64), torch.ones(16), 0.3, class_floor=0.5, n_classes=2)
    assert not kept.requires_grad


# --- several batches and several networks at once --------------------------------------------------------------------


@st.composite
def several_batches(draw):
    """Batches of one size, as tensors (n_batches, n): losses of two networks (2, n_batches, n), targets and weights."""
    n, n_batches = draw(st.integers(1, 24)), draw(st.integers(1, 3))
    losses, targets, weights = (
        torch.tensor(draw(st.lists(values, min_size=size, max_size=size)), dtype=dtype)
        for values, size, dtype in (
            (st.integers(0, 12), 2 * n_batches * n, torch.float64),
            (st.integers(0, 3), n_batches * n, torch.int64),
            (st.integers(0, 12).map(lambda quarters: quarters / 4), n_batches * n, torch.float64),
        )
    )
    return losses.view(2, n_batches, n), targets.view(n_batches, n), weights.view(n_batches, n)


@settings(max_examples=100, deadline=None)
@given(several_batches(), forget_rates, class_floors)
def test_budgets_of_several_batches_are_those_of_each(batch, forget_rate, class_floor):
    _, targets, weights = batch
    parameters = {"class_floor": class_floor, "n_classes": 4}
    members, sizes = batch_budgets(targets, weights, forget_rate, **parameters)
    for i in range(len(targets)):
        expected_members, expected_sizes = batch_budgets(targets[i], weights[i], forget_rate, **parameters)
        assert torch.equal(members[:, i], expected_members)
        assert torch.equal(sizes[:, i], expected_sizes)
    deeper = batch_budgets(targets[None, :, None], weights[None, :, None], forget_rate, **parameters)
    assert torch.equal(deeper[0][:, 0, :, 0], members)
    assert torch.equal(deeper[1][:, 0, :, 0], sizes)


@settings(max_examples=100, deadline=None)
@given(several_batches(), forget_rates, class_floors)
def test_what_several_networks_keep_is_what_each_keeps(batch, forget_rate, class_floor):
    losses, targets, weights = batch
    for i in range(len(targets)):
        given = targets[i], weights[i], forget_rate
        kept = kept_weights(losses[:, i], *given, class_floor=class_floor, n_classes=4)
        each = [kept_weights(own, *given, class_floor=class_floor, n_classes=4) for own in losses[:, i]]
        assert torch.equal(kept, torch.stack(each))
        assert kept_weights(losses[None, :, i, None], *given, class_floor=class_floor, n_classes=4).shape == (
            (1, 2, 1, len(targets[i]))
        )


@settings(max_examples=100, deadline=None)
@given(several_batches(), forget_rates, class_floors, st.integers(1, 9), st.integers(0, 3), st.integers(0, 12))
def test_examples_without_weight_that_fill_up_a_batch_change_nothing(batch, forget_rate, class_floor, n, target, loss):
    losses, targets, weights = batch[0][:, 0], batch[1][:1], batch[2][:1]
    parameters = {"class_floor": class_floor, "n_classes": 4}
    padded_targets = torch.nn.functional.pad(targets, (0, n), value=target)
    padded_weights = torch.nn.functional.pad(weights, (0, n))
    members, sizes = (each[:, 0] for each in batch_budgets(targets, weights, forget_rate, **parameters))
    padded_members, padded_sizes = (
        each[:, 0] for each in batch_budgets(padded_targets, padded_weights, forget_rate, **parameters)
    )
    assert torch.equal(padded_members, torch.nn.functional.pad(members, (0, n)))
    assert torch.equal(padded_sizes, sizes)
    kept = fill_budgets(losses, members, sizes)
    padded_kept = fill_budgets(torch.nn.functional.pad(losses, (0, n), value=loss), padded_members, padded_sizes)
    torch.testing.assert_close(padded_kept, torch.nn.functional.pad(kept, (0, n)), rtol=1e-12, atol=1e-12)


def test_members_and_sizes_of_the_classes_stand_before_those_of_the_batch():
    targets, weights = torch.tensor([0, 1, 1]), torch.tensor([9.0, 1.0, 2.0])
    members, sizes = batch_budgets(targets, weights, 0.25, class_floor=0.5, n_classes=3)
    assert members.tolist() == [[9, 0, 0], [0, 1, 2], [0, 0, 0], [9, 1, 2]]
    assert sizes.tolist() == [[3.375], [0], [0], [9]]  # only one of the classes has 8 examples' worth of weight
    members, sizes = batch_budgets(targets, weights, 0.25, class_floor=0.0, n_classes=3)
    assert (members.tolist(), sizes.tolist()) == ([[9, 1, 2]], [[9]])


@settings(max_examples=100, deadline=None)
@given(several_batches(), forget_rates, class_floors, st.floats(0, 5))
def test_leaving_out_classes_that_cannot_have_a_budget_changes_nothing(batch, forget_rate, class_floor, more):
    losses, targets, weights = batch
    parameters = {"class_floor": class_floor, "n_classes": 4}
    every = batch_budgets(targets, weights, forget_rate, **parameters)
    few = batch_budgets(targets, weights, forget_rate, **parameters, largest_weight=float(weights.max()) + more)
    for i in range(len(targets)):
        kept, expected = (fill_budgets(losses[:, i], members[:, i], sizes[:, i]) for members, sizes in (few, every))
        assert torch.equal(kept, expected)


def test_there_are_only_as_many_budgets_as_classes_that_can_have_enough_weight():
    targets, weights = torch.cat([torch.full((10,), 7), torch.arange(30) % 20]), torch.ones(40)
    members, sizes = batch_budgets(targets, weights, 0.5, class_floor=0.5, n_classes=20, largest_weight=1.0)
    assert (members.shape, sizes.shape) == ((6, 40), (6, 1))  # 5 classes with 8 each would be all
    has_budget = sizes[:-1, 0] > 0
    assert has_budget.sum() == 1
    assert torch.equal(members[:-1][has_budget][0], (targets == 7).float())
    members, _ = batch_budgets(targets[:7], weights[:7], 0.5, class_floor=0.5, n_classes=20, largest_weight=1.0)
    assert members.tolist() == [[1.0] * 7]


def test_budgets_are_filled_in_the_order_of_the_losses_and_the_largest_part_counts():
    members = torch.tensor([[4.0, 0.0, 4.0], [1.0, 1.0, 1.0]])
    kept = fill_budgets(torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), members, torch.tensor([[6.0], [1.5]]))
    assert kept.tolist() == [[2.0, 0.5, 4.0], [4.0, 0.5, 2.0]]


def test_selection_never_asks_the_device_for_a_number():
    """Tensors on the meta device have shapes and no values: whatever depends on a value raises."""
    losses, weights = torch.empty(2, 32, device="meta"), torch.empty(32, device="meta")
    targets = torch.empty(32, dtype=torch.int64, device="meta")
    for class_floor in (0.0, 0.5):
        kept = kept_weights(losses, targets, weights, 0.2, class_floor=class_floor, n_classes=3)
        assert (kept.shape, kept.device.type) == ((2, 32), "meta")
    assert small_loss_indices(losses[0], 0.0).shape == (32,)


def test_losses_may_lie_in_memory_in_any_order():
    losses, rest = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]).T, (torch.tensor([0, 1, 1]), torch.ones(3), 0.5)
    kept = kept_weights(losses, *rest, class_floor=0.0, n_classes=2)
    assert kept.tolist() == [[0, 0.5, 1], [1, 0.5, 0]]


def test_of_an_empty_batch_nothing_is_kept():
    nothing = torch.ones(0)
    kept = kept_weights(torch.ones(2, 0), nothing.long(), nothing, 0.5, class_floor=0.0, n_classes=2)
    assert kept.shape == (2, 0)
