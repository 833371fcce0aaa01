"""Any two networks are computed as each would be by itself, whatever their layers do."""

import copy
import functools
import warnings

import pytest
import torch
from torch import nn

from skcoteach._training.engines.autograd import Autograd
from skcoteach.networks import CifarCNN, SmallCNN

pytestmark = pytest.mark.filterwarnings("error")

N, N_FEATURES, N_CLASSES = 12, 4, 3


class Doubling(nn.Module):
    """Works in place on its input."""

    def forward(self, x):
        return x.mul_(2)


def plain():
    return nn.Sequential(nn.Linear(N_FEATURES, 6), nn.ReLU(), nn.Linear(6, N_CLASSES))


def relu_first():
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(N_FEATURES, N_CLASSES))


def doubling_first():
    return nn.Sequential(Doubling(), nn.Linear(N_FEATURES, N_CLASSES))


def with_statistics():
    return nn.Sequential(nn.Linear(N_FEATURES, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, N_CLASSES))


MODULES = [plain, relu_first, doubling_first, with_statistics]


def make_networks(first=plain, second=plain, seed=0):
    torch.manual_seed(seed)
    return first().double(), second().double()


def make_inputs(n=N, seed=1):
    return torch.randn(n, N_FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make_gradient(n=N, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, N_CLASSES, n, dtype=torch.float64, generator=generator)


def plain_logits_and_gradients(networks, inputs, gradient):
    """Of copies of the networks, each on inputs of its own."""
    networks = copy.deepcopy(networks)
    outputs = [network(inputs.clone()) for network in networks]
    for own, each in zip(outputs, gradient, strict=True):
        own.backward(each.T)
    trained = [[p for p in network.parameters() if p.requires_grad] for network in networks]
    return [own.detach().T for own in outputs], [[p.grad for p in own] for own in trained]


def gradients(engine):
    return [[parameter.grad for parameter in own] for own in engine.parameters]


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def assert_computes_as_plain_autograd(engine, networks, inputs, gradient):
    logits, expected = plain_logits_and_gradients(networks, inputs, gradient)
    actual = engine.logits(engine.prepare(inputs))
    assert actual.shape == (2, N_CLASSES, len(inputs))
    assert not actual.requires_grad
    assert_same(list(actual), logits)
    engine.backward(gradient)
    assert_same(gradients(engine), expected)


# --- logits and gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", MODULES)
@pytest.mark.parametrize("first", MODULES)
def test_logits_and_gradients_are_those_of_each_network_by_itself_in_every_batch(first, second):
    """The batches are parts of one block, which a network that works in place writes into."""
    networks = make_networks(first, second)
    engine = Autograd(networks, N_CLASSES)
    block = make_inputs(3 * N)
    for number, batch in enumerate(block.split(N)):
        assert_computes_as_plain_autograd(engine, networks, batch.clone(), make_gradient(seed=number))
    engine = Autograd(networks, N_CLASSES)
    expected = [
        plain_logits_and_gradients(networks, batch.clone(), make_gradient(seed=number))
        for number, batch in enumerate(block.split(N))
    ]
    if with_statistics not in (first, second):  # these change with every batch
        for number, batch in enumerate(block.split(N)):
            assert_same(list(engine.logits(batch)), expected[number][0])
            engine.backward(make_gradient(seed=number))
            assert_same(gradients(engine), expected[number][1])


def test_gradients_are_those_of_the_last_batch_alone():
    networks = make_networks()
    engine = Autograd(networks, N_CLASSES)
    for parameter in networks[0].parameters():
        parameter.grad = torch.full_like(parameter, 9.0)
    for seed in range(3):
        assert_computes_as_plain_autograd(engine, networks, make_inputs(seed=seed), make_gradient(seed=seed))


def test_a_gradient_of_zero_for_one_network_leaves_the_other_as_it_is():
    networks = make_networks()
    engine = Autograd(networks, N_CLASSES)
    gradient = make_gradient()
    gradient[0] = 0
    assert_computes_as_plain_autograd(engine, networks, make_inputs(), gradient)
    assert all((each == 0).all() for each in gradients(engine)[0])


def test_images_arrive_as_they_are_where_nothing_else_is_wanted():
    torch.manual_seed(0)
    networks = [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 3, N_CLASSES)).double() for _ in range(2)
    ]
    engine = Autograd(networks, N_CLASSES)
    images = torch.randn(N, 1, 6, 5).double()
    assert engine.prepare(images) is images
    assert not engine.owns_memory
    assert_computes_as_plain_autograd(engine, networks, images, make_gradient())


# --- parameters ------------------------------------------------------------------------------------------------------


def test_parameters_are_those_of_each_network_that_are_not_frozen():
    networks = make_networks()
    networks[0][0].requires_grad_(False)
    parameters = Autograd(networks, N_CLASSES).parameters
    expected = [list(networks[0][2].parameters()), list(networks[1].parameters())]
    assert [[id(p) for p in own] for own in parameters] == [[id(p) for p in own] for own in expected]


def test_frozen_and_unused_parameters_get_no_gradient():
    class PartlyUsed(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(N_FEATURES, N_CLASSES), nn.Linear(5, 5)
            self.frozen = nn.Linear(N_FEATURES, N_FEATURES).requires_grad_(False)

        def forward(self, x):
            return self.used(self.frozen(x))

    networks = make_networks(PartlyUsed, PartlyUsed)
    engine = Autograd(networks, N_CLASSES)
    for network in networks:  # an optimizer with momentum would move them on
        network.unused.weight.grad = torch.ones_like(network.unused.weight)
    for _ in range(2):
        assert_computes_as_plain_autograd(engine, networks, make_inputs(), make_gradient())
        for network in networks:
            assert all(p.grad is not None for p in network.used.parameters())
            assert all(p.grad is None for p in (*network.unused.parameters(), *network.frozen.parameters()))


def test_a_parameter_that_is_used_in_some_batches_only_gets_a_gradient_in_these_only():
    class Alternating(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.calls = nn.ModuleList([nn.Linear(N_FEATURES, N_CLASSES) for _ in range(2)]), 0

        def forward(self, x):
            self.calls += 1
            return self.layers[self.calls % 2](x)

    networks = make_networks(Alternating, plain)
    engine = Autograd(networks, N_CLASSES)
    for _ in range(4):
        assert_computes_as_plain_autograd(engine, networks, make_inputs(), make_gradient())
        with_gradient = [p.grad is not None for p in networks[0].parameters()]
        assert with_gradient == ([False] * 2 + [True] * 2 if networks[0].calls % 2 else [True] * 2 + [False] * 2)


# --- outputs that are no logits --------------------------------------------------------------------------------------


class Spoiled(nn.Linear):
    """A network whose outputs are no logits."""

    def __init__(self, spoil):
        super().__init__(N_FEATURES, N_CLASSES)
        self.spoil = spoil

    def forward(self, x):
        return self.spoil(super().forward(x))


@pytest.mark.parametrize(("index", "name"), [(0, "module"), (1, "module2")])
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x: (x, x), TypeError, "must return a tensor of raw logits; it returned a tuple"),
        (lambda x: None, TypeError, "must return a tensor of raw logits; it returned a NoneType"),
        (lambda x: x.argmax(1), TypeError, r"must return floating point logits; got torch.int64"),
        (lambda x: x[:, :2], ValueError, r"shape \(n_samples, n_classes\), here \(12, 3\) .*; got shape \(12, 2\)"),
        (lambda x: x[:-1], ValueError, r"here \(12, 3\) .*; got shape \(11, 3\)"),
        (lambda x: x[:, 0], ValueError, r"got shape \(12,\)"),
        (lambda x: x[..., None], ValueError, r"got shape \(12, 3, 1\)"),
        (torch.detach, ValueError, "do not depend on its parameters"),
    ],
    ids=["tuple", "nothing", "integers", "too few classes", "too few examples", "one axis", "three axes", "no graph"],
)
def test_outputs_that_are_no_logits_are_refused_with_the_parameter_that_made_the_network(
    index, name, spoil, error, message
):
    networks = list(make_networks())
    networks[index] = Spoiled(spoil).double()
    with pytest.raises(error, match=f"(made by|by) {name} .*{message}"):
        Autograd(networks, N_CLASSES).logits(make_inputs())


def test_what_a_network_raises_passes_unchanged():
    error = RuntimeError("mine")

    def spoil(outputs):
        raise error

    with pytest.raises(RuntimeError) as raised:
        Autograd([Spoiled(spoil).double(), plain().double()], N_CLASSES).logits(make_inputs())
    assert raised.value is error


# --- modes -----------------------------------------------------------------------------------------------------------


def test_networks_train_from_start_to_rest_and_then_hold_no_gradients_and_can_be_copied():
    def spectral():
        return nn.Sequential(nn.utils.spectral_norm(nn.Linear(N_FEATURES, 6)), nn.Dropout(), nn.Linear(6, N_CLASSES))

    networks = make_networks(spectral, with_statistics)
    engine = Autograd([network.eval() for network in networks], N_CLASSES)
    engine.start()
    assert all(module.training for network in networks for module in network.modules())
    engine.logits(make_inputs())
    engine.backward(make_gradient())
    engine.rest()
    assert not any(module.training for network in networks for module in network.modules())
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())
    copy.deepcopy(networks)


# --- precision, layout, compilation ----------------------------------------------------------------------------------


def test_layers_compute_in_bfloat16_with_that_precision_and_weights_stay_single():
    networks = plain(), plain()
    seen = []
    networks[0][0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    engine = Autograd(networks, N_CLASSES, precision="bf16")
    logits = engine.logits(torch.randn(N, N_FEATURES))
    engine.backward(torch.randn(2, N_CLASSES, N))
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32
    assert {p.dtype for parameters in engine.parameters for p in parameters} == {torch.float32}
    assert {p.grad.dtype for parameters in engine.parameters for p in parameters} == {torch.float32}


def test_weights_that_an_optimizer_has_changed_are_seen_in_bfloat16():
    """Autocast remembers the weights that it has rounded; a step later that would be those of before."""
    engine = Autograd((plain(), plain()), N_CLASSES, precision="bf16")
    inputs = torch.randn(N, N_FEATURES)
    before = engine.logits(inputs)
    with torch.no_grad():
        for parameters in engine.parameters:
            for parameter in parameters:
                parameter.mul_(3)
    assert not torch.allclose(engine.logits(inputs), before, rtol=0.1)


def convolutional():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 10))


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (functools.partial(SmallCNN, 3, 10), 12),
        (functools.partial(CifarCNN, dropout_rate=0.0), 28),
        (convolutional, 14),
    ],
    ids=["small", "cifar", "users"],
)
def test_images_and_weights_lie_channels_last_where_wanted_and_give_the_same(network, size):
    torch.manual_seed(0)
    networks = [network().double().train() for _ in range(2)]
    images, gradient = torch.rand(4, 3, size, size, dtype=torch.float64), torch.randn(2, 10, 4, dtype=torch.float64)
    logits, expected = plain_logits_and_gradients(networks, images, gradient)
    engine = Autograd(networks, 10, channels_last=True)
    last = {"memory_format": torch.channels_last}
    weights = [m.weight for each in networks for m in each.modules() if isinstance(m, nn.Conv2d)]
    assert all(weight.is_contiguous(**last) for weight in weights)
    prepared = engine.prepare(images)
    assert prepared.is_contiguous(**last) and not prepared.is_contiguous()
    torch.testing.assert_close(list(engine.logits(prepared)), logits, rtol=1e-9, atol=1e-9)
    engine.backward(gradient)
    torch.testing.assert_close(gradients(engine), expected, rtol=1e-9, atol=1e-9)
    assert all(weight.grad.is_contiguous(**last) for weight in weights)


@pytest.mark.parametrize(
    ("first", "second", "channels_last", "owns"),
    [
        (SmallCNN, SmallCNN, True, False),
        (CifarCNN, SmallCNN, True, False),
        (SmallCNN, convolutional, True, True),
        (convolutional, convolutional, True, True),
        (convolutional, convolutional, False, False),
    ],
    ids=["small", "own", "own and users", "users", "contiguous"],
)
def test_weights_of_the_users_networks_that_lie_channels_last_do_not_lie_as_users_expect(
    first, second, channels_last, owns
):
    networks = [each(3, 10) if each is not convolutional else each() for each in (first, second)]
    assert Autograd(networks, 10, channels_last=channels_last).owns_memory is owns


def test_compiled_networks_give_logits_and_gradients_of_the_networks(monkeypatch):
    warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    networks, inputs, gradient = make_networks(), make_inputs(), make_gradient()
    expected_logits, expected_gradients = plain_logits_and_gradients(networks, inputs, gradient)
    engine = Autograd(networks, N_CLASSES, compiled=True)
    torch.testing.assert_close(engine.logits(inputs), torch.stack(expected_logits), rtol=1e-12, atol=1e-12)
    engine.backward(gradient)
    for parameters, expected in zip(engine.parameters, expected_gradients, strict=True):
        torch.testing.assert_close([p.grad for p in parameters], expected, rtol=1e-12, atol=1e-12)


def test_where_torch_cannot_compile_the_parameter_is_named(monkeypatch):
    class InductorError(RuntimeError):
        __module__ = "torch._inductor.exc"

    def fails(network):
        def call(inputs):
            raise InductorError("no working C++ compiler found\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    engine = Autograd(make_networks(), N_CLASSES, compiled=True)
    message = r"compile=True cannot be done here: no working C\+\+ compiler found. Use compile=False."
    with pytest.raises(ValueError, match=message):
        engine.logits(make_inputs())


def test_errors_of_the_users_network_stay_their_own_when_compiled_or_not():
    class Failing(nn.Linear):
        def forward(self, x):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        Autograd((Failing(4, 3), Failing(4, 3)), 3).logits(torch.zeros(2, 4))
