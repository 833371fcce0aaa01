"""Probabilities for the training data by networks that have not seen their labels, before the training proper.

One pair of networks co-teaches on one half of the data, another on the other half; each predicts the half that it has
not seen. What the probabilities say of the labels is in ``noise``.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from skcoteach.batches import spread
from skcoteach.noise import estimate_joint, noise_rate
from skcoteach.training import CoTeaching, TrainingData, mean_probabilities, predict, random_state

#: Part of the epochs of a fit, and steps at least, that the cross-fit trains for.
EPOCHS_SHARE = 0.2
MINIMUM_STEPS = 100
#: The forget rate is estimated anew after each of these parts of the cross-fit; in the first nothing is forgotten.
STAGES = 3
#: More is never forgotten within the cross-fit, however noisy the labels look at first.
MAXIMUM_FORGET_RATE = 0.9


def cross_fit(
    make: Callable[[TrainingData, int], CoTeaching],
    data: TrainingData,
    codes: np.ndarray,
    weights: np.ndarray,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-sample probabilities of the training data, and what they say of its labels.

    The cross-fit is co-teaching with an unknown forget rate itself: what is forgotten in each stage is what the stage
    before found.

    Parameters
    ----------
    make : callable
        Called with the data of a half and a seed; makes fresh networks and optimizers.
    data : TrainingData
        Of length n_samples.
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers.
    weights : ndarray of shape (n_samples,), float64
        Sample weights, in which labels are counted.
    epochs : int
        Of the fit; on each half it is a fifth of them, or what takes 100 steps if that is more.
    learning_rate : float
    seed : int
        Of the halves and the networks.

    Returns
    -------
    joint : ndarray of shape (n_classes, n_classes), float64
        Joint distribution of given (rows) and true classes.
    probabilities : ndarray of shape (n_samples, n_classes), float64
    """
    seeds = [int(np.random.SeedSequence((seed, half, 1)).generate_state(1)[0]) for half in (1, 2)]
    with random_state(torch.device("cpu"), *seeds):
        order = spread(data.used, data.used_targets, (len(data.used) + 1) // 2)
    in_first = torch.zeros(len(data.rows), dtype=torch.bool)
    in_first[order[: (len(order) + 1) // 2]] = True
    halves = [_part(data, in_first), _part(data, ~in_first)]
    unseen = [(~in_first).nonzero()[:, 0], in_first.nonzero()[:, 0]]
    pairs = [make(half, each) for half, each in zip(halves, seeds, strict=True)]

    probabilities = np.empty((len(data.rows), data.n_classes))
    epochs = _n_epochs(epochs, len(halves[1].used), pairs[1])
    forget_rate = 0.0
    for stage in np.array_split(np.arange(epochs), min(STAGES, epochs)):
        for pair, half, rows in zip(pairs, halves, unseen, strict=True):
            for epoch in stage.tolist():
                pair.run_epoch(half, epoch, learning_rate, forget_rate)
            for network in pair.networks:
                network.eval()
            probabilities[rows.numpy()] = predict(pair.networks, data.rows, mean_probabilities, rows).cpu().numpy()
        joint = estimate_joint(codes, probabilities, weights)
        forget_rate = min(noise_rate(joint), MAXIMUM_FORGET_RATE)
    return joint, probabilities


def _n_epochs(epochs: int, n_rows: int, training: CoTeaching) -> int:
    """Epochs on a half of ``n_rows``, for a fit of ``epochs`` on the whole."""
    steps = math.ceil(n_rows / training.batch_size)
    if training.num_iter_per_epoch is not None:
        steps = min(steps, training.num_iter_per_epoch)
    return max(math.ceil(EPOCHS_SHARE * epochs), math.ceil(MINIMUM_STEPS / steps))


def _part(data: TrainingData, wanted: Tensor) -> TrainingData:
    """The data with fewer rows to draw from."""
    kept = wanted[data.used]
    return dataclasses.replace(data, used=data.used[kept], used_targets=data.used_targets[kept])
