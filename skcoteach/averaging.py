"""An exponential moving average of the weights of networks in training."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn

#: The number of a network and the name of a tensor in it.
Name = tuple[int, str]


class WeightAverage:
    """Mean of the weights that networks had after every update, the later ones counting more.

    After n updates the weights of update i count ``decay ** (n - i)``, divided by the sum of these: unlike a moving
    average that starts at the initial weights, it owes nothing to them. The running statistics of batch normalisation
    are averaged likewise. Frozen parameters and other buffers are not.

    Parameters
    ----------
    networks : sequence of nn.Module
        They are read at every update, never changed.
    decay : float in [0, 1)
        How much an update counts that was one before the last. 0: the average is the last weights.
    n_updates : int, default=0
        More than 0 to go on from an earlier average: the networks' weights are taken for it.

    Attributes
    ----------
    values : dict of (number of the network, name) to Tensor
        The average of each tensor.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage([network], decay=0.5)
    >>> for weight in (1.0, 4.0):
    ...     _ = torch.nn.init.constant_(network.weight, weight)
    ...     average.update()
    >>> average.values  # (0.5 * 1 + 1 * 4) / 1.5
    {(0, 'weight'): tensor([[3.]])}
    """

    def __init__(self, networks: Sequence[nn.Module], decay: float, n_updates: int = 0):
        self.decay = decay
        self.n_updates = n_updates
        self._current = _averaged(networks)
        self.values = {name: tensor.detach().clone() for name, tensor in self._current.items()}

    def update(self) -> None:
        """Take the networks' weights of now into the average."""
        self.n_updates += 1
        counts = (1 - self.decay) / (1 - self.decay**self.n_updates)
        averages, current = tuple(self.values.values()), tuple(self._current.values())
        get_ema_multi_avg_fn(1 - counts)(averages, current, self.n_updates)


def _averaged(networks: Sequence[nn.Module]) -> dict[Name, Tensor]:
    tensors: dict[Name, Tensor] = {}
    for number, network in enumerate(networks):
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                tensors[number, name] = parameter
        for prefix, module in network.named_modules():
            if isinstance(module, _NormBase) and module.track_running_stats:
                for name in ("running_mean", "running_var"):
                    tensors[number, f"{prefix}.{name}".lstrip(".")] = getattr(module, name)
    return tensors


@torch.no_grad()
def exchange(networks: Sequence[nn.Module], values: Mapping[Name, Tensor]) -> dict[Name, Tensor]:
    """Give the networks these values; returns copies of those that they had."""
    current = {
        (number, name): tensor
        for number, network in enumerate(networks)
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    before = {name: current[name].detach().clone() for name in values}
    for name, value in values.items():
        current[name].copy_(value)
    return before
