"""How to train: numbers, names and callables, resolved once and never changed. Nothing here is of scikit-learn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.distributed import ALONE, Processes
from skcoteach.schedules import (
    default_decay_start,
    default_num_gradual,
    forget_rate_schedule,
    learning_rate_schedule,
)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Parameters of :class:`skcoteach.CoTeachingClassifier` as the training takes them.

    Attributes
    ----------
    module, module2 : nn.Module, callable or None
    module_options, module2_options, optimizer_options : dict
        What was given with a prefix.
    optimizer : callable
    lr, exponent, class_floor : float
    epochs, batch_size : int
    num_gradual, epoch_decay_start, num_iter_per_epoch : int or None
    augment : callable or None
    average_decay : float or None
    device : torch.device
    dtype : torch.dtype
        Of the networks.
    precision : {"float32", "tf32", "bf16", "float64"}
    compile : bool
    early_stopping : bool
        Whether the training ends, where there is a validation set, when that is predicted no better.
    n_iter_no_change : int
        Epochs after which it does.
    seed : int
        Of all random numbers.
    processes : Processes
        That train together.
    """

    module: Any
    module2: Any
    module_options: dict[str, Any]
    module2_options: dict[str, Any]
    optimizer: Callable[..., Any]
    optimizer_options: dict[str, Any]
    lr: float
    epochs: int
    batch_size: int
    num_iter_per_epoch: int | None
    num_gradual: int | None
    exponent: float
    class_floor: float
    epoch_decay_start: int | None
    augment: Callable[[Any], Any] | None
    average_decay: float | None
    device: torch.device
    dtype: torch.dtype
    precision: str
    compile: bool
    early_stopping: bool
    n_iter_no_change: int
    seed: int
    processes: Processes = ALONE

    def forget_rates(self, forget_rate: float) -> np.ndarray:
        """Forget rate of every epoch, (epochs,) float64, where ``forget_rate`` is the final one.

        Raises
        ------
        ValueError
            If the warm-up is longer than the training.
        InvalidParameterError
            If nothing would be left to learn from.
        """
        forget_rates = forget_rate_schedule(self.epochs, forget_rate, self._warm_up, self.exponent)
        if forget_rates.max() >= 1:
            raise InvalidParameterError(
                f"exponent={self.exponent} makes the warm-up end at a forget rate of {forget_rate:g} ** exponent = 1, "
                "where nothing is left to learn from. Give a larger exponent."
            )
        return forget_rates

    def learning_rates(self) -> list[float]:
        """Learning rate of every epoch."""
        start = default_decay_start(self.epochs) if self.epoch_decay_start is None else self.epoch_decay_start
        return learning_rate_schedule(self.epochs, self.lr, start)

    @property
    def last_of_warm_up(self) -> int:
        """The epoch with which the warm-up ends."""
        return max(self._warm_up - 1, 0)

    @property
    def _warm_up(self) -> int:
        return default_num_gradual(self.epochs) if self.num_gradual is None else self.num_gradual
