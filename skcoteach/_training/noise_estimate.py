"""What a training knows of the noise before it starts: how much to forget, and what was found out of sample.

How it is found is in ``crossfit``. What the statistics mean is in :mod:`skcoteach.noise`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from skcoteach._data.training_data import TrainingData
from skcoteach._errors import warn_user
from skcoteach._training.module_state import copied

#: With less sample weight in all or in a class, there are too few data to split.
MINIMUM_WEIGHT, MINIMUM_CLASS_WEIGHT = 500.0, 50.0
#: Where the noise rate cannot be estimated.
FALLBACK_FORGET_RATE = 0.2


@dataclass(frozen=True)
class NoiseEstimate:
    """What is to be forgotten and why.

    With a :class:`~skcoteach._training.config.TrainingConfig` it gives the schedule: ``config.forget_rates``.

    Attributes
    ----------
    forget_rate : float
        What the training forgets at the end.
    noise_rate : float or None
        Estimated share of wrong labels. None: not estimated.
    noise_matrix : Tensor of shape (n_classes, n_classes), float64, on the CPU, or None
        P(given | true).
    quality : Tensor of shape (n_samples,), float64, on the CPU, or None
        Probability of the given label by networks that have not seen it.
    predicted : Tensor of shape (n_samples,), int64, on the CPU, or None
        The class that is most likely to these.
    temperature : float or None
        By what their logits are to be divided for probabilities that are as sure as they are right.
    logit_scale : float
        How large their logits are, as :attr:`Trainer.logit_scale`.
    """

    forget_rate: float
    noise_rate: float | None = None
    noise_matrix: Tensor | None = None
    quality: Tensor | None = None
    predicted: Tensor | None = None
    temperature: float | None = None
    logit_scale: float = math.nan

    def state_dict(self) -> dict[str, Any]:
        """All that it is, by name."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "NoiseEstimate":
        """What :meth:`state_dict` was of, with copies of its tensors."""
        return cls(**copied(state))


def too_few_data(data: TrainingData) -> bool:
    """Whether nothing can be estimated; then a warning says so."""
    counts = np.bincount(data.codes[data.drawn], data.sample_weights[data.drawn], data.n_classes)
    rarest = counts[counts > 0].min()
    if counts.sum() >= MINIMUM_WEIGHT and rarest >= MINIMUM_CLASS_WEIGHT and len(data.drawn) >= 4:
        return False
    warn_user(
        f'forget_rate="auto": too few data to estimate the noise rate (total sample_weight {counts.sum():g}, '
        f"{rarest:g} in the rarest class; {MINIMUM_WEIGHT:g} and {MINIMUM_CLASS_WEIGHT:g} are needed, where an "
        f"example has weight 1). {FALLBACK_FORGET_RATE} is used, for the number of label issues, too; give "
        "forget_rate a number if you know better."
    )
    return True


def fallback() -> NoiseEstimate:
    """Where nothing is estimated."""
    return NoiseEstimate(FALLBACK_FORGET_RATE)


def stopped_early() -> NoiseEstimate:
    """Where a callback has stopped the estimate; a warning says so."""
    warn_user(
        f'forget_rate="auto": a callback stopped the estimate of the noise rate before its end. '
        f"{FALLBACK_FORGET_RATE} is used, for the number of label issues, too."
    )
    return fallback()
