"""The lighter Adam gives the bits of torch's; states of optimizers come back as they were."""

import copy

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from skcoteach.optimizers import OneTensorAdam, is_elementwise, set_state, state_of

pytestmark = pytest.mark.filterwarnings("error")

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


@pytest.mark.parametrize("n_before", [0, 3])
@pytest.mark.parametrize("made_by", [OneTensorAdam, torch.optim.Adam, type("Own", (torch.optim.Adam,), {})])
def test_a_state_comes_back_as_it_was_and_can_be_set_again(made_by, n_before):
    parameter, optimizer = make(made_by)
    update(parameter, optimizer, n_before)
    saved, weights, expected = state_of(optimizer), parameter.detach().clone(), copy.deepcopy(optimizer.state_dict())
    ends = []
    for _ in range(2):
        update(parameter, optimizer, 2, seed=1)
        ends.append(parameter.detach().clone())
        with torch.no_grad():
            parameter.copy_(weights)
        set_state(optimizer, saved)
        assert str(optimizer.state_dict()["state"]) == str(expected["state"])
    assert torch.equal(*ends)


def test_what_is_elementwise_can_be_asked_of_anything():
    class Unhashable:
        __hash__ = None

        def __call__(self, parameters, lr):
            return torch.optim.SGD(parameters, lr=lr)

    assert all(is_elementwise(each) for each in (torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, OneTensorAdam))
    own = type("Own", (torch.optim.Adam,), {})
    assert not any(is_elementwise(each) for each in (own, Unhashable(), torch.optim.LBFGS, lambda p, lr: None))
    assert not is_elementwise(torch.optim.Adafactor)  # divides by a norm of the whole tensor
