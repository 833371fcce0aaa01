"""Co-teaching itself: two networks, their optimizers, one epoch at a time.

Which examples a network hands to its peer is decided in ``selection``, how many and at what learning rate in
``schedules``. Nothing here knows of scikit-learn. Within an epoch the device is never asked for a number; the history
is read back once, at its end.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from skcoteach.averaging import WeightAverage
from skcoteach.batches import Rows, in_batches, spread
from skcoteach.engines import (
    SHARED_STATE,
    Engine,
    autocast,
    float32_products,
    in_the_users_words,
    leaves_inputs_alone,
    raised_by_torch,
    without_autocast,
)
from skcoteach.networks import Standardize
from skcoteach.optimizers import set_learning_rate, set_state, state_of
from skcoteach.selection import budgets, fill_budgets
from skcoteach.streaming import stream

#: Rows are brought to the device in blocks of batches: as many as hold this many numbers, and no more than that many.
NUMBERS_PER_BLOCK, BATCHES_PER_BLOCK = 2**20, 64


class DivergedError(ValueError):
    """The loss became NaN or infinite."""


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


@contextmanager
def as_usual() -> Iterator[None]:
    """Whatever the caller is in: ``torch.no_grad``, ``inference_mode`` or ``autocast``."""
    with torch.inference_mode(False), torch.enable_grad(), without_autocast():
        yield


@contextmanager
def random_state(device: torch.device, *entropy: int) -> Iterator[None]:
    """Seed torch, NumPy and Python from ``entropy``, and leave their global states as they were found.

    Convolutions on CUDA take algorithms that give the same bits again. As these states belong to the whole process,
    threads take turns.
    """
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    accelerator = torch.get_device_module(device) if device.type in ("cuda", "xpu") else None
    forked = torch.random.fork_rng([device] if accelerator else [], device_type=device.type if accelerator else "cuda")
    cudnn = torch.backends.cudnn
    with SHARED_STATE, forked:
        python_state, numpy_state = random.getstate(), np.random.get_state()
        benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
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
    largest_weight : float
        No row has more.
    """

    rows: Rows
    targets: Tensor
    weights: Tensor
    used: Tensor
    used_targets: Tensor
    n_classes: int
    largest_weight: float


class CoTeaching:
    """Two networks that teach each other.

    Parameters
    ----------
    networks : tuple of two nn.Module
        Trained in place.
    optimizers : sequence of Optimizer
        They train ``engine.parameters``.
    batch_size, num_iter_per_epoch, class_floor, augment
        As in :class:`skcoteach.CoTeachingClassifier`.
    seed : int
        With the number of an epoch it determines the epoch's order of rows, dropout and augmentation.
    keepers : Tensor of shape (n_samples,), int64, on the CPU
        How many networks (0, 1 or 2; parts are rounded) kept each example when it was last in a batch.
    engine : Engine
        Computes the networks.
    average : WeightAverage, optional
        Of the networks; updated after every step.

    Attributes
    ----------
    logit_scale : float
        Weighted mean over the last epoch's rows, and over both networks, of the standard deviation of the logits of a
        row. NaN before the first epoch.
    """

    def __init__(
        self,
        networks: tuple[nn.Module, nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        batch_size: int,
        num_iter_per_epoch: int | None,
        class_floor: float,
        augment: Callable[[Tensor], Tensor] | None,
        seed: int,
        keepers: Tensor,
        engine: Engine,
        average: WeightAverage | None = None,
    ):
        self.networks = networks
        self.optimizers = optimizers
        self.batch_size = batch_size
        self.num_iter_per_epoch = num_iter_per_epoch
        self.class_floor = class_floor
        self.augment = augment
        self.seed = seed
        self.keepers = keepers
        self.engine = engine
        self.average = average
        self.logit_scale = math.nan
        self._saved: tuple[list[Tensor], list[dict], Tensor, int] = [], [], keepers, 0

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
            set_learning_rate(optimizer, learning_rate)

        device = data.targets.device
        wide = torch.float32 if device.type == "mps" else torch.float64
        totals = torch.zeros(7, dtype=wide, device=device)
        kept_share, mean_losses = torch.zeros_like(data.weights, dtype=wide), torch.zeros_like(data.weights)
        predicted = torch.full_like(data.targets, -1)
        seen = torch.zeros_like(data.targets, dtype=torch.bool)
        # 0 is that of the initial weights
        with random_state(device, self.seed, epoch + 1), float32_products(device, self.engine.precision):
            order = in_batches(self._order(data), self.batch_size, self.num_iter_per_epoch)
            for rows, inputs in stream(data.rows, order, self._block_size(data)):
                targets, weights = data.targets.index_select(0, rows), data.weights.index_select(0, rows)
                log_probabilities, losses, kept = self._train_on(inputs, targets, weights, forget_rate, data)
                totals += self._sums(log_probabilities, losses.to(wide), kept.to(wide), targets, weights.to(wide))
                kept_share.index_copy_(0, rows, kept.sum(0).to(wide) / (2 * weights))
                mean_losses.index_copy_(0, rows, losses.mean(0).to(mean_losses.dtype))
                predicted.index_copy_(0, rows, log_probabilities.sum(0).max(0).indices)
                seen.index_fill_(0, rows, True)
        # the one read-back: of an example that was in no batch the share is -1
        read = torch.cat([totals, torch.where(seen, kept_share, -1)]).cpu()
        n_steps = -(-len(order) // self.batch_size)
        record = self._record(read[: len(totals)].tolist(), n_steps, epoch, learning_rate, forget_rate)
        self.logit_scale = float(read[6] / read[5])
        share = read[len(totals) :]
        self.keepers = torch.where(share < 0, self.keepers, (2 * share).round().long())
        record["duration"] = time.perf_counter() - start
        return record, kept_share, mean_losses, predicted, seen

    def save(self) -> None:
        """Remember networks and optimizers as they are now, for :meth:`restore`."""
        states = [state_of(optimizer) for optimizer in self.optimizers]
        n_updates = 0 if self.average is None else self.average.n_updates
        self._saved = [tensor.clone() for tensor in self._tensors()], states, self.keepers, n_updates

    def restore(self) -> None:
        """Take networks and optimizers back to what they were at the last :meth:`save`."""
        tensors, states, self.keepers, n_updates = self._saved
        if self.average is not None:
            self.average.n_updates = n_updates
        for tensor, saved in zip(self._tensors(), tensors, strict=True):
            tensor.copy_(saved)
        for optimizer, state in zip(self.optimizers, states, strict=True):
            set_state(optimizer, state)

    def _tensors(self) -> Iterator[Tensor]:
        for network in self.networks:
            for tensor in (*network.parameters(), *network.buffers()):
                yield tensor.detach()
        if self.average is not None:
            yield from self.average.values.values()

    def _order(self, data: TrainingData) -> Tensor:
        """The epoch's order of rows: every batch gets about its share of what was kept last and of each class.

        The budget of a batch is fixed, so where batches are drawn blindly, one that has few clean examples is filled up
        with wrong ones (of 128 examples of which half are clean, 3.5 % of what is kept even if the ranking is perfect),
        and these are learnt and have small losses ever after.
        """
        strata = self.keepers[data.used] * data.n_classes + data.used_targets
        return spread(data.used, strata, self.batch_size)

    def _block_size(self, data: TrainingData) -> int:
        """Rows to bring to the device at a time: whole batches."""
        numbers = self.batch_size * max(torch.Size(data.rows.item_shape).numel(), 2 * data.n_classes)
        return min(max(NUMBERS_PER_BLOCK // numbers, 1), BATCHES_PER_BLOCK) * self.batch_size

    def _train_on(
        self, inputs: Tensor, targets: Tensor, weights: Tensor, forget_rate: float, data: TrainingData
    ) -> tuple[Tensor, ...]:
        """Train on a block of rows, batch by batch.

        Both networks' log-probabilities before each step, (2, n_classes, n); their losses and what they kept, (2, n).
        """
        if self.augment is None:
            inputs = self.engine.prepare(inputs)
        given = one_hot(targets, data.n_classes).T.to(weights.dtype)  # (n_classes, n)
        claims, grants = self._budgets(targets, weights, forget_rate, data)
        labels = targets.expand(2, 1, -1)
        # networks and augment get slices, made when they are needed: those of `split` must not be worked on in place
        batches = (inputs[start : start + self.batch_size] for start in range(0, len(inputs), self.batch_size))
        cut = (each.split(self.batch_size, -1) for each in (labels, given, claims))
        steps = [self._step(*batch) for batch in zip(batches, *cut, grants.unbind(1), strict=True)]
        return tuple(torch.cat(each, -1) for each in zip(*steps, strict=True))

    def _budgets(
        self, targets: Tensor, weights: Tensor, forget_rate: float, data: TrainingData
    ) -> tuple[Tensor, Tensor]:
        """Claims (n_budgets, n) and grants (n_budgets, n_batches, 1) of all batches of a block."""
        claims, grants = budgets(
            self._cut(targets),
            self._cut(weights),
            forget_rate,
            class_floor=self.class_floor,
            n_classes=data.n_classes,
            largest_weight=data.largest_weight,
        )
        return claims.flatten(1)[:, : len(targets)], grants

    def _cut(self, values: Tensor) -> Tensor:
        """Values along the last axis of a block, cut into batches: (..., n_batches, batch_size), padded with zeros."""
        size = min(self.batch_size, values.shape[-1])
        return pad(values, (0, -values.shape[-1] % size)).unflatten(-1, (-1, size))

    def _step(
        self, inputs: Tensor, labels: Tensor, given: Tensor, claims: Tensor, grants: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each network learns from what its peer keeps."""
        if self.augment is None:
            logits = self.engine.logits(inputs)
        else:
            logits = self._logits_of_augmented(check_augmented(self.augment(inputs), inputs), inputs.shape)
        log_probabilities = logits.log_softmax(1)  # (2, n_classes, n)
        losses = -log_probabilities.gather(1, labels).squeeze(1)  # (2, n)
        kept = fill_budgets(losses, claims, grants)
        # the gradient of the mean of the losses over what the peer keeps
        gradient = log_probabilities.exp().sub_(given).mul_((kept / kept.sum(1, keepdim=True)).flip(0).unsqueeze(1))
        self.engine.backward(gradient)
        try:
            for optimizer in self.optimizers:
                optimizer.step()
        except (RuntimeError, AssertionError) as error:
            if not raised_by_torch(error) or isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError)):
                raise
            name = type(self.optimizers[0]).__name__
            raise ValueError(f"optimizer={name} cannot train these networks with its options: {error}") from error
        if self.average is not None:
            self.average.update()
        return log_probabilities, losses, kept

    def _logits_of_augmented(self, inputs: Tensor, shape: torch.Size) -> Tensor:
        """Other shapes than that of the batch are welcome, if the networks can take them."""
        try:
            return self.engine.logits(self.engine.prepare(inputs))
        except RuntimeError as error:
            if inputs.shape == shape:
                raise
            raise ValueError(
                f"augment was given a tensor of shape {tuple(shape)} and returned one of shape {tuple(inputs.shape)}, "
                f"which the networks cannot take: {error}"
            ) from error

    def _sums(
        self, log_probabilities: Tensor, losses: Tensor, kept: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        """Of a block: objectives summed over its steps; weight that is right, agreed upon, and all; size of logits."""
        from_peer = kept.flip(0)
        objectives = self._cut(losses * from_peer).sum(-1) / self._cut(from_peer).sum(-1)  # (2, n_batches)
        predicted = log_probabilities.max(1).indices  # many times as fast on the CPU as argmax
        counted = torch.stack([*(predicted == targets), predicted[0] == predicted[1]]).to(weights.dtype) @ weights
        centred = log_probabilities - log_probabilities.mean(1, keepdim=True)
        scale = centred.square().mean(1).sqrt().mean(0).to(weights.dtype) @ weights
        return torch.cat([objectives.sum(1), counted, torch.stack([weights.sum(), scale])])

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
@without_autocast()
def predict(
    networks: tuple[nn.Module, nn.Module],
    rows: Rows,
    combine: Callable[[Tensor], Tensor],
    numbers: Tensor | None = None,
    *,
    precision: str = "float32",
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
    precision : {"float32", "tf32", "bf16", "float64"}

    Returns
    -------
    Tensor of shape (n_wanted, n_classes), on the device of the networks
    """
    combined = []
    share = all(leaves_inputs_alone(network) for network in networks)  # others get copies, they may work in place
    with float32_products(rows.device, precision), autocast(rows.device, precision):
        for wanted in _chunks(rows, numbers):
            inputs = rows[wanted]
            with in_the_users_words(networks[0], inputs):
                logits = [each(inputs if share else inputs.clone()) for each in networks]
            combined.append(combine(torch.stack(logits)))
    return torch.cat(combined)


def _chunks(rows: Rows, numbers: Tensor | None) -> Sequence[Tensor | slice]:
    size = _chunk(rows)
    if numbers is not None:
        return numbers.split(size)
    return [slice(start, start + size) for start in range(0, len(rows), size)]


def _chunk(rows: Rows) -> int:
    """Rows to work on at a time where no gradient is needed: few enough for activations to fit, in a CPU's cache."""
    most = 2048 if rows.device.type == "cpu" else 8192
    return min(most, max(2**20 // max(torch.Size(rows.item_shape).numel(), 1), 64))


def mean_probabilities(logits: Tensor) -> Tensor:
    """Mean over the networks of the probabilities, in double precision where the device has it."""
    return _wide(logits).mT.softmax(1).mean(0).T  # over few columns a softmax along rows is several times as slow


def log_mean_probabilities(logits: Tensor) -> Tensor:
    """Logarithm of :func:`mean_probabilities`, exact for small ones, too."""
    return _wide(logits).mT.log_softmax(1).logsumexp(0).T - math.log(len(logits))


def _wide(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()
