"""What a training finds out about every example and its given label: sums over epochs, and what follows from them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skcoteach._training.device import sum_dtype
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach.noise import find_issues


@dataclass(frozen=True)
class Labels:
    """What a complete fit has found out about each given label: arrays of shape (n_samples,).

    Class numbers are of the smallest integer type that holds them. The quality is empty where it is kept elsewhere.
    """

    given: np.ndarray
    predicted: np.ndarray
    quality: np.ndarray
    is_issue: np.ndarray


class LabelStatistics:
    """Sums over the epochs of a training, each (n_samples,), on the device.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers.
    n_classes : int
    weights : Tensor of shape (n_samples,), floating
        Losses are summed in its dtype, where it lies.
    """

    def __init__(self, codes: np.ndarray, n_classes: int, weights: Tensor):
        self._codes = codes
        self._n_classes = n_classes
        self._kept = torch.zeros_like(weights, dtype=sum_dtype(weights.device))
        self._losses = torch.zeros_like(weights)
        self._n_seen = torch.zeros_like(weights, dtype=torch.int64)
        self._predicted = torch.full_like(self._n_seen, -1)

    def restart(self) -> None:
        """Start the sums anew. Which class was predicted last is not forgotten."""
        for sums in (self._kept, self._losses, self._n_seen):
            sums.zero_()

    def add(self, kept: Tensor, losses: Tensor, predicted: Tensor, seen: Tensor) -> None:
        """Add an epoch: what the :class:`~.epoch_statistics.EpochStatistics` hold."""
        self._kept += kept
        self._losses += torch.where(seen, losses.mean(0), 0)
        self._n_seen += seen
        torch.where(seen, predicted, self._predicted, out=self._predicted)

    @property
    def predicted(self) -> Tensor:
        """Class that was predicted when the example was last in a batch, (n_samples,) int64; else -1."""
        return self._predicted

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, and what was predicted last."""
        return {
            "kept": self._kept,
            "losses": self._losses,
            "n_seen": self._n_seen,
            "predicted": self._predicted,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the sums of a :meth:`state_dict`."""
        for name, sums in self.state_dict().items():
            sums.copy_(state[name])

    def kept_frequency(self) -> np.ndarray:
        """Mean share of each example that was kept, (n_samples,) float64."""
        return self._mean(self._kept)

    def never_seen(self) -> np.ndarray:
        """Indices of the examples that were in no batch."""
        return np.flatnonzero((self._n_seen == 0).cpu().numpy())

    def labels(self, now: np.ndarray, noise_estimate: NoiseEstimate, weights: np.ndarray) -> Labels:
        """What is known of each label.

        Parameters
        ----------
        now : ndarray of shape (n_never_seen, n_classes)
            Probabilities by the networks for the examples that were in no batch.
        noise_estimate : NoiseEstimate
            What share of the labels is taken for wrong, and what was found out of sample.
        weights : ndarray of shape (n_samples,)
            Examples of weight 0 are no issues.
        """
        predicted = self._predicted.cpu().numpy().copy()
        quality = np.exp(-self._mean(self._losses))
        unseen = self.never_seen()
        quality[unseen] = np.nan_to_num(
            now[np.arange(len(unseen)), self._codes[unseen]]
        )  # those of no weight may overflow
        predicted[unseen] = now.argmax(axis=1)
        if noise_estimate.quality is not None and noise_estimate.forget_rate > 0:
            quality = (quality + noise_estimate.quality.numpy()) / 2
        rate = noise_estimate.forget_rate if noise_estimate.noise_rate is None else noise_estimate.noise_rate
        is_issue = find_issues(quality, weights, rate) & (weights > 0)
        if noise_estimate.predicted is not None:
            learnt = is_issue & (predicted == self._codes)
            predicted[learnt] = noise_estimate.predicted.numpy()[learnt]
        small = np.min_scalar_type(self._n_classes - 1)
        return Labels(
            self._codes.astype(small), predicted.astype(small), quality, is_issue & (predicted != self._codes)
        )

    def _mean(self, sums: Tensor) -> np.ndarray:
        """Mean over the epochs in which an example was in a batch, (n_samples,); else the mean of its given class."""
        total, count = sums.cpu().numpy(), self._n_seen.cpu().numpy()
        seen = count > 0
        means = total / np.maximum(count, 1)
        by_class = np.bincount(self._codes[seen], means[seen], self._n_classes)
        seen_by_class = np.bincount(self._codes[seen], minlength=self._n_classes)
        class_means = np.where(seen_by_class > 0, by_class / np.maximum(seen_by_class, 1), means[seen].mean())
        return np.where(seen, means, class_means[self._codes]).astype(np.float64)
