"""Equal chains of linear layers and activations, computed as one batched network.

Small networks cost more in calls than in arithmetic. Here the weights of all lie in one tensor, so that a layer of
all is one batched product, and gradients are written to where the optimizer reads them. What is learnt from which
example is decided in ``steps``; any other networks are computed in ``autograd``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skcoteach._batches import Batch
from skcoteach._torch import is_hooked_parameter, sigmoid_backward, tanh_backward, threshold_backward
from skcoteach._training.engines.layers import layers_of
from skcoteach.networks import Standardize

#: They work on each number by itself, without parameters or random numbers.
ACTIVATIONS = {
    nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU,
    nn.ReLU6, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softsign, nn.Tanh, nn.Tanhshrink,
}  # fmt: skip


class _Layer(NamedTuple):
    """A linear layer of all networks, where its gradients go, and the activations that follow it."""

    weight: Tensor  # (n_networks, n_out, n_in)
    bias: Tensor | None  # (n_networks, 1, n_out)
    weight_gradient: Tensor
    bias_gradient: Tensor | None
    transposed: Tensor  # view of the weight
    activations: list[nn.Module]


class Chains:
    """Networks that are the same chain, each with weights of its own.

    Parameters
    ----------
    networks : sequence of nn.Module
        :func:`are_chains`. Their parameters become views of the joint memory.

    Attributes
    ----------
    parameters : list of one list of one nn.Parameter
        For the optimizer: all weights of all networks, (n_networks, n_weights).
    """

    owns_memory = True

    def __init__(self, networks: Sequence[nn.Module]):
        for network in networks:
            network.eval()
        chains = [layers_of(network) or [] for network in networks]
        first = chains[0]
        alike = [same for layers in zip(*chains) for same in zip(*(layer.parameters() for layer in layers))]
        sizes = [same[0].numel() for same in alike]
        values = torch.empty(len(chains), sum(sizes), dtype=alike[0][0].dtype, device=alike[0][0].device)
        gradients = torch.zeros_like(values)
        joint = nn.Parameter(values)
        joint.grad = gradients
        self.parameters = [[joint]]

        stacked = {}
        for same, value, gradient in zip(alike, values.split(sizes, 1), gradients.split(sizes, 1), strict=True):
            value, gradient = (each.unflatten(1, same[0].shape) for each in (value, gradient))
            stacked[same[0]] = value, gradient
            for parameter, own in zip(same, value, strict=True):
                own.copy_(parameter.detach())
                parameter.data, parameter.grad = own, None
        self._flattens = type(first[0]) is nn.Flatten
        self._standardize = next((layer for layer in first if isinstance(layer, Standardize)), None)
        self._before: list[tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]] = []
        self._steps: list[_Layer] = []
        for layer in first:
            if isinstance(layer, nn.Linear):
                weight, weight_gradient = stacked[layer.weight]
                bias, bias_gradient = (None, None) if layer.bias is None else stacked[layer.bias]
                row = None if bias is None else bias[:, None]
                self._steps.append(_Layer(weight, row, weight_gradient, bias_gradient, weight.mT, []))
            elif type(layer) in ACTIVATIONS:
                self._steps[-1].activations.append(layer)

    def start(self) -> None:
        """Nothing: no layer does anything else in train mode."""

    def rest(self) -> None:
        """Nothing: the networks are in eval mode from the start, and their gradients are not theirs."""

    def prepare(self, inputs: Batch) -> Batch:
        """What comes before the first weights, for any number of examples."""
        assert isinstance(inputs, Tensor)  # of a dict no chain is made
        if self._flattens:
            inputs = inputs.flatten(1)
        return inputs if self._standardize is None else self._standardize(inputs)

    @torch.no_grad()
    def logits(self, inputs: Batch) -> Tensor:
        """The networks' logits, (n_networks, n_classes, n), of prepared inputs."""
        assert isinstance(inputs, Tensor)
        hidden = inputs.expand(len(self.parameters[0][0]), -1, -1)
        self._before = []
        for _, bias, _, _, transposed, activations in self._steps[:-1]:
            entered = hidden
            hidden = hidden.bmm(transposed) if bias is None else torch.baddbmm(bias, hidden, transposed)
            activated = []
            for number, activation in enumerate(activations):
                before, hidden = hidden, _activate(activation, hidden, in_place=number == 0)
                activated.append((activation, before, hidden))
            self._before.append((entered, activated))
        weight, bias, *_ = self._steps[-1]
        self._before.append((hidden, []))
        # the last product the other way round: over many examples a softmax of few columns is several times as fast
        return weight.bmm(hidden.mT) if bias is None else torch.baddbmm(bias.mT, weight, hidden.mT)

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> None:
        """Write the gradients of all weights, given that of the last :meth:`logits`; to be called once for these."""
        gradient = gradient.mT  # (n_networks, n, n_out)
        for number in reversed(range(len(self._steps))):
            weight, _, weight_gradient, bias_gradient, *_ = self._steps[number]
            entered, activated = self._before[number]
            for activation, before, after in reversed(activated):
                gradient = _backward(activation, gradient, before, after)
            torch.bmm(gradient.mT, entered, out=weight_gradient)
            if bias_gradient is not None:
                torch.sum(gradient, 1, out=bias_gradient)
            if number:
                gradient = gradient.bmm(weight)


def _activate(activation: nn.Module, hidden: Tensor, *, in_place: bool) -> Tensor:
    if type(activation) is nn.ReLU:
        return hidden.relu_() if in_place else hidden.relu()
    if type(activation) in (nn.Tanh, nn.Sigmoid):
        return activation(hidden)
    with torch.enable_grad():
        return type(activation).forward(activation, hidden.requires_grad_().clone())


def _backward(activation: nn.Module, gradient: Tensor, before: Tensor, after: Tensor) -> Tensor:
    if type(activation) is nn.ReLU:
        return threshold_backward(gradient, after, 0)
    if type(activation) is nn.Tanh:
        return tanh_backward(gradient, after)
    if type(activation) is nn.Sigmoid:
        return sigmoid_backward(gradient, after)
    return torch.autograd.grad(after, before, gradient)[0]


def are_chains(networks: Sequence[nn.Module], item_shape: tuple[int, ...]) -> bool:
    """Whether all networks are the same chain of layers that :class:`Chains` can compute.

    That is: at most a ``Flatten``, at most a ``Standardize`` (the same in all), then linear layers, each followed by
    any number of activations, a linear layer at the end; trained as a whole, in one precision, without hooks.
    """
    plans = [layers_of(network) or [] for network in networks]
    if not all(_is_chain(plan, item_shape) for plan in plans) or len({len(plan) for plan in plans}) > 1:
        return False
    return all(_are_alike(layers[0], each) for layers in zip(*plans, strict=True) for each in layers[1:])


def _is_chain(layers: list[nn.Module], item_shape: tuple[int, ...]) -> bool:
    if not layers or type(layers[-1]) is not nn.Linear:
        return False
    start = 0
    if type(layers[0]) is nn.Flatten and (layers[0].start_dim, layers[0].end_dim) == (1, -1):
        start = 1
    elif len(item_shape) > 1:
        return False
    if type(layers[start]) is Standardize:
        start += 1
    if not all(type(layer) is nn.Linear or type(layer) in ACTIVATIONS for layer in layers[start:]):
        return False
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    plain = all(
        type(parameter) is nn.Parameter
        and parameter.requires_grad
        and parameter.dtype == parameters[0].dtype
        and not is_hooked_parameter(parameter)
        for parameter in parameters
    )
    memories = {parameter.untyped_storage().data_ptr() for parameter in parameters}  # fewer, where some are tied
    return plain and type(layers[start]) is nn.Linear and len(memories) == len(parameters)


def _are_alike(first: nn.Module, second: nn.Module) -> bool:
    """Whether two layers do the same but for their weights."""
    if type(first) is not type(second) or first.extra_repr() != second.extra_repr():
        return False
    if any(a.dtype != b.dtype for a, b in zip(first.parameters(), second.parameters(), strict=True)):
        return False
    return all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))
