"""What a training finds out about every example and its given label: sums over epochs, and what follows from them."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from skcoteach._arrays import blocks
from skcoteach._training.device import sum_dtype
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach.noise import find_issues

#: Probabilities whose odds are averaged are kept so far from 0 and 1.
ODDS_MARGIN = 0.001


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
    codes : ndarray of shape (n_samples,), signed int
        Given labels as class numbers.
    n_classes : int
    weights : Tensor of shape (n_samples,), floating
        Losses are summed in its dtype, where it lies.
    """

    def __init__(self, codes: np.ndarray, n_classes: int, weights: Tensor):
        self._codes = codes
        self._n_classes = n_classes
        self._dtype = weights.dtype
        self._device = weights.device
        self._predicted = self._of_all(-1, torch.from_numpy(codes[:0]).dtype)
        self.restart()

    def _of_all(self, number: int, dtype: torch.dtype) -> Tensor:
        """The same number for every example, (n_samples,)."""
        return torch.full((), number, dtype=dtype, device=self._device).expand(len(self._codes))

    def restart(self) -> None:
        """Start the sums anew. Which class was predicted last is not forgotten."""
        self._kept = self._of_all(0, sum_dtype(self._device))
        self._losses = self._of_all(0, self._dtype)
        self._n_seen = self._of_all(0, torch.uint8)
        self._n_epochs = 0

    def add(self, kept: Tensor, losses: Tensor, predicted: Tensor, seen: Tensor) -> None:
        """Add an epoch: what the :class:`~.epoch_statistics.EpochStatistics` hold.

        ``kept`` and ``predicted`` are worked on and kept. The tensors of before stay as they are.
        """
        summed = torch.empty_like(seen, dtype=self._dtype)
        for rows in blocks(len(seen)):
            mean = torch.where(seen[rows], losses[:, rows].mean(0), 0)
            torch.add(self._losses[rows], mean, out=summed[rows])
        self._kept = kept.add_(self._kept)
        self._losses = summed
        self._n_epochs += 1
        self._n_seen = self._n_seen.to(_count_dtype(self._n_epochs)) + seen
        self._predicted = torch.where(seen, predicted, self._predicted, out=predicted)

    @property
    def predicted(self) -> Tensor:
        """Class that was predicted when the example was last in a batch, (n_samples,) int; else -1."""
        return self._predicted

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, and what was predicted last. No epoch changes these tensors; it has others in their place."""
        return {
            "kept": self._kept,
            "losses": self._losses,
            "n_seen": self._n_seen,
            "predicted": self._predicted,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over copies of the tensors of a :meth:`state_dict`."""
        self._n_epochs = int(state["n_seen"].max())
        self._n_seen = state["n_seen"].to(self._device, _count_dtype(self._n_epochs), copy=True)
        self._kept, self._losses, self._predicted = (
            state[name].to(before.device, before.dtype, copy=True)
            for name, before in (("kept", self._kept), ("losses", self._losses), ("predicted", self._predicted))
        )

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
        quality = self._mean(self._losses)
        np.exp(np.negative(quality, out=quality), out=quality)
        unseen = self.never_seen()
        quality[unseen] = np.nan_to_num(
            now[np.arange(len(unseen)), self._codes[unseen]]
        )  # those of no weight may overflow
        predicted[unseen] = now.argmax(axis=1)
        if noise_estimate.quality is not None and noise_estimate.forget_rate > 0:
            for rows in blocks(len(quality)):
                quality[rows] = _mean_by_odds(quality[rows], noise_estimate.quality[rows].numpy())
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
        means = np.empty(len(total))
        by_class, seen_by_class = np.zeros(self._n_classes), np.zeros(self._n_classes)
        for rows in blocks(len(means)):
            np.divide(total[rows], np.maximum(count[rows], 1), out=means[rows])
            seen = count[rows] > 0
            codes = self._codes[rows][seen]
            by_class += np.bincount(codes, means[rows][seen], self._n_classes)
            seen_by_class += np.bincount(codes, minlength=self._n_classes)
        unseen = np.flatnonzero(count == 0)
        if len(unseen):
            with_none = means[count > 0].mean() if (seen_by_class == 0).any() else 0
            class_means = np.where(seen_by_class > 0, by_class / np.maximum(seen_by_class, 1), with_none)
            means[unseen] = class_means[self._codes[unseen]]
        return means


def _mean_by_odds(*probabilities: np.ndarray) -> np.ndarray:
    """The probability whose log odds are the mean of those of the given ones."""
    return expit(np.mean([logit((each + ODDS_MARGIN) / (1 + 2 * ODDS_MARGIN)) for each in probabilities], axis=0))


def _count_dtype(n: int) -> torch.dtype:
    """For counts of so many epochs: small, as there are no more in most trainings."""
    return torch.uint8 if n <= torch.iinfo(torch.uint8).max else torch.int32
