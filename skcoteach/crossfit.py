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
from skcoteach.noise import estimate_joint, rate_of
from skcoteach.training import CoTeaching, DivergedError, TrainingData, mean_probabilities, predict, random_state

#: Part of the steps of a fit that the cross-fit takes, and the steps that either pair takes at least.
STEPS_SHARE = 0.2
MINIMUM_STEPS = 100
#: Steps in which nothing is forgotten (at most half of all): enough to learn what is common, too few to learn by heart.
WARM_UP_STEPS = 50
#: While the estimate falls by more than this, the networks have yet to learn what is common: the cross-fit goes on,
#: for as many epochs as the fit at most.
STILL_LEARNING = 0.1
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
) -> tuple[np.ndarray, np.ndarray, float]:
    """Out-of-sample probabilities of the training data, and what they say of its labels.

    The cross-fit is co-teaching with an unknown forget rate itself: in a short warm-up nothing is forgotten, then the
    share of wrong labels that was found at its end.

    Parameters
    ----------
    make : callable
        Called with the data of a half and a seed; makes fresh networks and optimizers.
    data : TrainingData
        Of length n_samples.
    codes : ndarray of shape (n_samples,), int
        Given labels as class numbers.
    weights : ndarray of shape (n_samples,), float64
        Weights in which labels are counted.
    epochs : int
        Of the fit. Both pairs together take a fifth of its steps, but at least 100 each, and go on where the estimate
        still falls, for at most as many epochs.
    learning_rate : float
    seed : int
        Of the halves and the networks.

    Returns
    -------
    joint : ndarray of shape (n_classes, n_classes), float64
        Joint distribution of given (rows) and true classes.
    probabilities : ndarray of shape (n_samples, n_classes), float32
    logit_scale : float
        How large the logits of the networks have become, as :class:`CoTeaching` says.
    """
    seeds = [int(np.random.SeedSequence((seed, half, 1)).generate_state(1)[0]) for half in (1, 2)]
    in_first = _first_half(data, seeds)
    halves = [_part(data, in_first), _part(data, ~in_first)]
    unseen = [(~in_first).nonzero()[:, 0], in_first.nonzero()[:, 0]]
    pairs = [make(half, each) for half, each in zip(halves, seeds, strict=True)]

    probabilities = np.empty((len(data.rows), data.n_classes), dtype=np.float32)
    warm_up, rest = _n_epochs(epochs, len(data.used), pairs[0])
    stage, forget_rate, unfinished = range(warm_up), 0.0, True
    while unfinished:
        for pair, half, rows in zip(pairs, halves, unseen, strict=True):
            try:
                for epoch in stage:
                    pair.run_epoch(half, epoch, learning_rate, forget_rate)
            except DivergedError as error:
                raise DivergedError(f'Before the training proper, for forget_rate="auto": {error}') from error
            for network in pair.networks:
                network.eval()
            with random_state(data.targets.device, pair.seed, stage.stop, 1):
                precision = pair.engine.precision
                predicted = predict(pair.networks, data.rows, mean_probabilities, rows, precision=precision)
            probabilities[rows.numpy()] = predicted.cpu().numpy()
        joint = estimate_joint(codes, probabilities, weights)
        before, forget_rate = forget_rate, min(rate_of(joint), MAXIMUM_FORGET_RATE)
        unfinished = stage.start == 0 or (before - forget_rate > STILL_LEARNING and stage.stop + rest <= epochs)
        stage = range(stage.stop, stage.stop + rest)
    return joint, probabilities, (pairs[0].logit_scale + pairs[1].logit_scale) / 2


def _first_half(data: TrainingData, seeds: list[int]) -> Tensor:
    """A random half of the rows that have weight, with half of each given class, (n_samples,) bool."""
    with random_state(torch.device("cpu"), *seeds):
        order = spread(data.used, data.used_targets, (len(data.used) + 1) // 2)
    in_first = torch.zeros(len(data.rows), dtype=torch.bool, device="cpu")
    in_first[order[: (len(order) + 1) // 2]] = True
    return in_first


def _n_epochs(epochs: int, n_rows: int, training: CoTeaching) -> tuple[int, int]:
    """Epochs of the warm-up and after it on each half, for a fit of ``epochs`` on ``n_rows``."""
    limit = training.num_iter_per_epoch or n_rows
    steps_of_fit = epochs * min(math.ceil(n_rows / training.batch_size), limit)
    steps = min(math.ceil(n_rows / 2 / training.batch_size), limit)
    all_epochs = max(math.ceil(max(STEPS_SHARE / 2 * steps_of_fit, MINIMUM_STEPS) / steps), 2)
    warm_up = min(math.ceil(WARM_UP_STEPS / steps), all_epochs // 2)
    return warm_up, all_epochs - warm_up


def _part(data: TrainingData, wanted: Tensor) -> TrainingData:
    """The data with fewer rows to draw from."""
    kept = wanted[data.used]
    return dataclasses.replace(data, used=data.used[kept], used_targets=data.used_targets[kept])
