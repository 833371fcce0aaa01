"""Examples by which a training is watched, and from which it does not learn: given beside X, or held out of it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skcoteach._data.inputs import Inputs
from skcoteach._data.sampling import stratified_order
from skcoteach._data.training_data import TrainingData
from skcoteach._data.validation import LabelledInputs


@dataclass(frozen=True)
class ValidationSet:
    """Examples and their given labels.

    Attributes
    ----------
    inputs : Inputs
        Those of the training, or others.
    indices : Tensor of shape (n,), int64, on the CPU
        Which of the inputs these are; all have weight.
    codes : ndarray of shape (n,), int
        Their given labels as class numbers.
    weights : ndarray of shape (n,), float64
        Their sample weights.
    n_classes : int
    """

    inputs: Inputs
    indices: Tensor
    codes: np.ndarray
    weights: np.ndarray
    n_classes: int

    @classmethod
    def of(cls, given: LabelledInputs, data: TrainingData) -> "ValidationSet":
        """What was given, where the training is and in its precision."""
        inputs = given.inputs.to(data.device, data.inputs.dtype, as_indices=data.inputs.form.as_indices)
        chosen = np.flatnonzero(given.weights)
        return cls(
            inputs.moved_to_device(),
            torch.from_numpy(chosen),
            given.codes[chosen],
            given.weights[chosen],
            data.n_classes,
        )


def hold_out(data: TrainingData, share: float) -> tuple[TrainingData, ValidationSet]:
    """Part the training data, with a share of each given class that torch's global generator draws.

    The last example of a class is learnt from.

    Raises
    ------
    ValueError
        If every example is the last of its class.
    """
    n_samples = len(data.drawn)
    n_held_out = math.ceil(share * n_samples)
    order = stratified_order(data.drawn, data.drawn_targets, n_held_out).numpy()
    last = np.unique(data.codes[order][::-1], return_index=True)[1]  # of each class, counted from the end
    chosen = np.sort(np.delete(order, len(order) - 1 - last)[:n_held_out]).astype(np.int64)
    if not len(chosen):
        raise ValueError(
            f"early_stopping=True: of {n_samples} examples none can be held out, as each is the last of its class. "
            "Give a validation set, X_val and y_val."
        )
    held_out = torch.zeros(len(data.inputs), dtype=torch.bool, device="cpu")
    held_out[chosen] = True
    return data.part(~held_out), ValidationSet(
        data.inputs, torch.from_numpy(chosen), data.codes[chosen], data.sample_weights[chosen], data.n_classes
    )
