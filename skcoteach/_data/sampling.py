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
