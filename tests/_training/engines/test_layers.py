"""Layers are read off structure alone: of a forward of the user's own nothing is known, and it is never run."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skcoteach import CoTeachingClassifier
from skcoteach._training.engines.layers import layers_of, leaves_inputs_alone
from skcoteach.networks import MLP, CifarCNN, SmallCNN, Standardize

pytestmark = pytest.mark.filterwarnings("error")


class Net(nn.Module):
    """Layers, a list in which a forward may note its calls, and a forward that subclasses have."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        self.calls = []


class Functions(Net):
    def forward(self, x):
        x = F.relu(self.first(x))
        x = torch.tanh(self.second(x))
        return self.last(x.sigmoid())


class Wrapper(Net):
    def forward(self, x):
        return self.last(self.inner(self.first(x)))


class Plain(nn.Sequential):
    """A Sequential with something of its own that has nothing to do with calling or training."""

    def __init__(self, n_in=4, n_out=3):
        super().__init__(nn.Linear(n_in, 5), nn.ReLU(), nn.Linear(5, n_out))
        self.note = "mine"

    def describe(self):
        return self.note


class Plainer(Plain):
    pass


def kinds(network):
    layers = layers_of(network)
    return None if layers is None else [type(layer).__name__ for layer in layers]


# --- what is known ---------------------------------------------------------------------------------------------------


def deep():
    return nn.Sequential(
        nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.ReLU(), nn.Sequential())),
        nn.Identity(),
        Plain(5, 5),
        nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(5, 3)))),
    )


KNOWN = {
    "sequential": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), ["Linear", "ReLU", "Linear"]),
    "nested": (deep, ["Linear", "ReLU", "Linear", "ReLU", "Linear", "Linear"]),
    "subclass": (Plain, ["Linear", "ReLU", "Linear"]),
    "subclass of a subclass": (Plainer, ["Linear", "ReLU", "Linear"]),
    "MLP": (lambda: MLP(4, 3, 5), ["Standardize", "Linear", "ReLU", "Linear"]),
    "layer": (lambda: nn.Linear(4, 3), ["Linear"]),
    "Standardize": (lambda: Standardize(4), ["Standardize"]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_layers_are_those_that_are_called_in_their_order(name):
    make, expected = KNOWN[name]
    network, x = make(), torch.randn(6, 4)
    assert kinds(network) == expected
    hidden = x
    for layer in layers_of(network):
        hidden = layer(hidden)
    assert torch.equal(hidden, network(x))


def test_layers_are_the_networks_own():
    network = deep()
    assert {id(layer) for layer in layers_of(network)} <= {id(module) for module in network.modules()}


def test_a_layer_that_is_called_twice_is_there_twice():
    layer = nn.Linear(4, 4)
    assert layers_of(nn.Sequential(layer, nn.ReLU(), layer))[::2] == [layer, layer]


@pytest.mark.parametrize("nothing", [nn.Identity(), nn.Sequential(), nn.Sequential(nn.Identity(), nn.Sequential())])
def test_identities_are_no_layers(nothing):
    assert layers_of(nothing) == []


@pytest.mark.parametrize("network", [SmallCNN(1, 3), CifarCNN(1, 3)], ids=["small", "cifar"])
def test_the_convolutional_networks_of_the_package_are_layers(network):
    assert layers_of(network) == layers_of(nn.Sequential(network)) == [network]


# --- a forward of the user's own -------------------------------------------------------------------------------------


class Counting(Net):
    def forward(self, x):
        self.calls.append(len(x))
        return self.last(self.first(x))


class Storing(Net):
    def forward(self, x):
        self.seen = x
        return self.last(self.first(x))


class Printing(Net):
    def forward(self, x):
        print("called")
        return self.last(self.first(x))


class Residual(Net):
    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.second(x))


class Branching(Net):
    def forward(self, x):
        x = self.first(x)
        if x.sum() > 0:
            x = self.second(x)
        return self.last(x)


class WithOptions(Net):
    def forward(self, x):
        return self.last(F.leaky_relu(self.first(x), 0.3))


class ByTraining(Net):
    def forward(self, x):
        x = self.first(x)
        if self.training:
            x = self.second(x)
        return self.last(x)


class TwoInputs(Net):
    def forward(self, x, y=None):
        return self.last(self.first(x))


class Unused(Net):
    def forward(self, x):
        self.second(self.first(x))
        return self.last(self.first(x))


class Enclosing(Net):
    def forward(self, x):
        return (lambda h: self.last(h))(self.first(x))


class Methods(Net):
    def gelu(self, x):
        self.calls.append(x)
        return F.gelu(x)

    def forward(self, x):
        return self.last(self.gelu(self.first(x)))


class Properties(Net):
    @property
    def tanh(self):
        self.calls.append("tanh")
        return torch.tanh

    def forward(self, x):
        return self.last(self.tanh(self.first(x)))


class Covered(Net):
    """A class attribute hides the layer of that name."""

    second = staticmethod(torch.relu)

    def __init__(self):
        super().__init__()
        self._modules["second"] = nn.Linear(5, 5)

    def forward(self, x):
        return self.last(self.second(self.first(x)))


class Calling(Functions):
    def __call__(self, x):
        return -super().__call__(x)


class Finding(Functions):
    def __getattr__(self, name):
        return super().__getattr__(name)


class Training(Functions):
    def train(self, mode=True):
        self.calls.append(mode)
        return super().train(mode)


def own(x):
    return x * 2


class Shadowed(Net):
    def forward(self, x):
        return self.last(own(self.first(x)))


class OwnLinear(nn.Linear):
    pass


class OwnIdentity(nn.Identity):
    pass


class NegatedSequential(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


class InheritedForward(NegatedSequential):
    """Its forward is not that of Sequential, though not its own."""


FORWARDS = [
    Functions, Wrapper, Counting, Storing, Printing, Residual, Branching, WithOptions, ByTraining, TwoInputs, Unused,
    Enclosing, Methods, Properties, Covered, Calling, Finding, Training, Shadowed, OwnIdentity,
]  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        *FORWARDS,
        lambda: OwnLinear(4, 3),
        *(lambda c=c: c(nn.Linear(4, 3)) for c in (NegatedSequential, InheritedForward)),
    ],
    ids=[each.__name__ for each in FORWARDS] + ["OwnLinear", "NegatedSequential", "InheritedForward"],
)
def test_nothing_is_known_of_a_forward_of_the_users_which_is_not_run(make, capsys):
    network = make()
    network.calls = []
    assert layers_of(network) is None
    assert layers_of(nn.Sequential(network)) is None
    assert layers_of(nn.Sequential(nn.Linear(4, 4), nn.Sequential(network))) is None
    assert network.calls == [] and not hasattr(network, "seen")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", [(), (0,), (1,), (1, 0)], ids=["network", "layer", "sequential", "inner layer"])
def test_nothing_is_known_where_an_instance_has_a_forward_of_its_own(place):
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 3), nn.Identity()))
    module = network
    for position in place:
        module = module[position]
    module.forward = lambda x: x
    assert layers_of(network) is None


# --- other ways to do more than the layers ---------------------------------------------------------------------------

HOOKS = [
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook",
]  # fmt: skip


@pytest.mark.parametrize("place", ["network", "layer", "identity", "sequential"])
@pytest.mark.parametrize("hook", HOOKS)
def test_nothing_is_known_where_hooks_listen_until_they_are_removed(hook, place):
    layer, identity, inner = nn.Linear(4, 4), nn.Identity(), nn.Sequential(nn.Linear(4, 3))
    network = nn.Sequential(layer, identity, inner)
    module = {"network": network, "layer": layer, "identity": identity, "sequential": inner}[place]
    handle = getattr(module, hook)(lambda *_: None)
    assert layers_of(network) is None
    handle.remove()
    assert kinds(network) == ["Linear", "Linear"]


def test_nothing_is_known_where_a_hook_listens_to_all_modules():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert layers_of(nn.Linear(4, 3)) is None
    finally:
        handle.remove()
    assert kinds(nn.Linear(4, 3)) == ["Linear"]


class CallingSequential(nn.Sequential):
    def __call__(self, x):
        return -super().__call__(x)


class TrainingSequential(nn.Sequential):
    def train(self, mode=True):
        self[0].requires_grad_(not mode)
        return super().train(mode)


class EvaluatingSequential(nn.Sequential):
    def eval(self):
        self[0].requires_grad_(False)
        return super().eval()


class FindingSequential(nn.Sequential):
    def __getattr__(self, name):
        return super().__getattr__(name)


class GettingSequential(nn.Sequential):
    def __getattribute__(self, name):
        return super().__getattribute__(name)


class HeadSequential(nn.Sequential):
    """Only its head is to be trained."""

    def parameters(self, recurse=True):
        return self[-1].parameters(recurse)


class NamedHeadSequential(nn.Sequential):
    def named_parameters(self, *args, **kwargs):
        return self[-1].named_parameters(*args, **kwargs)


OWN_WAYS = [
    CallingSequential, TrainingSequential, EvaluatingSequential, FindingSequential, GettingSequential, HeadSequential,
    NamedHeadSequential,
]  # fmt: skip


@pytest.mark.parametrize("sequential", OWN_WAYS)
def test_nothing_is_known_of_a_sequential_that_is_called_or_trained_in_its_own_way(sequential):
    assert layers_of(sequential(nn.Linear(4, 3))) is None
    assert layers_of(nn.Sequential(sequential(nn.Linear(4, 3)))) is None


@pytest.mark.parametrize("way", ["train", "eval", "parameters"])
def test_nothing_is_known_of_an_instance_that_is_trained_in_its_own_way(way):
    network = nn.Sequential(nn.Linear(4, 3))
    setattr(network, way, getattr(network, way))
    assert layers_of(network) is None


def test_only_the_head_is_trained_of_a_network_that_says_so():
    """What the tests above are for."""
    first = []

    def make():
        network = HeadSequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
        first.append(network[0].weight.detach().clone())
        return network

    X, y = torch.randn(40, 4), torch.arange(40) % 2
    classifier = CoTeachingClassifier(make, forget_rate=0.1, epochs=1, device="cpu", random_state=0).fit(X, y)
    assert all(
        torch.equal(network[0].weight, weight) for network, weight in zip(classifier.modules_, first, strict=True)
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(2, 4))])
def test_nothing_is_known_of_what_torchscript_made(compiled):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert layers_of(compiled(nn.Sequential(nn.Linear(4, 3)))) is None
        assert layers_of(nn.Sequential(compiled(nn.Linear(4, 3)))) is None


# --- inputs that two networks can share ------------------------------------------------------------------------------


class Doubling(nn.Module):
    """Works in place on its input."""

    def forward(self, x):
        return x.mul_(2)


def hooked():
    network = nn.Sequential(nn.Linear(4, 3))
    network.register_forward_pre_hook(lambda module, inputs: None)
    return network


@pytest.mark.parametrize(
    ("network", "alone"),
    [
        (MLP(4, 3), True),
        (SmallCNN(1, 3), True),
        (CifarCNN(1, 3), True),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)), True),
        (nn.Linear(4, 3), True),
        (nn.Sequential(SmallCNN(1, 3)), True),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), False),
        (nn.Sequential(Doubling(), nn.Linear(4, 3)), False),
        (nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(4, 3)), False),
        (hooked(), False),
        (nn.Identity(), False),
        (Wrapper(), False),
    ],
    ids=[
        "mlp", "small-cnn", "cifar-cnn", "chain", "linear", "wrapped-cnn", "relu-first", "doubling-first", "flatten",
        "hooked", "identity", "forward",
    ],
)  # fmt: skip
def test_only_networks_that_surely_do_not_work_in_place_get_the_inputs_themselves(network, alone):
    assert leaves_inputs_alone(network) is alone
