"""What a fit depends on, as digests: a name under which the same fit is found again, or parts to be compared."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from skcoteach import _state_file
from skcoteach._data.inputs import CPU, Inputs, item_of
from skcoteach._data.validation import LabelledInputs, ValidatedData
from skcoteach._digest import Digest, NoDigestError, digest_of
from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.device import first_look, random_state
from skcoteach._training.module_state import state_of
from skcoteach._version import __version__

#: Parameters that do not change what comes out.
WITHOUT_EFFECT = {"checkpoint", "device", "distributed", "verbose"}
#: Items of a Dataset that are looked at.
ITEMS_LOOKED_AT = 1000


def name_of_fit(estimator: Any, given: ValidatedData, beside: LabelledInputs | None) -> str:
    """A digest of all that a fit depends on, but for the device and the number of threads."""
    digest = Digest()
    digest.add((_state_file.FORMAT, __version__, torch.__version__), "versions")
    parameters = estimator.get_params(deep=False)
    try:
        digest.add(type(estimator), type(estimator).__name__)
        for parameter in sorted(parameters.keys() - WITHOUT_EFFECT):
            digest.add(parameter, parameter)
            digest.add(parameters[parameter], parameter)
        for part in (given.classes, given.codes.astype(np.int64), given.sample_weights):
            digest.add(part, "y")
        for part in _parts_of(given.inputs):
            digest.add(part, "X")
        if beside is not None:
            for part in (beside.codes.astype(np.int64), beside.weights, *_parts_of(beside.inputs)):
                digest.add(part, "X_val")
    except NoDigestError as error:
        raise InvalidParameterError(
            f"checkpoint: {error}, of which no digest can be made, so that no later fit could find its file. Give "
            "something that is made of numbers, strings, arrays, tensors, functions and objects that hold these."
        ) from error
    return digest.hexdigest()


def _parts_of(inputs: Inputs) -> Iterator[Any]:
    X = inputs.X
    if isinstance(X, dict):
        for key in sorted(X):
            yield key
            yield X[key]
        return
    if isinstance(X, (np.ndarray, Tensor)) or sparse.issparse(X):
        yield X
        return
    if type(X) is TensorDataset:
        yield X.tensors[0]
        return
    yield len(inputs)
    numbers = np.arange(len(inputs))
    if inputs.is_dataset and len(inputs) > ITEMS_LOOKED_AT:
        numbers = np.linspace(0, len(inputs) - 1, ITEMS_LOOKED_AT).astype(int)
    with random_state(CPU, first_look()):
        for number in numbers.tolist():
            yield item_of(X, number)


def digests_of_parts(
    estimator: Any, given: ValidatedData, beside: LabelledInputs | None, networks: Sequence[nn.Module]
) -> dict[str, str | None]:
    """Of all that a fit is given, by the user's words; of X the form alone, which need not be read for it.

    None where something is not made of values.
    """
    parts = {f"parameter {name}": value for name, value in estimator.get_params(deep=False).items()}
    parts = {name: value for name, value in parts.items() if name.removeprefix("parameter ") not in WITHOUT_EFFECT}
    for end, data in (("", given), ("_val", beside)):
        if data is not None:
            parts[f"X{end} (shape and kind)"] = repr(data.inputs.form), len(data.inputs)
            parts[f"y{end}"] = data.codes
    parts["classes"] = given.classes
    parts["sample_weight"] = given.sample_weights
    if beside is not None:
        parts["sample_weight_val"] = beside.weights
    parts["first weights of the networks (the same module)"] = [state_of(network) for network in networks]
    return {name: digest_of(value, name) for name, value in parts.items()}
