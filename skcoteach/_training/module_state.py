"""The state of networks and of whole trainings as plain values: read, copied, given back."""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

from skcoteach._torch import buffers_of

#: In which a ``forward`` may keep tensors.
CONTAINERS = (dict, OrderedDict, list, tuple)


def state_of(network: nn.Module) -> dict[str, Tensor | None]:
    """All parameters and buffers by name, also those that are not persistent or None; they alias the network."""
    tensors: dict[str, Tensor | None] = {name: each.detach() for name, each in network.named_parameters()}
    for prefix, module in network.named_modules():
        for name, buffer in buffers_of(module).items():
            tensors[f"{prefix}.{name}" if prefix else name] = None if buffer is None else buffer.detach()
    return tensors


@torch.no_grad()
def load_state(network: nn.Module, state: Mapping[str, Tensor | None]) -> None:
    """Give parameters and buffers the values of a :func:`state_of`, which it does not keep.

    Buffers take over shape and dtype, too: a ``forward`` may have replaced them, or registered them late.
    """
    parameters = dict(network.named_parameters())
    current = state_of(network)
    for name, value in state.items():
        here = current.get(name)
        if here is not None and value is not None and (name in parameters or _are_alike(here, value)):
            here.copy_(value)
        else:
            module, _, buffer = name.rpartition(".")
            device = next(iter(parameters.values())).device
            buffers_of(network.get_submodule(module))[buffer] = None if value is None else value.clone().to(device)


def _are_alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def bring_to_rest(network: nn.Module) -> None:
    """Between epochs a network is in eval mode, holds no gradients and can be copied."""
    network.eval()
    for parameter in network.parameters():
        parameter.grad = None
    for layer in network.modules():
        _without_graph(vars(layer))


def copy_of(network: nn.Module) -> nn.Module:
    """A copy of a network; what the graph of its last forward hangs on is copied without it.

    Weights of ``torch.nn.utils.spectral_norm`` or activations that a ``forward`` keeps, say: torch cannot copy them,
    and the next forward computes them anew.
    """
    computed = (each for layer in network.modules() for each in _computed(vars(layer)))
    own = {id(each): each.detach().clone() for each in computed}
    own |= {  # those of lazy layers, which torch does not copy either
        id(each): UninitializedBuffer(device=each.device, dtype=each.dtype)  # type: ignore[call-arg]
        for each in network.buffers()
        if isinstance(each, UninitializedBuffer)
    }
    return copy.deepcopy(network, own)


def _computed(value: Any) -> list[Tensor]:
    """Tensors in attributes, buffers and containers that hang on a graph."""
    found: list[Tensor] = []  # no generator: Ctrl-C while one is thrown away is lost
    if isinstance(value, Tensor):
        if not value.is_leaf:
            found.append(value)
    elif type(value) in CONTAINERS:
        for each in value.values() if isinstance(value, dict) else value:
            found += _computed(each)
    return found


def _without_graph(value: Any) -> Any:
    """The value, in which no tensor hangs on a graph; containers that can change stay the same ones."""
    if isinstance(value, Tensor):
        return value if value.is_leaf else value.detach()
    if type(value) not in CONTAINERS or not _computed(value):
        return value
    if isinstance(value, tuple):
        return tuple(_without_graph(each) for each in value)
    for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
        value[key] = _without_graph(each)
    return value


def copied(value: Any) -> Any:
    """A state of nested dicts, lists and tuples with copies of all that can change in it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {name: copied(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)([copied(each) for each in value])
    return copy.deepcopy(value)  # what a user's optimizer has put in
