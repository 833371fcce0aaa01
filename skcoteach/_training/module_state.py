"""The state of networks and of whole trainings as plain values: read, copied, given back."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def state_of(network: nn.Module) -> dict[str, Tensor | None]:
    """All parameters and buffers by name, also those that are not persistent or None; they alias the network."""
    tensors: dict[str, Tensor | None] = {name: each.detach() for name, each in network.named_parameters()}
    for prefix, module in network.named_modules():
        for name, buffer in module._buffers.items():
            tensors[f"{prefix}.{name}" if prefix else name] = None if buffer is None else buffer.detach()
    return tensors


@torch.no_grad()
def load_state(network: nn.Module, state: Mapping[str, Tensor | None]) -> None:
    """Give parameters and buffers the values of a :func:`state_of`, without casting and without keeping them."""
    current = state_of(network)
    for name, value in state.items():
        here = current[name]
        if isinstance(here, Tensor) and isinstance(value, Tensor) and here.shape == value.shape:
            here.copy_(value)
        else:  # a buffer that a forward replaces
            module, _, buffer = name.rpartition(".")
            network.get_submodule(module)._buffers[buffer] = None if value is None else value.clone()


def bring_to_rest(network: nn.Module) -> None:
    """Between epochs a network is in eval mode, holds no gradients and can be copied."""
    network.eval()
    for parameter in network.parameters():
        parameter.grad = None
    for layer, name, value in computed_tensors(network):
        vars(layer)[name] = value.detach()


def computed_tensors(network: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Attributes that hang on the graph of the last forward (weights of ``torch.nn.utils.spectral_norm``, say).

    They cannot be copied, and the next forward computes them anew.
    """
    attributes = ((layer, name, value) for layer in network.modules() for name, value in vars(layer).items())
    return [each for each in attributes if isinstance(each[2], Tensor) and not each[2].is_leaf]


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
