"""A user's convolutional network is trained channels-last where nothing in it minds, and only the clock notices."""

import copy
import random
import warnings

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach._config import resolve
from skcoteach._data.training_data import TrainingData
from skcoteach._data.validation import validate
from skcoteach._training.engines import choice, memory_layout
from skcoteach._training.engines.memory_layout import N_TRIED, are_own, take_channels_last
from skcoteach.networks import MLP, CifarCNN, SmallCNN

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(48, 3, 8, 8)).astype(np.float32)
Y = np.arange(48) % 3
X[Y == 1, :, :4] += 1
X[Y == 2, :, :, 4:] += 1
LAST = {"memory_format": torch.channels_last}


# --- networks that take channels last --------------------------------------------------------------------------------


def flattening():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


class Reshaping(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(144, 3)

    def forward(self, x):
        return self.linear(self.conv(x).reshape(len(x), -1))


def normed():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


def with_dropout():
    """What batch normalisation has seen in training depends on the order in which dropout strikes."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Conv2d(4, 4, 3), normed_head())


def normed_head():
    return nn.Sequential(nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))


class Pooling(nn.Module):
    """Counts its calls, and keeps what it was given last."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("steps", torch.zeros(()))
        self.calls, self.last = [], None

    def forward(self, x):
        self.steps += 1
        self.calls.append(len(x))
        self.last = x
        return self.linear(self.conv(x).amax((2, 3)))


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.Linear(144, 3))


class Doubling(Reshaping):
    """Works in place on its input."""

    def forward(self, x):
        return super().forward(x.mul_(2))


TAKERS = [flattening, Reshaping, normed, with_dropout, Pooling, spectral, Doubling]


# --- and others ------------------------------------------------------------------------------------------------------


class Viewing(Reshaping):
    def forward(self, x):
        return self.linear(self.conv(x).view(len(x), -1))


class ViewingInTraining(Reshaping):
    def forward(self, x):
        hidden = self.conv(x)
        return self.linear(hidden.view(len(x), -1) if self.training else hidden.flatten(1))


class ViewingInputs(Reshaping):
    def forward(self, x):
        return self.linear(self.conv(x.view(len(x), -1).view(x.shape)).flatten(1))


class Permuting(Reshaping):
    """Takes nothing but images that lie channels-last, which they do not where it predicts."""

    def forward(self, x):
        return self.linear(
            self.conv(x.permute(0, 2, 3, 1).view(-1, 3).view(len(x), 8, 8, 3).permute(0, 3, 1, 2)).flatten(1)
        )


class Striding(Reshaping):
    """Looks at memory itself: something else comes out, without an error."""

    def forward(self, x):
        return self.linear(self.conv(torch.as_strided(x, x.shape, (192, 64, 8, 1))).flatten(1))


class ViewingWhatWasSaved(torch.autograd.Function):
    """Its backward is what minds."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return gradient + 0 * x.view(-1).view(x.shape)


class ViewingInBackward(Reshaping):
    def forward(self, x):
        return self.linear(ViewingWhatWasSaved.apply(self.conv(x)).flatten(1))


class Noisy(Reshaping):
    """Its outputs cannot be compared."""

    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class Uncopied(Reshaping):
    def __deepcopy__(self, memo):
        raise TypeError("there is only one of me")


def perceptron():
    return nn.Sequential(nn.Flatten(), MLP(192, 3))


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))


OTHERS = [
    Viewing, ViewingInTraining, ViewingInputs, Permuting, Striding, ViewingInBackward, Noisy, Uncopied, perceptron,
    lazy,
]  # fmt: skip


def taken(*networks, X=X, **parameters):
    """Whether such networks are trained channels-last on X."""
    estimator = CoTeachingClassifier(**{"forget_rate": 0.2, "device": "cpu", "random_state": 0} | parameters)
    config = resolve(estimator.get_params(deep=False), X)
    given = validate(estimator, X, np.arange(len(X)) % 3, None, reset=True)
    data = TrainingData.of(given, config.device, config.dtype, as_indices=False)
    return take_channels_last([network.to(config.dtype) for network in networks], data, config)


@pytest.mark.parametrize("precision", ["float32", "bf16", "float64"])
@pytest.mark.parametrize("make", TAKERS)
def test_convolutional_networks_take_channels_last_if_they_do_not_mind(make, precision):
    assert taken(make(), make(), precision=precision)


class Held(Pooling):
    """Its logits are held by an object."""

    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x))


def test_outputs_that_hold_their_logits_are_compared_too():
    assert taken(Held(), Held())


@pytest.mark.parametrize("make", OTHERS)
def test_networks_that_mind_or_would_not_gain_do_not(make):
    assert not taken(make(), make())
    assert not taken(make(), flattening())
    assert not taken(flattening(), make())


@pytest.mark.parametrize("seed", range(5))
def test_the_answer_does_not_hang_on_the_random_numbers(seed):
    torch.manual_seed(seed)
    assert taken(with_dropout(), with_dropout(), random_state=seed)


@pytest.mark.parametrize("network", [SmallCNN, CifarCNN])
def test_networks_of_the_package_are_not_asked(network, monkeypatch):
    monkeypatch.setattr(memory_layout, "_takes_channels_last", None)
    assert taken(network(1, 3), SmallCNN(1, 3), X=X[:, :1])


def test_own_are_networks_of_the_package_and_not_their_subclasses():
    class Mine(SmallCNN):
        pass

    assert are_own([SmallCNN(1, 3), CifarCNN(1, 3)])
    assert not are_own([SmallCNN(1, 3), Pooling()])
    assert not are_own([SmallCNN(1, 3), Mine(1, 3)])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (flattening, (48, 192)),
        (flattening, (48, 3, 64)),
        (flattening, (48, 1, 3, 8, 8)),
        (perceptron, X.shape),
        (lazy, X.shape),
    ],
    ids=["table", "sequences", "films", "no convolutions", "no weights yet"],
)
def test_nothing_is_tried_without_images_and_convolutions_that_have_weights(make, shape):
    networks, run = (make(), make()), []
    for network in networks:
        network.register_forward_pre_hook(lambda module, inputs: run.append(module))
    assert not taken(*networks, X=X.reshape(shape))
    assert run == []


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, lambda X: TensorDataset(torch.from_numpy(X))])
def test_images_of_every_kind_do(form):
    assert taken(flattening(), flattening(), X=form(X))
    assert taken(flattening(), flattening(), X=form((X > 0).astype(np.uint8)))


def test_few_examples_are_enough():
    assert taken(normed(), normed(), X=X[:N_TRIED])
    assert taken(flattening(), flattening(), X=X[:2])


# --- asking leaves no trace ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Pooling, normed, with_dropout, spectral, Viewing, ViewingInTraining])
def test_the_users_networks_are_not_run_only_copies(make):
    networks, run = (make(), make()), []
    states = copy.deepcopy([network.state_dict() for network in networks])
    for network in networks:
        network.register_forward_pre_hook(lambda module, inputs: run.append(id(module)))  # copies have it, too
    taken(*networks)
    assert run and set(run).isdisjoint(map(id, networks))
    for network, state in zip(networks, states, strict=True):
        torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
        assert all(parameter.grad is None and parameter.is_contiguous() for parameter in network.parameters())
        assert all(module.training for module in network.modules())
        assert (getattr(network, "calls", []), getattr(network, "last", None)) == ([], None)


class Drawing(Pooling):
    """Draws from every generator, warns, and changes what it is given."""

    def forward(self, x):
        warnings.warn("mine", stacklevel=1)
        x += 0 * (torch.rand(()) + np.random.rand() + random.random())
        return super().forward(x)


@pytest.mark.parametrize("make", [Drawing, Noisy, with_dropout, flattening])
def test_asking_changes_neither_random_states_nor_modes_nor_x_and_tells_no_warnings(make):
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate(), torch.is_grad_enabled()

    networks, given = (make(), make()), X.copy()
    before = states()
    answer = taken(*networks, X=given)
    assert answer is (make is not Noisy)
    assert states() == before
    assert np.array_equal(given, X)


def test_ctrl_c_is_not_held_for_an_answer():
    class Interrupted(Reshaping):
        def forward(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taken(Interrupted(), Interrupted())


# --- a whole training ------------------------------------------------------------------------------------------------


def classifier(module, **parameters):
    options = {"forget_rate": 0.2, "epochs": 3, "batch_size": 16, "lr": 0.01, "device": "cpu", "random_state": 0}
    return CoTeachingClassifier(module, **options | parameters)


@pytest.fixture
def answers(monkeypatch):
    """What was answered, and a way to have it answered otherwise."""
    given, forced = [], []
    monkeypatch.setattr(
        choice,
        "take_channels_last",
        lambda *asked: given.append(forced[-1] if forced else take_channels_last(*asked)) or given[-1],
    )
    return given, forced


def assert_close(a, b, X, tolerance):
    np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), rtol=tolerance, atol=tolerance)
    for first, second in zip(a.modules_, b.modules_, strict=True):
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=tolerance, atol=tolerance)
    for one, other in zip(a.history_, b.history_, strict=True):
        for name in ("loss", "accuracy", "agreement"):
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance)
    np.testing.assert_allclose(a.label_quality_, b.label_quality_, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(a.kept_frequency_, b.kept_frequency_, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "more", [{}, {"average_decay": 0.9}, {"augment": lambda x: x.flip(3)}], ids=["plain", "averaged", "augmented"]
)
@pytest.mark.parametrize("make", [Reshaping, normed, Pooling, Doubling])
def test_training_is_that_of_contiguous_networks_to_rounding(make, more, answers):
    asked, forced = answers
    first = classifier(make, precision="float64", **more).fit(X, Y)
    forced.append(False)
    second = classifier(make, precision="float64", **more).fit(X, Y)
    assert asked == [True, False]
    assert_close(first, second, X, 1e-9)


@pytest.mark.parametrize("make", [Viewing, ViewingInTraining, ViewingInputs, ViewingInBackward])
def test_a_network_that_minds_is_trained_as_ever_to_the_bit(make, answers):
    asked, forced = answers
    first = classifier(make).fit(X, Y)
    forced.append(False)
    second = classifier(make).fit(X, Y)
    assert asked == [False, False]
    assert_close(first, second, X, 0)


def test_networks_whose_noise_is_estimated_may_mind_too(answers):
    asked, _ = answers
    many, labels = X.repeat(12, axis=0), Y.repeat(12)
    for make, answer in ((Viewing, False), (Reshaping, True)):
        asked.clear()
        fitted = classifier(make, forget_rate="auto", epochs=1, batch_size=128).fit(many, labels)
        assert asked == [answer] * 5  # on either half two pairs for the estimate, and the pair that stays
        assert fitted.noise_rate_ < 0.1


@pytest.mark.parametrize("more", [{}, {"average_decay": 0.9}], ids=["plain", "averaged"])
def test_fitted_networks_lie_as_users_expect_and_can_be_viewed(more, answers):
    fitted = classifier(Reshaping, **more).fit(X, Y)
    assert answers[0] == [True]
    for network in fitted.modules_:
        assert all(parameter.is_contiguous() for parameter in network.parameters())
        assert network.conv(torch.from_numpy(X)).view(len(X), -1).shape == (48, 144)
    fitted.partial_fit(X, Y)
    assert answers[0] == [True, True]
    assert all(parameter.is_contiguous() for network in fitted.modules_ for parameter in network.parameters())


def test_what_a_callback_is_shown_lies_as_users_expect():
    class Looking:
        def setup(self, estimator, context):
            self.seen = []

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            self.seen += [p.is_contiguous() for network in fitted_estimator.modules_ for p in network.parameters()]

    looking = Looking()
    classifier(Reshaping, epochs=2).set_callbacks(looking).fit(X, Y)
    assert looking.seen and all(looking.seen)


def test_a_network_counts_its_trainings_only(answers):
    """Steps of both layouts, and the instance that was given none."""
    given = Pooling(), Pooling()
    fitted = classifier(given[0], module2=given[1]).fit(X, Y)
    answers[1].append(False)
    expected = classifier(given[0], module2=given[1]).fit(X, Y)
    assert [network.steps for network in fitted.modules_] == [network.steps for network in expected.modules_]
    assert all(network.steps == 0 and network.calls == [] for network in given)
    assert all(parameter.is_contiguous() for network in given for parameter in network.parameters())


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_a_training_goes_on_in_another_layout_as_in_its_own(before, after, answers):
    """Fused optimizers look at no strides: what they keep has to lie as the weights do."""

    def trained(first, second):
        answers[1].append(first)
        fitted = classifier(Reshaping, precision="float64").partial_fit(X, Y, classes=[0, 1, 2])
        answers[1].append(second)
        return fitted.partial_fit(X, Y).partial_fit(X, Y)

    expected = trained(False, False)
    np.testing.assert_allclose(trained(before, after).predict_proba(X), expected.predict_proba(X), rtol=1e-9)
