"""Equal chains are computed as one where the optimizer and the precision allow it; any others each by itself."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skcoteach import CoTeachingClassifier
from skcoteach._config import resolve
from skcoteach._data.training_data import TrainingData
from skcoteach._data.validation import validate
from skcoteach._training.engines import choice
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains
from skcoteach._training.engines.choice import can_be_joined, make_engine
from skcoteach.networks import MLP, SmallCNN

pytestmark = pytest.mark.filterwarnings("error")

TABLE = np.random.default_rng(0).normal(size=(20, 4))
IMAGES = TABLE.repeat(16, axis=1).reshape(20, 1, 8, 8)
Y = np.arange(20) % 3


class Forward(nn.Module):
    """A chain, but by a forward of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x):
        return self.layers(x)


class OwnAdam(torch.optim.Adam):
    pass


def configured(X, **parameters):
    """The configuration of a training on X, and its data."""
    estimator = CoTeachingClassifier(**{"forget_rate": 0.2, "device": "cpu", "random_state": 0} | parameters)
    config = resolve(estimator.get_params(deep=False), X)
    return config, TrainingData.of(
        validate(estimator, X, Y, None, reset=True), config.device, config.dtype, as_indices=False
    )


def engine_of(make, X=TABLE, n_networks=2, **parameters):
    """That which is chosen, after having seen that it is said beforehand."""
    torch.manual_seed(0)
    config, data = configured(X, **parameters)
    networks = [make().to(config.dtype) for _ in range(n_networks)]
    joined = can_be_joined(networks, config, data)
    engine = make_engine(networks, config, data)
    assert joined is (type(engine) is Chains)
    return engine


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
@pytest.mark.parametrize("precision", ["float32", "tf32", "float64"])
def test_equal_chains_are_computed_as_one(precision, optimizer):
    assert type(engine_of(lambda: MLP(4, 3), precision=precision, optimizer=optimizer)) is Chains


def test_equal_chains_of_several_pairs_are_computed_as_one():
    ((joint,),) = engine_of(lambda: MLP(4, 3), n_networks=6).parameters
    assert len(joint) == 6


def test_chains_of_flattened_images_are_computed_as_one():
    assert type(engine_of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), IMAGES)) is Chains
    assert type(engine_of(lambda: nn.Sequential(nn.Linear(8, 3), nn.Flatten()), IMAGES)) is Autograd


def test_other_networks_are_computed_each_by_itself():
    for make, X in (
        (Forward, TABLE),
        (lambda: nn.Sequential(nn.Dropout(), MLP(4, 3)), TABLE),
        (lambda: SmallCNN(1, 3), IMAGES),
    ):
        assert type(engine_of(make, X)) is Autograd


def test_chains_whose_input_is_an_entry_of_a_dict_are_computed_each_by_itself():
    for make in (lambda: nn.Linear(4, 3), lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3))):
        assert type(engine_of(make, {"input": TABLE})) is Autograd


def test_unequal_chains_are_computed_each_by_itself():
    widths = iter([5, 6])
    assert type(engine_of(lambda: MLP(4, 3, next(widths)))) is Autograd


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.Adafactor, OwnAdam, lambda parameters, lr: torch.optim.Adam(parameters, lr=lr)],
    ids=["of whole tensors", "a user's", "function"],
)
def test_an_optimizer_that_may_not_treat_every_number_by_itself_trains_each_network_by_itself(optimizer):
    assert type(engine_of(lambda: MLP(4, 3), optimizer=optimizer)) is Autograd


@pytest.mark.parametrize("parameters", [{"precision": "bf16"}, {"compile": True}], ids=str)
def test_what_changes_how_layers_compute_is_left_to_autograd(parameters, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    assert type(engine_of(lambda: MLP(4, 3), **parameters)) is Autograd


@pytest.mark.parametrize("channels_last", [False, True])
def test_autograd_is_told_what_it_needs(channels_last, monkeypatch):
    seen = []
    monkeypatch.setattr(choice, "take_channels_last", lambda *given: seen.append(given) or channels_last)
    monkeypatch.setattr(choice, "Autograd", lambda *given, **options: seen.append((given, options)))
    config, data = configured(IMAGES, precision="bf16", compile=True)
    networks = SmallCNN(1, 3), SmallCNN(1, 3)
    make_engine(networks, config, data)
    assert seen == [
        (networks, data, config),
        ((networks, 3), {"precision": "bf16", "compiled": True, "channels_last": channels_last}),
    ]


def test_networks_are_compiled_where_wanted_only(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    engine_of(Forward)
    assert compiled == []
    engine_of(Forward, compile=True)
    assert [type(each) for each in compiled] == [Forward, Forward]


def test_the_choice_changes_no_weight():
    for make, X in ((lambda: MLP(4, 3), TABLE), (Forward, TABLE), (lambda: SmallCNN(1, 3), IMAGES)):
        config, data = configured(X)
        networks = make(), make()
        before = copy.deepcopy([network.state_dict() for network in networks])
        make_engine(networks, config, data)
        for network, state in zip(networks, before, strict=True):
            torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
