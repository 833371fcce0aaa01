"""From the parameters of the estimator to a :class:`~skcoteach._training.config.TrainingConfig`: resolved once."""

import difflib
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import fields
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import DTYPES, choose_device
from skcoteach._training.distributed import ALONE, Processes

#: Names of parameters that are passed on, to the modules and to the optimizer.
PREFIXES = ("module__", "module2__", "optimizer__")

#: Of which True and False would be 1 and 0.
NUMBERS = {
    "average_decay", "batch_size", "class_floor", "epoch_decay_start", "epochs", "exponent", "forget_rate", "lr",
    "n_iter_no_change", "validation_fraction",
    "num_gradual", "num_iter_per_epoch", "random_state",
}  # fmt: skip
#: What other libraries call parameters.
ALIASES = {
    "max_iter": "epochs", "max_epochs": "epochs", "n_epochs": "epochs", "num_epochs": "epochs", "n_iter": "epochs",
    "noise_rate": "forget_rate", "noise": "forget_rate", "learning_rate": "lr", "learning_rate_init": "lr",
    "alpha": "optimizer__weight_decay", "weight_decay": "optimizer__weight_decay", "momentum": "optimizer__momentum",
    "hidden_layer_sizes": "module__hidden", "seed": "random_state", "model": "module", "network": "module",
    "train_split": "early_stopping", "patience": "n_iter_no_change", "iterator_train__batch_size": "batch_size",
    "criterion": None, "warm_start": None, "n_jobs": None,
}  # fmt: skip


def meant_by(name: str, names: Sequence[str]) -> str:
    """A sentence that says what an unknown parameter is called here; empty, if that cannot be guessed."""
    for prefix in PREFIXES:
        single = prefix.removesuffix("_")
        rest = name.removeprefix(single).lstrip("_")
        if name.startswith(single) and rest and name not in names:
            return f" Did you mean {prefix}{rest}?"
    if name in ALIASES:
        meant = ALIASES[name]
        return "" if meant is None else f" Did you mean {meant}?"
    start, underscores, rest = name.partition("__")
    if underscores and rest:
        close = difflib.get_close_matches(start, [prefix.removesuffix("__") for prefix in PREFIXES], 1)
        return f" Did you mean {close[0]}__{rest}?" if close else ""
    close = difflib.get_close_matches(name, names, 1)
    return f" Did you mean {close[0]}?" if close else ""


def refuse_odd_numbers(parameters: dict[str, Any]) -> None:
    """Refuse what is a number to Python but neither to NumPy nor to torch.

    Raises
    ------
    InvalidParameterError
        Naming the parameter.
    """
    for name, value in parameters.items():
        if name not in NUMBERS:
            continue
        if isinstance(value, Real) and not isinstance(value, (int, float, np.number)):
            raise InvalidParameterError(f"The {name!r} parameter must be a number of Python or NumPy; got {value!r}.")
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise InvalidParameterError(f"The {name!r} parameter must be a number that a float can hold.")


def is_prefixed(name: str) -> bool:
    """Whether a parameter of this name is passed on."""
    return any(name.startswith(prefix) and name != prefix for prefix in PREFIXES)


def resolve(
    parameters: dict[str, Any],
    X: Any,
    *,
    device: torch.device | None = None,
    seed: int | None = None,
    processes: Processes = ALONE,
) -> TrainingConfig:
    """The parameters as the training takes them.

    Parameters
    ----------
    parameters : dict
        Of the estimator, valid each by itself. NumPy's numbers become Python's, which neither overflow nor surprise
        torch.
    X : object
        The data: the device may follow them.
    device : torch.device, optional
        Of an earlier training that is gone on with. None: chosen.
    seed : int, optional
        Of an earlier training. None: drawn by ``random_state``.
    processes : Processes
        That train together: with the seed that the first one has drawn, each on an accelerator of its own.

    Raises
    ------
    ValueError
        If parameters cannot be used together, or not here.
    """
    parameters = {name: value.item() if isinstance(value, np.generic) else value for name, value in parameters.items()}
    for name, value in parameters.items():
        if isinstance(value, bool) and name in NUMBERS:
            raise InvalidParameterError(f"The {name!r} parameter must be a number; got {value}.")
    module, module2, optimizer = (_with_prefix(parameters, prefix) for prefix in PREFIXES)
    resolved: dict[str, Any] = {
        "module_options": module,
        "module2_options": module2,
        "optimizer_options": optimizer,
        "device": _choose_device(parameters, X, processes) if device is None else device,
        "dtype": DTYPES[parameters["precision"]],
        "seed": processes.from_first(_draw_seed(parameters["random_state"])) if seed is None else seed,
        "processes": processes,
    }
    as_given = {each.name: parameters[each.name] for each in fields(TrainingConfig) if each.name not in resolved}
    config = TrainingConfig(**as_given, **resolved)
    forget_rate = parameters["forget_rate"]
    config.forget_rates(0.2 if forget_rate == "auto" else forget_rate)  # refuses what cannot be
    return config


def _choose_device(parameters: dict[str, Any], X: Any, processes: Processes) -> torch.device:
    number = int(os.environ.get("LOCAL_RANK", 0)) if processes.size > 1 else None
    return choose_device(parameters["device"], X, parameters["precision"], number)


def _with_prefix(parameters: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def _draw_seed(random_state: Any) -> int:
    """A seed; None draws from the operating system, not from NumPy's global state."""
    if random_state is None:
        return secrets.randbits(31)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
