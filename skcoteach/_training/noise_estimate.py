"""What a training knows of the noise before it starts: how much to forget, and what was found out of sample.

How it is found is in ``crossfit``. What the statistics mean is in :mod:`skcoteach.noise`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skcoteach._data.training_data import TrainingData
from skcoteach._errors import warn_user
from skcoteach._training.module_state import copied

#: With fewer examples in all or in the second most frequent class, there are too few data to split.
MINIMUM_EXAMPLES, MINIMUM_OF_TWO_CLASSES = 40, 8


@dataclass(frozen=True)
class NoiseEstimate:
    """What is to be forgotten and why.

    With a :class:`~skcoteach._training.config.TrainingConfig` it gives the schedule: ``config.forget_rates``.

    Attributes
    ----------
    forget_rate : float
        What the training forgets at the end.
    class_forget_rates : Tensor of shape (n_classes,), float64, on the CPU, or None
        What it forgets of each given class at the end. None: of all the same.
    noise_rate, noise_rate_std : float or None
        Estimated share of wrong labels, and its standard error. None: not estimated.
    noise_matrix : Tensor of shape (n_classes, n_classes), float64, on the CPU, or None
        P(given | true).
    quality : Tensor of shape (n_samples,), float64, on the CPU, or None
        How likely the given label is right, by networks that have not seen it.
    probabilities : Tensor of shape (n_samples, n_classes), float32, on the CPU, or None
        Of all classes by these; where they were asked for.
    predicted : Tensor of shape (n_samples,), of the type of the class numbers, on the CPU, or None
        The class that is most likely to these.
    confidence : float or None
        How sure of their predictions networks can be on average, so that they are as often right.
    """

    forget_rate: float
    class_forget_rates: Tensor | None = None
    noise_rate: float | None = None
    noise_rate_std: float | None = None
    noise_matrix: Tensor | None = None
    quality: Tensor | None = None
    probabilities: Tensor | None = None
    predicted: Tensor | None = None
    confidence: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """All that it is, by name."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "NoiseEstimate":
        """What :meth:`state_dict` was of, with copies of its tensors."""
        return cls(**copied(state))


def too_few_data(data: TrainingData) -> bool:
    """Whether nothing can be estimated; then a warning says so."""
    counts = np.sort(np.bincount(data.codes[data.drawn.numpy()], minlength=2))
    if counts.sum() >= MINIMUM_EXAMPLES and counts[-2] >= MINIMUM_OF_TWO_CLASSES:
        return False
    warn_user(
        f'forget_rate="auto": too few examples to say how many labels are wrong ({MINIMUM_EXAMPLES} in all and '
        f"{MINIMUM_OF_TWO_CLASSES} of each of two classes are needed). Nothing is forgotten; give forget_rate a number "
        "if you know better."
    )
    return True


def stopped_early(n_classes: int) -> NoiseEstimate:
    """Where a callback has stopped the estimate; a warning says so."""
    warn_user(
        'forget_rate="auto": a callback stopped the estimate of the noise rate before its end. Nothing is forgotten.'
    )
    return unknown(n_classes)


def unknown(n_classes: int) -> NoiseEstimate:
    """Where nothing can be said: any noise rate up to that of labels drawn by lot is as likely as any other."""
    return NoiseEstimate(
        forget_rate=0.0,
        noise_rate=0.0,
        noise_rate_std=float((1 - 1 / n_classes) / 3**0.5),  # root mean square of the uniform distribution
        noise_matrix=torch.eye(n_classes, dtype=torch.float64),
    )
