"""Each half of the data predicts the other: held with networks that know their answers, and with some that learn."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from _training.builders import (
    Net,
    bits,
    chain,
    config_with,
    configured,
    equal,
    estimator,
    many,
    networks_and_data,
    validated,
    without_durations,
)
from _training.builders import training_data as data_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach._errors import DivergedError
from skcoteach._noise_counting import fitted_or_counted_noise
from skcoteach._noise_likelihood import TEMPERATURES, fit_noise, probability_right, smoothed, symmetric_matrix
from skcoteach._training import crossfit
from skcoteach._training.crossfit import (
    FORGET_RATES,
    FORGET_RATES_OF_FEW,
    MAXIMUM_FORGET_RATE,
    MINIMUM_CLASS_SIZE,
    N_PROMISING,
    CrossFit,
)
from skcoteach._training.inference import mean_probabilities, predict
from skcoteach._training.trainer import MAXIMUM_CLASS_RATE, Trainer

pytestmark = pytest.mark.filterwarnings("error")


def training_data(codes, weights=None, X=None, **more):
    """Data whose only feature is the number of the example, unless X is given."""
    X = np.arange(len(codes), dtype=np.float32)[:, None] if X is None else X
    return data_of(X, np.asarray(codes), weights, classes=np.arange(max(*codes, 1) + 1), **more)


def cross_fitted(config, data, networks=()):
    """A cross-fit whose steps are all done, as many as were announced."""
    cross_fit = CrossFit(config, data)
    for _ in range(cross_fit.max_steps):
        assert not cross_fit.is_finished
        cross_fit.run_step()
    assert cross_fit.is_finished
    return cross_fit


# --- networks that know their answers --------------------------------------------------------------------------------


class Answers(nn.Module):
    """Gives each example, whose number is its only feature, what is written down for it in this stage."""

    def __init__(self):
        super().__init__()
        self.stages = []
        self.stage, self.was_asked = 0, False
        self.predicted = []
        self.eval()

    def forward(self, x):
        assert not self.training
        self.was_asked = True
        numbers = x[:, 0].long()
        self.predicted += numbers.tolist()
        return self.stages[min(self.stage, len(self.stages) - 1)][numbers]


class Pairs:
    """Stands for the trainer of a half: learns nothing, and writes down what it was asked to do."""

    accuracy = 0.0  # on what it is trained on

    def __init__(self, config, half, noise_estimate, networks):
        self.config, self.data, self.noise_estimate, self.networks = config, half, noise_estimate, networks
        self.rates = []

    @property
    def epoch(self):
        return len(self.rates)

    @property
    def history(self):
        return [{"accuracy": (self.accuracy,) * len(self.networks)} for _ in self.rates]

    @property
    def forget_rates(self):
        """Of the first pair; of all classes alike."""
        assert all(min(epoch[0]) == max(epoch[0]) for epoch in self.rates)
        return [epoch[0][0] for epoch in self.rates]

    def run_epoch(self, rates=None):
        for network in self.networks:
            network.stage += network.was_asked
            network.was_asked = False
        self.rates.append(rates.tolist())


def run_scripted(codes, adaptive, plain=None, weights=None, *, trainer=Pairs, data=None, side_by_side=None, **fields):
    """The trainers and the cross-fit, where pairs give these answers, stage by stage.

    ``side_by_side`` are those of pairs that are trained together, in the order of their forget rates; ``adaptive`` and
    ``plain`` those of pairs that come one after the other. The former have new trainers when some go on and, of many
    examples, when one pair becomes all of them.
    """
    config = config_with(module=Answers, **{"epochs": 20, "batch_size": 100, "lr": 0.01} | fields)
    data = training_data(codes, weights) if data is None else data
    trainers = []

    def make(config, half, noise_estimate, networks):
        trainers.append(trainer(config, half, noise_estimate, networks))
        scripts = side_by_side or [adaptive if len(trainers) <= 2 else plain or adaptive]
        if side_by_side and len(networks) == 2:
            return trainers[-1]  # all of them at first; not asked
        for number, network in enumerate(networks):
            network.stages = network.stages or [
                torch.as_tensor(each, dtype=torch.float32, device="cpu") for each in scripts[number // 2]
            ]
        return trainers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "Trainer", make)
        patch.setattr(crossfit, "can_be_joined", lambda *_: side_by_side is not None)
        return trainers, cross_fitted(config, data)


def estimated(*arguments, **options):
    return run_scripted(*arguments, **options)[1].noise_estimate()


def posteriors(codes, rate=0.0, n_classes=2, seed=0):
    """Logits from which true labels were drawn, of which this share were given as another class."""
    rng = np.random.default_rng(seed)
    n = len(codes)
    true = np.where(rng.permutation(n) < rate * n, (codes + rng.integers(1, n_classes, n)) % n_classes, codes)
    logits = rng.normal(scale=3, size=(n, n_classes))
    drawn = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    every = np.arange(n)
    logits[every, drawn], logits[every, true] = logits[every, true], logits[every, drawn].copy()
    return logits


def probabilities_of(logits):
    return torch.tensor(logits, dtype=torch.float32).softmax(1).numpy()


CODES = np.arange(600) % 2
RIGHT, NOISY = posteriors(CODES), posteriors(CODES, 0.3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(0, 10), st.data())
def test_halves_are_stratified_by_given_class_and_share_no_example(codes, seed, data):
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=len(codes), max_size=len(codes)))
    weights[0] = weights[1] = 1.0
    halved = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "Trainer", lambda *arguments: halved.append(Pairs(*arguments)) or halved[-1])
        CrossFit(config_with(module=Answers, seed=seed), training_data(codes, weights))
    first, second = halved
    halves = [first.data.drawn.tolist(), second.data.drawn.tolist()]
    assert sorted(halves[0] + halves[1]) == [i for i, weight in enumerate(weights) if weight > 0]
    assert 0 <= len(halves[0]) - len(halves[1]) <= 1
    for trainer, half in zip((first, second), halves, strict=True):
        assert trainer.data.drawn_targets.tolist() == [codes[i] for i in half]
    for code in range(4):
        counts = [sum(codes[i] == code for i in half) for half in halves]
        # up to any point of the line either half is less than one off its share; a class lies between two points
        assert abs(counts[0] - counts[1]) < 4 + len(halves[0]) - len(halves[1])


@pytest.mark.parametrize("seed", range(5))
def test_either_half_has_about_half_of_every_given_class(seed):
    codes = np.random.default_rng(seed).permutation(np.repeat([0, 1, 2], [120, 60, 20]))
    trainers, _ = run_scripted(codes, [np.eye(3)[codes]], seed=seed, epochs=2)
    for trainer in trainers[:2]:
        assert np.abs(np.bincount(trainer.data.drawn_targets) - [60, 30, 10]).max() < 2


def test_halves_are_drawn_anew_for_another_seed_and_are_those_of_all_rounds():
    halves = []
    for seed in (0, 0, 1):
        trainers, _ = run_scripted(CODES, [NOISY], seed=seed)
        assert [trainer.data.drawn.tolist() for trainer in trainers[2:]] == [
            trainer.data.drawn.tolist() for trainer in trainers[:2]
        ]
        halves.append(trainers[0].data.drawn.tolist())
    assert halves[0] == halves[1] != halves[2]


def test_both_halves_see_all_that_is_known_of_the_examples_and_get_seeds_of_their_own():
    weights = np.arange(600) % 3
    trainers, _ = run_scripted(CODES, [NOISY], None, weights)
    assert len({0, *(trainer.config.seed for trainer in trainers)}) == 3
    for trainer in trainers:
        assert trainer.data.weights.tolist() == weights.tolist()
        assert trainer.data.targets.tolist() == CODES.tolist()
        assert trainer.data.n_classes == 2


def test_each_example_is_predicted_by_the_pair_that_it_does_not_belong_to():
    weights = (np.arange(600) % 5 > 0).astype(float)  # what has no weight is predicted, too
    trainers, cross_fit = run_scripted(CODES, [NOISY], None, weights)
    for first, second in (trainers[:2], trainers[2:]):
        n_asked = first.networks[0].stage + 1
        predicted = [trainer.networks[0].predicted for trainer in (first, second)]
        assert sorted(predicted[0] + predicted[1]) == sorted([*range(600)] * n_asked)
        for trainer, examples in zip((first, second), predicted, strict=True):
            assert not set(examples) & set(trainer.data.drawn.tolist())
            assert trainer.networks[1].predicted == examples
    estimate, expected = cross_fit.noise_estimate(with_probabilities=True), probabilities_of(NOISY)
    np.testing.assert_allclose(estimate.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(estimate.predicted, expected.argmax(axis=1))


def test_without_noise_the_quality_of_a_label_is_its_probability():
    estimate = estimated(CODES, [RIGHT])
    assert estimate.noise_rate == 0
    np.testing.assert_allclose(estimate.quality, probabilities_of(RIGHT)[np.arange(600), CODES], atol=1e-6)


@pytest.mark.parametrize(("scale", "tempers"), [(0.3, False), (3.0, True)], ids=["unsure", "too sure"])
def test_with_noise_it_is_the_probability_that_the_label_is_right_by_networks_no_surer_than_they_are(scale, tempers):
    true = np.arange(900) % 3
    codes = np.where((true == 0) & (np.random.default_rng(0).random(900) < 0.4), 1, true)
    logits = scale * posteriors(true, n_classes=3)
    estimate = estimated(codes, None, side_by_side=[[logits]] * 9)
    matrix, temperature = (
        estimate.noise_matrix.numpy(),
        fit_noise(codes, probabilities_of(logits), np.ones(900)).temperature,
    )
    assert (temperature > 1) == tempers and estimate.noise_rate > 0.08
    expected = probability_right(codes, probabilities_of(logits), matrix, temperature if tempers else 1.0)
    np.testing.assert_allclose(estimate.quality, expected, atol=1e-5)


def test_the_estimate_is_made_of_plain_values_on_the_host():
    estimate = estimated(CODES, [NOISY])
    numbers = (estimate.forget_rate, estimate.noise_rate, estimate.noise_rate_std, estimate.confidence)
    assert {type(each) for each in numbers} == {float}
    tensors = (estimate.class_forget_rates, estimate.noise_matrix, estimate.quality, estimate.predicted)
    assert [each.dtype for each in tensors] == [torch.float64] * 3 + [torch.int8]
    assert {each.device.type for each in tensors} == {"cpu"}


def test_probabilities_that_are_asked_for_are_of_single_precision():
    cross_fit = run_scripted(CODES, [NOISY], None, None)[1]
    probabilities = cross_fit.noise_estimate(with_probabilities=True).probabilities
    assert probabilities.dtype == torch.float32
    np.testing.assert_allclose(probabilities, probabilities_of(NOISY), atol=1e-6)


@pytest.mark.parametrize(
    ("epochs", "n", "batch_size", "num_iter_per_epoch", "n_epochs", "n_side_by_side"),
    [
        (100, 2000, 100, None, 30, 26),  # 10 steps an epoch on a half
        (101, 2000, 100, None, 31, 27),
        (10, 2000, 100, None, 6, 6),  # 60 steps at least
        (10, 2100, 100, None, 6, 6),  # 11 steps an epoch
        (100, 200, 100, None, 60, 60),  # one step an epoch
        (30, 200, 100, None, 30, 30),  # no more epochs than the fit has
        (100, 600, 100, None, 30, 30),  # few examples
        (100, 2000, 100, 1, 60, 60),  # no more than one step an epoch
        (100, 2000, 100, 50, 30, 26),
        (5, 2000, 4, None, 2, 2),  # 250 steps an epoch
        (3, 2000, 4, None, 2, 2),  # two epochs at least
        (1, 2000, 4, None, 2, 2),
    ],
)
def test_each_pair_takes_a_part_of_the_epochs_of_the_fit_and_60_steps_at_least(
    epochs, n, batch_size, num_iter_per_epoch, n_epochs, n_side_by_side
):
    codes = np.arange(n) % 2
    fields = {"epochs": epochs, "batch_size": batch_size, "num_iter_per_epoch": num_iter_per_epoch}
    trainers, _ = run_scripted(codes, [np.eye(2)[codes]], **fields)
    assert [trainer.epoch for trainer in trainers] == [n_epochs] * 4
    side_by_side = [[np.eye(2)[codes]]] * 9
    trainers, _ = run_scripted(codes, None, side_by_side=side_by_side, **fields)
    assert [sum(trainer.epoch for trainer in trainers[half::2]) for half in range(2)] == [n_side_by_side] * 2


def test_a_step_is_an_epoch_on_one_of_the_halves_in_turn():
    ran = []

    class Writing(Pairs):
        def run_epoch(self, rates=None):
            super().run_epoch(rates)
            ran.append(self)

    for options in ({"adaptive": [NOISY]}, {"adaptive": None, "side_by_side": [[NOISY]] * 9}):
        ran.clear()
        trainers, _ = run_scripted(CODES, **options, trainer=Writing)
        pairs = [trainers[first : first + 2] for first in range(0, len(trainers), 2)]
        assert ran == [each for pair in pairs for each in pair * pair[0].epoch]


# --- one pair after the other ----------------------------------------------------------------------------------------


def test_the_adaptive_pair_forgets_what_it_finds_wrong_after_its_warm_up_and_half_way():
    weights = np.random.default_rng(1).integers(1, 4, 600).astype(float)
    stages = [posteriors(CODES, 0.4, seed=1), posteriors(CODES, 0.3, seed=2), posteriors(CODES, 0.2, seed=3)]
    trainers, cross_fit = run_scripted(CODES, stages, [RIGHT], weights, epochs=20)
    first, second = (fitted_or_counted_noise(CODES, probabilities_of(each), weights).rate for each in stages[:2])
    assert 0.2 < second < first
    for trainer in trainers[:2]:
        assert trainer.forget_rates == pytest.approx([0.0] * 6 + [first] * 7 + [second] * 7, abs=1e-5)
    for trainer in trainers[2:]:
        assert trainer.forget_rates == [0.0] * 20


def test_where_nothing_looks_wrong_nothing_is_forgotten():
    trainers, cross_fit = run_scripted(CODES, [9 * np.eye(2)[CODES]])
    assert {rate for trainer in trainers for rate in trainer.forget_rates} == {0.0}
    estimate = cross_fit.noise_estimate()
    assert (estimate.forget_rate, estimate.noise_rate, estimate.class_forget_rates) == (0.0, 0.0, None)
    assert estimate.noise_matrix.tolist() == [[1, 0], [0, 1]]


def test_no_more_than_the_maximum_is_ever_forgotten():
    codes = np.arange(600) % 3
    trainers, _ = run_scripted(codes, [9 * np.eye(3)[(codes + 1) % 3]])
    for trainer in trainers[:2]:
        assert max(trainer.forget_rates) == pytest.approx(MAXIMUM_FORGET_RATE)


def test_what_is_found_wrong_is_forgotten():
    estimate = estimated(CODES, [NOISY], [posteriors(CODES, 0.5, seed=5)])  # who forgets predicts better
    assert estimate.noise_rate == pytest.approx(0.3, abs=2 * estimate.noise_rate_std + 0.02)
    assert estimate.forget_rate == pytest.approx(estimate.noise_rate)
    np.testing.assert_array_equal(estimate.predicted, NOISY.argmax(axis=1))


def test_nothing_is_forgotten_where_those_that_forget_nothing_explain_the_labels_best():
    """Which of both is right about the noise is not known then."""
    other = posteriors(CODES, 0.3, seed=5)
    estimate = estimated(CODES, [other], [RIGHT])
    assert (estimate.forget_rate, estimate.class_forget_rates) == (0.0, None)
    rates = [fit_noise(CODES, probabilities_of(each), np.ones(600)).rate for each in (other, RIGHT)]
    assert estimate.noise_rate == pytest.approx(np.mean(rates), abs=1e-6)
    assert estimate.noise_rate_std == pytest.approx(np.std(rates), abs=0.02)
    assert 1 - estimate.noise_matrix.numpy().diagonal().mean() == pytest.approx(estimate.noise_rate, abs=0.01)
    np.testing.assert_array_equal(estimate.predicted, RIGHT.argmax(axis=1))


def pair_noise(n_classes=3, n=1500, rate=0.4):
    """Given and true labels."""
    true = np.arange(n) % n_classes
    return np.where(np.random.default_rng(0).random(n) < rate, (true + 1) % n_classes, true), true


def test_wrong_labels_are_forgotten_though_the_mixture_explains_them_better_if_they_are_wrong_everywhere():
    """Networks that forget nothing predict the mixture of both labels itself."""
    codes, true = pair_noise()
    mixture = np.log(0.6 * np.eye(3)[true] + 0.4 * np.eye(3)[(true + 1) % 3] + 1e-3)
    sure = 9 * np.eye(3)[true]
    estimate = estimated(codes, [sure], [mixture])
    fits = [fit_noise(codes, probabilities_of(each), np.ones(1500)) for each in (sure, mixture)]
    assert estimate.noise_rate == pytest.approx((codes != true).mean(), abs=0.03)
    assert estimate.forget_rate == pytest.approx(estimate.noise_rate)
    assert fits[1].rate < 0.1  # explained as an overlap of classes
    np.testing.assert_array_equal(estimate.predicted, true)


@pytest.mark.parametrize(("lost", "forgets"), [(0.02, True), (0.05, False)])
def test_but_not_if_many_given_labels_are_predicted_no_longer(lost, forgets):
    codes, true = pair_noise()
    mixture = np.log(0.6 * np.eye(3)[true] + 0.4 * np.eye(3)[(true + 1) % 3] + 1e-3)
    right = np.flatnonzero(codes == true)
    predicted = true.copy()
    predicted[right[: int(lost * len(right))]] += 2
    estimate = estimated(codes, [9 * np.eye(3)[predicted % 3]], [mixture])
    assert (estimate.forget_rate > 0) == forgets


def test_nor_where_the_labels_are_wrong_of_examples_that_are_hard():
    true = np.arange(1500) % 3
    hard = np.random.default_rng(0).random(1500)
    codes = np.where(np.random.default_rng(1).random(1500) < 0.6 * hard, (true + 1) % 3, true)
    mixture = np.log(
        (1 - 0.6 * hard[:, None]) * np.eye(3)[true] + 0.6 * hard[:, None] * np.eye(3)[(true + 1) % 3] + 1e-3
    )
    learnt = (2 + 6 * (1 - hard[:, None])) * np.eye(3)[true]  # more confident where it is easy
    estimate = estimated(codes, [learnt], [mixture])
    assert (estimate.forget_rate, estimate.class_forget_rates) == (0.0, None)
    assert estimate.noise_rate_std > 0.02


# --- side by side ----------------------------------------------------------------------------------------------------


def alike(rates, n_classes=2):
    return [pytest.approx([rate] * n_classes) for rate in rates]


@pytest.mark.parametrize(("n", "rates"), [(999, FORGET_RATES_OF_FEW), (1000, FORGET_RATES)])
def test_pairs_that_are_trained_side_by_side_forget_more_or_less_and_at_first_of_all_classes_alike(n, rates):
    codes = np.arange(n) % 2
    scripts = [[posteriors(codes, 0.3)]] * len(rates)
    trainers, _ = run_scripted(codes, None, side_by_side=scripts, epochs=20)
    n_epochs = sum(trainer.epoch for trainer in trainers[::2])
    warm_up = -(-3 * n_epochs // 10)
    assert len(trainers) == (4 if n < 1000 else 6)
    for number, trainer in enumerate(trainers[-4:-2]):
        assert len(trainer.networks) == 2 * len(rates)
        n_before = 0
        if n >= 1000:  # one pair is all of them
            assert len(trainers[number].networks) == 2
            n_before = -(-warm_up // 3)
            assert trainers[number].rates == [alike([0.0])] * n_before
        assert n_before + trainer.epoch == warm_up - (warm_up - n_epochs) // 7  # a seventh of the rest, rounded up
        for epoch, of_pairs in enumerate(trainer.rates, start=n_before):
            assert of_pairs == alike([min(epoch / warm_up, 1) * rate for rate in rates])


WORSE = posteriors(CODES, 0.45, seed=7)


def test_after_the_warm_up_those_that_are_promising_go_on_in_new_trainers_with_what_they_have_learnt():
    """Here those that explain the labels best, and the one that forgets nothing."""
    kept = [0, 2, 7]
    assert len(kept) == N_PROMISING
    scripts = [[NOISY + number / 100 if number in kept[1:] else WORSE] for number in range(9)]  # logits tell whose
    trainers, _ = run_scripted(CODES, None, side_by_side=scripts, epochs=20)
    assert len(trainers) == 4
    for before, after in zip(trainers[:2], trainers[2:], strict=True):
        assert after.config.seed != before.config.seed  # other batches: their epochs count from 0 again
        assert dataclasses.replace(after.config, seed=before.config.seed) == before.config
        assert (after.data, after.noise_estimate) == (before.data, before.noise_estimate)
        expected = [before.networks[2 * number + which] for number in kept for which in range(2)]
        for own, its in zip(after.networks, expected, strict=True):
            assert torch.equal(own.stages[0], its.stages[0])
            assert own is not its and own.stage == its.stage + 1  # was asked, and went on
        for of_pairs in after.rates:
            forgotten = [np.mean(of_classes) for of_classes in of_pairs]  # the classes are equally frequent
            assert forgotten == pytest.approx([FORGET_RATES_OF_FEW[number] for number in kept])


def test_where_no_noise_is_found_those_that_go_on_forget_as_before():
    trainers, cross_fit = run_scripted(CODES, None, side_by_side=[[RIGHT] if n < 4 else [WORSE] for n in range(9)])
    for trainer in trainers[2:]:
        assert trainer.rates == [alike(FORGET_RATES_OF_FEW[:N_PROMISING])] * trainer.epoch
    estimate = cross_fit.noise_estimate()
    assert (estimate.forget_rate, estimate.class_forget_rates) == (0.0, None)


def test_where_noise_is_found_they_forget_of_each_class_what_is_wrong_of_it_and_as_much_as_before_in_all():
    true = np.arange(900) % 3
    codes = np.where((true == 0) & (np.random.default_rng(0).random(900) < 0.5), 1, true)
    data = training_data(codes, np.full(900, 3.0), class_weight={0: 3.0, 1: 1.0, 2: 0.5})
    learnt = posteriors(true, n_classes=3) + np.log([3.0, 1.0, 0.5])  # as networks do where classes are weighted
    trainers, _ = run_scripted(codes, None, side_by_side=[[learnt]] * 9, data=data)
    shares = np.bincount(codes, data.full_weights) / data.full_weights.sum()
    for trainer in trainers[2:]:
        assert trainer.rates == [trainer.rates[0]] * trainer.epoch
        rates = np.array(trainer.rates[0])
        assert rates @ shares == pytest.approx([0.0, 0.1, 0.2])  # a sixth is wrong
        assert rates.min() >= 0 and rates.max() <= MAXIMUM_CLASS_RATE
        assert not rates[0].any()
        assert (rates[1:, 1] > 4 * rates[1:, [0, 2]].max(axis=1)).all()


@pytest.mark.parametrize("best", [0, 2, 4, 8])
def test_the_pair_that_explains_the_labels_best_says_what_to_forget(best):
    """As much as is wrong, if it forgets about as much."""
    scripts = [[NOISY if number == best else WORSE] for number in range(9)]
    estimate = estimated(CODES, None, side_by_side=scripts)
    expected = estimate.noise_rate if best == 4 else FORGET_RATES_OF_FEW[best]
    assert estimate.forget_rate == pytest.approx(expected)
    assert estimate.noise_rate == pytest.approx(0.3, abs=2 * estimate.noise_rate_std + 0.02)
    np.testing.assert_array_equal(estimate.predicted, NOISY.argmax(axis=1))
    assert (estimate.class_forget_rates is None) == (best == 0)


@pytest.mark.parametrize(("accuracy", "forgets"), [(1.0, True), (0.66, False)])
def test_where_wrong_labels_are_learnt_by_heart_as_much_as_is_wrong_is_forgotten(accuracy, forgets):
    """Although those that forget nothing explain the labels best."""
    trainer = type("ByHeart", (Pairs,), {"accuracy": accuracy})
    estimate = estimated(CODES, None, side_by_side=[[NOISY], *[[WORSE]] * 8], trainer=trainer)
    assert estimate.noise_rate == pytest.approx(0.3, abs=2 * estimate.noise_rate_std + 0.02)
    assert estimate.forget_rate == pytest.approx(estimate.noise_rate if forgets else 0.0)


def test_where_less_than_a_hundredth_is_wrong_nothing_is_forgotten():
    codes = np.arange(900) % 2
    few_wrong, worse = posteriors(codes, 0.004), posteriors(codes, 0.3, seed=7)
    estimate = estimated(codes, [few_wrong], [worse])
    assert (estimate.forget_rate, estimate.class_forget_rates) == (0.0, None)


# --- what follows from them ------------------------------------------------------------------------------------------


def test_networks_are_as_sure_on_average_as_the_tempered_probabilities():
    """On average over the temperatures that explain the labels."""
    weights = np.arange(600) % 3
    estimate = estimated(CODES, [4 * NOISY], None, weights)  # too sure
    fit = fit_noise(CODES, probabilities_of(4 * NOISY), weights.astype(float))
    assert fit.temperature > 1.1
    assert estimate.confidence == pytest.approx(fit.confidence)
    sure = []
    for temperature in TEMPERATURES:
        tempered = smoothed(probabilities_of(4 * NOISY)) ** (1 / temperature)
        sure.append(np.average((tempered / tempered.sum(axis=1, keepdims=True)).max(axis=1), weights=weights))
    nearest = np.abs(np.log(TEMPERATURES / fit.temperature)).argmin()
    assert sure[nearest + 1] < estimate.confidence < sure[nearest - 1]


def test_the_noise_matrix_is_scaled_to_the_noise_rate():
    rates = [0.3, 0.3, 0.25, 0.3, 0.35, 0.3, 0.3, 0.25, 0.35]  # they differ by little
    scripts = [[posteriors(CODES, rate)] for rate in rates]
    estimate = estimated(CODES, None, side_by_side=scripts)
    shares = np.linalg.solve(estimate.noise_matrix.numpy(), [0.5, 0.5])
    assert 1 - shares @ estimate.noise_matrix.numpy().diagonal() == pytest.approx(estimate.noise_rate, abs=1e-3)
    np.testing.assert_allclose(estimate.noise_matrix.sum(0), 1)


@pytest.mark.parametrize("class_weight", [None, {0: 5.0, 1: 1.0, 2: 0.5}])
def test_of_each_given_class_as_much_is_forgotten_as_is_wrong_of_it_and_so_much_in_all(class_weight):
    rng = np.random.default_rng(0)
    true = np.arange(1500) % 3
    codes = np.where((true == 0) & (rng.random(1500) < 0.5), 1, true)  # a third of those that are called 1
    weights = rng.integers(1, 3, 1500).astype(float)
    data = training_data(codes, weights, class_weight=class_weight)
    factors = np.ones(3) if class_weight is None else np.array([*class_weight.values()])
    learnt = posteriors(true, n_classes=3) + np.log(factors)  # as networks do
    estimate = estimated(codes, [learnt], data=data)
    assert estimate.noise_rate == pytest.approx(np.average(codes != true, weights=weights), abs=0.04)
    rates = estimate.class_forget_rates.numpy()
    shares = np.bincount(codes, data.full_weights) / data.full_weights.sum()
    assert estimate.forget_rate == pytest.approx(shares @ rates)
    assert estimate.forget_rate == pytest.approx(estimate.noise_rate, abs=1e-6)
    assert rates[1] > 4 * max(rates[0], rates[2])
    assert (rates >= 0).all() and (rates <= MAXIMUM_CLASS_RATE).all()


def rare_with_noise(forget_rate, rate=0.35):
    """Of 1,000 examples 60 are of class 1; what is forgotten of both if labels are wrong like that."""
    true = np.arange(1000) % 50 < 3
    codes = np.where(np.random.default_rng(0).permutation(1000) < 1000 * rate, ~true, true).astype(int)
    fit = dataclasses.replace(
        fit_noise(codes, np.eye(2)[codes], np.ones(1000)),
        rate=rate,
        matrix=symmetric_matrix(rate, 2),
        joint=np.full((2, 2), 0.25),  # as by networks that know nothing
        n_exchanged=2,
    )
    wrong = np.array([(codes != true)[codes == k].mean() for k in range(2)])
    return crossfit._class_rates(fit, training_data(codes), forget_rate), wrong, np.bincount(codes) / 1000


def test_of_a_rare_class_nearly_all_is_forgotten_where_nearly_all_that_is_called_so_is_another():
    """Whatever the networks say of single examples: symmetric noise and the given labels tell how many are wrong."""
    rates, wrong, shares = rare_with_noise(0.35)
    assert wrong[1] > 0.85 > 0.1 > wrong[0]
    assert rates == pytest.approx(wrong, abs=0.05)
    assert shares @ rates == pytest.approx(0.35)


@pytest.mark.parametrize(("forget_rate", "is_full"), [(0.1, False), (0.3, False), (0.43, True), (0.6, True)])
def test_less_or_more_is_forgotten_of_each_in_proportion_until_it_is_the_most(forget_rate, is_full):
    rates, wrong, shares = rare_with_noise(forget_rate)
    assert shares @ rates == pytest.approx(forget_rate)
    assert (rates[1] == MAXIMUM_CLASS_RATE) == is_full
    if not is_full:
        assert rates[0] / rates[1] == pytest.approx(wrong[0] / wrong[1], abs=0.05)


def test_of_no_class_all_is_forgotten():
    true = np.arange(900) % 3
    codes = np.where(np.arange(900) % 9 == 0, 1, np.where(true == 1, 2, true))  # whatever is called 1 is wrong
    estimate = estimated(codes, [posteriors(true, n_classes=3)])
    assert estimate.class_forget_rates.max() <= MAXIMUM_CLASS_RATE
    shares = np.bincount(codes) / 900
    assert estimate.forget_rate == pytest.approx(shares @ estimate.class_forget_rates.numpy())


def test_labels_are_counted_by_sample_weight_whatever_the_classes_weigh():
    """Networks that learn with weighted classes predict the heavy ones more often; this is undone."""
    factors = np.array([5.0, 1.0, 0.5])
    codes = np.arange(600) % 3
    logits = posteriors(codes, 0.2, n_classes=3)
    plain = estimated(codes, [logits])
    weighted = estimated(
        codes, [logits + np.log(factors)], data=training_data(codes, class_weight=dict(enumerate(factors)))
    )
    assert weighted.noise_rate == pytest.approx(plain.noise_rate, abs=1e-4)
    np.testing.assert_allclose(weighted.noise_matrix, plain.noise_matrix, atol=1e-4)
    np.testing.assert_allclose(weighted.quality, plain.quality, atol=1e-5)


def test_a_class_without_weight_says_nothing():
    """Networks that have not learnt it take it for others."""
    codes = np.arange(900) % 3
    logits = np.insert(posteriors(codes // 2), 1, -9.0, axis=1)
    data = training_data(codes, class_weight={0: 1.0, 1: 0.0, 2: 1.0})
    trainers, cross_fit = run_scripted(codes, [logits], data=data)
    assert not {*np.flatnonzero(codes == 1)} & {each for t in trainers for each in t.data.drawn.tolist()}
    assert cross_fit.noise_estimate().noise_rate < 0.03


def test_classes_too_small_to_be_learnt_from_either_half_say_nothing():
    codes = np.where(np.arange(600) < MINIMUM_CLASS_SIZE - 1, 2, CODES)
    logits = np.column_stack([RIGHT, np.full(600, -9.0)])  # never predict it
    estimate = estimated(codes, [logits])
    assert estimate.noise_rate == 0.0
    np.testing.assert_array_equal(estimate.noise_matrix, np.eye(3))


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_what_is_not_finite_says_nothing_and_is_of_no_quality(weight):
    logits, weights = NOISY.copy(), np.ones(600)
    logits[[50, 51]] = np.inf
    weights[[50, 51]] = weight
    estimate = estimated(CODES, [logits], None, weights)
    assert estimate.quality[[50, 51]].tolist() == [0.0, 0.0]
    assert estimate.quality.isfinite().all() and np.isfinite(estimate.noise_rate)
    assert estimate.noise_rate == pytest.approx(0.3, abs=2 * estimate.noise_rate_std + 0.02)


# --- networks that learn ---------------------------------------------------------------------------------------------


def blobs(n=240, seed=0, dtype=np.float32):
    """Two classes side by side, a tenth of the labels wrong; the last feature is the number of the example."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    X = rng.normal(size=(n, 3)) + 4 * codes[:, None]
    given = np.where(np.arange(n) % 10 == 3, 1 - codes, codes)
    return np.column_stack([X, np.arange(n)]).astype(dtype), given


class Learner(nn.Module):
    """A small network that writes down which examples it was shown, in training and after it."""

    def __init__(self, draws=False):
        super().__init__()
        self.linear = nn.Linear(3, 2, device="cpu")
        self.draws = draws
        self.shown = {True: set(), False: set()}

    def forward(self, x):
        self.shown[self.training].update(x[:, 3].int().tolist())
        x = x[:, :3]
        if self.draws:  # in eval mode, too
            x = x + torch.randn(x.shape, device="cpu") + np.random.rand() + random.random()
        return self.linear(x)


@pytest.fixture
def trainers(monkeypatch):
    """All that the cross-fit makes."""
    made = []

    class Kept(Trainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.at_first = bits(self.networks)
            made.append(self)

    monkeypatch.setattr(crossfit, "Trainer", Kept)
    return made


def learnt(data, seed=0, epochs=20, **options):
    """The cross-fit of small networks that learn."""
    config = config_with(module=Learner, module_options=options, seed=seed, epochs=epochs, batch_size=32, lr=0.05)
    return cross_fitted(config, data)


def test_no_network_is_asked_about_an_example_that_it_has_trained_on(trainers):
    X, codes = blobs()
    weights = np.where(np.arange(len(X)) % 6 == 0, 0.0, 1.0)
    learnt(training_data(codes, weights, X))
    assert len(trainers) == 4
    networks = [network for trainer in trainers for network in trainer.networks]
    trained, asked = ([network.shown[training] for network in networks] for training in (True, False))
    for first in (0, 4):  # the networks of a pair see the same
        assert trained[first] == trained[first + 1] and trained[first + 2] == trained[first + 3]
        assert sorted([*trained[first], *trained[first + 2]]) == np.flatnonzero(weights).tolist()
        assert sorted([*asked[first], *asked[first + 2]]) == [*range(len(X))]
    for seen_in_training, seen_after in zip(trained, asked, strict=True):
        assert not seen_in_training & seen_after


def test_probabilities_are_the_mean_of_both_networks_and_find_the_wrong_labels(trainers):
    X, codes = blobs()
    data = training_data(codes, X=X)
    estimate = learnt(data).noise_estimate(with_probabilities=True)
    chosen = trainers[:2] if estimate.forget_rate else trainers[2:]
    for trainer in chosen:
        unseen = torch.tensor(sorted(trainer.networks[0].shown[False]))
        expected = predict(trainer.networks, data.inputs, mean_probabilities, unseen, n_classes=data.n_classes)
        np.testing.assert_allclose(estimate.probabilities[unseen], expected, atol=1e-6)
        assert estimate.predicted[unseen].tolist() == expected.argmax(1).tolist()
    assert estimate.noise_rate == pytest.approx(0.1, abs=0.03)
    right = np.where(np.arange(len(X)) % 10 == 3, 1 - codes, codes)
    assert (estimate.predicted.numpy() == right).mean() > 0.97


def test_the_learning_rate_is_that_of_the_first_epochs_throughout(trainers):
    X, codes = blobs()
    learnt(training_data(codes, X=X))
    assert [len(trainer.history) for trainer in trainers] == [15] * 4  # four steps an epoch
    assert {record["lr"] for trainer in trainers for record in trainer.history} == {0.05}


def pairs_of(tensors, n_pairs):
    size = len(tensors) // n_pairs
    return [tensors[number * size : (number + 1) * size] for number in range(n_pairs)]


@pytest.mark.parametrize(("n", "rates"), [(120, FORGET_RATES_OF_FEW), (1000, FORGET_RATES)])
def test_pairs_side_by_side_start_alike_and_learn_more_or_less(trainers, n, rates):
    """Of many examples, one pair has learnt for them all before."""
    config = configured(module=chain, epochs=12)
    networks, data = networks_and_data(config, validated(*many(n)))
    cross_fitted(config, data, networks)
    assert len(trainers) == (4 if n < 1000 else 6)
    for trainer in trainers[-4:-2]:
        assert all(
            equal(pair, pairs_of(trainer.at_first, len(rates))[0]) for pair in pairs_of(trainer.at_first, len(rates))
        )
        had = pairs_of(bits(trainer.networks), len(rates))
        assert not any(equal(a, b) for i, a in enumerate(had) for b in had[:i])
    for before, after in zip(trainers[:-4], trainers[-4:-2], strict=False):
        assert not equal(bits(before.networks), before.at_first)
        assert equal(pairs_of(after.at_first, len(rates))[0], bits(before.networks))


def test_pairs_that_go_on_start_with_the_weights_they_had(trainers):
    config = configured(module=chain, epochs=12)
    networks, data = networks_and_data(config, validated(*many(120)))
    cross_fitted(config, data, networks)
    assert len(trainers) == 4
    for before, after in zip(trainers[:2], trainers[2:], strict=True):
        had = pairs_of(bits(before.networks), len(FORGET_RATES_OF_FEW))
        start = pairs_of(after.at_first, N_PROMISING)
        going_on = [[number for number, pair in enumerate(had) if equal(pair, own)] for own in start]
        assert going_on[0] == [0] and sorted(going_on) == going_on
        assert all(len(numbers) == 1 for numbers in going_on) and len({*map(tuple, going_on)}) == N_PROMISING
        assert not equal(bits(after.networks), after.at_first)


def comparable(estimate):
    return {name: getattr(value, "tolist", lambda value=value: value)() for name, value in vars(estimate).items()}


@pytest.mark.parametrize("draws", [False, True], ids=["plain", "random after training"])
def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_random_states(draws):
    X, codes = blobs()

    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    results = []
    for drawn, seed in ((0, 5), (7, 5), (0, 6)):
        torch.rand(drawn), np.random.rand(drawn), [random.random() for _ in range(drawn)]
        before = states()
        estimate = learnt(training_data(codes, X=X), seed=seed, draws=draws).noise_estimate()
        results.append(comparable(estimate))
        assert states() == before
    assert results[0] == results[1]
    assert results[0]["quality"] != results[2]["quality"]


def test_a_default_device_of_torch_is_no_obstacle():
    X, codes = blobs()
    data = training_data(codes, X=X)
    expected = comparable(learnt(data).noise_estimate())
    torch.set_default_device("meta")  # what is made without saying where holds no numbers
    try:
        assert comparable(learnt(data).noise_estimate()) == expected
    finally:
        torch.set_default_device(None)


def test_a_divergence_is_told_to_have_been_in_the_estimate():
    class Diverging(Pairs):
        def run_epoch(self, rates=None):
            raise DivergedError("The loss became NaN.")

    with pytest.raises(
        DivergedError, match=r'^Before the training proper, for forget_rate="auto": The loss became NaN'
    ):
        run_scripted(CODES, [NOISY], trainer=Diverging)


# --- pairs as the estimator says -------------------------------------------------------------------------------------


def test_pairs_are_made_as_the_estimator_says(trainers):
    def augment(x):
        return x

    given = {
        "module__hidden": 5,
        "module2__hidden": 7,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.5,
        "precision": "float64",
        "num_iter_per_epoch": 3,
        "class_floor": 0.25,
        "augment": augment,
    }
    config = configured(**given)
    networks, data = networks_and_data(config, validated(*many()))
    CrossFit(config, data)
    assert len(trainers) == 2
    for trainer in trainers:
        assert [network[1].out_features for network in trainer.networks] == [5, 7]
        assert trainer.networks[0][1].weight.dtype == torch.float64
        half = data.inputs[trainer.data.drawn]
        for network in trainer.networks:
            assert network[0].mean.tolist() == pytest.approx(half.mean(0).tolist())  # of its half alone
        for optimizer in trainer.state_dict()["optimizers"]:
            assert [group["momentum"] for group in optimizer["param_groups"]] == [0.5] * 2
        assert trainer.batch_size == 20
        own = trainer.config
        assert (own.num_iter_per_epoch, own.class_floor, own.augment) == (3, 0.25, augment)
    everything = [bits(each) for each in (networks, *(trainer.networks for trainer in trainers))]
    assert not any(equal(a, b) for i, a in enumerate(everything) for b in everything[:i])


def test_what_is_of_the_schedules_and_the_average_is_of_the_training_proper_alone(trainers):
    config = configured(average_decay=0.9, num_gradual=5, exponent=0.5, epoch_decay_start=0)
    networks, data = networks_and_data(config, validated(*many()))
    cross_fit = CrossFit(config, data)
    cross_fit.run_step()
    assert [trainer.average for trainer in trainers] == [None, None]
    assert trainers[0].history[0]["forget_rate"] == 0.0
    assert trainers[0].history[0]["lr"] == config.lr


@pytest.mark.parametrize("given", [[0, 1, 0, 2], [0, 1, 2, 1], [0, 1, 2, 3, 3, 4], [0, 1, 2, 3, 4, 2]])
def test_a_module_that_gives_a_network_again_starts_a_pair_with_its_first_weights_again(given, trainers):
    networks = [Net(4, 3) for _ in range(5)]
    before = bits(networks)
    supply = iter([networks[number] for number in [*given, 0, 1][:6]])
    config = configured(module=lambda: next(supply))
    made, data = networks_and_data(config, validated(*many()))
    assert made[0] is not networks[0]
    cross_fit = CrossFit(config, data)
    for trainer in trainers:
        assert not any(each is own for each in trainer.networks for own in networks)
    cross_fit.run_step()
    assert equal(bits(networks), before)


def test_networks_given_as_instances_start_every_pair_and_are_never_changed(trainers):
    instances = Net(4, 3), Net(4, 3)
    before = bits(instances)
    config = configured(module=instances[0], module2=instances[1])
    networks, data = networks_and_data(config, validated(*many()))
    cross_fit = CrossFit(config, data)
    assert all(equal(bits(trainer.networks), before) for trainer in trainers)
    cross_fit.run_step()
    assert not equal(bits(trainers[0].networks), before)
    assert equal(bits(instances), before)
    assert equal(bits(networks), before)


@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
@pytest.mark.parametrize("forget_rate", [0.0, 0.2])
def test_training_after_the_estimate_is_that_with_the_same_number_given(forget_rate, module, monkeypatch):
    """Nothing of the cross-fit is left in networks, optimizers or the random numbers."""
    original = CrossFit.noise_estimate

    def found(self, **wanted):
        return dataclasses.replace(original(self, **wanted), forget_rate=forget_rate, class_forget_rates=None)

    monkeypatch.setattr(CrossFit, "noise_estimate", found)
    monkeypatch.setattr(crossfit, "MINIMUM_STEPS", 4)
    X, y, _ = many()
    y = np.where(np.arange(600) % 7 == 0, (y + 1) % 3, y)
    auto = estimator(forget_rate="auto", module=module, epochs=2).fit(X, y)
    given = estimator(forget_rate=forget_rate, module=module, epochs=2).fit(X, y)
    assert auto.forget_rate_ == forget_rate
    assert equal(bits(auto.modules_), bits(given.modules_))
    assert without_durations(auto.history_) == without_durations(given.history_)
    assert auto.kept_frequency_.tolist() == given.kept_frequency_.tolist()
    assert (auto.label_quality_.tolist() == given.label_quality_.tolist()) == (forget_rate == 0)
