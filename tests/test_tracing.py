"""Layers are read off a forward that calls layers and nothing else; any other is never run."""

import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skcoteach.networks import MLP, Standardize
from skcoteach.tracing import FUNCTIONS, layers_of

pytestmark = pytest.mark.filterwarnings("error")


class Net(nn.Module):
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


class Flattening(Net):
    def forward(self, images):
        images = torch.flatten(images, 1)
        hidden = nn.functional.gelu(self.first(images))
        return self.last(hidden)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Functions()

    def forward(self, x):
        return self.body(x)


def kinds(network):
    layers = layers_of(network)
    return None if layers is None else [type(layer).__name__ for layer in layers]


@pytest.mark.parametrize(
    "network, expected",
    [
        (Functions(), ["Linear", "ReLU", "Linear", "Tanh", "Sigmoid", "Linear"]),
        (Wrapper(), ["Linear", "Linear", "Tanh", "Linear"]),
        (Flattening(), ["Flatten", "Linear", "GELU", "Linear"]),
        (Nested(), ["Linear", "ReLU", "Linear", "Tanh", "Sigmoid", "Linear"]),
        (MLP(4, 3, 5), ["Standardize", "Linear", "ReLU", "Linear"]),
        (nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(4, 3))), ["Linear"]),
        (nn.Linear(4, 3), ["Linear"]),
    ],
    ids=["functions", "wrapper", "flatten", "nested", "mlp", "sequential", "linear"],
)
def test_layers_are_those_that_are_called_in_their_order(network, expected):
    assert kinds(network) == expected


@pytest.mark.parametrize(
    "network", [Functions(), Wrapper(), Flattening(), Nested(), MLP(4, 3, 5)], ids=lambda n: type(n).__name__
)
def test_calling_the_layers_one_after_the_other_is_calling_the_network(network):
    x = torch.randn(6, 4)
    hidden = x
    for layer in layers_of(network):
        hidden = layer(hidden)
    assert torch.equal(hidden, network(x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_that_of_its_module(name):
    x = torch.linspace(-8, 8, 99)
    function = getattr(F, name, None) or getattr(torch, name)
    torch.testing.assert_close(FUNCTIONS[name]()(x), function(x), rtol=0, atol=0)


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


class Calling(Functions):
    def __call__(self, x):
        return -super().__call__(x)


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


@pytest.mark.parametrize(
    "module",
    [
        Counting, Storing, Printing, Residual, Branching, WithOptions, ByTraining, TwoInputs, Unused, Enclosing,
        Calling, Shadowed, Methods, Properties, Covered, Finding, Training,
    ],
)  # fmt: skip
def test_nothing_is_known_of_a_forward_that_does_anything_else(module, capsys):
    network = module()
    network.calls = []
    assert layers_of(network) is None
    assert network.calls == [] and not hasattr(network, "seen")
    assert capsys.readouterr().out == ""


def test_a_function_by_the_name_of_an_activation_is_not_taken_for_it():
    namespace = {"nn": nn, "Net": Net, "F": type("F", (), {"relu": staticmethod(lambda x: x * 3)})}
    exec("class Fake(Net):\n    def forward(self, x):\n        return self.last(F.relu(self.first(x)))", namespace)
    assert layers_of(namespace["Fake"]()) is None
    calls = []
    namespace = {"relu": lambda x: (calls.append(x), torch.relu(x))[1], "Net": Net}
    exec("class Fake(Net):\n    def forward(self, x):\n        return self.last(relu(self.first(x)))", namespace)
    assert layers_of(namespace["Fake"]()) is None and calls == []
    namespace["relu"] = torch.relu
    assert kinds(namespace["Fake"]()) == ["Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("place", ["network", "layer", "sequential"])
@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_nothing_is_known_where_hooks_listen(hook, place):
    network = Wrapper()
    getattr({"network": network, "layer": network.first, "sequential": network.inner}[place], hook)(lambda *_: None)
    assert layers_of(network) is None


def test_nothing_is_known_where_an_instance_has_a_forward_of_its_own():
    network = Functions()
    network.first.forward = lambda x: x
    assert layers_of(network) is None


def test_standardisation_is_a_layer():
    assert kinds(nn.Sequential(Standardize(4), nn.Linear(4, 3))) == ["Standardize", "Linear"]


class CallingSequential(nn.Sequential):
    def __call__(self, x):
        return -super().__call__(x)


class TrainingSequential(nn.Sequential):
    def train(self, mode=True):
        self[0].requires_grad_(not mode)
        return super().train(mode)


@pytest.mark.parametrize("sequential", [CallingSequential, TrainingSequential])
def test_nothing_is_known_of_a_sequential_that_does_more(sequential):
    assert layers_of(sequential(nn.Linear(4, 3))) is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(2, 4))])
def test_nothing_is_known_of_what_torchscript_made(compiled):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert layers_of(compiled(nn.Sequential(nn.Linear(4, 3)))) is None
        assert layers_of(nn.Sequential(compiled(nn.Linear(4, 3)))) is None


def test_other_threads_can_use_networks_meanwhile():
    network, stop, errors = Functions(), threading.Event(), []

    def use():
        while not stop.is_set():
            try:
                network(torch.zeros(1, 4))
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    for _ in range(200):
        layers_of(network)
    stop.set()
    thread.join()
    assert errors == []


def test_globals_named_like_a_layer_are_of_no_interest_unless_they_are_called(monkeypatch):
    class Attributes(Net):
        def forward(self, x):
            return self.last(torch.tanh(self.first(x)))

    class Globals(Net):
        def forward(self, x):
            return self.last(first(torch.tanh(self.first(x))))  # noqa: F821

    network = Attributes()
    for name in ("first", "last", "tanh"):
        monkeypatch.setitem(globals(), name, "anything")
    assert [type(layer) for layer in layers_of(network)] == [nn.Linear, nn.Tanh, nn.Linear]
    for what in ("anything", nn.Linear(5, 5), F.relu):
        monkeypatch.setitem(globals(), "first", what)
        assert layers_of(Globals()) is None
    monkeypatch.delitem(globals(), "first")
    assert layers_of(Globals()) is None
