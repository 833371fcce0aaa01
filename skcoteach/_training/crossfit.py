"""Probabilities for the training data by networks that have not seen their labels, before the training proper.

The data are cut into halves. On each, pairs of networks that forget more or less are trained, and predict the other
half. What the probabilities say of the labels is in ``_noise_likelihood`` and ``_noise_counting``, which of the pairs
is right in ``choice_of_forget_rate``.
"""

import copy
import dataclasses
import itertools
import math
from fractions import Fraction
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from skcoteach._data.sampling import stratified_order
from skcoteach._data.training_data import TrainingData
from skcoteach._errors import DivergedError
from skcoteach._noise_counting import counted_rate, fitted_or_counted_noise
from skcoteach._noise_likelihood import MAXIMUM_EXAMPLES, NoiseFit, drawn, fit_noise, likely_joint, probability_right
from skcoteach._training.choice_of_forget_rate import Candidate, choice_of_several, choice_of_two, promising
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import initial_weights, predictions, random_state
from skcoteach._training.engines.choice import can_be_joined
from skcoteach._training.inference import mean_probabilities, predict
from skcoteach._training.module_factory import make_networks, standardize
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import MAXIMUM_CLASS_RATE, Trainer

#: With fewer examples than this, more candidates are tried.
FEW_EXAMPLES = 1000
#: What is forgotten by pairs that are trained side by side, of many examples and of few.
FORGET_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65)
FORGET_RATES_OF_FEW = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
#: So many of them are trained to the end; the others are dropped after this part of the epochs after the warm-up.
N_PROMISING, DROPPING_SHARE = 3, Fraction(1, 7)
#: Part of the epochs of a fit that each pair is trained for, of many side by side and of others, and the steps that it
#: takes at least, if the fit does.
SIDE_BY_SIDE_SHARE, EPOCHS_SHARE, MINIMUM_STEPS = 0.26, 0.3, 60
#: Part of the epochs of a pair in which its forget rate rises; many side by side forget nothing for a third of it.
WARM_UP_SHARE = 0.3
#: More is never forgotten, however noisy the labels look at first.
MAXIMUM_FORGET_RATE = 0.9
#: Classes with fewer examples say nothing: a half may have none to learn from.
MINIMUM_CLASS_SIZE = 4
#: Weight of examples with which the rate of each class is drawn towards that of all.
PULL_TO_ALL = 200.0


class CrossFit:
    """Pairs of networks in training, and what they say of the labels.

    Equal chains are trained side by side, as one batched network: a pair for each of several forget rates. Of any other
    networks there are two pairs, one after the other: one that begins by forgetting as much as looks wrong at first,
    and then as much as it finds wrong itself, and one that forgets nothing.

    Parameters
    ----------
    config : TrainingConfig
        Of the fit.
    data : TrainingData

    Attributes
    ----------
    max_steps : int
        How often :meth:`run_step` has to be called.
    """

    def __init__(self, config: TrainingConfig, data: TrainingData):
        self._data = data
        seeds = [_seed(config.seed, half, 1) for half in (1, 2)]
        in_first = _first_half(data, seeds)
        self._unseen = [(~in_first).nonzero()[:, 0], in_first.nonzero()[:, 0]]
        self._halves = [data.part(half) for half in (in_first, ~in_first)]
        self._configs = [_config_of_pair(config, seed) for seed in seeds]
        self._pairs = [_make_pair(own, half) for own, half in zip(self._configs, self._halves, strict=True)]
        self._joined = can_be_joined(self._pairs[0], config, data)
        is_few = len(data.drawn) < FEW_EXAMPLES
        share = SIDE_BY_SIDE_SHARE if self._joined and not is_few else EPOCHS_SHARE
        self._n_epochs = _n_epochs(share, config, len(data.drawn))
        self._warm_up = math.ceil(WARM_UP_SHARE * self._n_epochs)
        self._n_alike = 0 if is_few else math.ceil(self._warm_up / 3)  # epochs for which all are one pair
        self._weights = _weights_that_count(data)
        self._candidates: list[tuple[float, np.ndarray]] = []  # forget rate, out-of-sample probabilities, float32
        self._forget_rate = 0.0
        self._n_done = 0  # by trainers that were replaced
        self._class_rates: np.ndarray | None = None
        self._accuracy = 0.0  # on the labels that it learns from, of the pair that forgets nothing
        side_by_side = FORGET_RATES_OF_FEW if is_few else FORGET_RATES
        rounds: list[tuple[float, ...]] = [side_by_side] if self._joined else [(math.nan,), (0.0,)]
        self.max_steps = 2 * self._n_epochs * len(rounds)
        self._rounds = iter(rounds)
        self._begin_round()

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done."""
        return not self._trainers

    def run_step(self) -> None:
        """Train on one of the halves for an epoch.

        Raises
        ------
        DivergedError
            If a loss became NaN or infinite.
        """
        trainer = min(self._trainers, key=lambda each: each.epoch)
        try:
            trainer.run_epoch(self._rates(self._n_done + trainer.epoch))
        except DivergedError as error:
            raise DivergedError(f'Before the training proper, for forget_rate="auto": {error}') from error
        epoch = self._n_done + trainer.epoch
        if trainer is not self._trainers[1]:
            return
        if epoch == self._n_epochs:
            self._end_round()
        elif self._adapts and epoch in (self._warm_up, self._warm_up + self._rest // 2):
            self._adapt()
        elif len(self._round) > 1 and epoch == self._n_alike:
            self._go_on_with([0] * len(self._round))
        elif len(self._round) > 1 and epoch == self._dropping_epoch:
            self._continue_with_the_best()

    def noise_estimate(self, *, with_probabilities: bool = False) -> NoiseEstimate:
        """What was found; to be asked when all steps are done. With the out-of-sample probabilities, where wanted."""
        data = self._data
        candidates = [self._candidate(rate, self._without_class_weights(each)) for rate, each in self._candidates]
        weights = self._weights[self._weights > 0]
        counted = counted_rate(*self._labels(self._without_class_weights(self._candidates[0][1])))
        if self._joined:
            choice = choice_of_several(candidates, weights, gap=self._gap(candidates[0]), counted=counted)
        else:
            adaptive, plain = candidates
            choice = choice_of_two(adaptive, plain, is_flat=counted > 0, weights=weights)
        fit = candidates[choice.number].fit
        probabilities = self._without_class_weights(self._candidates[choice.number][1])
        forget_rate = min(choice.forget_rate, MAXIMUM_FORGET_RATE)
        of_classes = _class_rates(fit, data, forget_rate) if forget_rate and fit.rate else None
        if of_classes is not None:
            forget_rate = float(_class_shares(data) @ of_classes)
        is_noisy = choice.noise_rate * weights.sum() >= 0.5  # else no label would be called wrong
        quality = probabilities[np.arange(len(data.codes)), data.codes]
        if is_noisy:
            temperature = max(fit.temperature, 1.0)  # to rank labels, better too unsure than too sure
            quality = probability_right(data.codes, probabilities, choice.noise_matrix, temperature)
        return NoiseEstimate(
            forget_rate=forget_rate,
            class_forget_rates=None if of_classes is None else torch.from_numpy(of_classes),
            noise_rate=choice.noise_rate if is_noisy else 0.0,
            noise_rate_std=choice.noise_rate_std,
            noise_matrix=torch.from_numpy(choice.noise_matrix if is_noisy else np.eye(data.n_classes)).clone(),
            quality=torch.from_numpy(np.nan_to_num(quality)).double(),
            probabilities=torch.from_numpy(probabilities).float() if with_probabilities else None,
            predicted=torch.from_numpy(probabilities.argmax(axis=1).astype(data.codes.dtype)),
            confidence=fit.confidence,
        )

    @property
    def _rest(self) -> int:
        return self._n_epochs - self._warm_up

    @property
    def _dropping_epoch(self) -> int:
        return self._warm_up + math.ceil(DROPPING_SHARE * self._rest)

    @property
    def _adapts(self) -> bool:
        """Whether the pairs of this round forget what they find."""
        return math.isnan(self._round[0])

    def _begin_round(self) -> None:
        """Fresh networks: of all candidates, which start alike, or of one pair that is all of them at first."""
        self._round: tuple[float, ...] = next(self._rounds, ())
        n_pairs = 1 if self._n_alike else len(self._round)
        self._trainers = [
            Trainer(own, half, NoiseEstimate(0.0), [copy.deepcopy(each) for _ in range(n_pairs) for each in pair])
            for own, half, pair in zip(self._configs, self._halves, self._pairs, strict=True)
        ] if self._round else []  # fmt: skip

    def _rates(self, epoch: int) -> Tensor:
        """What each pair forgets in this epoch, of all classes alike until it is known what is wrong of each."""
        if self._adapts:
            rates = torch.tensor([self._forget_rate], device="cpu")
        elif epoch < self._n_alike:
            rates = torch.zeros(1, device="cpu")
        elif self._class_rates is not None:
            return torch.from_numpy(self._class_rates)
        else:
            rates = torch.tensor(self._round, device="cpu") * min(epoch / self._warm_up, 1.0)
        return rates[:, None].expand(-1, self._data.n_classes)

    def _adapt(self) -> None:
        """Forget as much as is found wrong."""
        probabilities = self._without_class_weights(self._predict(0))
        self._forget_rate = min(fitted_or_counted_noise(*self._labels(probabilities)).rate, MAXIMUM_FORGET_RATE)

    def _continue_with_the_best(self) -> None:
        """Drop candidates that nothing speaks for; the others forget of each class what is wrong of it."""
        candidates, counted = [], 0.0
        for number, rate in enumerate(self._round):
            probabilities = self._without_class_weights(self._predict(number))
            candidates.append(self._candidate(rate, probabilities))
            if number == 0:
                counted = counted_rate(*self._labels(probabilities))
        kept = promising(candidates, N_PROMISING, self._weights[self._weights > 0], counted)
        fit = max((each.fit for each in candidates), key=lambda each: each.log_evidence)
        self._round = tuple(self._round[number] for number in kept)
        if fit.rate:
            self._class_rates = np.stack([_class_rates(fit, self._data, each) for each in self._round])
        self._go_on_with(kept)

    def _go_on_with(self, pairs: list[int]) -> None:
        """Trainers for copies of these pairs, in place of those of all.

        Their epochs count from 0 again: with the same seed they would see the first batches again.
        """
        self._n_done += self._trainers[0].epoch
        self._trainers = [
            Trainer(dataclasses.replace(each.config, seed=_seed(each.config.seed, 2)), each.data, each.noise_estimate, [
                copy.deepcopy(network) for number in pairs for network in each.networks[2 * number : 2 * number + 2]
            ])
            for each in self._trainers
        ]  # fmt: skip

    def _candidate(self, forget_rate: float, probabilities: np.ndarray) -> Candidate:
        counted = np.flatnonzero(self._weights)
        right = probabilities.argmax(axis=1)[counted] == self._data.codes[counted]
        if not self._joined and forget_rate > 0:  # adaptive
            return Candidate(forget_rate, fitted_or_counted_noise(*self._labels(probabilities)), right)
        some = drawn(counted, MAXIMUM_EXAMPLES)
        return Candidate(forget_rate, fit_noise(*self._labels(probabilities[some], some)), right)

    def _gap(self, plain: Candidate) -> float:
        """How much more often the pair that forgets nothing predicts labels that it has learnt from than others."""
        weights = self._data.full_weights[np.flatnonzero(self._weights)]
        return self._accuracy - float(weights @ plain.right / weights.sum())

    def _end_round(self) -> None:
        rates = [self._forget_rate] if self._adapts else self._round
        self._candidates += [(rate, self._predict(number)) for number, rate in enumerate(rates)]
        self._accuracy = fmean(itertools.chain(*(each.history[-1]["accuracy"][:2] for each in self._trainers)))
        self._begin_round()

    def _predict(self, number: int) -> np.ndarray:
        """Of a pair, for every example by those that have not seen it, float32; NaN for those of no weight."""
        data = self._data
        found = np.full((len(data.inputs), data.n_classes), np.nan, dtype=np.float32)
        for trainer, unseen in zip(self._trainers, self._unseen, strict=True):
            config, pair = trainer.config, trainer.networks[2 * number : 2 * number + 2]
            with random_state(config.device, predictions(config.seed, trainer.epoch)):
                for some in unseen.split(MAXIMUM_EXAMPLES):
                    predicted = predict(
                        pair,
                        data.inputs,
                        mean_probabilities,
                        config.processes.part_of_order(some, len(some)),
                        n_classes=data.n_classes,
                        precision=config.precision,
                    )
                    found[some.numpy()] = config.processes.gathered(predicted.T, len(some)).T.cpu().numpy()
        return found

    def _without_class_weights(self, probabilities: np.ndarray) -> np.ndarray:
        """What they would be if the classes were not weighted, float64."""
        data = self._data
        with_weight, of_class = data.drawn.numpy(), np.ones(data.n_classes)
        if data.full_weights is not data.sample_weights:
            of_class[data.codes[with_weight]] = data.full_weights[with_weight] / data.sample_weights[with_weight]
        unweighted = probabilities / of_class
        unweighted /= unweighted.sum(axis=1, keepdims=True)
        return unweighted

    def _labels(
        self, probabilities: np.ndarray, examples: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Given labels, these probabilities, and weights, without those of examples of which nothing is known."""
        weights = np.where(np.isfinite(probabilities).all(axis=1), self._weights[examples], 0)
        return self._data.codes[examples], probabilities, weights


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _config_of_pair(config: TrainingConfig, seed: int) -> TrainingConfig:
    """As the fit, but with a constant learning rate and without averages."""
    return dataclasses.replace(
        config, seed=seed, epochs=1, num_gradual=0, epoch_decay_start=1, exponent=1.0, average_decay=None
    )


def _make_pair(config: TrainingConfig, half: TrainingData) -> tuple[nn.Module, nn.Module]:
    with random_state(config.device, initial_weights(config.seed)):
        networks = make_networks(config, half.inputs.form.item_shape, half.n_classes)
        standardize(networks, half, config.processes)
    return networks


def _first_half(data: TrainingData, seeds: list[int]) -> Tensor:
    """A random half of the examples that have weight, with half of each given class, (n_samples,) bool."""
    with random_state(torch.device("cpu"), tuple(seeds)):
        order = stratified_order(data.drawn, data.drawn_targets, (len(data.drawn) + 1) // 2)
    in_first = torch.zeros(len(data.inputs), dtype=torch.bool, device="cpu")
    in_first[order[: (len(order) + 1) // 2]] = True
    return in_first


def _n_epochs(share: float, config: TrainingConfig, n_samples: int) -> int:
    """Epochs of each pair, this share of those of the fit on so many examples."""
    n_steps = math.ceil(n_samples / 2 / config.batch_size)
    steps = min(n_steps, config.num_iter_per_epoch or n_steps)
    return max(min(max(math.ceil(share * config.epochs), math.ceil(MINIMUM_STEPS / steps)), config.epochs), 2)


def _weights_that_count(data: TrainingData) -> np.ndarray:
    """Sample weights, without those of classes too small to be learnt from either half, (n_samples,)."""
    sizes = np.bincount(data.codes[data.drawn], minlength=data.n_classes)
    weights = np.zeros(len(data.codes))
    weights[data.drawn] = data.sample_weights[data.drawn]
    weights[sizes[data.codes] < MINIMUM_CLASS_SIZE] = 0
    return weights


def _class_shares(data: TrainingData) -> np.ndarray:
    """Of the weight that is trained with, (n_classes,)."""
    drawn = data.drawn.numpy()
    weights = np.bincount(data.codes[drawn], data.full_weights[drawn], data.n_classes)
    return weights / weights.sum()


def _class_rates(fit: NoiseFit, data: TrainingData, forget_rate: float) -> np.ndarray:
    """What is forgotten of each given class: in proportion to what is wrong of it, and so much in all.

    Where the most is forgotten of a class, the others make up for it.
    """
    counts = np.bincount(data.codes[data.drawn], data.sample_weights[data.drawn], data.n_classes)
    joint, pulled = fit.joint, PULL_TO_ALL  # a free noise matrix knows single classes less well
    if fit.is_symmetric:
        pulled = 0.0
        if data.n_classes == 2:  # of more classes, single counts say less than the networks
            joint = likely_joint(fit.matrix, counts / counts.sum())
    wrong = (joint.sum(axis=1) - joint.diagonal()) * counts.sum()
    wrong = (wrong + pulled * fit.rate) / np.maximum(counts + pulled, 1)
    shares = _class_shares(data)
    rates, is_full = np.zeros(data.n_classes), np.zeros(data.n_classes, dtype=bool)
    for _ in range(data.n_classes):
        left = forget_rate - MAXIMUM_CLASS_RATE * shares[is_full].sum()
        amount = shares[~is_full] @ wrong[~is_full]
        if amount <= 0:
            break
        rates = np.where(is_full, MAXIMUM_CLASS_RATE, wrong * max(left / amount, 0.0))
        if rates.max() <= MAXIMUM_CLASS_RATE:
            break
        is_full |= rates > MAXIMUM_CLASS_RATE
    return np.minimum(rates, MAXIMUM_CLASS_RATE)
