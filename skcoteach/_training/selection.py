"""Which examples of a mini-batch a network hands to its peer: the small-loss rules of co-teaching.

Pure tensor functions with static shapes: nothing here asks the device for a number, branches on data or knows of
networks and optimizers. When and how often examples are forgotten is decided in ``schedules``; what is done with the
kept ones in ``steps`` and ``coteaching``.
"""

import torch
from torch import Tensor

from skcoteach._training.device import sum_dtype

#: A batch that holds this much weight of a given class ranks it by the losses of now. With less, a lone example would
#: be kept for being alone. Balanced class weights add up to 8 only nearly.
ENOUGH_OF_A_CLASS = 8 - 1e-3


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


def batch_budgets(targets: Tensor, weights: Tensor, rates: Tensor) -> Tensor:
    """How much weight is kept of each batch.

    Parameters
    ----------
    targets, weights : Tensor of shape (n_batches, n)
        Given labels, int64 in ``[0, n_classes)``, and weights, 0 where a batch has fewer examples.
    rates : Tensor of shape (n_pairs, n_classes), floating, in [0, 1)
        Share of the weight of each given class that is not kept, for each pair of networks.

    Returns
    -------
    Tensor of shape (n_pairs, n_batches), floating
        ``(1 - rate) * weight``, summed over the examples of a batch.
    """
    return (weights * (1 - rates)[:, targets]).sum(-1)


def class_budgets(targets: Tensor, weights: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """How much weight each given class keeps of each batch in any case, where the batch has enough of the class.

    Parameters
    ----------
    targets, weights : Tensor of shape (n_batches, n)
        As for :func:`batch_budgets`.
    shares : Tensor of shape (n_networks, n_classes), floating, in [0, 1]
        Part of each class that is kept in any case.

    Returns
    -------
    budgets : Tensor of shape (n_networks, n_batches, n_classes), floating
        ``share * weight of the class in the batch``; 0 where that is little.
    is_rare : Tensor of shape (n_batches, n), bool
        Which examples are of classes that their batch has little of.
    """
    exact = sum_dtype(weights.device)  # whole numbers and the like are summed to the same number in any order
    of_classes = torch.zeros(len(targets), shares.shape[1], dtype=exact, device=targets.device)
    of_classes.scatter_add_(1, targets, weights.to(exact))
    is_enough = of_classes > ENOUGH_OF_A_CLASS
    return shares[:, None] * torch.where(is_enough, of_classes, 0), ~is_enough.gather(1, targets)


def class_floors(losses: Tensor, targets: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """What each example of an epoch keeps in any case, so that no class starves of which a batch holds one or two.

    Each given class has a budget for the whole epoch, ``share * weight of the class``, whatever its size and that of
    the batches. Its examples fill it in the order of the losses that they had in the last epoch, ties by position; the
    example on the boundary counts in part. So the class keeps its best examples, and one with a large loss is not kept
    for being alone in its batch.

    Parameters
    ----------
    losses : Tensor of shape (n_networks, n), floating
        Last known loss of each example of the epoch, not weighted, of each network.
    targets : Tensor of shape (n,), int64
        Given labels in ``[0, n_classes)``.
    weights : Tensor of shape (n,), floating
        Weight 2 counts as the same example twice; 0 for what has no part in it.
    shares : Tensor of shape (n_networks, n_classes), floating, in [0, 1]
        Part of each class that is kept in any case.

    Returns
    -------
    Tensor of shape (n_networks, n), floating
        Between 0 and the weight of each example.

    Examples
    --------
    >>> import torch
    >>> losses = torch.tensor([[0.3, 2.0, 0.1, 0.2, 5.0, 4.0]])
    >>> class_floors(losses, torch.tensor([0, 0, 0, 0, 1, 1]), torch.ones(6), torch.tensor([[0.375, 0.5]]))
    tensor([[0.0000, 0.0000, 1.0000, 0.5000, 0.0000, 1.0000]])
    """
    by_loss = losses.argsort(dim=-1, stable=True)
    order = by_loss.gather(-1, targets[by_loss].argsort(dim=-1, stable=True))  # class by class, each by its losses
    classes, own = targets[order], weights[order]
    up_to = own.to(sum_dtype(weights.device)).cumsum(-1)
    every = torch.arange(shares.shape[1], device=targets.device).expand(len(shares), -1).contiguous()
    ends = torch.searchsorted(classes, every, right=True)  # so many examples are of this class or one before
    reached = torch.cat([torch.zeros_like(up_to[:, :1]), up_to], -1).gather(-1, ends)
    before_class = torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], -1)
    budgets = shares.to(reached.dtype) * (reached - before_class)
    left = (budgets + before_class).gather(-1, classes) - (up_to - own)
    kept = torch.minimum(left.to(own.dtype).clamp_(min=0), own)
    return torch.empty_like(kept).scatter_(-1, order, kept)


def free_budgets(budgets: Tensor, floors: Tensor) -> Tensor:
    """What is left of each batch's budget for the examples that have no floor, never more than the epoch's budget.

    Parameters
    ----------
    budgets, floors : Tensor of shape (n_networks, n_batches), floating
        How much weight is kept of each batch, and in any case.

    Returns
    -------
    Tensor of shape (n_networks, n_batches), floating
        The difference where it is positive. Where the floors of other batches are more than their budgets, so much
        less, in proportion: the sums over the epoch fit.
    """
    left = budgets - floors
    free = left.clamp(min=0)
    total = free.sum(-1, keepdim=True)
    return free * (left.sum(-1, keepdim=True).clamp(min=0) / total.clamp(min=torch.finfo(total.dtype).tiny))


def kept_weights(
    losses: Tensor,
    weights: Tensor,
    floors: Tensor,
    free: Tensor,
    given: Tensor | None = None,
    budgets: Tensor | None = None,
) -> Tensor:
    """The weight that each example of a batch keeps: its floor, its share of its class's budget and of what is free.

    Examples are ranked by their unweighted loss, ties by position. In this order they fill the budgets of their given
    classes, and are then given what they lack of their weights until the free budget is used up; the example on the
    boundary counts in part. Without floors and budgets of classes, with unit weights and an integral free budget, the
    kept examples are those of :func:`small_loss_indices`.

    Parameters
    ----------
    losses : Tensor of shape (n_networks, n), floating
        One loss per example of the batch, not weighted.
    weights : Tensor of shape (n,), floating
    floors : Tensor of shape (n_networks, n), floating
        What they keep in any case.
    free : Tensor of shape (n_networks, 1), floating
        What may be kept beside.
    given : Tensor of shape (n_classes, n), floating, optional
        1 where an example has this given label, else 0.
    budgets : Tensor of shape (n_networks, n_classes), floating, optional
        How much of each given class is kept in any case; 0 for those whose examples have floors. None: 0 for all.

    Returns
    -------
    Tensor of shape (n_networks, n), floating
        Kept weight of each example, between 0 and its weight.

    Examples
    --------
    >>> import torch
    >>> losses, nothing = torch.tensor([[0.3, 2.0, 0.1, 0.2]]), torch.zeros(1, 4)
    >>> kept_weights(losses, torch.ones(4), nothing, torch.tensor([[2.5]]))
    tensor([[0.5000, 0.0000, 1.0000, 1.0000]])
    >>> kept_weights(losses, torch.ones(4), torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.5]]))
    tensor([[0.0000, 1.0000, 1.0000, 0.5000]])
    """
    order = losses.argsort(stable=True)
    ranked = (weights - floors).gather(-1, order)
    if given is None or budgets is None:
        taken = _filled(ranked, free)
    else:
        claims = (given * weights).index_select(1, order.flatten()).unflatten(1, order.shape)
        of_class = _filled(claims, budgets.T[..., None]).sum(0)
        taken = _filled(ranked - of_class, free) + of_class
    return torch.empty_like(taken).scatter_(-1, order, taken).add_(floors).clamp_(max=weights)


def _filled(claims: Tensor, budgets: Tensor) -> Tensor:
    """What each gets where the budgets are filled along the last axis."""
    before = claims.cumsum(-1).sub_(claims)
    return torch.minimum((budgets - before).clamp_(min=0), claims)
