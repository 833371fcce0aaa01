"""The order of an epoch and its mini-batches: pure functions of indices.

Random numbers are drawn from torch's global generator; who seeds it is decided in ``_training``.
"""

import numpy as np
import torch
from torch import Tensor

#: A last mini-batch of fewer examples is skipped unless it is the only one: its gradient would be mostly noise.
MINIMUM_BATCH_SIZE = 16


def stratified_order(indices: Tensor, strata: Tensor, batch_size: int) -> Tensor:
    """A random order of examples in which every mini-batch gets about its share of each stratum.

    Parameters
    ----------
    indices : Tensor of shape (n,), int64
        Of the examples.
    strata : Tensor of shape (n,), int64
        Stratum of each of the ``indices``. Neighbouring numbers make up for each other where a stratum is smaller than
        the number of batches.
    batch_size : int
        Examples of a mini-batch.

    Returns
    -------
    Tensor of shape (n,), int64
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
    # NumPy sorts small integers several times as fast as torch does
    n = len(indices)
    shuffled = torch.randperm(n, device="cpu").numpy()
    small = strata.numpy().astype(np.int16 if int(strata.max()) < 2**15 else np.int64)
    line = shuffled[small[shuffled].argsort(kind="stable")]
    places = np.arange(n)
    batch = places // batch_size
    sizes = np.minimum(n - batch * batch_size, batch_size)
    jitter, position = torch.rand(2, n, dtype=torch.float64, device="cpu").numpy()
    order = np.empty(n, dtype=np.int64)
    order[((places % batch_size + jitter) / sizes).argsort()] = line
    return indices[torch.from_numpy(order[(batch + position).argsort()])]


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
