"""Which engine suits which networks."""

from torch import nn

from skcoteach._data.training_data import TrainingData
from skcoteach._training.config import TrainingConfig
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains, are_chains
from skcoteach._training.engines.logits import Engine
from skcoteach._training.engines.memory_layout import take_channels_last
from skcoteach._training.optimizers import is_elementwise


def make_engine(networks: tuple[nn.Module, nn.Module], config: TrainingConfig, data: TrainingData) -> Engine:
    """One batched network for two equal chains, where the optimizer and the precision allow it; else each by itself."""
    joint = is_elementwise(config.optimizer) and config.precision != "bf16" and not config.compile
    if joint and are_chains(networks, data.inputs.form.item_shape):
        return Chains(networks)
    return Autograd(
        networks,
        data.n_classes,
        precision=config.precision,
        compiled=config.compile,
        channels_last=take_channels_last(networks, data, config),
    )
