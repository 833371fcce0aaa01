"""Each half of the data predicts the other: held with networks that know their answers, and with some that learn."""

import random

import numpy as np
import pytest
import torch
from _training.builders import (
    Net,
    bits,
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
from skcoteach._training import crossfit
from skcoteach._training.crossfit import MAXIMUM_FORGET_RATE, STILL_LEARNING, CrossFit
from skcoteach._training.inference import mean_probabilities, predict
from skcoteach._training.trainer import Trainer
from skcoteach.noise import estimate_joint, estimate_noise, temperature_of

pytestmark = pytest.mark.filterwarnings("error")


def training_data(codes, weights=None, X=None, **more):
    """Data whose only feature is the number of the example, unless X is given."""
    X = np.arange(len(codes), dtype=np.float32)[:, None] if X is None else X
    return data_of(X, np.asarray(codes), weights, classes=np.arange(max(*codes, 1) + 1), **more)


def cross_fitted(config, data, networks=()):
    """A cross-fit whose steps are all done; as many as were announced at most."""
    cross_fit = CrossFit(config, data, networks)
    n_steps = 0
    while not cross_fit.is_finished:
        cross_fit.run_step()
        n_steps += 1
    assert 0 < n_steps <= cross_fit.max_steps
    return cross_fit


# --- networks that know their answers --------------------------------------------------------------------------------


class Answers(nn.Module):
    """Gives each example, whose number is its only feature, what is written down for it in this stage."""

    def __init__(self, stages):
        super().__init__()
        self.stages = [torch.as_tensor(logits, dtype=torch.float32, device="cpu") for logits in stages]
        self.stage, self.was_asked = 0, False
        self.predicted = []
        self.eval()

    def forward(self, x):
        assert not self.training
        self.was_asked = True
        numbers = x[:, 0].long()
        self.predicted += numbers.tolist()
        return self.stages[min(self.stage, len(self.stages) - 1)][numbers]


class Pair:
    """Stands for the trainer of a half: learns nothing, and writes down what it was asked to do."""

    def __init__(self, config, half, noise_estimate, networks):
        self.config, self.half, self.networks = config, half, networks
        self.batch_size = min(config.batch_size, len(half.inputs))
        self.logit_scale = 1.0
        self.forget_rates = []

    @property
    def epoch(self):
        return len(self.forget_rates)

    def run_epoch(self, forget_rate=None):
        for network in self.networks:
            network.stage += network.was_asked
            network.was_asked = False
        self.forget_rates.append(forget_rate)


def run_scripted(codes, stages, weights=None, *, pair=Pair, data=None, **parameters):
    """Both pairs, and the estimate."""
    defaults = {"epochs": 100, "batch_size": 16, "lr": 0.01}
    config = config_with(module=lambda: Answers(stages), **defaults | parameters)
    pairs = []

    def make(*arguments):
        pairs.append(pair(*arguments))
        return pairs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "Trainer", make)
        cross_fit = cross_fitted(config, training_data(codes, weights) if data is None else data)
    return *pairs, cross_fit.noise_estimate()


def disagreeing(codes, share):
    """Logits that give this share of each of two classes the other one, all with equal confidence."""
    predicted = codes.copy()
    for code in (0, 1):
        members = np.flatnonzero(codes == code)
        predicted[members[: round(share * len(members))]] = 1 - code
    return 4.0 * np.eye(2)[predicted]


CODES = np.arange(200) % 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(0, 10), st.data())
def test_halves_are_stratified_by_given_class_and_share_no_example(codes, seed, data):
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=len(codes), max_size=len(codes)))
    weights[0] = weights[1] = 1.0
    *pairs, _ = run_scripted(codes, [np.zeros((len(codes), max(*codes, 1) + 1))], weights, seed=seed)
    halves = [pair.half.drawn.tolist() for pair in pairs]
    assert sorted(halves[0] + halves[1]) == [i for i, weight in enumerate(weights) if weight > 0]
    assert 0 <= len(halves[0]) - len(halves[1]) <= 1
    for pair, half in zip(pairs, halves, strict=True):
        assert pair.half.drawn_targets.tolist() == [codes[i] for i in half]
    for code in range(4):
        counts = [sum(codes[i] == code for i in half) for half in halves]
        # up to any point of the line either half is less than one off its share; a class lies between two points
        assert abs(counts[0] - counts[1]) < 4 + len(halves[0]) - len(halves[1])


@pytest.mark.parametrize("seed", range(5))
def test_either_half_has_about_half_of_every_given_class(seed):
    codes = np.random.default_rng(seed).permutation(np.repeat([0, 1, 2], [120, 60, 20]))
    *pairs, _ = run_scripted(codes, [np.eye(3)[codes]], seed=seed)
    for pair in pairs:
        assert np.abs(np.bincount(pair.half.drawn_targets) - [60, 30, 10]).max() < 2


def test_scale_of_the_logits_is_the_mean_of_both_pairs():
    scales = iter([3.0, 6.0])

    class Scaled(Pair):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.logit_scale = next(scales)

    assert run_scripted(CODES, [disagreeing(CODES, 0.2)] * 2, pair=Scaled)[-1].logit_scale == 4.5


def test_halves_are_drawn_anew_for_another_seed():
    halves = [run_scripted(CODES, [disagreeing(CODES, 0.2)], seed=seed)[0].half.drawn.tolist() for seed in (0, 0, 1)]
    assert halves[0] == halves[1] != halves[2]


def test_both_halves_see_all_that_is_known_of_the_examples_and_get_seeds_of_their_own():
    weights = np.arange(200) % 3
    *pairs, _ = run_scripted(CODES, [disagreeing(CODES, 0.2)], weights)
    assert len({0, *(pair.config.seed for pair in pairs)}) == 3
    for pair in pairs:
        assert pair.half.weights.tolist() == weights.tolist()
        assert pair.half.targets.tolist() == CODES.tolist()
        assert pair.half.n_classes == 2


def test_each_example_is_predicted_by_the_pair_that_it_does_not_belong_to():
    weights = (np.arange(200) % 5 > 0).astype(float)  # what has no weight is predicted, too
    *pairs, estimate = run_scripted(CODES, [disagreeing(CODES, 0.2)], weights)
    n_stages = pairs[0].networks[0].stage + 1
    predicted = [pair.networks[0].predicted for pair in pairs]
    assert sorted(predicted[0] + predicted[1]) == sorted([*range(200)] * n_stages)
    for pair, examples in zip(pairs, predicted, strict=True):
        assert not set(examples) & set(pair.half.drawn.tolist())
        assert pair.networks[1].predicted == examples
    expected = torch.tensor(disagreeing(CODES, 0.2)).softmax(1).numpy()
    np.testing.assert_allclose(estimate.quality, expected[np.arange(200), CODES], atol=1e-6)
    np.testing.assert_array_equal(estimate.predicted, expected.argmax(axis=1))


def test_the_estimate_is_made_of_plain_values_on_the_host():
    estimate = run_scripted(CODES, [disagreeing(CODES, 0.2)])[-1]
    assert type(estimate.forget_rate) is type(estimate.noise_rate) is type(estimate.temperature) is float
    assert estimate.forget_rate == estimate.noise_rate
    assert estimate.noise_matrix.dtype == torch.float64
    assert (estimate.quality.dtype, estimate.predicted.dtype) == (torch.float64, torch.int64)
    assert {each.device.type for each in (estimate.noise_matrix, estimate.quality, estimate.predicted)} == {"cpu"}


@pytest.mark.parametrize(
    ("epochs", "n", "batch_size", "num_iter_per_epoch", "warm_up", "all_epochs"),
    [
        (100, 2000, 100, None, 5, 20),  # 10 steps an epoch on a half, 20 on the whole
        (250, 2000, 100, None, 5, 50),
        (101, 2000, 100, None, 5, 21),
        (30, 2000, 100, None, 5, 10),  # 100 steps at least
        (100, 200, 100, None, 50, 100),  # one step an epoch
        (3, 200, 100, None, 50, 100),  # more epochs than the fit has
        (100, 2000, 100, 2, 25, 50),  # no more than two steps an epoch
        (1000, 2000, 100, 2, 25, 100),  # nor has the fit: a tenth of its steps for either pair
        (100, 2000, 100, 50, 5, 20),
        (100, 2000, 100, 15, 5, 15),
        (100, 2100, 100, None, 5, 20),  # 11 steps an epoch on a half, 21 on the whole
        (5, 2000, 4, None, 1, 2),  # 250 steps an epoch: two epochs at least
        (100, 2000, 4, None, 1, 20),
        (10, 1400, 10, None, 1, 2),  # 70 steps an epoch
        (10, 900, 10, None, 1, 3),  # at most half of all epochs
    ],
)
def test_either_pair_takes_a_tenth_of_the_steps_of_the_fit_or_100_of_which_the_first_50_warm_up(
    epochs, n, batch_size, num_iter_per_epoch, warm_up, all_epochs
):
    codes = np.arange(n) % 2
    *pairs, _ = run_scripted(
        codes,
        [disagreeing(codes, 0.2)],
        epochs=epochs,
        batch_size=batch_size,
        num_iter_per_epoch=num_iter_per_epoch,
        lr=0.5,
    )
    for pair in pairs:
        assert pair.forget_rates == pytest.approx([0.0] * warm_up + [0.2] * (all_epochs - warm_up))


def test_what_is_forgotten_after_the_warm_up_is_what_its_end_says_of_the_labels():
    codes = np.random.default_rng(0).integers(0, 3, 300)
    weights = np.random.default_rng(1).integers(0, 3, 300)
    logits = np.random.default_rng(2).normal(size=(300, 3)) + 2 * np.eye(3)[codes]
    *pairs, found = run_scripted(codes, [logits], weights, epochs=10)
    probabilities = torch.tensor(logits, dtype=torch.float32).double().softmax(1).float().numpy()
    expected = estimate_noise(codes, probabilities, sample_weight=weights)
    assert 0.02 < expected.noise_rate < 0.5
    for pair in pairs:
        assert sorted({*pair.forget_rates}) == pytest.approx([0.0, expected.noise_rate], abs=1e-6)
    assert found.noise_rate == pytest.approx(expected.noise_rate, rel=1e-12)
    np.testing.assert_allclose(found.noise_matrix, expected.noise_matrix, rtol=1e-12)


def test_labels_are_counted_by_the_weights_that_they_are_learnt_with():
    rng = np.random.default_rng(0)
    codes, weights = np.arange(300) % 3, 1.0 + np.arange(300) % 2
    logits = rng.normal(size=(300, 3)) + 2 * np.eye(3)[codes]
    data = training_data(codes, weights, class_weight={0: 5.0, 1: 0.0, 2: 1.0})
    *pairs, found = run_scripted(codes, [logits], data=data)
    learnt_with = weights * np.array([5.0, 0.0, 1.0])[codes]
    expected, by_sample_weight = (
        estimate_noise(codes, torch.tensor(logits).softmax(1).numpy(), sample_weight=each).noise_rate
        for each in (learnt_with, weights)
    )
    assert found.noise_rate == pytest.approx(expected, rel=1e-5)
    assert abs(expected - by_sample_weight) > 0.01
    assert not {*np.flatnonzero(codes == 1)} & {*pairs[0].half.drawn.tolist(), *pairs[1].half.drawn.tolist()}


def test_the_joint_distribution_is_of_the_last_probabilities():
    estimate = run_scripted(CODES, [disagreeing(CODES, 0.3), disagreeing(CODES, 0.28)])[-1]
    assert estimate.noise_rate == pytest.approx(0.28)
    np.testing.assert_allclose(estimate.noise_matrix, [[0.72, 0.28], [0.28, 0.72]])
    np.testing.assert_array_equal(estimate.predicted, disagreeing(CODES, 0.28).argmax(axis=1))


def test_the_temperature_is_that_with_which_the_probabilities_are_as_sure_as_right():
    less_sure = np.arange(200) < 100  # and wrong more often, which is no noise
    logits = np.where(less_sure[:, None], disagreeing(CODES, 0.2), 1.5 * disagreeing(CODES, 0.02))
    weights = np.arange(200) % 3
    estimate = run_scripted(CODES, [logits], weights)[-1]
    probabilities = torch.tensor(logits, dtype=torch.float32).double().softmax(1).float().numpy()
    joint = estimate_joint(CODES, probabilities, weights.astype(float))
    drawn = weights > 0
    assert estimate.temperature > 1.5
    assert estimate.temperature == pytest.approx(
        temperature_of(CODES[drawn], probabilities[drawn], weights[drawn].astype(float), joint)
    )


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_what_is_not_finite_is_of_no_quality_and_leaves_no_temperature_where_it_has_weight(weight):
    logits, weights = disagreeing(CODES, 0.2), np.ones(200)
    logits[[50, 51]] = np.inf
    weights[[50, 51]] = weight
    estimate = run_scripted(CODES, [logits], weights)[-1]
    assert (estimate.temperature is None) == (weight == 1.0)
    assert estimate.quality[[50, 51]].tolist() == [0.0, 0.0]
    assert estimate.noise_rate == pytest.approx(0.2, abs=0.01)


def test_no_more_than_the_maximum_is_ever_forgotten():
    *pairs, estimate = run_scripted(CODES, [disagreeing(CODES, 1.0)])
    assert estimate.noise_rate == pytest.approx(0.95)
    for pair in pairs:
        assert max(pair.forget_rates) == MAXIMUM_FORGET_RATE < 0.95


MORE, LESS = STILL_LEARNING + 0.01, STILL_LEARNING - 0.01


@pytest.mark.parametrize(
    ("estimates", "n_stages"),
    [
        ([0.3, 0.3], 2),
        ([0.3, 0.3 - LESS, 0.0], 2),
        ([0.3, 0.4, 0.1], 2),  # it has risen
        ([0.6, 0.6 - MORE, 0.6 - MORE], 3),
        ([0.6, 0.6 - MORE, 0.6 - 2 * MORE, 0.6 - 2 * MORE - LESS, 0.1], 4),
        ([0.0, 0.0], 2),
    ],
)
def test_it_goes_on_while_the_estimate_falls(estimates, n_stages):
    stages = [disagreeing(CODES, estimate) for estimate in estimates]
    *pairs, estimate = run_scripted(CODES, stages, epochs=1000, batch_size=10)
    assert estimate.noise_rate == pytest.approx(estimates[n_stages - 1])
    for pair in pairs:  # 10 steps an epoch; 200 epochs: 5 of warm-up
        rates = [0.0] * 5 + [rate for rate in estimates[: n_stages - 1] for _ in range(195)]
        assert pair.forget_rates == pytest.approx(rates)


@pytest.mark.parametrize(("epochs", "all_epochs"), [(3, 10), (10, 10), (14, 10), (15, 15), (20, 20), (24, 20)])
def test_it_goes_on_for_no_more_epochs_than_the_fit(epochs, all_epochs):
    """10 steps an epoch: 5 epochs of warm-up, then 5 at a time; a fit of fewer is not the measure."""
    stages = [disagreeing(CODES, 0.9 - MORE * stage) for stage in range(8)]
    *pairs, _ = run_scripted(CODES, stages, epochs=epochs, batch_size=10)
    assert [pair.epoch for pair in pairs] == [all_epochs] * 2


@pytest.mark.parametrize(("epochs", "max_steps"), [(3, 20), (10, 20), (15, 30), (24, 40), (1000, 2 * 980)])
def test_as_many_steps_are_announced_as_are_needed_where_it_goes_on_to_the_end(epochs, max_steps):
    """10 steps an epoch, as above; of a fit of 1000 epochs 5 of warm-up, then 195 at a time."""
    data = training_data(CODES)
    config = config_with(module=lambda: nn.Linear(1, 2), epochs=epochs, batch_size=10)
    cross_fit = CrossFit(config, data, ())
    assert not cross_fit.is_finished
    assert cross_fit.max_steps == max_steps


def test_a_step_is_an_epoch_of_one_pair_and_the_pairs_take_turns_stage_by_stage():
    ran = []

    class Writing(Pair):
        def run_epoch(self, forget_rate=None):
            super().run_epoch(forget_rate)
            ran.append(self)

    first, second, _ = run_scripted(CODES, [disagreeing(CODES, 0.2)], pair=Writing, epochs=15, batch_size=10)
    assert ran == [first] * 5 + [second] * 5 + [first] * 5 + [second] * 5


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
            made.append(self)

    monkeypatch.setattr(crossfit, "Trainer", Kept)
    return made


def learnt(data, seed=0, epochs=5, **options):
    """The estimate of small networks that learn."""
    config = config_with(module=Learner, module_options=options, seed=seed, epochs=epochs, batch_size=32, lr=0.05)
    return cross_fitted(config, data).noise_estimate()


def test_no_network_is_asked_about_an_example_that_it_has_trained_on(trainers):
    X, codes = blobs()
    weights = np.where(np.arange(len(X)) % 6 == 0, 0.0, 1.0)
    learnt(training_data(codes, weights, X))
    networks = [network for trainer in trainers for network in trainer.networks]
    trained, asked = ([network.shown[training] for network in networks] for training in (True, False))
    assert trained[0] == trained[1] and trained[2] == trained[3]  # the networks of a pair see the same
    assert sorted([*trained[0], *trained[2]]) == np.flatnonzero(weights).tolist()
    assert sorted([*asked[0], *asked[2]]) == [*range(len(X))]
    for seen_in_training, seen_after in zip(trained, asked, strict=True):
        assert not seen_in_training & seen_after


def test_probabilities_are_the_mean_of_both_networks_and_find_the_wrong_labels(trainers):
    X, codes = blobs()
    data = training_data(codes, X=X)
    estimate = learnt(data)
    for trainer in trainers:
        unseen = torch.tensor(sorted(trainer.networks[0].shown[False]))
        expected = predict(trainer.networks, data.inputs, mean_probabilities, unseen)
        given = torch.from_numpy(codes)[unseen]
        np.testing.assert_allclose(estimate.quality[unseen], expected[range(len(unseen)), given], atol=1e-6)
        assert estimate.predicted[unseen].tolist() == expected.argmax(1).tolist()
    assert estimate.noise_rate == pytest.approx(0.1, abs=0.02)
    right = np.where(np.arange(len(X)) % 10 == 3, 1 - codes, codes)
    assert (estimate.predicted.numpy() == right).mean() > 0.97


def test_the_learning_rate_is_that_of_the_first_epochs_throughout(trainers):
    X, codes = blobs()
    learnt(training_data(codes, X=X))
    assert [len(trainer.history) for trainer in trainers] == [25, 25]
    assert {record["lr"] for trainer in trainers for record in trainer.history} == {0.05}


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
        results.append(comparable(learnt(training_data(codes, X=X), seed=seed, draws=draws)))
        assert states() == before
    assert results[0] == results[1]
    assert results[0]["quality"] != results[2]["quality"]


def test_a_default_device_of_torch_is_no_obstacle():
    X, codes = blobs()
    data = training_data(codes, X=X)
    expected = comparable(learnt(data))
    torch.set_default_device("meta")  # what is made without saying where holds no numbers
    try:
        assert comparable(learnt(data)) == expected
    finally:
        torch.set_default_device(None)


def test_a_divergence_is_told_to_have_been_in_the_estimate():
    class Diverging(Pair):
        def run_epoch(self, forget_rate=None):
            raise DivergedError("The loss became NaN.")

    with pytest.raises(
        DivergedError, match=r'^Before the training proper, for forget_rate="auto": The loss became NaN'
    ):
        run_scripted(CODES, [disagreeing(CODES, 0.2)], pair=Diverging)


def test_two_examples_are_enough_not_to_fail():
    *pairs, estimate = run_scripted([0, 1], [np.zeros((2, 2))])
    assert [len(pair.half.drawn) for pair in pairs] == [1, 1]
    assert np.isfinite(estimate.noise_rate) and estimate.noise_matrix.isfinite().all()
    assert estimate.quality.isfinite().all()


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
    CrossFit(config, data, networks)
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
    cross_fit = CrossFit(config, data, networks)
    cross_fit.run_step()
    assert [trainer.average for trainer in trainers] == [None, None]
    assert trainers[0].history[0]["forget_rate"] == 0.0
    assert trainers[0].history[0]["lr"] == config.lr


@pytest.mark.parametrize("given", [[0, 1, 0, 2], [0, 1, 2, 1], [0, 1, 2, 3, 3, 4], [0, 1, 2, 3, 4, 2]])
def test_a_module_that_gives_a_network_again_is_refused(given):
    networks = [Net(4, 3) for _ in range(5)]
    supply = iter([networks[number] for number in given])
    config = configured(module=lambda: next(supply))
    made, data = networks_and_data(config, validated(*many()))
    with pytest.raises(
        ValueError, match="module gave a network that it had given before.*make a new one at every call"
    ):
        CrossFit(config, data, made)


def test_networks_given_as_instances_start_every_pair_and_are_never_changed(trainers):
    instances = Net(4, 3), Net(4, 3)
    before = bits(instances)
    config = configured(module=instances[0], module2=instances[1])
    networks, data = networks_and_data(config, validated(*many()))
    cross_fit = CrossFit(config, data, networks)
    assert all(equal(bits(trainer.networks), before) for trainer in trainers)
    cross_fit.run_step()
    assert not equal(bits(trainers[0].networks), before)
    assert equal(bits(instances), before)
    assert equal(bits(networks), before)


@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
def test_training_after_the_estimate_is_that_with_the_same_number_given(module, monkeypatch):
    """Nothing of the cross-fit is left in networks, optimizers or the random numbers."""
    monkeypatch.setattr(crossfit, "MINIMUM_STEPS", 4)
    X, y, _ = many()
    y = np.where(np.arange(600) % 7 == 0, (y + 1) % 3, y)
    found = estimator(forget_rate="auto", module=module, epochs=2).fit(X, y)
    given = estimator(forget_rate=found.forget_rate_, module=module, epochs=2).fit(X, y)
    assert 0 < found.forget_rate_ < 0.95
    assert equal(bits(found.modules_), bits(given.modules_))
    assert without_durations(found.history_) == without_durations(given.history_)
    assert found.kept_frequency_.tolist() == given.kept_frequency_.tolist()
