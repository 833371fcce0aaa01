"""Equal chains computed as one are the networks that they were, and only what is a chain is taken for one."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach import CoTeachingClassifier
from skcoteach._training.engines.chains import ACTIVATIONS, Chains, are_chains
from skcoteach.networks import MLP, SmallCNN, Standardize

pytestmark = pytest.mark.filterwarnings("error")

N, N_FEATURES, N_CLASSES = 12, 4, 3
TABLE, IMAGES = (N_FEATURES,), (1, 2, 2)

every_activation = pytest.mark.parametrize("activation", sorted(ACTIVATIONS, key=lambda each: each.__name__))
#: Those that can work in place.
IN_PLACE = [
    nn.CELU, nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU,
    nn.SiLU,
]  # fmt: skip


def linear(n_in=N_FEATURES, n_out=N_CLASSES, **options):
    return nn.Linear(n_in, n_out, **options)


def chain(*middle, width=6):
    """A network of two linear layers with these layers between them."""
    return nn.Sequential(linear(n_out=width), *middle, linear(width))


def pair(make, dtype=torch.float64, n=2):
    torch.manual_seed(0)
    return tuple(make().to(dtype) for _ in range(n))


def observed(seed=0):
    layer = Standardize(N_FEATURES)
    layer.observe(torch.randn(9, N_FEATURES, generator=torch.Generator().manual_seed(seed)) * 3 + 1, torch.ones(9))
    return layer


def random(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain_logits_and_gradients(networks, inputs, gradient):
    """Of copies of the networks, each on inputs of its own."""
    networks = copy.deepcopy(networks)
    outputs = [network(inputs.clone()) for network in networks]
    for own, each in zip(outputs, gradient, strict=True):
        own.backward(each.T)
    return [own.detach().T for own in outputs], [[p.grad for p in network.parameters()] for network in networks]


def joint_gradients(engine, networks):
    """The parts of the joint gradient that belong to the parameters: they lie where these lie in the joint memory."""
    ((joint,),) = engine.parameters
    return [
        [
            joint.grad.as_strided(p.shape, p.stride(), p.storage_offset() - joint.storage_offset())
            for p in network.parameters()
        ]
        for network in networks
    ]


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def assert_computed_as_by_autograd(networks, item_shape=TABLE, n_batches=2):
    assert are_chains(networks, item_shape)
    engine = Chains(networks)
    for seed in range(n_batches):
        inputs, gradient = random(N, *item_shape, seed=seed) * 2, random(len(networks), N_CLASSES, N, seed=seed + 9)
        before = inputs.clone()
        logits, expected = plain_logits_and_gradients(networks, inputs, gradient)
        actual = engine.logits(engine.prepare(inputs))
        assert actual.shape == (len(networks), N_CLASSES, N)
        assert not actual.requires_grad
        assert_same(list(actual), logits)
        engine.backward(gradient)
        assert_same(joint_gradients(engine, networks), expected)
        assert torch.equal(inputs, before)


# --- what is a chain -------------------------------------------------------------------------------------------------


def twice_the_same_activation():
    activation = nn.Tanh()
    return nn.Sequential(linear(n_out=6), activation, linear(6, 6), activation, linear(6))


class Titled(nn.Sequential):
    """A Sequential by another name that does nothing else."""


CHAINS = {
    "linear": lambda: linear(),
    "linear in a Sequential": lambda: nn.Sequential(linear()),
    "without bias": lambda: nn.Sequential(linear(bias=False)),
    "with and without bias": lambda: nn.Sequential(linear(n_out=6, bias=False), nn.ReLU(), linear(6)),
    "two layers": lambda: chain(nn.ReLU()),
    "nothing between the layers": lambda: chain(),
    "several activations": lambda: chain(nn.ReLU(), nn.Tanh(), nn.ELU()),
    "same activation twice": twice_the_same_activation,
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Sequential(linear(n_out=6), nn.ReLU())), nn.Sequential(linear(6))),
    "empty Sequential": lambda: nn.Sequential(nn.Sequential(), linear(), nn.Sequential()),
    "Identity": lambda: nn.Sequential(
        nn.Identity(), linear(n_out=6), nn.Identity(), nn.ReLU(), linear(6), nn.Identity()
    ),
    "Flatten first": lambda: nn.Sequential(nn.Flatten(), linear()),
    "Standardize first": lambda: nn.Sequential(observed(), chain(nn.ReLU())),
    "Flatten and Standardize first": lambda: nn.Sequential(nn.Flatten(), observed(), linear()),
    "MLP": lambda: MLP(N_FEATURES, N_CLASSES, hidden=(7, 5)),
    "MLP without hidden layers": lambda: MLP(N_FEATURES, N_CLASSES, hidden=()),
    "subclass of Sequential": lambda: Titled(linear(n_out=6), nn.ReLU(), linear(6)),
    "in place": lambda: chain(nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_known_and_computed_as_by_autograd(name):
    assert_computed_as_by_autograd(pair(CHAINS[name]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Flatten(), chain(nn.ReLU())),
        lambda: nn.Sequential(nn.Flatten(1, -1), observed(), linear()),
    ],
)
def test_flattened_images_are_the_items_of_a_chain(make):
    assert_computed_as_by_autograd(pair(make), IMAGES)


@pytest.mark.parametrize("n_networks", [1, 4, 7])
@pytest.mark.parametrize("name", CHAINS)
def test_any_number_of_chains_is_computed_as_by_autograd(name, n_networks):
    assert_computed_as_by_autograd(pair(CHAINS[name], n=n_networks))


@every_activation
def test_every_activation_makes_a_chain(activation):
    assert are_chains(pair(lambda: chain(activation())), TABLE)


def hooked(network, register, *where):
    """The network with a hook on one of its layers."""
    layer = network
    for position in where:
        layer = layer[position]
    getattr(layer, register)(lambda *_: None)
    return network


def frozen(name):
    network = chain(nn.ReLU())
    network.get_parameter(name).requires_grad_(False)
    return network


def tied_layer():
    layer = linear(N_FEATURES, N_FEATURES)
    return nn.Sequential(layer, nn.ReLU(), layer, linear())


def tied_weight():
    network = nn.Sequential(linear(n_out=N_FEATURES), nn.ReLU(), linear(n_out=N_FEATURES), linear())
    network[2].weight = network[0].weight
    return network


class OwnLinear(nn.Linear):
    pass


class OwnReLU(nn.ReLU):
    pass


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()

    def forward(self, x):
        return self.layer(x) * 2


def forward_of_the_instance(*where, middle=None):
    network = chain(middle or nn.ReLU())
    layer = network
    for position in where:
        layer = layer[position]
    forward = layer.forward
    layer.forward = lambda x: forward(x) + 1
    return network


def parameter_hook(register):
    network = chain(nn.ReLU())
    getattr(network[0].weight, register)(lambda _: None)
    return network


def mixed_dtypes():
    network = chain(nn.ReLU())
    network[2].half()
    return network


class OwnParameter(nn.Parameter):
    pass


def own_parameter():
    network = linear()
    network.weight = OwnParameter(network.weight.detach())
    return network


def parametrized():
    network = chain(nn.ReLU())
    nn.utils.parametrizations.weight_norm(network[0])
    return network


HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)
NO_CHAINS = {
    **{
        f"{register} of {name}": lambda register=register, where=where: hooked(chain(nn.ReLU()), register, *where)
        for register in HOOKS
        for name, where in (("network", ()), ("linear", (0,)), ("activation", (1,)))
    },
    "hook of an inner Sequential": lambda: hooked(nn.Sequential(chain(nn.ReLU())), HOOKS[0], 0),
    "hook of Identity": lambda: hooked(chain(nn.Identity()), HOOKS[0], 1),
    "forward of the instance of Identity": lambda: forward_of_the_instance(1, middle=nn.Identity()),
    "hook of Standardize": lambda: hooked(nn.Sequential(observed(), linear()), HOOKS[0], 0),
    "frozen weight": lambda: frozen("0.weight"),
    "frozen bias": lambda: frozen("2.bias"),
    "tied layer": tied_layer,
    "tied weight": tied_weight,
    "dropout": lambda: chain(nn.Dropout()),
    "batch norm": lambda: chain(nn.BatchNorm1d(6)),
    "layer norm": lambda: chain(nn.LayerNorm(6)),
    "softmax": lambda: chain(nn.Softmax(1)),
    "trained activation": lambda: chain(nn.PReLU()),
    "random activation": lambda: chain(nn.RReLU()),
    "activation of two columns": lambda: chain(nn.GLU(), width=6),
    "activation at the end": lambda: nn.Sequential(linear(), nn.ReLU()),
    "activation first": lambda: nn.Sequential(nn.ReLU(), linear()),
    "Flatten later": lambda: chain(nn.Flatten()),
    "Flatten of other axes": lambda: nn.Sequential(nn.Flatten(0), linear()),
    "Standardize later": lambda: nn.Sequential(linear(n_out=N_FEATURES), observed(), linear()),
    "Standardize twice": lambda: nn.Sequential(observed(), observed(), linear()),
    "Standardize before Flatten": lambda: nn.Sequential(observed(), nn.Flatten(), linear()),
    "no layer": lambda: nn.Sequential(),
    "Flatten alone": lambda: nn.Sequential(nn.Flatten()),
    "subclass of Linear": lambda: nn.Sequential(OwnLinear(N_FEATURES, N_CLASSES)),
    "subclass of an activation": lambda: chain(OwnReLU()),
    "subclass of Sequential with a forward": lambda: nn.Sequential(Residual(linear(n_out=N_FEATURES)), linear()),
    "module whose forward does more": Scaled,
    "forward of the instance of the network": lambda: forward_of_the_instance(),
    "forward of the instance of a linear layer": lambda: forward_of_the_instance(0),
    "forward of the instance of an activation": lambda: forward_of_the_instance(1),
    "hook of a parameter": lambda: parameter_hook("register_hook"),
    "hook of a parameter after accumulation": lambda: parameter_hook("register_post_accumulate_grad_hook"),
    "mixed dtypes": mixed_dtypes,
    "subclass of Parameter": own_parameter,
    "parametrized": parametrized,
    "bilinear": lambda: nn.Bilinear(N_FEATURES, N_FEATURES, N_CLASSES),
    "CNN": lambda: SmallCNN(1, N_CLASSES),
}


@pytest.mark.parametrize("other", ["no chain", "chain"])
@pytest.mark.parametrize("name", NO_CHAINS)
def test_what_does_more_or_something_else_is_no_chain_nor_is_its_peer(name, other):
    first = NO_CHAINS[name]()
    second = chain(nn.ReLU()) if other == "chain" else NO_CHAINS[name]()
    assert not are_chains((first, second), TABLE)
    assert not are_chains((second, first), TABLE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (chain(nn.ReLU(), width=6), chain(nn.ReLU(), width=7)),
        (chain(nn.ReLU()), chain(nn.Tanh())),
        (chain(nn.ReLU()), chain(nn.ReLU(), nn.ReLU())),
        (chain(nn.ReLU()), nn.Sequential(observed(), chain(nn.ReLU()))),
        (linear(), linear(bias=False)),
        (chain(nn.ELU(1.0)), chain(nn.ELU(0.5))),
        (chain(nn.CELU(1.0)), chain(nn.CELU(0.5))),
        (chain(nn.LeakyReLU(0.01)), chain(nn.LeakyReLU(0.1))),
        (chain(nn.Softplus(1)), chain(nn.Softplus(2))),
        (chain(nn.Softplus(1, 20)), chain(nn.Softplus(1, 2))),
        (chain(nn.Hardtanh(-1, 1)), chain(nn.Hardtanh(-1, 2))),
        (chain(nn.GELU()), chain(nn.GELU("tanh"))),
        (nn.Sequential(observed(0), linear()), nn.Sequential(observed(1), linear())),
        (nn.Sequential(observed(0), linear()), nn.Sequential(Standardize(N_FEATURES), linear())),
    ],
    ids=[
        "widths", "activations", "number of activations", "Standardize in one", "bias", "ELU alpha", "CELU alpha",
        "LeakyReLU slope", "Softplus beta", "Softplus threshold", "Hardtanh bound", "GELU approximation",
        "Standardize buffers", "Standardize observed by one",
    ],
)  # fmt: skip
def test_chains_that_differ_in_more_than_weights_are_not_computed_as_one(first, second):
    assert are_chains((first, copy.deepcopy(first)), TABLE)
    assert are_chains((second, copy.deepcopy(second)), TABLE)
    assert not are_chains((first, second), TABLE)
    assert not are_chains((second, first), TABLE)


@pytest.mark.parametrize("place", range(4))
def test_one_network_among_many_that_is_no_equal_chain_is_enough(place):
    many = pair(lambda: chain(nn.ReLU()), n=4)
    assert are_chains(many, TABLE)
    for other in (chain(nn.Dropout()), chain(nn.ReLU(), width=7), chain(nn.ReLU(), nn.ReLU()), chain(nn.Tanh())):
        networks = [*many[:place], other.double(), *many[place + 1 :]]
        assert not are_chains(networks, TABLE)


@pytest.mark.parametrize("item_shape", [IMAGES, (5, N_FEATURES)])
def test_items_of_several_axes_make_no_chain_unless_they_are_flattened_first(item_shape):
    """A linear layer works on the last axis."""
    assert not are_chains((chain(nn.ReLU()), chain(nn.ReLU())), item_shape)
    assert not are_chains([nn.Sequential(observed(), linear()) for _ in range(2)], item_shape)
    assert are_chains([nn.Sequential(nn.Flatten(), linear(20)) for _ in range(2)], item_shape)


def test_a_hook_on_all_modules_is_respected():
    networks = chain(nn.ReLU()), chain(nn.ReLU())
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not are_chains(networks, TABLE)
    finally:
        handle.remove()
    assert are_chains(networks, TABLE)


# --- logits and gradients --------------------------------------------------------------------------------------------


@every_activation
def test_every_activation_is_computed_as_by_autograd(activation):
    assert_computed_as_by_autograd(pair(lambda: chain(activation())))


@every_activation
def test_every_two_activations_after_one_layer_are_computed_as_by_autograd(activation):
    for other in ACTIVATIONS:
        for in_order in itertools.permutations([activation, other]):
            assert_computed_as_by_autograd(
                pair(lambda in_order=in_order: chain(*[each() for each in in_order])), n_batches=1
            )


OPTIONS = [
    lambda: nn.ELU(0.5), lambda: nn.CELU(0.5), lambda: nn.LeakyReLU(0.2), lambda: nn.Softplus(2, 1.5),
    lambda: nn.Hardtanh(-0.5, 0.25), lambda: nn.GELU("tanh"),
]  # fmt: skip


@pytest.mark.parametrize("make", OPTIONS, ids=["ELU", "CELU", "LeakyReLU", "Softplus", "Hardtanh", "GELU"])
def test_options_of_activations_count(make):
    assert_computed_as_by_autograd(pair(lambda: chain(make())))


@pytest.mark.parametrize("activation", IN_PLACE, ids=lambda each: each.__name__)
def test_activations_that_work_in_place_are_computed_as_by_autograd(activation):
    assert_computed_as_by_autograd(pair(lambda: chain(activation(inplace=True))))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 5), st.booleans(), st.lists(st.sampled_from(sorted(ACTIVATIONS, key=str)), max_size=3)
        ),
        max_size=4,
    ),
    st.booleans(),
    st.booleans(),
)
def test_chains_of_any_length_and_width_are_computed_as_by_autograd(hidden, bias, standardized):
    def make():
        layers, n_in = [observed()] if standardized else [], N_FEATURES
        for width, own_bias, activations in hidden:
            layers += [linear(n_in, width, bias=own_bias), *(each() for each in activations)]
            n_in = width
        return nn.Sequential(*layers, linear(n_in, bias=bias))

    assert_computed_as_by_autograd(pair(make))


def test_inputs_may_be_prepared_together_and_batches_be_of_any_size():
    networks = pair(CHAINS["MLP"])
    engine = Chains(networks)
    inputs, gradient = random(2 * N + 5, N_FEATURES), random(2, N_CLASSES, 2 * N + 5)
    prepared = engine.prepare(inputs)
    for some in (slice(0, N), slice(N, 2 * N), slice(2 * N, None), slice(3, 4)):
        logits, expected = plain_logits_and_gradients(networks, inputs[some], gradient[:, :, some])
        assert_same(list(engine.logits(prepared[some])), logits)
        engine.backward(gradient[:, :, some])
        assert_same(joint_gradients(engine, networks), expected)


# --- the joint memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_networks", [2, 6])
def test_parameters_keep_their_values_and_become_views_of_the_joint_memory(n_networks):
    networks = pair(CHAINS["MLP"], n=n_networks)
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    own = [[id(p) for p in network.parameters()] for network in networks]
    engine = Chains(networks)
    ((joint,),) = engine.parameters
    assert isinstance(joint, nn.Parameter)
    assert joint.shape == (n_networks, sum(p.numel() for p in networks[0].parameters()))
    assert [[id(p) for p in network.parameters()] for network in networks] == own
    for network, values, vector in zip(networks, before, joint, strict=True):
        assert all(torch.equal(p, value) for p, value in zip(network.parameters(), values, strict=True))
        assert all(p.untyped_storage().data_ptr() == joint.untyped_storage().data_ptr() for p in network.parameters())
        assert torch.equal(torch.cat([p.flatten() for p in network.parameters()]), vector)
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
    with torch.no_grad():
        joint.add_(1)
    for network, values in zip(networks, before, strict=True):
        assert all(torch.equal(p, value + 1) for p, value in zip(network.parameters(), values, strict=True))


def test_gradients_left_by_others_are_no_part_of_the_training():
    networks = pair(CHAINS["two layers"])
    for network in networks:
        network(random(N, N_FEATURES)).sum().backward()
    ((joint,),) = Chains(networks).parameters
    assert (joint.grad == 0).all()
    assert all(p.grad is None for network in networks for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_joint_memory_has_the_precision_of_the_networks(dtype):
    ((joint,),) = Chains(pair(CHAINS["MLP"], dtype)).parameters
    assert joint.dtype == joint.grad.dtype == dtype


def test_networks_are_always_at_rest_for_no_layer_of_a_chain_does_anything_else_in_training():
    networks = pair(CHAINS["MLP"])
    engine = Chains(networks)
    for step in (lambda: None, engine.start, lambda: engine.logits(random(N, N_FEATURES)), engine.rest):
        step()
        assert not any(module.training for network in networks for module in network.modules())
        assert all(parameter.grad is None for network in networks for parameter in network.parameters())
    copy.deepcopy(networks)


# --- a whole training ------------------------------------------------------------------------------------------------

Y = np.random.default_rng(0).integers(0, N_CLASSES, 200)
X = np.random.default_rng(1).normal(size=(200, N_FEATURES)) * 2 + Y[:, None]
GIVEN = np.where(np.arange(200) % 5 == 0, (Y + 1) % N_CLASSES, Y)


def fit(monkeypatch, joined, X=X, epochs=4, **parameters):
    """Train with either engine; the estimator, after having seen that it was this engine."""
    with monkeypatch.context() as patch:
        engines = []
        init = Chains.__init__
        patch.setattr(
            Chains, "__init__", lambda self, *args, **options: engines.append(self) or init(self, *args, **options)
        )
        if not joined:
            patch.setattr("skcoteach._training.engines.choice.are_chains", lambda *_: False)
        options = {"forget_rate": 0.2, "batch_size": 32, "lr": 0.01, "device": "cpu", "random_state": 0}
        estimator = CoTeachingClassifier(epochs=epochs, **options | parameters).fit(X, GIVEN)
        assert bool(engines) == joined
    return estimator


def assert_same_training(a, b, X, tolerance):
    np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), rtol=tolerance, atol=tolerance)
    for first, second in zip(a.modules_, b.modules_, strict=True):
        assert first.state_dict().keys() == second.state_dict().keys()
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=tolerance, atol=tolerance)
    for name in ("loss", "accuracy", "agreement"):
        for one, other in zip(a.history_, b.history_, strict=True):
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), name
    np.testing.assert_allclose(a.label_quality_, b.label_quality_, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(a.kept_frequency_, b.kept_frequency_, rtol=tolerance, atol=tolerance)


MODULES = {
    "default": {},
    "linear": {"module__hidden": ()},
    "deep": {"module__hidden": (8, 7, 6, 5)},
    "in place": {"module": lambda: chain(nn.ReLU(inplace=True))},
    "several activations": {"module": lambda: chain(nn.ELU(), nn.Tanh(), nn.GELU())},
    "without bias": {"module": lambda: nn.Sequential(linear(n_out=6, bias=False), nn.SiLU(), linear(6, bias=False))},
}


@pytest.mark.parametrize("module", MODULES)
def test_training_is_that_of_autograd_in_double_precision(module, monkeypatch):
    parameters = MODULES[module] | {"precision": "float64"}
    joined, apart = (fit(monkeypatch, each, **parameters) for each in (True, False))
    assert_same_training(joined, apart, X, 1e-9)


OPTIMIZERS = {
    "SGD": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__weight_decay": 1e-3},
    "AdamW": {"optimizer": torch.optim.AdamW, "optimizer__amsgrad": True},
    "RMSprop": {"optimizer": torch.optim.RMSprop, "optimizer__centered": True},
    "NAdam": {"optimizer": torch.optim.NAdam},
    "Adagrad": {"optimizer": torch.optim.Adagrad},
    "Adadelta": {"optimizer": torch.optim.Adadelta, "lr": 1.0},
    "Adamax": {"optimizer": torch.optim.Adamax},
    "ASGD": {"optimizer": torch.optim.ASGD},
    "RAdam": {"optimizer": torch.optim.RAdam},
    "Rprop": {"optimizer": torch.optim.Rprop},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_that_treats_numbers_one_by_one_trains_as_with_autograd(optimizer, monkeypatch):
    parameters = {"module__hidden": 6, "precision": "float64"} | OPTIMIZERS[optimizer]
    joined, apart = (fit(monkeypatch, each, **parameters) for each in (True, False))
    assert_same_training(joined, apart, X, 1e-9)


def test_training_is_that_of_autograd_up_to_rounding_in_single_precision(monkeypatch):
    joined, apart = (fit(monkeypatch, each, X=X.astype(np.float32), epochs=2) for each in (True, False))
    np.testing.assert_allclose(joined.predict_proba(X), apart.predict_proba(X), atol=1e-4)


def test_training_on_images_and_with_weights_and_augmentation_is_that_of_autograd(monkeypatch):
    images = X.reshape(-1, *IMAGES)
    parameters = {
        "module": lambda: nn.Sequential(nn.Flatten(), chain(nn.Mish())),
        "augment": lambda x: x.flip(2) + torch.randn_like(x) / 9,
        "class_weight": {0: 3.0, 1: 1.0, 2: 0.5},
        "precision": "float64",
    }
    joined, apart = (fit(monkeypatch, each, X=images, **parameters) for each in (True, False))
    assert_same_training(joined, apart, images, 1e-9)


@pytest.mark.parametrize("activation", IN_PLACE)
def test_a_relu_after_an_activation_in_place_is_computed_as_by_autograd(activation):
    middle = activation(inplace=True), nn.ReLU()
    assert_computed_as_by_autograd(pair(lambda: chain(*middle)))


def test_networks_of_different_precisions_are_no_chains():
    first, second = pair(lambda: chain(nn.ReLU()))
    assert are_chains((first, second), TABLE)
    assert not are_chains((first, second.float()), TABLE)


def test_weights_that_share_memory_are_no_chain():
    def tied_by_memory():
        network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        network[2].weight = nn.Parameter(network[0].weight.data.T)
        return network

    assert not are_chains((tied_by_memory(), tied_by_memory()), TABLE)
