"""How two networks are computed, forward and backward: any networks by autograd, equal chains joined in one.

An engine gives the logits of a batch and takes their gradient; which gradient that is, is decided in ``training``.
"""

import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from skcoteach import networks
from skcoteach.networks import CifarCNN, SmallCNN, Standardize
from skcoteach.tracing import layers_of

#: The parameters of the estimator that make the first and the second network, for messages.
MODULES = ("module", "module2")

#: Held by who has changed what all threads of the process share (global random states, settings of torch).
SHARED_STATE = threading.RLock()


class Engine(Protocol):
    """What ``training`` asks of an engine.

    Attributes
    ----------
    parameters : list of lists of nn.Parameter
        What the optimizer trains: a list for each network, or one for both where they lie in the same tensors.
    precision : {"float32", "tf32", "bf16", "float64"}
    """

    parameters: list[list[nn.Parameter]]
    precision: str

    def prepare(self, inputs: Tensor) -> Tensor:
        """What can be done to many rows at once, before they are cut into batches."""

    def logits(self, inputs: Tensor) -> Tensor:
        """Both networks' logits for a batch of prepared rows: (2, n_classes, n), without a graph."""

    def backward(self, gradient: Tensor) -> None:
        """Set the gradient of every parameter, given that of the last logits, (2, n_classes, n); once for these."""


@contextmanager
def float32_products(device: torch.device, precision: str) -> Iterator[None]:
    """Where ``precision`` is "tf32", multiply float32 numbers on CUDA in TF32; leave the settings as found."""
    if device.type != "cuda" or precision != "tf32":
        yield
        return
    cudnn = torch.backends.cudnn
    settings: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    with SHARED_STATE:
        before = [each.fp32_precision for each in settings]
        try:
            for each in settings:
                each.fp32_precision = "tf32"
            yield
        finally:
            for each, found in zip(settings, before, strict=True):
                each.fp32_precision = found


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Where ``precision`` is "bf16", layers that gain by it compute in bfloat16."""
    if precision != "bf16":
        return nullcontext()
    # the cache of converted weights would outlive the next step where the caller is within autocast
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


@contextmanager
def without_autocast() -> Iterator[None]:
    """As usual where the caller is within ``torch.autocast``: the precision is a parameter."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


#: Networks that take images with their channels last, as convolutions are fastest; a user's may reshape in other order.
CHANNELS_LAST = (SmallCNN, CifarCNN)


def leaves_inputs_alone(network: nn.Module) -> bool:
    """Whether a network is known neither to change nor to keep what it is given."""
    layers = layers_of(network) or [nn.Identity()]
    return type(layers[0]) in {nn.Linear, Standardize, *CHANNELS_LAST}


class Autograd:
    """Any two networks: one forward of each, one backward of both.

    Parameters
    ----------
    networks : sequence of two nn.Module
    n_classes : int
    precision : {"float32", "tf32", "bf16", "float64"}
    compiled : bool
        Whether ``torch.compile`` makes the forward and backward of each.
    """

    def __init__(
        self, networks: Sequence[nn.Module], n_classes: int, *, precision: str = "float32", compiled: bool = False
    ):
        self.n_classes = n_classes
        self.precision = precision
        self.parameters = [[p for p in network.parameters() if p.requires_grad] for network in networks]
        self._network = networks[0]
        self._layout = torch.contiguous_format
        if all(type(network) in CHANNELS_LAST for network in networks):
            self._layout = torch.channels_last
            for network in networks:
                network.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._calls = [torch.compile(network) if compiled else network for network in networks]

    def prepare(self, inputs: Tensor) -> Tensor:
        """The rows in the memory layout that the networks work in."""
        return inputs.contiguous(memory_format=self._layout) if self._layout is torch.channels_last else inputs

    def logits(self, inputs: Tensor) -> Tensor:
        """Both networks' logits, (2, n_classes, n).

        Raises
        ------
        TypeError, ValueError
            If a network returns something else than logits that depend on its parameters.
        """
        first = inputs.clone()  # its layers may work in place
        with autocast(inputs.device, self.precision), in_the_users_words(self._network, inputs):
            self._outputs = [self._calls[0](first), self._calls[1](inputs)]
        for outputs, parameter in zip(self._outputs, MODULES, strict=True):
            check_logits(outputs, parameter, len(inputs), self.n_classes)
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
        torch.autograd.backward(self._outputs, own)


@contextmanager
def in_the_users_words(network: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Where torch cannot compile or compute a network, say what it was given; the user's own errors pass as they are.

    Raises
    ------
    ValueError
        If torch complains.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"compile=True cannot be done here: {reason}. Use compile=False.") from error
        of_the_device = isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError))
        if of_the_device or not isinstance(error, (RuntimeError, IndexError)) or not raised_by_torch(error):
            raise
        raise ValueError(
            f"{type(network).__name__} cannot take a batch of X with shape {tuple(inputs.shape)} and dtype "
            f"{inputs.dtype}: {error}"
        ) from error


def raised_by_torch(error: Exception) -> bool:
    """Whether an error comes from a file of torch or from our own layers, rather than from the user's code."""
    raised_in = os.path.realpath(traceback.extract_tb(error.__traceback__)[-1].filename)
    torchs = os.path.dirname(os.path.realpath(torch.__file__)) + os.sep
    return raised_in.startswith(torchs) or raised_in == os.path.realpath(networks.__file__)


def check_logits(outputs: Tensor, parameter: str, n_rows: int, n_classes: int) -> None:
    """Refuse what is no raw logits of the batch.

    Raises
    ------
    TypeError
        If a network returned something else than a tensor of floating point numbers.
    ValueError
        If the shape is not (n_rows, n_classes).
    """
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise TypeError(f"The network made by {parameter} must return a tensor of raw logits; it returned a {kind}.")
    if not outputs.is_floating_point():
        raise TypeError(f"The network made by {parameter} must return floating point logits; got {outputs.dtype}.")
    if tuple(outputs.shape) != (n_rows, n_classes):
        raise ValueError(
            f"The network made by {parameter} must return raw logits of shape (n_samples, n_classes), here "
            f"{(n_rows, n_classes)} (one column per class, also for two classes); got shape {tuple(outputs.shape)}."
        )
