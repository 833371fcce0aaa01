"""All parameters and buffers are read and given back, of whatever kind; at rest a network can be copied."""

import collections
import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from skcoteach._training.module_state import bring_to_rest, copied, copy_of, load_state, state_of

pytestmark = pytest.mark.filterwarnings("error")


class Keeping(nn.Module):
    """With buffers of every kind."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("last", None)

    def forward(self, x):
        return self.norm(self.linear(x))


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Keeping()
        nn.init.normal_(module.norm.running_mean)
        return module


def assert_same(one, other):
    """Whether two networks, or their states, are the same to the bit."""
    one, other = (state_of(each) if isinstance(each, nn.Module) else each for each in (one, other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        if value is None:
            assert other[name] is None, name
        else:
            assert (value.dtype, value.shape) == (other[name].dtype, other[name].shape), name
            assert torch.equal(value, other[name]), name


# --- state_of --------------------------------------------------------------------------------------------------------


def test_the_state_has_all_parameters_and_buffers_those_not_stored_and_none_too():
    module = nn.ModuleList([network()])
    names = ["linear.weight", "linear.bias", "norm.weight", "norm.bias", "steps", "last"]
    names += [f"norm.{each}" for each in ("running_mean", "running_var", "num_batches_tracked")]
    assert state_of(module).keys() == {f"0.{name}" for name in names}
    assert state_of(module[0]).keys() == set(names)
    assert state_of(module[0])["last"] is None


def test_the_state_aliases_the_network_and_needs_no_gradients():
    module = network()
    state = state_of(module)
    assert not any(each.requires_grad for each in state.values() if each is not None)
    with torch.no_grad():
        module.linear.weight.fill_(7)
        module.steps += 1
    assert (state["linear.weight"] == 7).all() and state["steps"] == 1


def test_parameters_that_are_tied_are_in_the_state_once_and_stay_tied():
    def tied(seed):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        module[1].weight = module[0].weight
        return module

    one, other = tied(0), tied(1)
    assert state_of(one).keys() == {"0.weight", "0.bias", "1.bias"}
    load_state(other, state_of(one))
    assert_same(other, one)
    assert other[1].weight is other[0].weight


# --- load_state ------------------------------------------------------------------------------------------------------


def test_a_network_that_gets_the_state_of_another_is_the_same_and_of_its_own():
    one, other = network(0), network(1)
    one.steps += 3
    load_state(other, state_of(one))
    assert_same(other, one)
    before = copied(state_of(one))
    with torch.no_grad():
        for each in state_of(other).values():
            if each is not None:
                each.add_(1)
    assert_same(one, before)


def test_parameters_stay_the_objects_that_an_optimizer_trains():
    module = network()
    before = dict(module.named_parameters()), module.norm.running_mean
    load_state(module, state_of(network(1)))
    assert all(before[0][name] is each for name, each in module.named_parameters())
    assert before[1] is module.norm.running_mean
    assert all(each.requires_grad for each in module.parameters())


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([1 / 3, 2 / 3], dtype=torch.float64),
        torch.tensor([1, 2]),
        torch.tensor([0.1, 0.2], dtype=torch.bfloat16),
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("here", [torch.zeros(2), None], ids=str)
def test_a_buffer_that_a_forward_has_replaced_comes_back_as_it_was(here, value):
    one, other = network(), network()
    one.last, other.last = value, here
    state = copied(state_of(one))
    load_state(other, state)
    assert_same(other, state)
    if value is not None:
        other.last.zero_()  # of its own
        assert_same(one, state)


def test_a_buffer_that_a_forward_registers_comes_back():
    one, other = network(0), network(1)
    one.norm.register_buffer("late", torch.ones(2))
    load_state(other, state_of(one))
    assert_same(other, one)


def test_only_what_is_in_the_state_is_loaded():
    module, before = network(), copy.deepcopy(network())
    load_state(module, {"linear.bias": torch.ones(2)})
    assert module.linear.bias.tolist() == [1, 1]
    assert_same({**state_of(module), "linear.bias": None}, {**state_of(before), "linear.bias": None})


def test_a_parameter_is_never_replaced_by_a_buffer():
    module = network()
    with pytest.raises(RuntimeError, match="size"):
        load_state(module, {"linear.bias": torch.ones(3)})
    load_state(module, {"linear.bias": torch.ones(2, dtype=torch.float64)})
    assert module.linear.bias.tolist() == [1, 1] and not module.linear._buffers


# --- bring_to_rest ---------------------------------------------------------------------------------------------------


def test_at_rest_a_network_is_in_eval_mode_and_holds_no_gradients():
    module = network()
    module(torch.randn(4, 3)).sum().backward()
    bring_to_rest(module)
    assert not any(each.training for each in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


class KeepsHidden(nn.Module):
    """Keeps what it has computed, as an attribute and as buffers."""

    def __init__(self):
        super().__init__()
        self.linear, self.hidden = nn.Linear(3, 2), None
        self.register_buffer("kept", None)
        self.linear.register_buffer("inner", torch.zeros(4, 2), persistent=False)

    def forward(self, x):
        self.hidden = self.kept = self.linear.inner = self.linear(x)
        return self.hidden.relu()


class KeepsInContainers(KeepsHidden):
    """Keeps it in a dict, a list and a tuple within them, too."""

    def __init__(self):
        super().__init__()
        self.cache, self.layers = {"all": []}, None

    def forward(self, x):
        hidden = super().forward(x)
        self.cache["all"].append((hidden, "x"))
        self.layers = [hidden, {"last": (hidden,)}]
        return hidden.sin()


@pytest.mark.parametrize(
    "make", [KeepsHidden, KeepsInContainers, lambda: nn.Sequential(spectral_norm(nn.Linear(3, 2)))]
)
def test_at_rest_a_network_that_keeps_what_it_has_computed_can_be_copied(make):
    module = make()
    module(torch.randn(4, 3)).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    cache = getattr(module, "cache", None)
    assert_same(copy_of(module), module)
    with pytest.raises(RuntimeError, match="deepcopy"):  # it is as it was
        copy.deepcopy(module)
    bring_to_rest(module)
    assert getattr(module, "cache", None) is cache
    assert_same(copy.deepcopy(module), module)
    module.train()(torch.randn(4, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_numbers_are_kept_at_rest():
    module = KeepsHidden()
    outputs = module(torch.randn(4, 3))
    hidden = module.hidden.detach().clone()
    bring_to_rest(module)
    for each in (module.hidden, module.kept, module.linear.inner):
        assert torch.equal(each, hidden)
    assert outputs.requires_grad


# --- copied ----------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_state_has_nothing_that_can_change_in_common_with_it():
    tensor = torch.ones(2)
    state = {"a": [tensor, 1, 2.5, True, "x", None], "b": {"c": (tensor, [tensor])}, 0: tensor}
    copy_of_it = copied(state)
    assert str(copy_of_it) == str(state)
    assert [type(each) for each in copy_of_it["a"]] == [type(each) for each in state["a"]]
    tensor += 1
    state["a"].append(3), state["b"]["c"][1].append(4)
    copies = copy_of_it["a"][0], copy_of_it["b"]["c"][0], *copy_of_it["b"]["c"][1], copy_of_it[0]
    assert [each.tolist() for each in copies] == [[1, 1]] * 4
    assert len(copy_of_it["a"]) == 6


def test_a_copy_of_a_tensor_needs_no_gradients_and_lies_in_memory_as_it_does():
    parameter = nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    copy_of_it = copied(parameter)
    assert type(copy_of_it) is torch.Tensor and not copy_of_it.requires_grad
    assert copy_of_it.stride() == parameter.stride()
    assert torch.equal(copy_of_it, parameter)


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict(a=[1]),
        collections.deque([1, [2]], maxlen=3),
        collections.namedtuple("Pair", "one other")([1], 2),
        {1, 2},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_else_an_optimizer_of_the_user_keeps_is_copied_as_what_it_is(value):
    copy_of_it = copied({"own": value})["own"]
    assert copy_of_it == value and copy_of_it is not value
    assert type(copy_of_it) is type(value)
