"""A fitted classifier as one module of torch, for where there is torch, or an ONNX runtime, and nothing else."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from skcoteach._data.inputs import BYTES, InputForm


class ProbabilityModule(nn.Module):
    """From inputs to probabilities: the mean of what both networks say, as ``predict_proba`` has it.

    Parameters
    ----------
    networks : sequence of two nn.Module
        In eval mode; they are copied.
    temperature : float
        What logits are divided by.
    form : InputForm
        Of the inputs.
    """

    def __init__(self, networks: Sequence[nn.Module], temperature: float, form: InputForm):
        super().__init__()
        self.networks = nn.ModuleList(copy.deepcopy(network) for network in networks)
        self.temperature = temperature
        self._as_indices = form.as_indices
        self._divisor = 255 if form.kind == BYTES and not form.as_indices else 1
        self._dtype = next(self.networks.parameters()).dtype
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities of inputs of shape (n, ...), (n, n_classes) in the precision of the networks."""
        x = x.long() if self._as_indices else x.to(self._dtype) / self._divisor
        probabilities = [(network(x) / self.temperature).softmax(1) for network in self.networks]
        return (probabilities[0] + probabilities[1]) / 2
