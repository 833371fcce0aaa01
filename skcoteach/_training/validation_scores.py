"""How well networks predict the given labels of a validation set, which may be wrong, too."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from skcoteach._data.validation_set import ValidationSet
from skcoteach._training.inference import mean_probabilities, predict


def validation_scores(
    networks: Sequence[nn.Module], validation: ValidationSet, noise_matrix: Tensor | None, *, precision: str
) -> dict[str, float]:
    """Weighted accuracy, and minus the weighted mean log likelihood, of the given labels.

    Parameters
    ----------
    networks : sequence of two nn.Module
        In eval mode.
    validation : ValidationSet
    noise_matrix : Tensor of shape (n_classes, n_classes), float64, on the CPU, or None
        P(given | true): what is likely of a given label is the sum over the true ones.
    precision : {"float32", "tf32", "bf16", "float64"}

    Returns
    -------
    dict
        ``val_accuracy`` and ``val_loss``.
    """
    probabilities = predict(
        networks,
        validation.inputs,
        mean_probabilities,
        validation.indices,
        n_classes=validation.n_classes,
        precision=precision,
    )
    probabilities = probabilities.cpu().double()
    codes = torch.from_numpy(validation.codes).long()
    weights = torch.from_numpy(validation.weights / validation.weights.max())  # the sum of very large ones is infinite
    right = (probabilities.argmax(1) == codes).double()
    if noise_matrix is not None:
        probabilities = probabilities @ noise_matrix.T
    likelihood = probabilities.gather(1, codes[:, None])[:, 0].clamp(min=np.finfo(np.float64).tiny)
    return {
        "val_accuracy": float(weights @ right / weights.sum()),
        "val_loss": float(-(weights @ likelihood.log()) / weights.sum()),
    }
