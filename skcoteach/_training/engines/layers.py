"""The layers of a chain, read off its structure, never off the code of a ``forward``.

A ``forward`` of the user's may count its calls, print or keep what it is given; nothing can tell without running it.
"""

from torch import nn

from skcoteach._torch import is_hooked
from skcoteach.networks import CifarCNN, SmallCNN, Standardize

#: A module that has its own way in one of these is more than its layers.
_WAYS = ("__call__", "__getattr__", "__getattribute__", "eval", "named_parameters", "parameters", "train")

#: They neither change nor keep what they are given.
_LEAVE_INPUTS_ALONE = {nn.Linear, Standardize, SmallCNN, CifarCNN}


def layers_of(network: nn.Module) -> list[nn.Module] | None:
    """The layers in the order in which they are called, each on the output of the one before; None if not known.

    Known of ``nn.Sequential``, nested and in subclasses without a ``forward`` of their own, of single layers of torch
    and of this package.

    Examples
    --------
    >>> layers_of(nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 3)))
    [Linear(in_features=4, out_features=8, bias=True), ReLU(), Linear(in_features=8, out_features=3, bias=True)]
    """
    if is_hooked(network) or not _is_called_plainly(network):
        return None
    if type(network) is nn.Identity:
        return []
    if not isinstance(network, nn.Sequential):
        of_torch = type(network).__module__.startswith("torch.nn.")
        return [network] if of_torch or type(network) in (Standardize, SmallCNN, CifarCNN) else None
    if type(network).forward is not nn.Sequential.forward:
        return None
    layers: list[nn.Module] = []
    for part in network:
        inside = layers_of(part)
        if inside is None:
            return None
        layers += inside
    return layers


def _is_called_plainly(module: nn.Module) -> bool:
    """Whether calling or training the module does no more than the ``forward`` of its class says."""
    kind = type(module)
    own = any(all(getattr(kind, way) is not getattr(base, way) for base in (nn.Module, nn.Sequential)) for way in _WAYS)
    return not own and vars(module).keys().isdisjoint({"forward", *_WAYS})


def leaves_inputs_alone(network: nn.Module) -> bool:
    """Whether a network is known neither to change nor to keep what it is given."""
    layers = layers_of(network) or [nn.Identity()]
    return type(layers[0]) in _LEAVE_INPUTS_ALONE
