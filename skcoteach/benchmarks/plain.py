"""One network that learns from all labels, trained by skorch: the peer that knows nothing of noise."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skcoteach.schedules import learning_rate_schedule


class _AfterEpoch(Callback):
    """Calls a function with the network after every epoch."""

    def __init__(self, watch: Callable[[Any], object]):
        self.watch = watch

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Tell it."""
        self.watch(net)


def plain_network(
    make: Callable[[], nn.Module],
    *,
    epochs: int,
    lr: float,
    epoch_decay_start: int,
    batch_size: int,
    device: str,
    watch: Callable[[Any], object] | None = None,
) -> NeuralNetClassifier:
    """An unfitted classifier that trains one network with Adam.

    Parameters
    ----------
    make : callable
        Makes the network.
    epochs, lr, epoch_decay_start, batch_size, device
        As in :class:`~skcoteach.CoTeachingClassifier`.
    watch : callable, optional
        Called with the classifier after every epoch.
    """
    rates = [*learning_rate_schedule(epochs, 1.0, epoch_decay_start), 0.0]  # skorch asks for that after the last, too
    plan = LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=functools.partial(operator.getitem, rates))
    return NeuralNetClassifier(
        make,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=lr,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=1000,
        train_split=None,
        callbacks=[("plan", plan)] + ([] if watch is None else [("watch", _AfterEpoch(watch))]),
        verbose=0,
        device=device,
    )
