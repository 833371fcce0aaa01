"""An exponential moving average of the weights of networks in training."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skcoteach._training.module_state import load_state
from skcoteach._torch import keeps_running_statistics


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

    Attributes
    ----------
    values : list of dict of name to Tensor
        The average of each tensor, by network.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage([network], decay=0.5)
    >>> for weight in (1.0, 4.0):
    ...     _ = torch.nn.init.constant_(network.weight, weight)
    ...     average.update()
    >>> average.values  # (0.5 * 1 + 1 * 4) / 1.5
    [{'weight': tensor([[3.]])}]
    """

    def __init__(self, networks: Sequence[nn.Module], decay: float):
        self._decay = decay
        self._n_updates = 0
        current = [_averaged(network) for network in networks]
        self.values = [{name: tensor.detach().clone() for name, tensor in own.items()} for own in current]
        self._current = tuple(tensor for own in current for tensor in own.values())
        self._averages = tuple(tensor for own in self.values for tensor in own.values())

    def update(self) -> None:
        """Take the networks' weights of now into the average."""
        self._n_updates += 1
        counts = (1 - self._decay) / (1 - self._decay**self._n_updates)
        get_ema_multi_avg_fn(1 - counts)(self._averages, self._current, self._n_updates)

    def give_to(self, networks: Sequence[nn.Module]) -> None:
        """Have networks of the same kind predict with the averages."""
        for network, average in zip(networks, self.values, strict=True):
            load_state(network, average)

    def state_dict(self) -> dict[str, Any]:
        """The averages, and of how many updates they are."""
        return {"n_updates": self._n_updates, "values": self.values}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the averages of a :meth:`state_dict`."""
        self._n_updates = state["n_updates"]
        for own, saved in zip(self.values, state["values"], strict=True):
            for name, value in own.items():
                value.copy_(saved[name])


def _averaged(network: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if p.requires_grad}
    for prefix, module in network.named_modules():
        if keeps_running_statistics(module):
            for name in ("running_mean", "running_var"):
                tensors[f"{prefix}.{name}".lstrip(".")] = getattr(module, name)
    return tensors
