"""The order of an epoch and its mini-batches: pure functions of indices.

Random numbers are drawn from torch's global generator; who seeds it is decided in ``_training``.
"""

import numpy as np
import torch
from torch import Tensor

from skcoteach._arrays import ROWS_AT_A_TIME, blocks, index_dtype

#: A last mini-batch of fewer examples is skipped unless it is the only one: its gradient would be mostly noise.
MINIMUM_BATCH_SIZE = 16


def stratified_order(indices: Tensor, strata: Tensor, batch_size: int) -> Tensor:
    """A random order of examples in which every mini-batch gets about its share of each stratum.

    Parameters
    ----------
    indices : Tensor of shape (n,), int32 or int64
        Of the examples.
    strata : Tensor of shape (n,), int
        Stratum of each of the ``indices``, from 0 on. Neighbouring numbers make up for each other where a stratum is
        smaller than the number of batches.
    batch_size : int
        Examples of a mini-batch.

    Returns
    -------
    Tensor of shape (n,), of the type of the indices
        The order for :func:`in_batches`, drawn from torch's global generator. Within a batch it is random.

    References
    ----------
    Systematic sampling, e.g. Cochran, "Sampling Techniques", 3rd edition 1977, chapter 8: examples are lined up by
    stratum and the i-th place of a batch of size b draws from the i-th b-th of the line.

    Examples
    --------
    >>> import torch
    >>> strata = torch.arange(100) % 2
    >>> [int(strata[batch].sum()) for batch in stratified_order(torch.arange(100), strata, 50).split(50)]
    [25, 25]
    """
    n = len(indices)
    order = _each_from_its_part_of(_line(strata.numpy()), batch_size)
    for rows in blocks(n, -(-ROWS_AT_A_TIME // batch_size) * batch_size):  # whole batches
        batch = np.arange(rows.start, rows.stop) // batch_size
        position = torch.rand(rows.stop - rows.start, dtype=torch.float64, device="cpu").numpy()
        order[rows] = order[rows][(batch + position).argsort()]
    return indices.index_select(0, torch.from_numpy(order))


def _line(strata: np.ndarray) -> np.ndarray:
    """Positions by stratum, (n,); within each they are shuffled."""
    n, n_strata = len(strata), int(strata.max()) + 1
    dtype = torch.int32 if index_dtype(n) == np.int32 else torch.int64
    shuffled = torch.randperm(n, dtype=dtype, device="cpu").numpy()
    sizes = np.sum([np.bincount(strata[rows], minlength=n_strata) for rows in blocks(n)], axis=0)
    place = sizes.cumsum() - sizes  # of the next one of each stratum
    line = np.empty_like(shuffled)
    for rows in blocks(n):
        here = strata[shuffled[rows]]
        by_stratum = here.argsort(kind="stable")
        counts = np.bincount(here, minlength=n_strata)
        first = place - (counts.cumsum() - counts)
        line[first[here[by_stratum]] + np.arange(len(here))] = shuffled[rows][by_stratum]
        place += counts
    return line


def _each_from_its_part_of(line: np.ndarray, batch_size: int) -> np.ndarray:
    """An order of which the i-th place of each batch of size b has what is drawn from the i-th b-th of the line."""
    n = len(line)
    size, n_whole = min(batch_size, n), n // min(batch_size, n)
    jitter = torch.rand(n, dtype=torch.float64, device="cpu").numpy()
    order, last = np.empty_like(line), n_whole * size  # where a batch of fewer begins
    whole, its_order = jitter[:last].reshape(n_whole, size), order[:last].reshape(n_whole, size)
    keys_of_last = (np.arange(n - last) + jitter[last:]) / max(n - last, 1)
    start = 0
    for columns in blocks(size, -(-ROWS_AT_A_TIME // n_whole)):  # each has a part of the line of its own
        keys = (np.arange(columns.start, columns.stop) + whole[:, columns]) / size
        lowest, highest = columns.start / size, columns.stop / size
        of_last = (keys_of_last >= lowest) & ((keys_of_last < highest) | (columns.stop == size))
        ranks = np.concatenate([keys.ravel(), keys_of_last[of_last]]).argsort()
        drawn = np.empty(len(ranks), dtype=line.dtype)
        drawn[ranks] = line[start : start + len(ranks)]
        its_order[:, columns] = drawn[: keys.size].reshape(keys.shape)
        order[last:][of_last] = drawn[keys.size :]
        start += len(ranks)
    return order


def order_by_windows(indices: Tensor, strata: Tensor, batch_size: int, windows: np.ndarray) -> Tensor:
    """An order as that of :func:`stratified_order`, but within windows, which come one after the other.

    Parameters
    ----------
    indices, strata, batch_size
        As there. Each mini-batch gets about the share that its window has of each stratum; the one that begins in a
        window and ends in the next one takes the rest at random.
    windows : ndarray of shape (n,), int
        Number of the window, from 0, in which each of the ``indices`` is: of :func:`windows_of_blocks`.

    Returns
    -------
    Tensor of shape (n,), int64

    Examples
    --------
    >>> import torch, numpy as np
    >>> _ = torch.manual_seed(0)
    >>> windows = np.arange(12) % 2
    >>> order = order_by_windows(torch.arange(12), torch.zeros(12, dtype=torch.int64), 3, windows)
    >>> [sorted(window.tolist()) for window in order.split(6)]
    [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    """
    sizes = np.bincount(windows)
    if len(sizes) == 1:
        return stratified_order(indices, strata, batch_size)
    order = torch.empty_like(indices)
    missing = 0  # of the last batch
    line = torch.from_numpy(windows.argsort(kind="stable"))
    for some, into in zip(line.split(sizes.tolist()), order.split(sizes.tolist()), strict=True):
        some = some[torch.randperm(len(some), device="cpu")]
        into[:missing] = indices[some[:missing]]
        rest = some[missing:]
        if len(rest):
            into[missing:] = stratified_order(indices[rest], strata[rest], batch_size)
        missing = (missing - len(some)) % batch_size
    return order


def windows_of_blocks(blocks: np.ndarray, per_window: int, strata: np.ndarray) -> np.ndarray:
    """Random windows of blocks, as alike in their strata as the blocks allow.

    Blocks are lined up by their mean stratum, and every window gets one from each stretch of as many as there are
    windows. So where blocks are of a class each, a window has blocks of all parts of the line.

    Parameters
    ----------
    blocks : ndarray of shape (n,), int
        Number of the block, from 0, in which each example is stored.
    per_window : int
        At most so many blocks are in a window.
    strata : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (n,), int16 or int32
        Number of the window, from 0, in which each example is, drawn from torch's global generator.

    Examples
    --------
    >>> import torch, numpy as np
    >>> _ = torch.manual_seed(0)
    >>> windows_of_blocks(np.arange(12) // 2, 2, np.arange(12) // 6)  # six blocks, three of either stratum
    array([0, 0, 2, 2, 1, 1, 0, 0, 1, 1, 2, 2], dtype=int16)
    """
    sizes = np.bincount(blocks)
    used = np.flatnonzero(sizes)
    means = np.bincount(blocks, strata)[used] / sizes[used]
    shuffled = torch.randperm(len(used), device="cpu").numpy()  # those that are equal
    line = shuffled[means[shuffled].argsort(kind="stable")]
    n_windows = -(-len(used) // per_window)
    drawn = torch.rand(-(-len(used) // n_windows), n_windows, device="cpu").argsort(1).flatten().numpy()
    window_of = np.empty(len(sizes), dtype=np.int16 if n_windows < 2**15 else np.int32)
    window_of[used[line]] = drawn[: len(used)]
    return window_of[blocks]


def in_batches(order: Tensor, batch_size: int, limit: int | None = None) -> Tensor:
    """The part of an order that makes up its mini-batches.

    Parameters
    ----------
    order : Tensor of shape (n,), int64
        Indices of examples in the order of the epoch.
    batch_size : int
        Examples of a batch; the last one may have fewer. A last batch of fewer than 16 is skipped unless it is the only
        one.
    limit : int, optional
        At most this many batches.

    Returns
    -------
    Tensor of shape (n_drawn,), int64
        To be split by ``batch_size``.

    Examples
    --------
    >>> import torch
    >>> [len(batch) for batch in in_batches(torch.arange(100), batch_size=32).split(32)]
    [32, 32, 32]
    >>> [len(batch) for batch in in_batches(torch.arange(5), batch_size=32).split(32)]
    [5]
    """
    last = len(order) % batch_size or batch_size
    if last < MINIMUM_BATCH_SIZE and len(order) > batch_size:
        order = order[: len(order) - last]
    return order if limit is None else order[: limit * batch_size]
