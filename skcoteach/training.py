"""Co-teaching itself: two networks, their optimizers, one epoch at a time.

Which examples a network hands to its peer is decided in ``selection``, how many and at what learning rate in
``schedules``. Nothing here knows of scikit-learn. Within an epoch the device is never asked for a number; the history
is read back once, at its end.
"""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skcoteach.batches import Rows, batches, spread
from skcoteach.networks import Standardize
from skcoteach.selection import kept_mean, kept_weights


#: The parameters of the estimator that make the first and the second network, for messages.
MODULES = ("module", "module2")


class DivergedError(ValueError):
    """The loss became NaN or infinite."""


def check_logits(outputs: Tensor, parameter: str, n_rows: int, n_classes: int) -> None:
    """Refuse what is no raw logits of the batch.

    Raises
    ------
    TypeError
        If a network returned something else than a tensor of floating point numbers.
    ValueError
        If the shape is not (n_rows, n_classes).
    """
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise TypeError(f"The network made by {parameter} must return a tensor of raw logits; it returned a {kind}.")
    if not outputs.is_floating_point():
        raise TypeError(f"The network made by {parameter} must return floating point logits; got {outputs.dtype}.")
    if tuple(outputs.shape) != (n_rows, n_classes):
        raise ValueError(
            f"The network made by {parameter} must return raw logits of shape (n_samples, n_classes), here "
            f"{(n_rows, n_classes)} (one column per class, also for two classes); got shape {tuple(outputs.shape)}."
        )


def check_augmented(augmented: Tensor, inputs: Tensor) -> Tensor:
    """Refuse what ``augment`` returned if it cannot stand for the batch.

    Raises
    ------
    TypeError
        If it is no tensor, or one of another dtype or device.
    ValueError
        If it has another number of rows.
    """
    expected = f"augment must return a tensor of {len(inputs)} rows, {inputs.dtype} on {inputs.device}, as it was given"
    if not isinstance(augmented, Tensor):
        raise TypeError(f"{expected}; it returned a {type(augmented).__name__}.")
    if (augmented.dtype, augmented.device) != (inputs.dtype, inputs.device):
        raise TypeError(f"{expected}; it returned {augmented.dtype} on {augmented.device}.")
    if augmented.ndim == 0 or len(augmented) != len(inputs):
        raise ValueError(f"{expected}; it returned a tensor of shape {tuple(augmented.shape)}.")
    return augmented


def with_gradients(function: Callable) -> Callable:
    """Run ``function`` as usual where the caller has switched gradients off (``torch.no_grad``, ``inference_mode``)."""
    return torch.inference_mode(False)(torch.enable_grad()(function))


@contextmanager
def random_state(device: torch.device, *entropy: int) -> Iterator[None]:
    """Seed torch, NumPy and Python from ``entropy``, and leave their global states as they were found.

    Convolutions on CUDA take algorithms that give the same bits again.
    """
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    accelerator = torch.get_device_module(device) if device.type in ("cuda", "xpu") else None
    python_state, numpy_state = random.getstate(), np.random.get_state()
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    with torch.random.fork_rng([device] if accelerator else [], device_type=device.type if accelerator else "cuda"):
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1])
        torch.default_generator.manual_seed(int(seeds[2]))
        if accelerator:
            with accelerator.device(device):
                accelerator.manual_seed(int(seeds[2]))
        try:
            cudnn.benchmark, cudnn.deterministic = False, True
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@dataclass
class TrainingData:
    """The rows to learn from and what is known of them, on the device of the networks.

    Attributes
    ----------
    rows : Rows of length n_samples
    targets : Tensor of shape (n_samples,), int64
        Given labels as class numbers.
    weights : Tensor of shape (n_samples,), floating
        Sample weight times class weight.
    used : Tensor of shape (n_used,), int64, on the CPU
        Numbers of the rows that have weight. The others are never drawn.
    used_targets : Tensor of shape (n_used,), int64, on the CPU
        Their given labels.
    n_classes : int
    """

    rows: Rows
    targets: Tensor
    weights: Tensor
    used: Tensor
    used_targets: Tensor
    n_classes: int


class CoTeaching:
    """Two networks that teach each other.

    Parameters
    ----------
    networks : tuple of two nn.Module
        Trained in place.
    optimizers : tuple of two Optimizer
        One for each network.
    batch_size, num_iter_per_epoch, class_floor, augment
        As in :class:`skcoteach.CoTeachingClassifier`.
    seed : int
        With the number of an epoch it determines the epoch's order of rows, dropout and augmentation.
    keepers : Tensor of shape (n_samples,), int64, on the CPU
        How many networks (0, 1 or 2; parts are rounded) kept each example when it was last in a batch.
    """

    def __init__(
        self,
        networks: tuple[nn.Module, nn.Module],
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        *,
        batch_size: int,
        num_iter_per_epoch: int | None,
        class_floor: float,
        augment: Callable[[Tensor], Tensor] | None,
        seed: int,
        keepers: Tensor,
    ):
        self.networks = networks
        self.optimizers = optimizers
        self.batch_size = batch_size
        self.num_iter_per_epoch = num_iter_per_epoch
        self.class_floor = class_floor
        self.augment = augment
        self.seed = seed
        self.keepers = keepers

    def run_epoch(
        self, data: TrainingData, epoch: int, learning_rate: float, forget_rate: float
    ) -> tuple[dict, Tensor, Tensor, Tensor, Tensor]:
        """Train both networks for one epoch.

        Parameters
        ----------
        data : TrainingData
        epoch : int
            Number of the epoch, from 0.
        learning_rate, forget_rate : float
            Those of this epoch.

        Returns
        -------
        record : dict
            One entry of ``history_``.
        kept : Tensor of shape (n_samples,), floating, on the device
            Mean over both networks of the share of each example's weight that was kept; 0 where it was in no batch.
        losses : Tensor of shape (n_samples,), floating, on the device
            Mean over both networks of each example's loss; 0 where it was in no batch.
        predicted : Tensor of shape (n_samples,), int64, on the device
            Class with the highest geometric mean of both networks' probabilities; -1 where it was in no batch.
        seen : Tensor of shape (n_samples,), bool, on the device
            Which examples were in a batch.

        Raises
        ------
        DivergedError
            If a network's loss became NaN or infinite.
        """
        start = time.perf_counter()
        for network in self.networks:
            network.train()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

        device = data.targets.device
        wide = torch.float32 if device.type == "mps" else torch.float64
        totals = torch.zeros(6, dtype=wide, device=device)
        kept_share, mean_losses = torch.zeros_like(data.weights, dtype=wide), torch.zeros_like(data.weights)
        predicted = torch.full_like(data.targets, -1)
        seen = torch.zeros_like(data.targets, dtype=torch.bool)
        n_steps = 0
        with random_state(device, self.seed, epoch + 1):  # 0 is that of the initial weights
            order = self._order(data)
            for rows in batches(order, self.batch_size, self.num_iter_per_epoch):
                inputs = data.rows[rows]
                rows = rows.to(device, non_blocking=True)
                weights = data.weights[rows]
                if self.augment is not None:
                    inputs = check_augmented(self.augment(inputs), inputs)
                step, kept, losses, likeliest = self._step(
                    inputs, data.targets[rows], weights, forget_rate, data.n_classes
                )
                totals += step
                kept_share.index_copy_(0, rows, (kept / (2 * weights)).to(wide))
                mean_losses.index_copy_(0, rows, (losses / 2).to(mean_losses.dtype))
                predicted.index_copy_(0, rows, likeliest)
                seen.index_fill_(0, rows, True)
                n_steps += 1
        # the one read-back: of an example that was in no batch the share is -1
        read = torch.cat([totals, torch.where(seen, kept_share, -1)]).cpu()
        record = self._record(read[: len(totals)].tolist(), n_steps, epoch, learning_rate, forget_rate)
        share = read[len(totals) :]
        self.keepers = torch.where(share < 0, self.keepers, (2 * share).round().long())
        record["duration"] = time.perf_counter() - start
        return record, kept_share, mean_losses, predicted, seen

    def _order(self, data: TrainingData) -> Tensor:
        """The epoch's order of rows: every batch gets about its share of what was kept last and of each class.

        The budget of a batch is fixed, so where batches are drawn blindly, one that has few clean examples is filled up
        with wrong ones (of 128 examples of which half are clean, 3.5 % of what is kept even if the ranking is perfect),
        and these are learnt and have small losses ever after.
        """
        strata = self.keepers[data.used] * data.n_classes + data.used_targets
        return spread(data.used, strata, self.batch_size)

    def _step(
        self, inputs: Tensor, targets: Tensor, weights: Tensor, forget_rate: float, n_classes: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each network learns from what its peer keeps.

        Sums for the history; of each example the weight kept and the losses, summed over both, and the predicted class.
        """
        # a copy for the first, because its layers may work in place
        logits = [self.networks[0](inputs.clone()), self.networks[1](inputs)]
        for each, parameter in zip(logits, MODULES, strict=True):
            check_logits(each, parameter, len(targets), n_classes)
            if not each.requires_grad:
                raise ValueError(f"The outputs of the network made by {parameter} do not depend on its parameters.")
        losses = [cross_entropy(each, targets, reduction="none") for each in logits]
        kept = [
            kept_weights(each, targets, weights, forget_rate, class_floor=self.class_floor, n_classes=n_classes)
            for each in losses
        ]
        objectives = [kept_mean(losses[0], kept[1]), kept_mean(losses[1], kept[0])]
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (objectives[0] + objectives[1]).backward()
        for optimizer in self.optimizers:
            optimizer.step()

        with torch.no_grad():
            predicted = [each.argmax(1) for each in logits]
            right = torch.stack([predicted[0] == targets, predicted[1] == targets, predicted[0] == predicted[1]])
            sums = torch.cat([torch.stack(objectives), right.to(weights.dtype) @ weights, weights.sum()[None]])
            return sums, kept[0] + kept[1], losses[0] + losses[1], (logits[0] + logits[1]).argmax(1)

    def _record(self, totals: list[float], n_steps: int, epoch: int, learning_rate: float, forget_rate: float) -> dict:
        loss = (totals[0] / n_steps, totals[1] / n_steps)
        for name, value in zip(("first", "second"), loss, strict=True):
            if not np.isfinite(value):
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


def standardize(networks: tuple[nn.Module, nn.Module], data: TrainingData) -> None:
    """Give the :class:`~skcoteach.networks.Standardize` layers that have seen no data their mean and deviation."""
    layers = [m for network in networks for m in network.modules() if isinstance(m, Standardize) and not m.observed]
    if layers:
        for rows in data.used.split(_chunk(data.rows)):
            inputs, weights = data.rows[rows], data.weights[rows.to(data.weights.device)]
            for layer in layers:
                layer.observe(inputs, weights)


@torch.no_grad()
def predict(
    networks: tuple[nn.Module, nn.Module],
    rows: Rows,
    combine: Callable[[Tensor], Tensor],
    numbers: Tensor | None = None,
) -> Tensor:
    """What ``combine`` makes of the networks' logits.

    Parameters
    ----------
    networks : tuple of two nn.Module
        In eval mode.
    rows : Rows of length n_samples
    combine : callable
        Gets logits of shape (2, n, n_classes) and returns (n, n_classes).
    numbers : Tensor of shape (n_wanted,), int64, on the CPU, optional
        The rows that are wanted. None: all.

    Returns
    -------
    Tensor of shape (n_wanted, n_classes), on the device of the networks
    """
    combined = []
    if numbers is None:
        numbers = torch.arange(len(rows), device="cpu")
    for some in numbers.split(_chunk(rows)):
        inputs = rows[some]
        # a copy for the first, because its layers may work in place
        combined.append(combine(torch.stack([networks[0](inputs.clone()), networks[1](inputs)])))
    return torch.cat(combined)


def _chunk(rows: Rows) -> int:
    """Rows to work on at a time where no gradient is needed: few enough for the activations of images to fit."""
    return min(8192, max(2**20 // max(torch.Size(rows.item_shape).numel(), 1), 64))


def mean_probabilities(logits: Tensor) -> Tensor:
    """Mean over the networks of the probabilities, in double precision where the device has it."""
    return _wide(logits).softmax(-1).mean(0)


def log_mean_probabilities(logits: Tensor) -> Tensor:
    """Logarithm of :func:`mean_probabilities`, exact for small ones, too."""
    return _wide(logits).log_softmax(-1).logsumexp(0) - math.log(len(logits))


def _wide(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()
