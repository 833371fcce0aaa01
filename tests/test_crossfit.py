"""Each half of the data predicts the other: held with networks that know their answers, and with some that learn."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach.batches import Rows
from skcoteach.crossfit import MAXIMUM_FORGET_RATE, STILL_LEARNING, cross_fit
from skcoteach.engines import Autograd
from skcoteach.noise import estimate_joint, estimate_noise
from skcoteach.training import CoTeaching, DivergedError, TrainingData, predict

pytestmark = pytest.mark.filterwarnings("error")


def training_data(codes, weights=None, X=None):
    """Data whose only feature is the number of the row, unless X is given."""
    codes = np.asarray(codes)
    weights = np.ones(len(codes)) if weights is None else np.asarray(weights, dtype=float)
    used = np.flatnonzero(weights)
    return TrainingData(
        rows=Rows(np.arange(len(codes), dtype=np.float32)[:, None] if X is None else X),
        targets=torch.tensor(codes, dtype=torch.int64, device="cpu"),
        weights=torch.tensor(weights, dtype=torch.float32, device="cpu"),
        used=torch.from_numpy(used),
        used_targets=torch.from_numpy(codes[used]).long(),
        n_classes=max(int(codes.max()) + 1, 2),
        largest_weight=float(weights.max()),
    )


def run(make, data, epochs=100, learning_rate=0.01, seed=0):
    codes, weights = data.targets.numpy(), data.weights.double().numpy()
    joint, probabilities, scale = cross_fit(
        make, data, codes, weights, epochs=epochs, learning_rate=learning_rate, seed=seed
    )
    assert scale > 0
    return joint, probabilities


# --- networks that know their answers --------------------------------------------------------------------------------


class Answers(nn.Module):
    """Gives each row, whose number is its only feature, what is written down for it in this stage."""

    def __init__(self, stages):
        super().__init__()
        self.stages = [torch.as_tensor(logits, dtype=torch.float32, device="cpu") for logits in stages]
        self.stage = -1
        self.predicted = []
        self.eval()

    def forward(self, x):
        assert not self.training
        numbers = x[:, 0].long()
        self.predicted += numbers.tolist()
        return self.stages[min(self.stage, len(self.stages) - 1)][numbers]


class Pair:
    """Stands for the co-teaching of a half: learns nothing, and writes down what it was asked to do."""

    def __init__(self, half, seed, stages, batch_size=16, num_iter_per_epoch=None):
        self.half, self.seed = half, seed
        self.batch_size, self.num_iter_per_epoch = batch_size, num_iter_per_epoch
        self.networks = (Answers(stages), Answers(stages))
        self.engine = SimpleNamespace(precision="float32")
        self.logit_scale = 1.0
        self.epochs, self.learning_rates, self.forget_rates = [], [], []

    def run_epoch(self, data, epoch, learning_rate, forget_rate):
        assert data is self.half
        for network in self.networks:
            if not network.training:  # it has predicted since the last epoch
                network.train()
                network.stage += 1
        self.epochs.append(epoch)
        self.learning_rates.append(learning_rate)
        self.forget_rates.append(forget_rate)


def run_scripted(codes, stages, weights=None, epochs=100, learning_rate=0.01, seed=0, **parameters):
    """The two pairs, the joint distribution and the probabilities."""
    pairs = []

    def make(half, seed):
        pairs.append(Pair(half, seed, stages, **parameters))
        return pairs[-1]

    return pairs, *run(make, training_data(codes, weights), epochs, learning_rate, seed)


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
def test_halves_are_stratified_by_given_class_and_share_no_row(codes, seed, data):
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=len(codes), max_size=len(codes)))
    weights[0] = weights[1] = 1.0
    pairs, _, _ = run_scripted(codes, [np.zeros((len(codes), max(*codes, 1) + 1))], weights, seed=seed)
    halves = [pair.half.used.tolist() for pair in pairs]
    assert sorted(halves[0] + halves[1]) == [i for i, weight in enumerate(weights) if weight > 0]
    assert 0 <= len(halves[0]) - len(halves[1]) <= 1
    for pair, half in zip(pairs, halves, strict=True):
        assert pair.half.used_targets.tolist() == [codes[i] for i in half]
    for code in range(4):
        counts = [sum(codes[i] == code for i in half) for half in halves]
        # up to any point of the line either half is less than one off its share; a class lies between two points
        assert abs(counts[0] - counts[1]) < 4 + len(halves[0]) - len(halves[1])


def test_scale_of_the_logits_is_the_mean_of_both_pairs():
    pairs = []

    def make(half, seed):
        pairs.append(Pair(half, seed, [disagreeing(CODES, 0.2)] * 2))
        pairs[-1].logit_scale = 3.0 * len(pairs)
        return pairs[-1]

    data = training_data(CODES, None)
    weights = np.ones(len(CODES))
    assert cross_fit(make, data, CODES, weights, epochs=100, learning_rate=0.01, seed=0)[2] == 4.5


def test_halves_are_drawn_anew_for_another_seed():
    halves = [run_scripted(CODES, [disagreeing(CODES, 0.2)], seed=seed)[0][0].half.used.tolist() for seed in (0, 0, 1)]
    assert halves[0] == halves[1] != halves[2]


def test_both_halves_see_all_that_is_known_of_the_rows_and_get_seeds_of_their_own():
    weights = np.arange(200) % 3
    pairs, _, _ = run_scripted(CODES, [disagreeing(CODES, 0.2)], weights)
    assert pairs[0].seed != pairs[1].seed
    for pair in pairs:
        assert pair.half.weights.tolist() == weights.tolist()
        assert pair.half.targets.tolist() == CODES.tolist()
        assert pair.half.n_classes == 2


def test_each_row_is_predicted_by_the_pair_that_it_does_not_belong_to():
    weights = (np.arange(200) % 5 > 0).astype(float)  # what has no weight is predicted, too
    pairs, _, probabilities = run_scripted(CODES, [disagreeing(CODES, 0.2)], weights)
    n_stages = pairs[0].networks[0].stage + 1
    predicted = [pair.networks[0].predicted for pair in pairs]
    assert sorted(predicted[0] + predicted[1]) == sorted([*range(200)] * n_stages)
    for pair, rows in zip(pairs, predicted, strict=True):
        assert not set(rows) & set(pair.half.used.tolist())
        assert pair.networks[1].predicted == rows
    expected = torch.tensor(disagreeing(CODES, 0.2)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


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
    pairs, _, _ = run_scripted(
        codes,
        [disagreeing(codes, 0.2)],
        epochs=epochs,
        batch_size=batch_size,
        num_iter_per_epoch=num_iter_per_epoch,
        learning_rate=0.5,
    )
    for pair in pairs:
        assert pair.epochs == [*range(all_epochs)]
        assert pair.forget_rates == pytest.approx([0.0] * warm_up + [0.2] * (all_epochs - warm_up))
        assert pair.learning_rates == [0.5] * all_epochs


def test_what_is_forgotten_after_the_warm_up_is_what_its_end_says_of_the_labels():
    codes = np.random.default_rng(0).integers(0, 3, 300)
    weights = np.random.default_rng(1).integers(0, 3, 300)
    logits = np.random.default_rng(2).normal(size=(300, 3)) + 2 * np.eye(3)[codes]
    pairs, joint, probabilities = run_scripted(codes, [logits], weights, epochs=10)
    estimate = estimate_noise(codes, probabilities, sample_weight=weights)
    assert 0.02 < estimate.noise_rate < 0.5
    for pair in pairs:
        forgotten = set(pair.forget_rates)
        assert len(forgotten) == 2 and 0.0 in forgotten
        assert max(forgotten) == pytest.approx(estimate.noise_rate, abs=1e-6)
    np.testing.assert_array_equal(joint, estimate_joint(codes, probabilities, weights.astype(float)))


def test_joint_is_of_the_last_probabilities():
    _, joint, probabilities = run_scripted(CODES, [disagreeing(CODES, 0.3), disagreeing(CODES, 0.28)])
    np.testing.assert_allclose(joint, [[0.36, 0.14], [0.14, 0.36]])
    np.testing.assert_allclose(probabilities, torch.tensor(disagreeing(CODES, 0.28)).softmax(1), atol=1e-6)


def test_no_more_than_the_maximum_is_ever_forgotten():
    pairs, joint, _ = run_scripted(CODES, [disagreeing(CODES, 1.0)])
    assert 1 - joint.trace() == pytest.approx(0.95)
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
    pairs, joint, _ = run_scripted(CODES, stages, epochs=1000, batch_size=10)
    assert 1 - joint.trace() == pytest.approx(estimates[n_stages - 1])
    for pair in pairs:  # 10 steps an epoch; 200 epochs: 5 of warm-up
        assert pair.epochs == [*range(5 + (n_stages - 1) * 195)]
        rates = [0.0] * 5 + [rate for rate in estimates[: n_stages - 1] for _ in range(195)]
        assert pair.forget_rates == pytest.approx(rates)


@pytest.mark.parametrize(("epochs", "all_epochs"), [(3, 10), (10, 10), (14, 10), (15, 15), (20, 20), (24, 20)])
def test_it_goes_on_for_no_more_epochs_than_the_fit(epochs, all_epochs):
    """10 steps an epoch: 5 epochs of warm-up, then 5 at a time; a fit of fewer is not the measure."""
    stages = [disagreeing(CODES, 0.9 - MORE * stage) for stage in range(8)]
    pairs, _, _ = run_scripted(CODES, stages, epochs=epochs, batch_size=10)
    for pair in pairs:
        assert pair.epochs == [*range(all_epochs)]


# --- networks that learn ---------------------------------------------------------------------------------------------


def blobs(n=240, seed=0, dtype=np.float32):
    """Two classes side by side, a tenth of the labels wrong; the last feature is the number of the row."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    X = rng.normal(size=(n, 3)) + 4 * codes[:, None]
    given = np.where(np.arange(n) % 10 == 3, 1 - codes, codes)
    return np.column_stack([X, np.arange(n)]).astype(dtype), given


class Learner(nn.Module):
    """A small network that writes down which rows it was shown, in training and after it."""

    def __init__(self, dropout=False):
        super().__init__()
        self.linear = nn.Linear(3, 2, device="cpu")
        self.dropout = dropout
        self.shown = {True: set(), False: set()}

    def forward(self, x):
        self.shown[self.training].update(x[:, 3].int().tolist())
        x = x[:, :3]
        if self.dropout:  # in eval mode, too
            x = x + torch.randn(x.shape, device="cpu") + np.random.rand() + random.random()
        return self.linear(x)


def learning(data, epochs=5, seed=0, **parameters):
    """The networks of both halves, the joint distribution and the probabilities."""
    made = []

    def make(half, seed):
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        networks = (Learner(**parameters), Learner(**parameters))
        torch.set_rng_state(state)
        made.append(networks)
        return CoTeaching(
            networks,
            [torch.optim.Adam([*networks[0].parameters(), *networks[1].parameters()], fused=True)],
            engine=Autograd(networks, data.n_classes),
            batch_size=32,
            num_iter_per_epoch=None,
            class_floor=0.5,
            augment=None,
            seed=seed,
            keepers=torch.full((len(data.rows),), 2, device="cpu"),
        )

    return made, *run(make, data, epochs, 0.05, seed)


def test_no_network_is_asked_about_a_row_that_it_has_trained_on():
    X, codes = blobs()
    weights = np.where(np.arange(len(X)) % 6 == 0, 0.0, 1.0)
    pairs, _, _ = learning(training_data(codes, weights, X))
    trained = [network.shown[True] for pair in pairs for network in pair]
    asked = [network.shown[False] for pair in pairs for network in pair]
    assert trained[0] == trained[1] and trained[2] == trained[3]  # the networks of a pair see the same
    assert sorted([*trained[0], *trained[2]]) == np.flatnonzero(weights).tolist()
    assert sorted([*asked[0], *asked[2]]) == [*range(len(X))]
    for seen_in_training, seen_after in zip(trained, asked, strict=True):
        assert not seen_in_training & seen_after


def test_probabilities_are_the_mean_of_both_networks_and_find_the_wrong_labels():
    X, codes = blobs()
    data = training_data(codes, X=X)
    pairs, joint, probabilities = learning(data)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    for networks in pairs:
        rows = torch.tensor(sorted(networks[0].shown[False]))
        both = predict(networks, data.rows, lambda logits: logits.double().softmax(-1), rows)
        np.testing.assert_allclose(probabilities[rows], both.mean(0), atol=1e-6)
    assert 1 - joint.trace() == pytest.approx(0.1, abs=0.02)
    right = np.where(np.arange(len(X)) % 10 == 3, 1 - codes, codes)
    assert (probabilities.argmax(axis=1) == right).mean() > 0.97


@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "random after training"])
def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_random_states(dropout):
    X, codes = blobs()

    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    results = []
    for drawn, seed in ((0, 5), (7, 5), (0, 6)):
        torch.rand(drawn), np.random.rand(drawn), [random.random() for _ in range(drawn)]
        before = states()
        results.append(learning(training_data(codes, X=X), seed=seed, dropout=dropout)[1:])
        assert states() == before
    first, second, other = results
    for a, b, c in zip(first, second, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_a_default_device_of_torch_is_no_obstacle():
    X, codes = blobs()
    data = training_data(codes, X=X)
    expected = learning(data)[1:]
    torch.set_default_device("meta")  # what is made without saying where holds no numbers
    try:
        actual = learning(data)[1:]
    finally:
        torch.set_default_device(None)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_divergence_is_told_to_have_been_in_the_estimate():
    class Diverging(Pair):
        def run_epoch(self, *arguments):
            raise DivergedError("The loss became NaN.")

    with pytest.raises(
        DivergedError, match=r'^Before the training proper, for forget_rate="auto": The loss became NaN'
    ):
        run(lambda half, seed: Diverging(half, seed, [disagreeing(CODES, 0.2)]), training_data(CODES))


def test_two_rows_are_enough_not_to_fail():
    pairs, joint, probabilities = run_scripted([0, 1], [np.zeros((2, 2))])
    assert [len(pair.half.used) for pair in pairs] == [1, 1]
    assert np.isfinite(joint).all() and np.isfinite(probabilities).all()
