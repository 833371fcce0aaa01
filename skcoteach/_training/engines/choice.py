"""Which engine suits which networks."""

from torch import nn

from skcoteach._training.config import TrainingConfig
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains, are_chains
from skcoteach._training.engines.logits import Engine
from skcoteach._training.optimizers import is_elementwise


def make_engine(
    networks: tuple[nn.Module, nn.Module], config: TrainingConfig, item_shape: tuple[int, ...], n_classes: int
) -> Engine:
    """One batched network for two equal chains, where the optimizer and the precision allow it; else each by itself."""
    joint = is_elementwise(config.optimizer) and config.precision != "bf16" and not config.compile
    if joint and are_chains(networks, item_shape):
        return Chains(networks)
    return Autograd(networks, n_classes, precision=config.precision, compiled=config.compile)
