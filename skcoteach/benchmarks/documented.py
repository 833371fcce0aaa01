"""The loop of cleanlab's documentation, as a peer: ``cleanlab.experimental.coteaching``, run where the networks are."""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from unittest import mock

import numpy as np
import torch
from cleanlab.experimental import coteaching
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, Sampler, TensorDataset


def train_epochs(
    networks: Sequence[nn.Module],
    X: np.ndarray,
    y: np.ndarray,
    *,
    forget_rate: float,
    num_gradual: int,
    epochs: int,
    lr: float = 1e-3,
    epoch_decay_start: int,
    batch_size: int,
    device: str,
    sampler: Sampler | None = None,
) -> Iterator[int]:
    """Train both networks in place; yields the number of each epoch when it is done.

    Parameters
    ----------
    networks : sequence of two nn.Module
        On the device.
    X : ndarray of shape (n_samples, ...), float32
    y : ndarray of shape (n_samples,), int64
    forget_rate, num_gradual, epochs, lr, epoch_decay_start, batch_size
        As in :class:`~skcoteach.CoTeachingClassifier`.
    device : str
        The original always takes the first CUDA device.
    sampler : Sampler, optional
        Of the rows of every epoch. None: in random order.
    """
    optimizers = [torch.optim.Adam(network.parameters(), lr=lr) for network in networks]
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    loader = DataLoader(data, batch_size, sampler=RandomSampler(data) if sampler is None else sampler)
    plans = coteaching.initialize_lr_scheduler(lr, epochs, epoch_decay_start)
    schedule = coteaching.forget_rate_scheduler(epochs, forget_rate, num_gradual, 1)
    options = argparse.Namespace(print_freq=10**9, epochs=epochs, batch_size=batch_size)
    pairs = [each for pair in zip(networks, optimizers, strict=True) for each in pair]
    for epoch in range(epochs):
        with mock.patch.object(Tensor, "cuda", lambda tensor: tensor.to(device)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for optimizer in optimizers:
                coteaching.adjust_learning_rate(optimizer, epoch, *plans)
            coteaching.train(loader, epoch, *pairs, options, schedule, None, top_accuracies)
        yield epoch


def top_accuracies(logits: Tensor, targets: Tensor, topk: tuple[int, ...]) -> list[Tensor]:
    """The function that the documented example hands to ``train``: percent right among the k most likely classes."""
    right = logits.topk(max(topk), 1).indices.T == targets
    return [right[:k].float().sum() * (100 / len(targets)) for k in topk]


class SharePure(Sampler):
    """The order of every epoch, and the share of true labels among what the loop keeps.

    Parameters
    ----------
    is_right : ndarray of shape (n_samples,), bool
        Whether each given label is the true one.
    first_epoch : int
        Epochs before it are not counted: the warm-up.

    Attributes
    ----------
    kept, right : int
        Labels kept so far by either network, and those of them that are true.
    """

    def __init__(self, is_right: np.ndarray, first_epoch: int):
        self.is_right = torch.from_numpy(is_right)
        self.epochs_to_skip = first_epoch
        self.kept = self.right = 0
        self._rows = torch.arange(0)

    def __len__(self) -> int:
        return len(self.is_right)

    def __iter__(self) -> Iterator[int]:
        self.epochs_to_skip -= 1
        self._rows = torch.randperm(len(self.is_right))
        self._done = 0
        return iter(self._rows.tolist())

    def counting(self) -> mock._patch:
        """A patch under which the loop's loss counts what it keeps."""
        original = coteaching.loss_coteaching

        def loss(
            y_1: Tensor, y_2: Tensor, t: Tensor, forget_rate: float, class_weights: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            rows = self._rows[self._done : self._done + len(t)]
            self._done += len(t)
            if self.epochs_to_skip < 0:
                for logits in (y_1, y_2):
                    order = torch.nn.functional.cross_entropy(logits.detach(), t, reduction="none").cpu().argsort()
                    kept = rows[order[: int((1 - forget_rate) * len(t))]]
                    self.kept += len(kept)
                    self.right += int(self.is_right[kept].sum())
            return original(y_1, y_2, t, forget_rate, class_weights)

        return mock.patch.object(coteaching, "loss_coteaching", loss)
