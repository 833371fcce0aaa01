"""What networks say of examples, in batches: logits, combined as the caller likes."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skcoteach._batches import call, each_tensor, length_of
from skcoteach._data.inputs import Inputs
from skcoteach._data.streaming import read_ahead
from skcoteach._errors import explained
from skcoteach._training.device import autocast, float32_products, sum_dtype, without_autocast
from skcoteach._training.engines.layers import leaves_inputs_alone
from skcoteach._training.engines.logits import MODULES, check_logits


def predict(
    networks: Sequence[nn.Module],
    inputs: Inputs,
    combine: Callable[[Tensor], Tensor],
    indices: Tensor | None = None,
    *,
    n_classes: int,
    precision: str = "float32",
) -> Tensor:
    """What ``combine`` makes of the networks' logits.

    Parameters
    ----------
    networks : sequence of two nn.Module
        In eval mode.
    inputs : Inputs of length n_samples
    combine : callable
        Gets logits of shape (2, n, n_classes) and returns (n, n_classes).
    indices : Tensor of shape (n_wanted,), int64, on the CPU, optional
        Of the examples that are wanted. None: all.
    n_classes : int
    precision : {"float32", "tf32", "bf16", "float64"}

    Returns
    -------
    Tensor of shape (n_wanted, n_classes), on the device of the networks

    Raises
    ------
    TypeError, ValueError
        If a network cannot take the examples, or returns something else than logits for them.
    """
    combined: list[Tensor] = []
    predict_in_chunks(networks, inputs, combine, combined.append, indices, n_classes=n_classes, precision=precision)
    return torch.cat(combined)


@torch.no_grad()
@without_autocast()
def predict_in_chunks(
    networks: Sequence[nn.Module],
    inputs: Inputs,
    combine: Callable[[Tensor], Tensor],
    receive: Callable[[Tensor], None],
    indices: Tensor | None = None,
    *,
    n_classes: int,
    precision: str = "float32",
) -> None:
    """As :func:`predict`, but hand it over chunk by chunk, in order: ``receive`` gets tensors (n, n_classes)."""
    share = all(leaves_inputs_alone(network) for network in networks)  # others get copies, they may work in place
    with float32_products(inputs.device, precision), autocast(inputs.device, precision):
        chunks = _chunks(inputs, indices)
        ahead = read_ahead(inputs, chunks) if inputs.has_blocks else None
        for chunk in chunks:
            batch = inputs[chunk] if ahead is None else next(ahead)  # what a user's Dataset raises passes no generator
            logits = []
            for parameter, network in zip(itertools.cycle(MODULES), networks):
                with explained(network, batch):
                    outputs = call(network, batch if share else each_tensor(Tensor.clone, batch))
                logits.append(check_logits(outputs, parameter, length_of(batch), n_classes))
            receive(combine(torch.stack(logits)))


def _chunks(inputs: Inputs, indices: Tensor | None) -> Sequence[Tensor | slice]:
    size = chunk_size(inputs)
    if indices is not None:
        return indices.split(size)
    return [slice(start, start + size) for start in range(0, len(inputs), size)]


def chunk_size(inputs: Inputs) -> int:
    """Examples to work on at a time where no gradient is needed: few enough for activations to fit in a CPU's cache."""
    most = 2048 if inputs.device.type == "cpu" else 8192
    return min(most, max(2**20 // max(inputs.form.size, 1), 64))


def mean_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the networks of the probabilities, (n, n_classes) of logits (2, n, n_classes).

    In double precision where the device has it.
    """
    # over few columns a softmax along rows is several times as slow
    return _exact(logits, temperature).mT.softmax(1).mean(0).T


def log_mean_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logarithm of :func:`mean_probabilities`, exact for small ones, too."""
    return _exact(logits, temperature).mT.log_softmax(1).logsumexp(0).T - math.log(len(logits))


def _exact(logits: Tensor, temperature: float) -> Tensor:
    logits = logits.to(sum_dtype(logits.device))
    return logits if temperature == 1 else logits / temperature
