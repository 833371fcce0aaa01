"""What an epoch finds out, gathered on the device block by block and read back once, at its end."""

import itertools

import torch
from torch import Tensor
from torch.nn.functional import pad

from skcoteach._arrays import blocks
from skcoteach._errors import DivergedError
from skcoteach._training.device import sum_dtype

#: What is read back of an example that was in no batch.
UNSEEN = 255


class EpochStatistics:
    """Of all examples, on the device; for those that are in no batch what is said below.

    Parameters
    ----------
    weights : Tensor of shape (n_samples,), floating
        On the device.
    batch_size : int
    n_networks : int
    class_dtype : torch.dtype
        Of class numbers.

    Attributes
    ----------
    kept : Tensor of shape (n_samples,), floating
        Mean over the networks of the share of each example's weight that was kept; 0.
    losses : Tensor of shape (n_networks, n_samples), floating
        Each example's loss; infinity.
    predicted : Tensor of shape (n_samples,), int
        Class with the highest geometric mean of the networks' probabilities; -1.
    seen : Tensor of shape (n_samples,), bool
        Which examples were in a batch.
    """

    def __init__(self, weights: Tensor, batch_size: int, n_networks: int = 2, class_dtype: torch.dtype = torch.int64):
        self._weights = weights
        self._batch_size = batch_size
        self._dtype = sum_dtype(weights.device)
        self._totals = torch.zeros(2 * n_networks + 2, dtype=self._dtype, device=weights.device)
        n, device = len(weights), weights.device
        self.kept = torch.zeros(n, dtype=self._dtype, device=device)
        self.losses = torch.full((n_networks, n), torch.inf, dtype=weights.dtype, device=device)
        self.predicted = torch.full((n,), -1, dtype=class_dtype, device=device)
        self.seen = torch.zeros(n, dtype=torch.bool, device=device)

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
        log_probabilities : Tensor of shape (n_networks, n_classes, n)
            Of each network before the step.
        losses, kept : Tensor of shape (n_networks, n)
            Of each network: the loss of each example, and how much of its weight was kept.
        """
        exact_kept = kept.to(self._dtype)
        self._totals += self._sums(
            log_probabilities, losses.to(self._dtype), exact_kept, targets, weights.to(self._dtype)
        )
        self.kept.index_copy_(0, indices, kept.sum(0).to(self._dtype) / (len(kept) * weights))
        self.losses.index_copy_(1, indices, losses.to(self.losses.dtype))
        self.predicted.index_copy_(0, indices, log_probabilities.sum(0).max(0).indices.to(self.predicted.dtype))
        self.seen.index_fill_(0, indices, True)

    def _sums(
        self, log_probabilities: Tensor, losses: Tensor, kept: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        """Of a block: objectives summed over its steps; weight that is right, agreed upon, and all."""
        from_peer = of_peers(kept)
        shares = shares_of(batches_of(from_peer, self._batch_size))
        objectives = (batches_of(losses, self._batch_size) * shares).sum(-1)  # (n_networks, n_batches)
        predicted = log_probabilities.max(1).indices  # many times as fast on the CPU as argmax
        right = (predicted == targets).to(weights.dtype) @ weights
        agreed = (predicted[::2] == predicted[1::2]).to(weights.dtype).mean(0) @ weights
        return torch.cat([objectives.sum(1), right, torch.stack([agreed, weights.sum()])])

    def read_back(self, before: Tensor) -> tuple[list[float], Tensor]:
        """The only question that the training of an epoch asks the device.

        Parameters
        ----------
        before : Tensor of shape (n_samples,), int
            Class that was predicted before; -1 where there was none.

        Returns
        -------
        totals : list of float
            For :func:`record`.
        kept : Tensor of shape (n_samples,), uint8, on the CPU
            As :func:`in_steps` has it; ``UNSEEN`` for examples that were in no batch.
        """
        changed = torch.zeros((), dtype=self._dtype, device=self.kept.device)
        kept = torch.empty_like(self.kept, dtype=torch.uint8)
        for rows in blocks(len(kept)):
            seen = self.seen[rows]
            is_changed = seen & (self.predicted[rows] != before[rows])
            changed += is_changed.to(self._dtype) @ self._weights[rows].to(self._dtype)
            kept[rows] = torch.where(seen, in_steps(self.kept[rows]), UNSEEN)
        totals = torch.cat([self._totals, changed[None]]).view(torch.uint8)
        read = torch.cat([totals, kept]).cpu()
        return read[: len(totals)].view(self._dtype).tolist(), read[len(totals) :]


def in_steps(kept: Tensor) -> Tensor:
    """Shares of weight that were kept, in few steps, (n,) uint8: 0 nothing, 1 little, 2 about half, 3 about all."""
    return torch.where(kept > 0, (2 * kept).round() + 1, 0).to(torch.uint8)


def record(totals: list[float], n_steps: int, epoch: int, learning_rate: float, forget_rate: float) -> dict:
    """One entry of ``history_``, but for its duration.

    Raises
    ------
    DivergedError
        If a network's loss became NaN or infinite.
    """
    n_networks = (len(totals) - 3) // 2
    agreed, weight, changed = totals[2 * n_networks :]
    loss = tuple(total / n_steps for total in totals[:n_networks])
    for name, value in zip(itertools.cycle(("first", "second")), loss):
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
        "accuracy": tuple(total / weight for total in totals[n_networks : 2 * n_networks]),
        "agreement": agreed / weight,
        "changed": changed / weight,
    }


def batches_of(values: Tensor, batch_size: int) -> Tensor:
    """Values along the last axis of a block, cut into batches: (..., n_batches, batch_size), padded with zeros."""
    size = min(batch_size, values.shape[-1])
    return pad(values, (0, -values.shape[-1] % size)).unflatten(-1, (-1, size))


def of_peers(values: Tensor) -> Tensor:
    """To each network what its peer has: neighbours along the first axis change places."""
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def shares_of(kept: Tensor) -> Tensor:
    """Of the weight that is kept of a batch, along the last axis; nothing where nothing is."""
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)
