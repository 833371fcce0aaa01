"""Which examples of a mini-batch a network hands to its peer: the small-loss rules of co-teaching.

Pure tensor functions with static shapes: nothing here asks the device for a number, branches on data or knows of
networks and optimizers. When and how often examples are forgotten is decided in ``schedules``; what is done with the
kept ones in ``training`` and ``coteaching``.
"""

import torch
from torch import Tensor

#: A class has its own budget in a batch only where at least this much weight carries its label. With less, the lone
#: example of a rare class would always be kept, however wrong its label.
MINIMUM_CLASS_WEIGHT = 8.0


def small_loss_indices(losses: Tensor, forget_rate: float) -> Tensor:
    """Indices of the examples that the documented rule keeps, smallest loss first.

    Whole examples are kept: ``int((1 - forget_rate) * n)`` of them, but at least one. Ties go to the example that
    stands first.

    Parameters
    ----------
    losses : Tensor of shape (n,), floating
        One loss per example of the batch.
    forget_rate : float in [0, 1]
        Share of the batch that is not kept.

    Returns
    -------
    Tensor of shape (n_kept,), int64
        On the device of ``losses``.

    References
    ----------
    Han et al., "Co-teaching: Robust training of deep neural networks with extremely noisy labels", NeurIPS 2018,
    Algorithm 1, lines 4-5 (arXiv:1804.06872).

    Examples
    --------
    >>> import torch
    >>> small_loss_indices(torch.tensor([0.3, 2.0, 0.1, 0.2]), forget_rate=0.5)
    tensor([2, 3])
    """
    n_kept = max(int((1 - forget_rate) * len(losses)), 1)
    return torch.argsort(losses, stable=True)[:n_kept]


def kept_weights(
    losses: Tensor,
    targets: Tensor,
    weights: Tensor,
    forget_rate: float,
    *,
    class_floor: float,
    n_classes: int,
) -> Tensor:
    """The share of each example's weight that fits into the budgets of its batch and of its class.

    Examples are ranked by their unweighted loss, ties by position, in one order for every budget. The batch's budget
    ``(1 - forget_rate) * weights.sum()`` is filled in that order; the example on the boundary counts in part. Each
    given class that has at least 8 examples' worth of weight in the batch fills a budget of its own in the same order,
    ``class_floor * (1 - forget_rate)`` of its weight. An example keeps the larger of what the two leave it, so that no
    class that is learnt late loses all its examples to the others; more than the batch's budget may be kept.

    For unit weights, an integral ``(1 - forget_rate) * n`` and ``class_floor=0`` the kept examples are those of
    :func:`small_loss_indices`.

    Parameters
    ----------
    losses : Tensor of shape (n,), floating
        One loss per example of the batch, not weighted.
    targets : Tensor of shape (n,), int64
        Given labels in ``[0, n_classes)``.
    weights : Tensor of shape (n,), floating
        Weight of each example, 0 or more. Weight 2 counts as the same example twice.
    forget_rate : float in [0, 1)
        Share of the batch's weight that is not kept.
    class_floor : float in [0, 1]
        Part of a class's fair share that it keeps in any case. 0: the batch is ranked as a whole.
    n_classes : int
        Number of classes.

    Returns
    -------
    Tensor of shape (n,), floating
        Kept weight of each example, between 0 and its weight, without a gradient.

    Examples
    --------
    >>> import torch
    >>> losses = torch.tensor([0.3, 2.0, 0.1, 0.2])
    >>> kept_weights(losses, torch.tensor([0, 1, 0, 1]), torch.ones(4), 0.375, class_floor=0.0, n_classes=2)
    tensor([0.5000, 0.0000, 1.0000, 1.0000])
    """
    order = torch.argsort(losses.detach(), stable=True)
    ranked = weights[order]
    kept = _fill(ranked, 1 - forget_rate)
    if class_floor > 0:
        # (n, n_classes): the weight of each ranked example in the column of its class
        by_class = ranked.new_zeros(len(ranked), n_classes).scatter_(1, targets[order, None], ranked[:, None])
        granted = by_class.sum(0) > MINIMUM_CLASS_WEIGHT - 1e-3  # balanced class weights add up to 8 only nearly
        by_class_kept = _fill(by_class, class_floor * (1 - forget_rate)) * granted
        kept = torch.maximum(kept, by_class_kept.sum(1))
    return torch.zeros_like(kept).scatter_(0, order, kept)


def _fill(ranked: Tensor, share: float) -> Tensor:
    """What is kept of each of the ``ranked`` weights (along the first axis) when ``share`` of their sum is filled."""
    used = ranked.cumsum(0)
    return torch.minimum((share * used[-1] - (used - ranked)).clamp(min=0), ranked)


def kept_mean(losses: Tensor, kept: Tensor) -> Tensor:
    """Mean of ``losses`` weighted by what is kept of each example: the estimator's objective.

    Parameters
    ----------
    losses : Tensor of shape (n,), floating
    kept : Tensor of shape (n,), floating
        Kept weights, not all zero.

    Returns
    -------
    Tensor of shape (), floating

    Examples
    --------
    >>> import torch
    >>> kept_mean(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([1.0, 0.0, 0.5]))
    tensor(1.6667)
    """
    return (losses * kept).sum() / kept.sum()
