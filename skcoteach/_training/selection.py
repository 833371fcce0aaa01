"""Which examples of a mini-batch a network hands to its peer: the small-loss rules of co-teaching.

Pure tensor functions with static shapes: nothing here asks the device for a number, branches on data or knows of
networks and optimizers. When and how often examples are forgotten is decided in ``schedules``; what is done with the
kept ones in ``steps`` and ``coteaching``.
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
    losses : Tensor of shape (..., n), floating
        One loss per example of the batch, not weighted; along the first axes, of several networks.
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
    Tensor of shape (..., n), floating
        Kept weight of each example, between 0 and its weight, without a gradient.

    Examples
    --------
    >>> import torch
    >>> losses = torch.tensor([0.3, 2.0, 0.1, 0.2])
    >>> kept_weights(losses, torch.tensor([0, 1, 0, 1]), torch.ones(4), 0.375, class_floor=0.0, n_classes=2)
    tensor([0.5000, 0.0000, 1.0000, 1.0000])
    """
    members, sizes = batch_budgets(targets, weights, forget_rate, class_floor=class_floor, n_classes=n_classes)
    return fill_budgets(losses, members, sizes)


def batch_budgets(
    targets: Tensor,
    weights: Tensor,
    forget_rate: float,
    *,
    class_floor: float,
    n_classes: int,
    largest_weight: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The budgets of batches, before anything is known of losses.

    Parameters
    ----------
    targets, weights : Tensor of shape (..., n)
        Of one batch, or of several along the first axes.
    forget_rate, class_floor, n_classes
        As for :func:`kept_weights`.
    largest_weight : float, optional
        No example weighs more. Where it is known, there are only as many budgets of classes as can have enough weight.

    Returns
    -------
    members : Tensor of shape (n_budgets, ..., n)
        What each example may take of each budget: of the classes' its weight or nothing, of the batch's its weight.
    sizes : Tensor of shape (n_budgets, ..., 1)
        How much weight a budget has for its members.
    """
    batch = weights[None]
    size = batch.sum(-1, keepdim=True) * (1 - forget_rate)
    enough = MINIMUM_CLASS_WEIGHT - 1e-3  # balanced class weights add up to 8 only nearly
    n_with_budget = n_classes
    if largest_weight is not None:
        n_with_budget = min(n_classes, int(targets.shape[-1] * largest_weight / enough))
    if class_floor == 0 or n_with_budget == 0:
        return batch, size
    n_batches = weights[..., 0].numel()
    cells = targets.reshape(n_batches, -1) + n_classes * torch.arange(n_batches, device=targets.device)[:, None]
    by_class = weights.new_zeros(n_batches * n_classes).index_add_(0, cells.flatten(), weights.flatten())
    by_class = by_class.view(*weights.shape[:-1], n_classes)
    heaviest = by_class.topk(n_with_budget).indices.sort().values
    class_weights, classes = (each.movedim(-1, 0)[..., None] for each in (by_class.gather(-1, heaviest), heaviest))
    of_classes = torch.where(targets == classes, weights, 0)
    # the amounts are summed in a fixed order, which index_add_ does not do on every device
    class_sizes = torch.where(class_weights > enough, of_classes.sum(-1, keepdim=True), 0)
    return torch.cat([of_classes, batch]), torch.cat([class_sizes * (class_floor * (1 - forget_rate)), size])


def fill_budgets(losses: Tensor, members: Tensor, sizes: Tensor) -> Tensor:
    """Fill the budgets of a batch in the order of the losses.

    Parameters
    ----------
    losses : Tensor of shape (..., n)
        Along the first axes, of several networks.
    members : Tensor of shape (n_budgets, n)
    sizes : Tensor of shape (n_budgets, 1)
        As :func:`batch_budgets` gives them.

    Returns
    -------
    Tensor of shape (..., n)
        The most that any budget leaves each example.
    """
    order = losses.argsort(stable=True)
    ranked = members.index_select(1, order.reshape(-1)).view(len(members), *order.shape)  # (n_budgets, ..., n)
    before = ranked.cumsum(-1).sub_(ranked)
    left = sizes.view(-1, *[1] * order.ndim) - before
    kept = torch.minimum(left.clamp_(min=0), ranked).amax(0)
    return torch.empty_like(kept).scatter_(-1, order, kept)
