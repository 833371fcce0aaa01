"""Any two networks: one forward of each, one backward of both."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skcoteach._batches import Batch, call, device_of, each_tensor, length_of
from skcoteach._errors import explained, explained_backward
from skcoteach._training.device import autocast
from skcoteach._training.engines.logits import MODULES, check_logits
from skcoteach._training.engines.memory_layout import are_own
from skcoteach._training.module_state import bring_to_rest


class Autograd:
    """Computes each network by itself.

    Parameters
    ----------
    networks : sequence of two nn.Module
    n_classes : int
    precision : {"float32", "tf32", "bf16", "float64"}
    compiled : bool
        Whether ``torch.compile`` makes the forward and backward of each.
    channels_last : bool
        Whether images, and the weights of convolutions, lie in memory with their channels last.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        n_classes: int,
        *,
        precision: str = "float32",
        compiled: bool = False,
        channels_last: bool = False,
    ):
        self._n_classes = n_classes
        self._precision = precision
        self._outputs: list[Tensor] = []
        self.parameters = [[p for p in network.parameters() if p.requires_grad] for network in networks]
        self._networks = networks
        self._channels_last = channels_last
        self.owns_memory = channels_last and not are_own(networks)
        if channels_last:
            for network in networks:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._calls = [torch.compile(network) if compiled else network for network in networks]

    def start(self) -> None:
        """Put the networks in train mode."""
        for network in self._networks:
            network.train()

    def rest(self) -> None:
        """Put the networks in eval mode, without gradients."""
        for network in self._networks:
            bring_to_rest(network)

    def prepare(self, inputs: Batch) -> Batch:
        """The examples in the memory layout that the networks work in."""
        if self._channels_last and isinstance(inputs, Tensor):
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def logits(self, inputs: Batch) -> Tensor:
        """Both networks' logits, (2, n_classes, n).

        Raises
        ------
        TypeError, ValueError
            If a network returns something else than logits that depend on its parameters.
        """
        first = each_tensor(Tensor.clone, inputs)  # its layers may work in place
        n = length_of(inputs)
        with autocast(device_of(inputs), self._precision), explained(self._networks[0], inputs):
            returned = [call(self._calls[0], first), call(self._calls[1], inputs)]
        self._outputs = [
            check_logits(outputs, parameter, n, self._n_classes)
            for outputs, parameter in zip(returned, MODULES, strict=True)
        ]
        for outputs, parameter in zip(self._outputs, MODULES, strict=True):
            if not outputs.requires_grad:
                raise ValueError(f"The outputs of the network made by {parameter} do not depend on its parameters.")
        logits = torch.stack([outputs.detach().T for outputs in self._outputs])
        return logits.float() if logits.itemsize < 4 else logits

    def backward(self, gradient: Tensor) -> None:
        """Set the gradients of both networks' parameters."""
        for parameters in self.parameters:
            for parameter in parameters:
                parameter.grad = None
        own = [each.to(outputs.dtype) for each, outputs in zip(gradient.mT.contiguous(), self._outputs, strict=True)]
        with explained_backward(self._networks[0]):
            torch.autograd.backward(self._outputs, own)
