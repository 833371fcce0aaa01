"""The layers that a network calls, one after the other, read off its ``forward`` where that can do nothing else.

A ``forward`` that names anything but its layers and torch's activations is never run here: it may count its calls,
print or keep its inputs, and who leaves it out would change what the user wrote. What can be made of the layers is
decided in ``chains``.
"""

import dis
from collections.abc import Callable
from types import CodeType, FunctionType

import torch
from torch import nn
from torch.nn import functional

from skcoteach.networks import CifarCNN, SmallCNN, Standardize

#: Activations as functions of torch and methods of tensors, with the modules that do the same.
FUNCTIONS = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU,
    "selu": nn.SELU, "celu": nn.CELU, "leaky_relu": nn.LeakyReLU, "softplus": nn.Softplus, "mish": nn.Mish,
    "hardtanh": nn.Hardtanh, "relu6": nn.ReLU6, "softsign": nn.Softsign, "logsigmoid": nn.LogSigmoid,
}  # fmt: skip

_NAMESPACES = {"torch": torch, "nn": nn, "functional": functional, "F": functional}
_CHANGES = {"STORE_ATTR", "STORE_GLOBAL", "STORE_SUBSCR", "STORE_DEREF", "DELETE_ATTR", "IMPORT_NAME", "YIELD_VALUE"}


def layers_of(network: nn.Module) -> list[nn.Module] | None:
    """The layers in the order in which they are called, each on the output of the one before; None if not known.

    Parameters
    ----------
    network : nn.Module
        A layer of torch is its own only layer; ``Identity`` has none.

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
    ...
    ...     def forward(self, x):
    ...         return self.last(torch.relu(self.first(x)))
    >>> layers_of(Net())
    [Linear(in_features=4, out_features=8, bias=True), ReLU(), Linear(in_features=8, out_features=3, bias=True)]
    """
    if _is_touched(network):
        return None
    if type(network) is nn.Identity:
        return []
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        return _joined(list(network))
    if type(network).__module__.startswith("torch.nn.") or type(network) in (Standardize, SmallCNN, CifarCNN):
        return [network]
    called = _called_in(network)
    return None if called is None else _joined(called)


def _is_touched(module: nn.Module) -> bool:
    """Whether calling or training the module may do more than the ``forward`` of its class says."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    of_torch = (nn.Module, nn.Sequential)
    ways = ("__call__", "__getattr__", "__getattribute__", "train")
    own = any(all(getattr(type(module), way) is not getattr(each, way) for each in of_torch) for way in ways)
    return any(hooks) or own or "forward" in vars(module) or torch.nn.modules.module._has_any_global_hook()


def _joined(parts: list[nn.Module]) -> list[nn.Module] | None:
    layers: list[nn.Module] = []
    for part in parts:
        inside = layers_of(part)
        if inside is None:
            return None
        layers += inside
    return layers


def _called_in(network: nn.Module) -> list[nn.Module] | None:
    """What the network's own ``forward`` calls, if each call takes the output of the one before and nothing else."""
    forward = getattr(type(network), "forward", None)
    if not isinstance(forward, FunctionType) or not _calls_layers_only(forward, network):
        return None
    called: list[nn.Module] = []
    try:
        end = forward(_Self(network), _Output(called))
    except Exception:  # it does with its layers and their outputs what stand-ins cannot
        return None
    return called if isinstance(end, _Output) and end.is_last else None


class _Self:
    """Stands for the network in a ``forward``: knows its layers and nothing else."""

    def __init__(self, network: nn.Module):
        self.__dict__["_network"] = network

    def __getattr__(self, name: str) -> Callable:
        network: nn.Module = self.__dict__["_network"]
        if name not in network._modules or name in vars(network) or hasattr(type(network), name):
            raise AttributeError(name)
        layer = network.get_submodule(name)
        return lambda output: output.passed_to(layer)


class _Output:
    """Stands for the output of the layer that was called last; the input, where none was."""

    def __init__(self, called: list[nn.Module]):
        self._called = called
        self._position = len(called)

    @property
    def is_last(self) -> bool:
        return self._position == len(self._called)

    def passed_to(self, layer: nn.Module) -> "_Output":
        if not self.is_last:
            raise TypeError("another layer was called since")
        self._called.append(layer)
        return _Output(self._called)

    def __getattr__(self, name: str) -> Callable:
        return lambda *options, **named: self.passed_to(_layer(name, options, named))

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), named=None):
        output, *options = arguments
        return output.passed_to(_layer(getattr(function, "__name__", ""), options, named or {}))


def _layer(name: str, options, named: dict) -> nn.Module:
    """The module that does the same as a function of torch.

    Raises
    ------
    TypeError
        If none is known, or not with such options.
    """
    if name == "flatten" and tuple(options) == (1,) and not named:
        return nn.Flatten()
    if name in FUNCTIONS and not options and not named.keys() - {"inplace"}:
        return FUNCTIONS[name]()
    raise TypeError(name)


def _calls_layers_only(forward: FunctionType, network: nn.Module) -> bool:
    code = forward.__code__
    if code.co_argcount != 2 or code.co_freevars or any(isinstance(each, CodeType) for each in code.co_consts):
        return False
    steps = list(dis.get_instructions(code))
    if any(step.opname in _CHANGES for step in steps):
        return False
    for name in {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}:
        meant = _NAMESPACES.get(name), getattr(functional, name, None), getattr(torch, name, None)
        found = forward.__globals__.get(name)
        if found is None or not any(found is each for each in meant):
            return False
    return set(code.co_names) <= {*_NAMESPACES, *network._modules, *FUNCTIONS, "flatten"}
