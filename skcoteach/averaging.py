"""An exponential moving average of the weights of networks in training."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Mean of the weights that networks had after every update, the later ones counting more.

    After n updates the weights of update i count ``decay ** (n - i)``, divided by the sum of these: unlike a moving
    average that starts at the initial weights, it owes nothing to them. Buffers (the running statistics of batch
    normalisation) are averaged likewise, those that hold integers are not.

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
    values : list of Tensor
        The average of each tensor, in the order of parameters and buffers of the networks.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage([network], decay=0.5)
    >>> for weight in (1.0, 4.0):
    ...     _ = torch.nn.init.constant_(network.weight, weight)
    ...     average.update()
    >>> average.values[0]  # (0.5 * 1 + 1 * 4) / 1.5
    tensor([[3.]])
    """

    def __init__(self, networks: Sequence[nn.Module], decay: float, n_updates: int = 0):
        self.decay = decay
        self.n_updates = n_updates
        self._current = list(averaged_tensors(networks))
        self.values = [tensor.clone() for tensor in self._current]

    def update(self) -> None:
        """Take the networks' weights of now into the average."""
        self.n_updates += 1
        counts = (1 - self.decay) / (1 - self.decay**self.n_updates)
        get_ema_multi_avg_fn(1 - counts)(self.values, self._current, self.n_updates)


def averaged_tensors(networks: Sequence[nn.Module]) -> Iterator[Tensor]:
    """The tensors that an average is made of: all parameters and buffers that hold no integers."""
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() or tensor.is_complex():
                yield tensor.detach()


def exchange(networks: Sequence[nn.Module], values: Sequence[Tensor]) -> list[Tensor]:
    """Give the networks these values of :func:`averaged_tensors`; returns copies of those that they had."""
    current = list(averaged_tensors(networks))
    before = [tensor.clone() for tensor in current]
    for tensor, value in zip(current, values, strict=True):
        tensor.copy_(value)
    return before
