"""Optimizers are made as users ask for them, and come back as they were; the lighter Adam gives the bits of torch's."""

import copy

import numpy as np
import pytest
import torch
from _training.builders import N, Net, X, Y, configured, estimator, networks_and_data
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.engines.choice import make_engine
from skcoteach._training.optimizers import (
    OneTensorAdam,
    is_elementwise,
    load_state,
    make_optimizers,
    set_learning_rate,
    shapes_of,
    state_of,
)

pytestmark = pytest.mark.filterwarnings("error")


# --- what users ask for ----------------------------------------------------------------------------------------------


def made(**parameters):
    """Networks, and the optimizers made for them."""
    config = configured(**parameters)
    networks, data = networks_and_data(config)
    return networks, make_optimizers(config, make_engine(networks, config, data))


def test_one_optimizer_that_treats_numbers_one_by_one_has_a_group_for_each_network():
    options = {"optimizer__momentum": 0.5, "optimizer__nesterov": True, "lr": 0.25}
    networks, (optimizer,) = made(module=Net, optimizer=torch.optim.SGD, **options)
    for group, network in zip(optimizer.param_groups, networks, strict=True):
        assert (group["lr"], group["momentum"], group["nesterov"]) == (0.25, 0.5, True)
        assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]


def test_one_optimizer_has_all_parameters_of_networks_that_are_computed_as_one():
    networks, (optimizer,) = made(optimizer=torch.optim.SGD, optimizer__momentum=0.5, lr=0.25)
    (group,) = optimizer.param_groups
    (joint,) = group["params"]
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)
    for network, own in zip(networks, joint, strict=True):
        assert torch.equal(torch.cat([p.flatten() for p in network.parameters()]), own)
        assert all(p.untyped_storage().data_ptr() == joint.untyped_storage().data_ptr() for p in network.parameters())


def averaging(parameters, lr):
    return torch.optim.RMSprop(parameters, lr=lr, alpha=0.5)


class OwnSGD(torch.optim.SGD):
    """Might treat the numbers of a tensor as a whole."""


class Unhashable:
    __hash__ = None

    def __call__(self, parameters, lr):
        return torch.optim.SGD(parameters, lr=lr)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, OneTensorAdam),
        ({"optimizer__fused": True, "optimizer__amsgrad": True}, OneTensorAdam),
        ({"module": Net}, torch.optim.Adam),
        ({"optimizer__fused": False}, torch.optim.Adam),
        ({"optimizer__foreach": True}, torch.optim.Adam),
        ({"optimizer": torch.optim.AdamW}, torch.optim.AdamW),
    ],
    ids=str,
)
def test_only_fused_adam_of_networks_that_are_computed_as_one_is_the_lighter_one(options, kind):
    _, optimizers = made(**options)
    assert [type(optimizer) for optimizer in optimizers] == [kind]
    assert estimator(epochs=2, **options).fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize("optimizer", [OwnSGD, torch.optim.Adafactor, averaging, Unhashable()])
@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
def test_any_other_optimizer_is_made_once_for_the_parameters_of_each_network(optimizer, module):
    networks, optimizers = made(module=module, optimizer=optimizer, lr=0.25)
    for own, network in zip(optimizers, networks, strict=True):
        (group,) = own.param_groups
        assert group["lr"] == 0.25
        assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]


def test_frozen_parameters_are_not_handed_to_the_optimizer():
    class Frozen(Net):
        def __init__(self, n_features, n_classes):
            super().__init__(n_features, n_classes)
            self[1].requires_grad_(False)

    _, (optimizer,) = made(module=Frozen, optimizer__weight_decay=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 4]


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
def test_adam_is_fused_unless_told_otherwise(optimizer, module):
    _, (own,) = made(optimizer=optimizer, module=module)
    assert {group["fused"] for group in own.param_groups} == {True}


@pytest.mark.parametrize("given", ["fused", "foreach", "capturable", "differentiable"])
def test_how_an_optimizer_updates_is_left_to_the_user(given):
    _, (optimizer,) = made(**{f"optimizer__{given}": False})
    assert optimizer.param_groups[0][given] is False
    assert not optimizer.param_groups[0]["fused"]


def test_any_callable_that_makes_an_optimizer_is_one():
    _, optimizers = made(optimizer=lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr, alpha=0.5))
    assert [optimizer.param_groups[0]["alpha"] for optimizer in optimizers] == [0.5, 0.5]


class SparseEmbedding(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.bag = nn.EmbeddingBag(9, n_classes, sparse=True)

    def forward(self, x):
        return self.bag(x)


def test_sparse_gradients_are_trained_by_optimizers_that_take_them():
    codes = np.random.default_rng(0).integers(0, 9, (N, 3))
    clf = estimator(module=SparseEmbedding, optimizer=torch.optim.SGD, epochs=2).fit(codes, np.arange(N) % 3)
    assert np.isfinite(clf.history_[-1]["loss"]).all()


# --- what cannot train -----------------------------------------------------------------------------------------------


def test_names_that_the_optimizer_does_not_take_are_refused_as_the_user_wrote_them():
    with pytest.raises(
        InvalidParameterError, match=r"Adam does not take momentum \(given as optimizer__momentum\).*It takes: .*"
    ):
        made(optimizer__momentum=0.9)


def test_the_learning_rate_of_the_optimizer_is_refused_with_a_pointer_to_lr():
    with pytest.raises(InvalidParameterError, match="optimizer__lr=0.1 is not used: .* Give lr instead"):
        made(optimizer__lr=0.1)


def test_parameters_to_train_are_refused_as_they_are_those_of_the_networks():
    with pytest.raises(InvalidParameterError, match="optimizer__params is not used: the optimizer gets the parameters"):
        made(optimizer__params=[])


def test_an_optimizer_that_needs_a_closure_is_refused():
    with pytest.raises(InvalidParameterError, match="optimizer=LBFGS needs a closure.*Use a first-order optimizer"):
        made(optimizer=torch.optim.LBFGS)


def test_what_is_no_optimizer_is_refused():
    def no_optimizer(parameters, lr):
        return "none"

    with pytest.raises(TypeError, match="optimizer=no_optimizer made a str; a torch.optim.Optimizer is expected"):
        made(optimizer=no_optimizer)


def test_what_torch_refuses_is_told_with_the_names_of_the_parameters():
    with pytest.raises(InvalidParameterError, match=r"optimizer=SGD refuses lr=0.001 or {'momentum': -1.0}: Invalid"):
        made(optimizer=torch.optim.SGD, optimizer__momentum=-1.0)


def test_a_class_that_takes_no_learning_rate_is_refused():
    class Rateless(torch.optim.SGD):
        def __init__(self, params):
            super().__init__(params, lr=0.1)

    with pytest.raises(InvalidParameterError, match="optimizer=Rateless takes no lr: "):
        made(optimizer=Rateless)


def test_what_the_users_own_optimizer_raises_passes_unchanged():
    error = RuntimeError("mine")

    def broken(parameters, lr):
        raise error

    with pytest.raises(RuntimeError) as raised:
        made(optimizer=broken)
    assert raised.value is error


# --- Adam of one tensor ----------------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"betas": (0.5, 0.75), "eps": 0.1},
    {"weight_decay": 0.1},
    {"amsgrad": True},
    {"maximize": True},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
]


def make(made_by, dtype=torch.float32, **options):
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 30, dtype=dtype).view(2, 15))
    return parameter, made_by([{"params": [parameter]}], lr=0.1, fused=True, **options)


def update(parameter, optimizer, n_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for step in range(n_steps):
        parameter.grad = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step()


def bits(state):
    """Of the only parameter."""
    (own,) = state.values()
    return {name: (value.dtype, value.tolist()) for name, value in own.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_adam_of_one_tensor_gives_the_bits_of_torchs(options, dtype):
    parameter, optimizer = make(OneTensorAdam, dtype, **options)
    expected, torchs = make(torch.optim.Adam, dtype, **options)
    update(parameter, optimizer, 5)
    update(expected, torchs, 5)
    assert torch.equal(parameter, expected)
    assert bits(optimizer.state) == bits(torchs.state)


def test_adam_of_one_tensor_goes_on_from_torchs_state_and_torchs_from_its():
    states, ends = [], []
    for first, then in ((OneTensorAdam, torch.optim.Adam), (torch.optim.Adam, OneTensorAdam)):
        parameter, optimizer = make(first)
        update(parameter, optimizer, 3)
        following = then([parameter], lr=0.1, fused=True)
        following.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        update(parameter, following, 3, seed=1)
        ends.append(parameter.detach())
        states.append(bits(following.state))
    assert torch.equal(*ends)
    assert states[0] == states[1]


def test_hooks_of_all_optimizers_hear_every_step_of_adam_of_one_tensor():
    heard = []
    handles = [
        register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: heard.append(("before", type(optimizer)))),
        register_optimizer_step_post_hook(lambda optimizer, args, kwargs: heard.append(("after", type(optimizer)))),
    ]
    try:
        parameter, optimizer = make(OneTensorAdam)
        update(parameter, optimizer, 2)
    finally:
        for handle in handles:
            handle.remove()
    assert heard == 2 * [("before", OneTensorAdam), ("after", OneTensorAdam)]


def test_a_closure_is_evaluated_with_gradients_as_by_torch():
    ends, losses = [], []
    for made_by in (OneTensorAdam, torch.optim.Adam):
        parameter, optimizer = make(made_by)
        update(parameter, optimizer, 1)

        def closure(parameter=parameter, optimizer=optimizer):
            optimizer.zero_grad()
            loss = parameter.square().sum()
            loss.backward()
            return loss

        with torch.no_grad():
            losses.append(float(optimizer.step(closure)))
        ends.append(parameter.detach())
    assert torch.equal(*ends)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_steps_are_counted_in_float32_whatever_the_default_dtype(default):
    parameter, optimizer = make(OneTensorAdam)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        update(parameter, optimizer, 2)
    finally:
        torch.set_default_dtype(before)
    assert optimizer.state[parameter]["step"].dtype == torch.float32


# --- the state -------------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_that_of_all_groups():
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameters[0]], "lr": 5.0}, {"params": [parameters[1]]}], lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_shapes_are_those_of_all_that_is_trained_in_order():
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in [(2, 3), (), (4,)]]
    optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=1.0)
    assert shapes_of(optimizer) == state_of(optimizer)["shapes"] == [(2, 3), (), (4,)]


@pytest.mark.parametrize("n_before", [0, 3])
@pytest.mark.parametrize("made_by", [OneTensorAdam, torch.optim.Adam, type("Own", (torch.optim.Adam,), {})])
def test_a_state_comes_back_as_it_was_and_can_be_loaded_again(made_by, n_before):
    parameter, optimizer = make(made_by)
    update(parameter, optimizer, n_before)
    saved, weights = copy.deepcopy(state_of(optimizer)), parameter.detach().clone()
    expected = str(saved)
    ends = []
    for _ in range(2):
        update(parameter, optimizer, 2, seed=1)
        ends.append(parameter.detach().clone())
        with torch.no_grad():
            parameter.copy_(weights)
        load_state(optimizer, saved)
        assert str(state_of(optimizer)) == str(saved) == expected
    assert torch.equal(*ends)


def test_what_is_loaded_is_a_copy():
    parameter, optimizer = make(torch.optim.Adam)
    update(parameter, optimizer, 1)
    saved = copy.deepcopy(state_of(optimizer))
    before = str(saved)
    load_state(optimizer, saved)
    optimizer.param_groups[0]["lr"] = 9.0
    for value in optimizer.state[parameter].values():
        value.add_(1)
    assert str(saved) == before


class Foreign:
    """An object of the user's, with a value of its own."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Foreign and other.value == self.value


class Keeping(torch.optim.SGD):
    """Keeps what is given, for its parameters and for itself."""

    def __init__(self, params, lr, kept):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = dict(kept)
        self.state["of all"] = dict(kept)


FOREIGN = {
    "double": torch.full((2, 3), 1 / 3, dtype=torch.float64),
    "half": torch.full((2, 3), 1 / 3, dtype=torch.float16),
    "whole": torch.arange(6).view(2, 3),
    "flags": torch.tensor([True, False]),
    "word": "momentum",
    "number": 0.5,
    "nothing": None,
    "list": [1, "two", 3.0],
    "tuple": (1, 2),
    "dict": {"a": [1, 2]},
    "object": Foreign([1]),
    "array": np.arange(3.0),
    "range": range(3),
}


def assert_same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype and torch.equal(actual, expected)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(actual, expected)
    else:
        assert actual == expected


@pytest.mark.parametrize("name", FOREIGN)
def test_whatever_an_optimizer_keeps_comes_back_without_a_cast(name):
    parameter = nn.Parameter(torch.zeros(2, 3))
    kept, loaded = (Keeping([parameter], 0.1, each) for each in ({name: copy.deepcopy(FOREIGN[name])}, {}))
    load_state(loaded, state_of(kept))
    assert_same(loaded.state[parameter][name], FOREIGN[name])
    assert_same(loaded.state["of all"][name], FOREIGN[name])


@pytest.mark.parametrize("name", ["double", "list", "dict", "object"])
def test_whatever_an_optimizer_keeps_is_loaded_as_a_copy(name):
    parameter = nn.Parameter(torch.zeros(2, 3))
    kept, loaded = (Keeping([parameter], 0.1, each) for each in ({name: copy.deepcopy(FOREIGN[name])}, {}))
    load_state(loaded, state_of(kept))
    for mine, its in zip(loaded.state.values(), kept.state.values(), strict=True):
        assert mine[name] is not its[name]
    value = loaded.state[parameter][name]
    if name == "object":
        value.value.append(2)
    elif name == "dict":
        value["a"].append(3)
    else:
        value[0] = 9
    assert_same(kept.state[parameter][name], FOREIGN[name])


def test_what_an_optimizer_adds_to_its_state_is_given_back_to_it():
    class Adding(torch.optim.SGD):
        phase = "early"

        def state_dict(self):
            return super().state_dict() | {"phase": self.phase}

        def load_state_dict(self, state_dict):
            self.phase = state_dict["phase"]
            super().load_state_dict(state_dict)

    one, other = (Adding([nn.Parameter(torch.zeros(2))], lr=0.1) for _ in range(2))
    one.phase = "late"
    load_state(other, state_of(one))
    assert other.phase == "late"


@pytest.mark.parametrize("made_by", [torch.optim.Adam, torch.optim.SGD])
def test_a_state_lies_in_memory_as_its_parameter_does(made_by):
    """Fused optimizers go through both in the order in which they lie."""
    gradient = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    options = {"lr": 0.1, "fused": True} | ({"momentum": 0.9} if made_by is torch.optim.SGD else {})
    plain, last = (nn.Parameter(torch.zeros(2, 3, 4, 4)) for _ in range(2))
    last.data = last.data.contiguous(memory_format=torch.channels_last)
    optimizers = [made_by([parameter], **options) for parameter in (plain, last)]
    plain.grad = gradient.clone()
    optimizers[0].step()
    with torch.no_grad():
        last.copy_(plain)
    load_state(optimizers[1], state_of(optimizers[0]))
    for value in optimizers[1].state[last].values():
        assert value.shape != last.shape or value.stride() == last.stride()
    for parameter, optimizer in zip((plain, last), optimizers, strict=True):
        parameter.grad = 2 * gradient.contiguous(
            memory_format=torch.channels_last if parameter is last else torch.contiguous_format
        )
        optimizer.step()
    assert torch.equal(plain, last)


# --- what is elementwise ---------------------------------------------------------------------------------------------


def test_what_is_elementwise_can_be_asked_of_anything():
    assert all(is_elementwise(each) for each in (torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, OneTensorAdam))
    own = type("Own", (torch.optim.Adam,), {})
    assert not any(is_elementwise(each) for each in (own, Unhashable(), torch.optim.LBFGS, lambda p, lr: None))
    assert not is_elementwise(torch.optim.Adafactor)  # divides by a norm of the whole tensor
