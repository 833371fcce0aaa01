"""An epoch's order is random, spreads what should be spread over its mini-batches, and is cut without a small rest."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcoteach._data.sampling import (
    MINIMUM_BATCH_SIZE,
    in_batches,
    order_by_windows,
    stratified_order,
    windows_of_blocks,
)

pytestmark = pytest.mark.filterwarnings("error")

# --- batches ---------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 200).flatmap(lambda n: st.permutations(range(n))),
    st.integers(1, 80),
    st.none() | st.integers(1, 8),
)
def test_batches_are_the_order_cut_without_a_small_rest(order, batch_size, limit):
    cut = [batch.tolist() for batch in in_batches(torch.tensor(order), batch_size, limit).split(batch_size)]
    last = len(order) % batch_size or batch_size
    skipped = last if last < MINIMUM_BATCH_SIZE and last < len(order) else 0
    seen = sum(cut, [])
    assert all(len(batch) == batch_size for batch in cut[:-1])
    assert seen == order[: len(seen)]  # every example at most once, in order
    assert len(seen) == min((limit or 200) * batch_size, len(order) - skipped)


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (96, 32, [32, 32, 32]),
        (111, 32, [32, 32, 32]),
        (112, 32, [32, 32, 32, 16]),
        (15, 32, [15]),
        (1, 32, [1]),
        (30, 8, [8, 8, 8]),
    ],
)
def test_a_last_batch_of_fewer_than_16_is_skipped_unless_it_is_the_only_one(n, batch_size, sizes):
    assert [len(batch) for batch in in_batches(torch.arange(n), batch_size).split(batch_size)] == sizes


def test_number_of_batches_can_be_limited():
    assert [len(batch) for batch in in_batches(torch.arange(100), 32, limit=2).split(32)] == [32, 32]
    assert [len(batch) for batch in in_batches(torch.arange(100), 32, limit=9).split(32)] == [32, 32, 32]


# --- order -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(1, 70), st.integers(1, 6), st.integers(0, 2**32))
def test_no_example_is_lost_and_every_batch_gets_its_share_of_every_stratum(n, batch_size, n_strata, seed):
    torch.manual_seed(seed)
    indices = torch.randperm(1000)[:n]
    strata = torch.randint(n_strata, (n,))
    order = stratified_order(indices, strata, batch_size)
    assert sorted(order.tolist()) == sorted(indices.tolist())
    stratum_of = dict(zip(indices.tolist(), strata.tolist(), strict=True))
    for batch in order.split(batch_size):
        for stratum in range(n_strata):
            expected = len(batch) * (strata == stratum).sum() / n
            assert abs(sum(stratum_of[index] == stratum for index in batch.tolist()) - expected) <= 3


def test_the_order_is_random_in_every_respect_that_it_does_not_promise():
    torch.manual_seed(0)
    indices, strata = torch.arange(60), torch.arange(60) // 20
    orders = torch.stack([stratified_order(indices, strata, 20) for _ in range(3000)])
    places = torch.zeros(60, 60).index_put_(
        (orders, torch.arange(60).expand_as(orders)), torch.ones(()), accumulate=True
    )
    assert places.min() > 20 and places.max() < 90  # every example turns up in every place, about 50 times each


def test_the_order_is_drawn_from_torchs_generator_alone():
    indices, strata = torch.arange(60), torch.arange(60) % 3
    state = torch.get_rng_state()
    first = stratified_order(indices, strata, 20)
    assert not torch.equal(stratified_order(indices, strata, 20), first)
    torch.set_rng_state(state)
    assert torch.equal(stratified_order(indices, strata, 20), first)


def test_there_may_be_more_strata_than_a_small_integer_holds():
    torch.manual_seed(0)
    strata = torch.arange(64) % 2 * 2**17
    order = stratified_order(torch.arange(64), strata, 8)
    assert [int((strata[batch] > 0).sum()) for batch in order.split(8)] == [4] * 8


def test_neighbouring_strata_make_up_for_each_other_where_they_are_small():
    """Of ten strata of five, a batch of five gets two in turn from every two neighbours: one from each pair."""
    torch.manual_seed(0)
    strata = torch.arange(50) // 5
    for batch in stratified_order(torch.arange(50), strata, 5).split(5):
        assert sorted((strata[batch] // 2).tolist()) == [0, 1, 2, 3, 4]


# --- order by windows of blocks --------------------------------------------------------------------------------------


def order_of(blocks, per_window, strata, batch_size):
    return order_by_windows(
        torch.arange(len(blocks)), strata, batch_size, windows_of_blocks(blocks, per_window, strata)
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32))
def test_no_example_is_lost_and_every_block_is_in_one_window(n, batch_size, n_blocks, per_window, seed):
    torch.manual_seed(seed)
    indices, strata = torch.randperm(1000)[:n], torch.randint(3, (n,))
    blocks = np.random.default_rng(seed).integers(n_blocks, size=n)
    windows = windows_of_blocks(blocks, per_window, strata.numpy())
    sizes = [len(np.unique(blocks[windows == window])) for window in range(windows.max() + 1)]
    assert sum(sizes) == len(np.unique(blocks)) and max(sizes) <= per_window and max(sizes) - min(sizes) <= 1
    order = order_by_windows(indices, strata, batch_size, windows)
    assert sorted(order.tolist()) == sorted(indices.tolist())
    window_of = dict(zip(indices.tolist(), windows.tolist(), strict=True))
    in_order = [window_of[index] for index in order.tolist()]
    assert in_order == sorted(in_order)


def test_every_batch_within_a_window_gets_its_share_of_every_stratum():
    torch.manual_seed(0)
    strata = torch.arange(6000) % 3
    order = order_of(np.arange(6000) // 100, 8, strata, 32)
    counts = torch.stack([strata[batch].bincount(minlength=3) for batch in order.split(32)[:-1]])
    spread = (counts - 32 / 3).abs().amax(1)
    n_windows = 8
    assert (spread > 2).sum() < n_windows  # but for those that begin in one window and end in the next
    assert spread.max() <= 12


def test_windows_of_blocks_that_are_of_one_stratum_each_have_their_share_of_all():
    torch.manual_seed(0)
    strata = np.arange(4000) // 1000
    windows = windows_of_blocks(np.arange(4000) // 100, 8, strata)
    assert [np.bincount(strata[windows == window]).tolist() for window in range(5)] == [[200] * 4] * 5


def test_windows_are_others_every_time_drawn_from_torchs_generator():
    blocks, strata = np.arange(600) // 100, torch.zeros(600, dtype=torch.int64)
    state = torch.get_rng_state()
    first, second = (order_of(blocks, 2, strata, 50) for _ in range(2))
    assert sorted((first[:200] // 100).unique().tolist()) != sorted((second[:200] // 100).unique().tolist())
    torch.set_rng_state(state)
    assert torch.equal(order_of(blocks, 2, strata, 50), first)


def test_within_a_single_window_the_order_is_that_of_all_examples():
    strata = torch.arange(600) % 4
    torch.manual_seed(0)
    expected = stratified_order(torch.arange(600), strata, 50)
    torch.manual_seed(0)
    assert torch.equal(order_by_windows(torch.arange(600), strata, 50, np.zeros(600, dtype=int)), expected)
