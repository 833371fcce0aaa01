"""The documented functions of ``cleanlab.experimental.coteaching``: changing the import is the whole migration.

They keep that module's signatures and numbers, run on whatever device the models are on, and are thin: the rules are
in ``selection`` and ``schedules``. An estimator that needs no training loop is ``skcoteach.CoTeachingClassifier``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from skcoteach import schedules
from skcoteach._data.sampling import MINIMUM_BATCH_SIZE
from skcoteach._training.selection import small_loss_indices


def loss_coteaching(
    y_1: Tensor, y_2: Tensor, t: Tensor, forget_rate: float, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of each network on the examples that its peer keeps.

    Each network ranks the batch by its own class-weighted cross entropy and hands ``int((1 - forget_rate) * n)``
    examples of small loss, but at least one, to its peer.

    Parameters
    ----------
    y_1, y_2 : Tensor of shape (n, n_classes), floating
        Logits of the two networks.
    t : Tensor of shape (n,), int64
        Given labels.
    forget_rate : float in [0, 1]
        Share of the batch that is not learnt from: ``forget_rate_schedule[epoch]``.
    class_weights : Tensor of shape (n_classes,), floating, default=None
        Weight of each class in the ranking and in the loss. None: all 1.

    Returns
    -------
    tuple of two Tensors of shape (), floating
        Loss of network 1 and of network 2. Each is the class-weighted mean over the kept examples, as
        ``torch.nn.functional.cross_entropy`` takes it, **divided by the number kept once more**. That division is in
        the documented function, and learning rates have been chosen with it; multiply by the number kept to have the
        mean.

    References
    ----------
    Han et al., "Co-teaching: Robust training of deep neural networks with extremely noisy labels", NeurIPS 2018,
    Algorithm 1, lines 4-6 (arXiv:1804.06872); ``cleanlab.experimental.coteaching.loss_coteaching``.

    Examples
    --------
    >>> import torch
    >>> y_1 = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    >>> loss_coteaching(y_1, 2 * y_1, torch.tensor([0, 1, 1, 0]), forget_rate=0.5)
    (tensor(0.0635), tensor(0.0091))
    """
    kept_by_1 = small_loss_indices(
        F.cross_entropy(y_1.detach(), t, weight=class_weights, reduction="none"), forget_rate
    )
    kept_by_2 = small_loss_indices(
        F.cross_entropy(y_2.detach(), t, weight=class_weights, reduction="none"), forget_rate
    )
    n_kept = len(kept_by_1)
    return (
        F.cross_entropy(y_1[kept_by_2], t[kept_by_2], weight=class_weights) / n_kept,
        F.cross_entropy(y_2[kept_by_1], t[kept_by_1], weight=class_weights) / n_kept,
    )


def initialize_lr_scheduler(
    lr: float = 0.001, epochs: int = 250, epoch_decay_start: int = 80
) -> tuple[list[float], list[float]]:
    """Learning rate and Adam's first beta for every epoch, as :func:`adjust_learning_rate` takes them.

    Parameters
    ----------
    lr : float, default=0.001
        Learning rate of the first epochs.
    epochs : int, default=250
        Number of epochs.
    epoch_decay_start : int, default=80
        First epoch, counted from 0, of the linear decay towards zero.

    Returns
    -------
    alpha_plan : list of float
        One learning rate an epoch.
    beta1_plan : list of float
        0.9 for every epoch.

    Examples
    --------
    >>> initialize_lr_scheduler(lr=0.1, epochs=4, epoch_decay_start=2)
    ([0.1, 0.1, 0.1, 0.05], [0.9, 0.9, 0.9, 0.9])
    """
    return schedules.learning_rate_schedule(epochs, lr, epoch_decay_start), [0.9] * epochs


def adjust_learning_rate(optimizer: Optimizer, epoch: int, alpha_plan: list[float], beta1_plan: list[float]) -> None:
    """Set the learning rate and Adam's betas of all parameter groups to those of an epoch.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Changed in place.
    epoch : int
        Epoch that is about to start, counted from 0.
    alpha_plan, beta1_plan : list of float
        Of :func:`initialize_lr_scheduler`. The second beta is 0.999.

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.Adam([torch.zeros(1)])
    >>> adjust_learning_rate(optimizer, 1, alpha_plan=[0.1, 0.05], beta1_plan=[0.9, 0.8])
    >>> optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]
    (0.05, (0.8, 0.999))
    """
    for group in optimizer.param_groups:
        group["lr"] = alpha_plan[epoch]
        group["betas"] = (beta1_plan[epoch], 0.999)


def forget_rate_scheduler(epochs: int, forget_rate: float, num_gradual: int, exponent: float) -> np.ndarray:
    """Share of a batch that is not learnt from, for every epoch.

    Rises linearly from 0 to ``forget_rate ** exponent`` over the first ``num_gradual`` epochs, then stays at
    ``forget_rate``.

    Parameters
    ----------
    epochs : int
        Number of epochs.
    forget_rate : float in [0, 1)
        The final forget rate, best the share of wrong labels.
    num_gradual : int
        Length of the warm-up in epochs, at most ``epochs``.
    exponent : float
        Sets where the warm-up ends.

    Returns
    -------
    ndarray of shape (epochs,), float64

    Raises
    ------
    ValueError
        If ``num_gradual`` is greater than ``epochs``.

    Examples
    --------
    >>> forget_rate_scheduler(4, 0.2, num_gradual=3, exponent=1).tolist()
    [0.0, 0.1, 0.2, 0.2]
    """
    return schedules.forget_rate_schedule(epochs, forget_rate, num_gradual, exponent)


def train(
    train_loader: DataLoader,
    epoch: int,
    model1: nn.Module,
    optimizer1: Optimizer,
    model2: nn.Module,
    optimizer2: Optimizer,
    args: Any,
    forget_rate_schedule: np.ndarray,
    class_weights: Tensor | None,
    accuracy: Callable[..., Any],
) -> tuple[float, float]:
    """Train both networks for one epoch, each on what the other keeps.

    Batches are moved to the device of the models. A last batch of fewer than 16 examples is skipped, unless it is the
    only one.

    Parameters
    ----------
    train_loader : torch.utils.data.DataLoader
        Yields batches of inputs and given labels.
    epoch : int
        This epoch, counted from 0.
    model1, model2 : torch.nn.Module
        The networks, on one device; put in train mode. They return logits of shape (n, n_classes).
    optimizer1, optimizer2 : torch.optim.Optimizer
        Of ``model1`` and of ``model2``.
    args : object
        Its ``print_freq`` is the number of batches from one printed line to the next; ``epochs`` and ``batch_size``
        are read for what is printed. ``num_iter_per_epoch`` is not looked at.
    forget_rate_schedule : ndarray of shape (epochs,)
        Of :func:`forget_rate_scheduler`.
    class_weights : Tensor of shape (n_classes,), floating, or None
        Weight of each class.
    accuracy : callable
        ``accuracy(output, target, topk=(1, 5))`` returns one accuracy, a number or a tensor of one element, for each
        entry of ``topk``. With fewer than five classes it is asked for ``topk=(1, n_classes)``. Only the first is used.

    Returns
    -------
    tuple of two floats
        Mean over the batches of the first accuracy of ``model1`` and of ``model2``, before their updates.

    Raises
    ------
    ValueError
        If ``train_loader`` is empty.

    Examples
    --------
    >>> from argparse import Namespace
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> def accuracy(output, target, topk):
    ...     ranked = output.topk(max(topk)).indices == target[:, None]
    ...     return [100 * ranked[:, :k].any(1).float().mean() for k in topk]
    >>> X, y = torch.eye(2).repeat(32, 1), torch.arange(64) % 2
    >>> _ = torch.manual_seed(0)
    >>> models = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    >>> optimizers = [torch.optim.Adam(model.parameters(), lr=0.1) for model in models]
    >>> args, schedule = Namespace(print_freq=100, epochs=9, batch_size=16), forget_rate_scheduler(9, 0.2, 5, 1)
    >>> for epoch in range(9):
    ...     accuracies = train(DataLoader(TensorDataset(X, y), batch_size=16), epoch, models[0], optimizers[0],
    ...                        models[1], optimizers[1], args, schedule, None, accuracy)
    >>> accuracies
    (100.0, 100.0)
    """
    device = _device(model1)
    if class_weights is not None:
        class_weights = class_weights.to(device)
    model1.train()
    model2.train()
    n_batches, n_trained = len(train_loader), 0
    total1 = total2 = 0.0  # of the accuracies: tensors on the device where `accuracy` returns such

    for i, (images, labels) in enumerate(train_loader):
        if 0 < i == n_batches - 1 and len(labels) < MINIMUM_BATCH_SIZE:
            continue
        images, labels = images.to(device), labels.to(device)
        logits1 = model1(images)
        logits2 = model2(images)
        topk = (1, min(5, logits1.shape[1]))
        precision1, _ = accuracy(logits1.detach(), labels, topk=topk)
        precision2, _ = accuracy(logits2.detach(), labels, topk=topk)
        n_trained, total1, total2 = n_trained + 1, total1 + precision1, total2 + precision2

        loss1, loss2 = loss_coteaching(logits1, logits2, labels, forget_rate_schedule[epoch], class_weights)
        for optimizer, loss in ((optimizer1, loss1), (optimizer2, loss2)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (i + 1) % args.print_freq == 0:
            n_iter = len(train_loader.dataset) // args.batch_size  # type: ignore[arg-type]
            print(
                f"Epoch [{epoch + 1}/{args.epochs}], Iter [{i + 1}/{n_iter}] "
                f"Training Accuracy1: {float(precision1):.4f}, Training Accuracy2: {float(precision2):.4f}, "
                f"Loss1: {loss1.item():.4f}, Loss2: {loss2.item():.4f} "
            )

    if n_trained == 0:
        raise ValueError("train_loader is empty: there is no batch to train on.")
    return float(total1) / n_trained, float(total2) / n_trained


@torch.no_grad()
def evaluate(test_loader: DataLoader, model1: nn.Module, model2: nn.Module) -> tuple[float, float]:
    """Accuracy of both networks in eval mode, in which they stay.

    Parameters
    ----------
    test_loader : torch.utils.data.DataLoader
        Yields batches of inputs and labels; gone through once for each network, as the original does (a DataLoader
        draws a number from torch's global generator each time). Batches are moved to the device of the models.
    model1, model2 : torch.nn.Module
        The networks, on one device.

    Returns
    -------
    tuple of two floats
        Accuracy in percent of ``model1`` and of ``model2``.

    Raises
    ------
    ValueError
        If ``test_loader`` is empty.

    Examples
    --------
    >>> import torch
    >>> batches = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2), torch.tensor([0, 0]))]
    >>> evaluate(batches, torch.nn.Identity(), torch.nn.Softmin(dim=1))
    Evaluating Co-Teaching Model
    (75.0, 25.0)
    """
    print("Evaluating Co-Teaching Model")
    device = _device(model1)
    return _accuracy(test_loader, model1, device), _accuracy(test_loader, model2, device)


def _accuracy(test_loader: DataLoader, model: nn.Module, device: torch.device) -> float:
    model.eval()
    n_examples, n_correct = 0, torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in test_loader:
        images, labels = images.to(device), labels.to(device)
        n_examples += len(labels)
        n_correct += (model(images).argmax(1) == labels).sum()
    if n_examples == 0:
        raise ValueError(
            "test_loader is empty: there is nothing to evaluate on. It is gone through once for each network, so an "
            "iterator is not enough."
        )
    return 100 * int(n_correct) / n_examples


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
