"""A fitted classifier as one module of torch, for where there is torch, or an ONNX runtime, and nothing else."""

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from skcoteach._batches import Batch, call, each_tensor
from skcoteach._data.inputs import InputForm, as_networks_take_it
from skcoteach._training.engines.layers import leaves_inputs_alone
from skcoteach._training.engines.logits import logits_in


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
        self._temperature = temperature
        self._form = form
        self._share = all(leaves_inputs_alone(network) for network in networks)
        self.eval().requires_grad_(False)

    def forward(self, x: Batch) -> Tensor:
        """Probabilities of n inputs, (n, n_classes) in the precision of the networks."""
        entries = self._form.entries
        if not isinstance(x, Tensor if entries is None else Mapping):
            wanted = "a tensor" if entries is None else f"a dict with {', '.join(entries)}"
            raise TypeError(f"The module takes {wanted}; got {type(x).__name__}.")
        dtype = next(self.networks.parameters()).dtype  # which half(), say, changes
        batch: Batch
        if isinstance(x, Tensor):
            batch = as_networks_take_it(x, self._form, dtype)
        else:
            batch = {key: as_networks_take_it(x[key], form, dtype) for key, form in (entries or {}).items()}
        outputs = [call(each, batch if self._share else each_tensor(Tensor.clone, batch)) for each in self.networks]
        first, second = ((logits_in(each) / self._temperature).softmax(1) for each in outputs)
        return (first + second) / 2
