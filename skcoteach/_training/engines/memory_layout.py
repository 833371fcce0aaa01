"""Whether networks can work on images whose channels lie last in memory, as convolutions are fastest."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skcoteach._data.training_data import TrainingData
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import autocast, memory_layout_probe, random_state
from skcoteach._training.engines.logits import logits_in
from skcoteach.networks import CifarCNN, SmallCNN

#: As many examples as batch statistics need.
N_TRIED = 4

#: They are known to.
_OWN = (SmallCNN, CifarCNN)


def are_own(networks: Sequence[nn.Module]) -> bool:
    """Whether networks are of this package: nothing in them asks how tensors lie in memory."""
    return all(type(network) in _OWN for network in networks)


def take_channels_last(networks: Sequence[nn.Module], data: TrainingData, config: TrainingConfig) -> bool:
    """Whether there are convolutions in the networks, and nothing in them needs another layout (as ``view`` may).

    Networks that are not of this package are asked by one forward and backward of copies of them, in training and in
    eval mode.

    Parameters
    ----------
    networks : sequence of nn.Module
    data : TrainingData
        A few examples of it are tried.
    config : TrainingConfig
    """
    has_convolutions = (any(isinstance(each, nn.Conv2d) for each in network.modules()) for network in networks)
    if len(data.inputs.form.item_shape) != 3 or not all(has_convolutions):
        return False
    if are_own(networks):
        return True
    with warnings.catch_warnings(), random_state(config.device, memory_layout_probe(config.seed)):
        warnings.simplefilter("ignore")
        try:
            inputs: Any = data.inputs[data.drawn[:N_TRIED]]  # three axes: a tensor
            return all(_takes_channels_last(network, inputs, config) for network in networks)
        except Exception:  # lazy layers have no layout yet; what is wrong with others is told where they are trained
            return False


def _takes_channels_last(network: nn.Module, inputs: Tensor, config: TrainingConfig) -> bool:
    """Raises what the network raises."""
    outputs = []
    for layout in (torch.contiguous_format, torch.channels_last):
        tried = copy.deepcopy(network).to(memory_format=layout)  # type: ignore[call-overload]
        for training in (False, True):
            with autocast(inputs.device, config.precision):
                outputs.append(logits_in(tried.train(training)(inputs.clone().contiguous(memory_format=layout))))
            outputs[-1].float().sum().backward()
    # those of eval mode, before any training: dropout strikes the elements in the order in which they lie
    return torch.allclose(outputs[0], outputs[2], rtol=1e-2, atol=1e-2, equal_nan=True)
