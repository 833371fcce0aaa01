"""The state of networks and of whole trainings as plain values: read, copied, given back."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skcoteach._torch import buffers_of


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
            buffers_of(network.get_submodule(module))[buffer] = None if value is None else value.clone()


def _are_alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def bring_to_rest(network: nn.Module) -> None:
    """Between epochs a network is in eval mode, holds no gradients and can be copied."""
    network.eval()
    for parameter in network.parameters():
        parameter.grad = None
    for layer, name, value in computed_tensors(network):
        (buffers_of(layer) if name in buffers_of(layer) else vars(layer))[name] = value.detach()


def computed_tensors(network: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Attributes and buffers that hang on the graph of the last forward.

    Weights of ``torch.nn.utils.spectral_norm``, say. They cannot be copied, and the next forward computes them anew.
    """
    held = (
        (layer, name, each) for layer in network.modules() for name, each in (vars(layer) | buffers_of(layer)).items()
    )
    return [each for each in held if isinstance(each[2], Tensor) and not each[2].is_leaf]


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
