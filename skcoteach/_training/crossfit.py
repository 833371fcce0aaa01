"""Probabilities for the training data by networks that have not seen their labels, before the training proper.

One pair of networks co-teaches on one half of the data, another on the other half; each predicts the half that it has
not seen. What the probabilities say of the labels is in :mod:`skcoteach.noise`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from skcoteach._data.sampling import stratified_order
from skcoteach._data.training_data import TrainingData
from skcoteach._errors import DivergedError
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import initial_weights, predictions, random_state
from skcoteach._training.inference import mean_probabilities, predict
from skcoteach._training.module_factory import make_networks, standardize
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import Trainer
from skcoteach.noise import estimate_joint, matrix_of, rate_of, temperature_of

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


class CrossFit:
    """Two pairs of networks in training, and what they say of the labels.

    The cross-fit is co-teaching with an unknown forget rate itself: in a short warm-up nothing is forgotten, then the
    share of wrong labels that was found at its end. Both pairs together take a fifth of the steps of the fit, but at
    least 100 each, and go on where the estimate still falls, for at most as many epochs.

    Parameters
    ----------
    config : TrainingConfig
        Of the fit.
    data : TrainingData
    networks : sequence of nn.Module
        Those of the fit: the pairs have to be others.

    Attributes
    ----------
    max_steps : int
        How often :meth:`run_step` may have to be called.

    Raises
    ------
    ValueError
        If a network is made that was made before.
    """

    def __init__(self, config: TrainingConfig, data: TrainingData, networks: Sequence[nn.Module]):
        self._data = data
        self._epochs = config.epochs
        seeds = [int(np.random.SeedSequence((config.seed, half, 1)).generate_state(1)[0]) for half in (1, 2)]
        in_first = _first_half(data, seeds)
        self._unseen = [(~in_first).nonzero()[:, 0], in_first.nonzero()[:, 0]]
        made = list(networks)
        self._pairs = []
        for half, seed in zip((in_first, ~in_first), seeds, strict=True):
            self._pairs.append(_make_pair(_config_of_pair(config, seed), data.part(half), made))
            made += self._pairs[-1].networks
        warm_up, self._stage = _n_epochs(config, len(data.drawn), self._pairs[0].batch_size)
        self._stage_end = warm_up
        last = warm_up + self._stage
        self.max_steps = 2 * (last + max(config.epochs - last, 0) // self._stage * self._stage)
        self._n_stages = 0
        self._forget_rate = 0.0
        self._probabilities = np.empty((len(data.inputs), data.n_classes), dtype=np.float32)
        self._weights = np.zeros(len(data.inputs))
        self._weights[data.drawn] = data.full_weights[data.drawn]
        self._joint = np.full((data.n_classes, data.n_classes), np.nan)

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done."""
        return self._pairs[1].epoch == self._stage_end

    def run_step(self) -> None:
        """Train one of the pairs for an epoch.

        Raises
        ------
        DivergedError
            If its loss became NaN or infinite.
        """
        half = 0 if self._pairs[0].epoch < self._stage_end else 1
        pair = self._pairs[half]
        try:
            pair.run_epoch(forget_rate=self._forget_rate)
        except DivergedError as error:
            raise DivergedError(f'Before the training proper, for forget_rate="auto": {error}') from error
        if pair.epoch == self._stage_end:
            self._predict(pair, self._unseen[half])
            if half == 1:
                self._end_stage()

    def noise_estimate(self) -> NoiseEstimate:
        """What was found; to be asked when all steps are done."""
        data, drawn = self._data, self._data.drawn.numpy()
        temperature = None
        if np.isfinite(self._probabilities[drawn]).all():
            codes, weights = data.codes[drawn], self._weights[drawn]
            temperature = temperature_of(codes, self._probabilities[drawn], weights, self._joint)
        quality = np.nan_to_num(self._probabilities[np.arange(len(data.codes)), data.codes])
        return NoiseEstimate(
            forget_rate=rate_of(self._joint),
            noise_rate=rate_of(self._joint),
            noise_matrix=torch.from_numpy(matrix_of(self._joint)),
            quality=torch.from_numpy(quality).double(),
            predicted=torch.from_numpy(self._probabilities.argmax(axis=1)),
            temperature=temperature,
            logit_scale=(self._pairs[0].logit_scale + self._pairs[1].logit_scale) / 2,
        )

    def _predict(self, pair: Trainer, unseen: Tensor) -> None:
        config = pair.config
        with random_state(config.device, predictions(config.seed, pair.epoch)):
            predicted = predict(
                pair.networks, self._data.inputs, mean_probabilities, unseen, precision=config.precision
            )
        self._probabilities[unseen.numpy()] = predicted.cpu().numpy()

    def _end_stage(self) -> None:
        """See what the probabilities say of the labels, and whether to go on."""
        self._joint = estimate_joint(self._data.codes, self._probabilities, self._weights)
        before, self._forget_rate = self._forget_rate, min(rate_of(self._joint), MAXIMUM_FORGET_RATE)
        still_learning = before - self._forget_rate > STILL_LEARNING and self._stage_end + self._stage <= self._epochs
        if self._n_stages == 0 or still_learning:
            self._stage_end += self._stage
        self._n_stages += 1


def _config_of_pair(config: TrainingConfig, seed: int) -> TrainingConfig:
    """As the fit, but with a constant learning rate and without averages."""
    return dataclasses.replace(
        config, seed=seed, epochs=1, num_gradual=0, epoch_decay_start=1, exponent=1.0, average_decay=None
    )


def _make_pair(config: TrainingConfig, half: TrainingData, made: Sequence[nn.Module]) -> Trainer:
    with random_state(config.device, initial_weights(config.seed)):
        networks = make_networks(config, half.inputs.form.item_shape, half.n_classes)
    if {id(each) for network in networks for each in network.parameters()} & {
        id(each) for network in made for each in network.parameters()
    }:
        raise ValueError(
            "module gave a network that it had given before. Where forget_rate is estimated, six networks are "
            "needed: make a new one at every call, or give forget_rate a number."
        )
    standardize(networks, half)
    return Trainer(config, half, NoiseEstimate(0.0), networks)


def _first_half(data: TrainingData, seeds: list[int]) -> Tensor:
    """A random half of the examples that have weight, with half of each given class, (n_samples,) bool."""
    with random_state(torch.device("cpu"), tuple(seeds)):
        order = stratified_order(data.drawn, data.drawn_targets, (len(data.drawn) + 1) // 2)
    in_first = torch.zeros(len(data.inputs), dtype=torch.bool, device="cpu")
    in_first[order[: (len(order) + 1) // 2]] = True
    return in_first


def _n_epochs(config: TrainingConfig, n_samples: int, batch_size: int) -> tuple[int, int]:
    """Epochs of the warm-up and after it on each half, for a fit on so many examples."""
    limit = config.num_iter_per_epoch or n_samples
    steps_of_fit = config.epochs * min(math.ceil(n_samples / batch_size), limit)
    steps = min(math.ceil(n_samples / 2 / batch_size), limit)
    all_epochs = max(math.ceil(max(STEPS_SHARE / 2 * steps_of_fit, MINIMUM_STEPS) / steps), 2)
    warm_up = min(math.ceil(WARM_UP_STEPS / steps), all_epochs // 2)
    return warm_up, all_epochs - warm_up
