"""What a training finds out about every example and its given label: sums over epochs, and what follows from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skcoteach.noise import find_issues


@dataclass
class Labels:
    """What a complete fit has found out about each given label: arrays of shape (n_samples,)."""

    given: np.ndarray
    predicted: np.ndarray
    quality: np.ndarray
    is_issue: np.ndarray


@dataclass
class Unseen:
    """What networks that have not seen its label say of each example: arrays of shape (n_samples,).

    ``quality`` is the probability of the given label, ``predicted`` the most likely class.
    """

    quality: np.ndarray
    predicted: np.ndarray


class Examples:
    """Sums over the epochs of a training.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers.
    n_classes : int
    device : torch.device
        Where the sums are made.
    """

    def __init__(self, codes: np.ndarray, n_classes: int, device: torch.device):
        self.codes = codes
        self.n_classes = n_classes
        self._predicted = torch.full((len(codes),), -1, device=device)
        self.forget()

    def forget(self) -> None:
        """Start the sums anew. Which class was predicted last is not forgotten."""
        self._kept: Any = 0
        self._losses: Any = 0
        self._seen: Any = 0

    def add(self, kept: Tensor, losses: Tensor, predicted: Tensor, seen: Tensor) -> None:
        """Add an epoch: what :meth:`~skcoteach.training.CoTeaching.run_epoch` returns, each (n_samples,)."""
        self._kept += kept
        self._losses += losses
        self._seen += seen
        self._predicted = torch.where(seen, predicted, self._predicted)

    def kept_frequency(self) -> np.ndarray:
        """Mean share of each example that was kept, (n_samples,) float64."""
        return self._mean(self._kept)

    def never_seen(self) -> np.ndarray:
        """Numbers of the examples that were in no batch."""
        return np.flatnonzero((self._seen == 0).cpu().numpy())

    def labels(self, now: np.ndarray, unseen: Unseen | None, weights: np.ndarray, noise_rate: float) -> Labels:
        """What is known of each label.

        Parameters
        ----------
        now : ndarray of shape (n_never_seen, n_classes)
            Probabilities by the networks for the examples that were in no batch.
        unseen : Unseen, optional
            Where there was a cross-fit.
        weights : ndarray of shape (n_samples,)
            Examples of weight 0 are no issues.
        noise_rate : float
            Share of the labels to be taken for wrong.
        """
        predicted = self._predicted.cpu().numpy().copy()
        quality = np.exp(-self._mean(self._losses))
        rows = self.never_seen()
        quality[rows] = np.nan_to_num(now[np.arange(len(rows)), self.codes[rows]])  # rows of no weight may overflow
        predicted[rows] = now.argmax(axis=1)
        if unseen is not None:
            quality = (quality + unseen.quality) / 2
        is_issue = find_issues(quality, weights, noise_rate) & (weights > 0)
        if unseen is not None:
            learnt = is_issue & (predicted == self.codes)
            predicted[learnt] = unseen.predicted[learnt]
        return Labels(self.codes, predicted, quality, is_issue & (predicted != self.codes))

    def _mean(self, sums) -> np.ndarray:
        """Mean over the epochs in which an example was in a batch, (n_samples,); else the mean of its given class."""
        sums, count = (each.cpu().numpy() for each in (sums, self._seen))
        seen = count > 0
        means = sums / np.maximum(count, 1)
        by_class = np.bincount(self.codes[seen], means[seen], self.n_classes)
        seen_by_class = np.bincount(self.codes[seen], minlength=self.n_classes)
        class_means = np.where(seen_by_class > 0, by_class / np.maximum(seen_by_class, 1), means[seen].mean())
        return np.where(seen, means, class_means[self.codes]).astype(np.float64)
