"""The steps of co-teaching: each network learns from what its peer keeps, in one pair or in several at once.

All that is done here is done on the device, which is never asked for a number. Which examples are kept is decided in
``selection``, how networks are computed in ``engines``.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.optim import Optimizer

from skcoteach._batches import Batch, described, each_tensor, length_of
from skcoteach._errors import first_line, is_of_the_device, raised_by_call, raised_by_torch
from skcoteach._training.averaging import WeightAverage
from skcoteach._training.config import TrainingConfig
from skcoteach._training.engines.logits import Engine
from skcoteach._training.epoch_statistics import of_peers, shares_of
from skcoteach._training.selection import kept_weights


class Steps:
    """Trains networks on blocks of examples, batch by batch. The first and the second are peers, and so on.

    Parameters
    ----------
    config : TrainingConfig
    engine : Engine
        Computes the networks.
    optimizers : sequence of Optimizer
        They train ``engine.parameters``.
    average : WeightAverage or None
        Of the networks; updated after every step.
    batch_size, n_classes : int
    """

    def __init__(
        self,
        config: TrainingConfig,
        engine: Engine,
        optimizers: Sequence[Optimizer],
        average: WeightAverage | None,
        *,
        batch_size: int,
        n_classes: int,
    ):
        self._augment = config.augment
        self._engine = engine
        self._optimizers = optimizers
        self._average = average
        self._processes = config.processes
        self._batch_size = batch_size
        self._n_classes = n_classes

    def train(
        self,
        inputs: Batch,
        targets: Tensor,
        weights: Tensor,
        floors: Tensor,
        free: Tensor | None,
        class_budgets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Train on a block of examples.

        Parameters
        ----------
        inputs : Tensor of shape (n, ...), or dict of such
            Of the part of every batch that this process computes, where there are several; all else is of all.
        targets : Tensor of shape (n,), int64
            Given labels.
        weights : Tensor of shape (n,), floating
        floors : Tensor of shape (n_networks, n), floating
            Weight that either network keeps of each example in any case.
        free : Tensor of shape (n_networks, n_batches), floating, or None
            Weight that it keeps of each batch beside. None: all is kept.
        class_budgets : Tensor of shape (n_networks, n_batches, n_classes), floating, optional
            Weight that it keeps of each given class of each batch in any case, floors aside. None: nothing.

        Returns
        -------
        log_probabilities : Tensor of shape (n_networks, n_classes, n)
            Of the networks before each step.
        losses, kept : Tensor of shape (n_networks, n)
            Their losses, and how much of each example's weight they kept.
        """
        if self._augment is None:
            inputs = self._engine.prepare(inputs)
        given = one_hot(targets, self._n_classes).T.to(weights.dtype)  # (n_classes, n)
        labels = targets.expand(len(floors), 1, -1)
        # networks and augment get slices, made when they are needed: those of `split` must not be worked on in place
        n, size = length_of(inputs), self._processes.length_of_part(self._batch_size)
        batches = (each_tensor(operator.itemgetter(slice(i, i + size)), inputs) for i in range(0, n, size))
        cut = [each.split(self._batch_size, -1) for each in (labels, given, weights, floors)]
        nothing = [None] * len(cut[0])
        budgets = nothing if free is None else free.split(1, -1)
        of_classes = nothing if class_budgets is None else class_budgets.unbind(1)
        steps = [self._step(*batch) for batch in zip(batches, *cut, budgets, of_classes, strict=True)]
        log_probabilities, losses, kept = (torch.cat(each, -1) for each in zip(*steps, strict=True))
        return log_probabilities, losses, kept

    def _step(
        self,
        inputs: Batch,
        labels: Tensor,
        given: Tensor,
        weights: Tensor,
        floors: Tensor,
        free: Tensor | None,
        class_budgets: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each network learns from what its peer keeps."""
        if self._augment is None:
            logits = self._engine.logits(inputs)
        else:
            logits = self._logits_of_augmented(self._augmented(inputs), inputs)
        own = logits.log_softmax(1)  # (n_networks, n_classes, n), of the part that is computed here
        log_probabilities = self._processes.gathered(own, len(weights))
        losses = -log_probabilities.gather(1, labels).squeeze(1)  # (n_networks, n)
        if free is None:
            kept = weights.expand_as(losses)
        else:
            kept = kept_weights(losses, weights, floors, free, given, class_budgets)
        # the gradient of the mean of the losses over what the peer keeps
        shares, own_given = (self._processes.part_of(each) for each in (of_peers(shares_of(kept)), given))
        self._engine.backward(own.exp().sub_(own_given).mul_(shares.unsqueeze(1)))
        self._processes.add_gradients(self._engine.parameters)
        try:
            for optimizer in self._optimizers:
                optimizer.step()
        except Exception as error:
            if not raised_by_torch(error) or is_of_the_device(error):
                raise
            name = type(self._optimizers[0]).__name__.removeprefix("OneTensor")
            raise ValueError(
                f"optimizer={name} cannot train these networks with its options and this lr: {first_line(error)}"
            ) from error
        if self._average is not None:
            self._average.update()
        return log_probabilities, losses, kept

    def _augmented(self, inputs: Batch) -> Batch:
        """The batch as ``augment`` returns it."""
        given = dict(inputs) if isinstance(inputs, dict) else inputs  # it may take entries out
        try:
            augmented = self._augment(given)  # type: ignore[misc]
        except Exception as error:
            if is_of_the_device(error) or not (raised_by_torch(error) or raised_by_call(error)):
                raise
            raise ValueError(f"augment cannot take a batch of X with {described(inputs)}: {error}") from error
        return check_augmented(augmented, inputs)

    def _logits_of_augmented(self, inputs: Batch, given: Batch) -> Tensor:
        """Other shapes than that of the batch are welcome, if the networks can take them."""
        try:
            return self._engine.logits(self._engine.prepare(inputs))
        except (RuntimeError, ValueError) as error:
            reason = error.__cause__ or error  # the engine may have told it, as if X had this shape
            before, now = (each_tensor(lambda each: tuple(each.shape), batch) for batch in (given, inputs))
            if before == now or is_of_the_device(reason) or not raised_by_torch(reason):
                raise
            raise ValueError(
                f"augment was given {'a dict' if isinstance(given, dict) else 'a tensor'} of shape {before} and "
                f"returned one of shape {now}, which the networks cannot take: {reason}"
            ) from reason


def check_augmented(augmented: Any, inputs: Batch) -> Batch:
    """Refuse what ``augment`` returned if it cannot stand for the batch.

    Raises
    ------
    TypeError
        If it is no tensor, or one of another dtype or device, or no dict of such where it was given one.
    ValueError
        If it has another number of examples, or other keys.
    """
    if not isinstance(inputs, dict):
        return _check_augmented_tensor(augmented, inputs)
    expected = f"augment must return a dict with the keys {', '.join(inputs)}, as it was given"
    if not isinstance(augmented, dict):
        raise TypeError(f"{expected}; it returned a {type(augmented).__name__}.")
    if augmented.keys() != inputs.keys():
        raise ValueError(f"{expected}; it returned one with the keys {', '.join(map(str, augmented))}.")
    return {key: _check_augmented_tensor(augmented[key], each, f" for {key!r}") for key, each in inputs.items()}


def _check_augmented_tensor(augmented: Any, inputs: Tensor, where: str = "") -> Tensor:
    expected = (
        f"augment must return a tensor of {len(inputs)} rows{where}, {inputs.dtype} on {inputs.device}, as it was given"
    )
    if not isinstance(augmented, Tensor):
        raise TypeError(f"{expected}; it returned a {type(augmented).__name__}.")
    if augmented.layout != torch.strided:
        raise TypeError(f"{expected}; it returned one of layout {augmented.layout}.")
    if (augmented.dtype, augmented.device) != (inputs.dtype, inputs.device):
        raise TypeError(f"{expected}; it returned {augmented.dtype} on {augmented.device}.")
    if augmented.ndim == 0 or len(augmented) != len(inputs):
        raise ValueError(f"{expected}; it returned a tensor of shape {tuple(augmented.shape)}.")
    return augmented
