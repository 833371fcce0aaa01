"""Which engine suits which networks."""

from collections.abc import Sequence

from torch import nn

from skcoteach._data.training_data import TrainingData
from skcoteach._training.config import TrainingConfig
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains, are_chains
from skcoteach._training.engines.logits import Engine
from skcoteach._training.engines.memory_layout import take_channels_last
from skcoteach._training.optimizers import is_elementwise


def can_be_joined(networks: Sequence[nn.Module], config: TrainingConfig, data: TrainingData) -> bool:
    """Whether they are equal chains, and X, the optimizer and the precision allow that they are one batched network."""
    allowed = is_elementwise(config.optimizer) and config.precision != "bf16" and not config.compile
    form = data.inputs.form
    return allowed and form.entries is None and are_chains(networks, form.item_shape)


def make_engine(networks: Sequence[nn.Module], config: TrainingConfig, data: TrainingData) -> Engine:
    """One batched network for equal chains, where that is possible; else each by itself."""
    if can_be_joined(networks, config, data):
        return Chains(networks)
    return Autograd(
        networks,
        data.n_classes,
        precision=config.precision,
        compiled=config.compile,
        channels_last=take_channels_last(networks, data, config),
    )
