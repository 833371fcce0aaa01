"""What an epoch finds out, gathered on the device block by block and read back once, at its end."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from skcoteach._errors import DivergedError
from skcoteach._training.device import sum_dtype


class EpochStatistics:
    """Of all examples, on the device; for those that are in no batch what is said below.

    Parameters
    ----------
    weights : Tensor of shape (n_samples,), floating
        On the device.
    batch_size : int

    Attributes
    ----------
    kept : Tensor of shape (n_samples,), floating
        Mean over both networks of the share of each example's weight that was kept; 0.
    losses : Tensor of shape (n_samples,), floating
        Mean over both networks of each example's loss; 0.
    predicted : Tensor of shape (n_samples,), int64
        Class with the highest geometric mean of both networks' probabilities; -1.
    seen : Tensor of shape (n_samples,), bool
        Which examples were in a batch.
    """

    def __init__(self, weights: Tensor, batch_size: int):
        self._batch_size = batch_size
        self._dtype = sum_dtype(weights.device)
        self._totals = torch.zeros(7, dtype=self._dtype, device=weights.device)
        self.kept, self.losses = torch.zeros_like(weights, dtype=self._dtype), torch.zeros_like(weights)
        self.predicted = torch.full_like(weights, -1, dtype=torch.int64)
        self.seen = torch.zeros_like(weights, dtype=torch.bool)

    def add(
        self,
        indices: Tensor,
        log_probabilities: Tensor,
        losses: Tensor,
        kept: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> None:
        """Add a block of batches.

        Parameters
        ----------
        indices, targets, weights : Tensor of shape (n,)
            Of the examples of the block.
        log_probabilities : Tensor of shape (2, n_classes, n)
            Of either network before the step.
        losses, kept : Tensor of shape (2, n)
            Of either network: the loss of each example, and how much of its weight was kept.
        """
        exact_kept = kept.to(self._dtype)
        self._totals += self._sums(
            log_probabilities, losses.to(self._dtype), exact_kept, targets, weights.to(self._dtype)
        )
        self.kept.index_copy_(0, indices, kept.sum(0).to(self._dtype) / (2 * weights))
        self.losses.index_copy_(0, indices, losses.mean(0).to(self.losses.dtype))
        self.predicted.index_copy_(0, indices, log_probabilities.sum(0).max(0).indices)
        self.seen.index_fill_(0, indices, True)

    def _sums(
        self, log_probabilities: Tensor, losses: Tensor, kept: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        """Of a block: objectives summed over its steps; weight that is right, agreed upon, and all; size of logits."""
        from_peer = kept.flip(0)
        objectives = in_batches(losses * from_peer, self._batch_size).sum(-1) / in_batches(
            from_peer, self._batch_size
        ).sum(-1)  # (2, n_batches)
        predicted = log_probabilities.max(1).indices  # many times as fast on the CPU as argmax
        counted = torch.stack([*(predicted == targets), predicted[0] == predicted[1]]).to(weights.dtype) @ weights
        centred = log_probabilities - log_probabilities.mean(1, keepdim=True)
        scale = centred.square().mean(1).sqrt().mean(0).to(weights.dtype) @ weights
        return torch.cat([objectives.sum(1), counted, torch.stack([weights.sum(), scale])])

    def read_back(self) -> tuple[list[float], Tensor]:
        """The only question that an epoch asks the device.

        Returns
        -------
        totals : list of 7 floats
            For :func:`record`.
        kept : Tensor of shape (n_samples,), floating, on the CPU
            As the attribute, but -1 for examples that were in no batch.
        """
        read = torch.cat([self._totals, torch.where(self.seen, self.kept, -1)]).cpu()
        return read[:7].tolist(), read[7:]


def record(totals: list[float], n_steps: int, epoch: int, learning_rate: float, forget_rate: float) -> dict:
    """One entry of ``history_``, but for its duration.

    Raises
    ------
    DivergedError
        If a network's loss became NaN or infinite.
    """
    loss = (totals[0] / n_steps, totals[1] / n_steps)
    for name, value in zip(("first", "second"), loss, strict=True):
        if not abs(value) < float("inf"):
            raise DivergedError(
                f"The loss of the {name} network became {value} in epoch {epoch}: the training diverged. "
                f"A smaller lr than {learning_rate:g}, scaled inputs, or inputs without NaN and infinity usually "
                "help."
            )
    return {
        "epoch": epoch,
        "lr": float(learning_rate),
        "forget_rate": float(forget_rate),
        "loss": loss,
        "accuracy": (totals[2] / totals[5], totals[3] / totals[5]),
        "agreement": totals[4] / totals[5],
    }


def logit_scale(totals: list[float]) -> float:
    """Weighted mean over the examples, and over both networks, of the standard deviation of the logits of one."""
    return totals[6] / totals[5]


def in_batches(values: Tensor, batch_size: int) -> Tensor:
    """Values along the last axis of a block, cut into batches: (..., n_batches, batch_size), padded with zeros."""
    size = min(batch_size, values.shape[-1])
    return pad(values, (0, -values.shape[-1] % size)).unflatten(-1, (-1, size))
