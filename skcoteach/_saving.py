"""A fitted estimator in a file that is safe to read: numbers and names, no code, and nothing of single examples."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from skcoteach import _state_file, networks
from skcoteach._arrays import to_host
from skcoteach._batches import Batch, call
from skcoteach._classifier import CoTeachingClassifier
from skcoteach._config import resolve
from skcoteach._data.inputs import BOOLS, CPU, InputForm
from skcoteach._errors import warn_user
from skcoteach._fitted import FitState
from skcoteach._pickling import is_available
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import initial_weights, random_state
from skcoteach._training.engines.logits import MODULES
from skcoteach._training.module_factory import make_networks
from skcoteach._training.module_state import copied, load_state, state_of
from skcoteach._training.optimizers import ELEMENTWISE

KIND = "estimator"
#: What a file may name; nothing else is looked up by a name from it.
NETWORKS: dict[str, Any] = {each.__name__: each for each in (networks.MLP, networks.SmallCNN, networks.CifarCNN)}
OPTIMIZERS = {each.__name__: each for each in ELEMENTWISE if each.__module__.startswith("torch.optim.")}
#: Kinds of dtypes that classes may have, and types of those that are objects.
KINDS_OF_CLASSES, TYPES_OF_CLASSES = "biufUO", (bool, int, float, str)
#: Fitted numbers, and arrays; those that an estimator may lack are None then.
NUMBERS = (
    "temperature_", "forget_rate_", "n_iter_", "best_epoch_", "noise_rate_", "noise_rate_std_", "n_features_in_",
)  # fmt: skip
ARRAYS = ("forget_rate_schedule_", "class_forget_rates_", "noise_matrix_")
MAY_BE_MISSING = ("best_epoch_", "noise_rate_", "noise_rate_std_", "n_features_in_")
#: Of the values in a file, by name, their types.
FORM: dict[str, Any] = {
    "parameters": dict, "given_again": dict, "left_out": list, "networks": list, "device": str, "precision": str,
    "classes": dict, "form": dict, "seed": int, "history": list, "feature_names": (list, type(None)), "numbers": dict,
    "arrays": dict,
}  # fmt: skip


def save(estimator: CoTeachingClassifier, file: str | os.PathLike) -> None:
    """Write a fitted classifier to a file that holds no code and none of its training labels.

    Networks (parameters and buffers, not what a module keeps elsewhere), classes, the form of X, what was found of the
    noise, ``history_`` and parameters are written; nothing of single examples (``label_quality_``, ``kept_frequency_``,
    ``get_label_issues``), no callbacks, and no state of the optimizer.

    Parameters
    ----------
    estimator : CoTeachingClassifier
        Fitted, on any device. Of its parameters, ``augment``, an ``optimizer`` that is not torch's and what else is
        neither number, string nor container of these are left out. A ``module`` or ``module2`` that is not of
        :mod:`skcoteach.networks` has to be given again to :func:`load`.
    file : str or path
        Replaced, if it is there, once all is written.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    TypeError
        If it is no ``CoTeachingClassifier``, or one of a class derived from it.
    ValueError
        If classes are neither numbers, strings nor bools, or the file could not be loaded again.
    OSError
        If the file cannot be written.

    See Also
    --------
    load

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import make_blobs
    >>> import skcoteach
    >>> X, y = make_blobs(n_samples=200, centers=3, random_state=0)
    >>> classifier = skcoteach.CoTeachingClassifier(epochs=3, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skcoteach.save(classifier, os.path.join(folder, "classifier"))
    ...     loaded = skcoteach.load(os.path.join(folder, "classifier"))
    >>> bool((loaded.predict_proba(X) == classifier.predict_proba(X)).all())
    True
    """
    if type(estimator) is not CoTeachingClassifier:
        of_pipeline = " Save the last step, and the others with joblib." if hasattr(estimator, "steps") else ""
        raise TypeError(
            f"A {type(estimator).__name__} cannot be saved, only a CoTeachingClassifier: its class would have to be "
            f"imported by a name from the file.{of_pipeline}"
        )
    check_is_fitted(estimator)
    values = _values(estimator)
    unfit = _state_file.not_plain(values, "estimator")
    if unfit is not None:
        raise ValueError(f"{unfit} cannot be written to a file that is safe to read.")
    if not values["given_again"]:
        try:  # parameters that were changed after the fit, or cannot be written, may make other networks
            _rebuilt(values, {})
        except ValueError as error:
            without = f", without {', '.join(values['left_out'])}" if values["left_out"] else ""
            raise ValueError(f"The file could not be loaded again{without}: {error}") from error
    _state_file.write(Path(os.fsdecode(file)), KIND, values)


def load(file: str | os.PathLike, module: Any = None, module2: Any = None) -> CoTeachingClassifier:
    """The classifier that :func:`save` has written, with the same predictions, bit for bit.

    No code from the file is run. ``partial_fit`` goes on with an optimizer that starts anew, where weights were
    averaged from the averages.

    Parameters
    ----------
    file : str or path
    module, module2 : nn.Module class, callable or nn.Module instance, default=None
        As they were given to the classifier, where they are not of :mod:`skcoteach.networks`. An instance is copied;
        its weights do not matter.

    Returns
    -------
    CoTeachingClassifier
        On the device where it was, if that is there, else on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, or not such a file, or ``module`` makes other networks.
    OSError
        If it cannot be read.
    """
    name = os.fsdecode(file)
    given = {parameter: each for parameter, each in zip(MODULES, (module, module2), strict=True) if each is not None}
    try:
        values = _checked(_state_file.read(Path(name), KIND))
        missing = [f"{each} ({kind})" for each, kind in values["given_again"].items() if each not in given]
        if missing:
            raise ValueError(
                f"{name!r} was fitted with a network of your own: give again what makes it, {', '.join(missing)}."
            )
        estimator = _rebuilt(values, given)
    except _state_file.UnusableFileError as error:
        raise ValueError(f"{name!r} cannot be loaded: {error}.") from error
    if values["left_out"]:
        warn_user(f"Not in {name!r}, and now as by default: {', '.join(values['left_out'])}.")
    return estimator


def _checked(values: Any) -> dict[str, Any]:
    """Values that were read, if they have the form of a classifier's.

    Raises
    ------
    UnusableFileError
        If they have not.
    """
    known = isinstance(values, dict) and values.keys() == FORM.keys()
    if not known or not all(isinstance(values[name], kinds) for name, kinds in FORM.items()):
        raise _state_file.UnusableFileError("it holds no classifier")
    numbers, arrays, classes = values["numbers"], values["arrays"], values["classes"].get("values")
    sound = (
        numbers.keys() == set(NUMBERS)
        and all(isinstance(numbers[name], (int, float)) for name in NUMBERS if name not in MAY_BE_MISSING)
        and all(numbers[name] is None or isinstance(numbers[name], (int, float)) for name in MAY_BE_MISSING)
        and arrays.keys() == set(ARRAYS)
        and all(each is None or isinstance(each, Tensor) for each in arrays.values())
        and isinstance(classes, list)
        and all(type(each) in TYPES_OF_CLASSES for each in classes)
        and all(isinstance(each, str) for each in (*values["left_out"], *values["given_again"]))
        and all(isinstance(entry, dict) for entry in values["history"])
        and len(values["networks"]) == 2
        and all(_are_tensors(network) for network in values["networks"])
    )
    if not sound:
        raise _state_file.UnusableFileError("it holds a classifier of another form")
    return values


def _are_tensors(network: Any) -> bool:
    if not isinstance(network, dict) or network.keys() != {"parameters", "buffers"}:
        return False
    parameters, buffers = network["parameters"], network["buffers"]
    return (
        isinstance(parameters, dict)
        and isinstance(buffers, dict)
        and all(isinstance(each, Tensor) for each in parameters.values())
        and all(each is None or isinstance(each, Tensor) for each in buffers.values())
    )


def _values(estimator: CoTeachingClassifier) -> dict[str, Any]:
    """All that is written, as plain values."""
    state, parameters = estimator._state, _plain(estimator.get_params(deep=False))
    given_again, left_out, kept = {}, [], {}
    for name, value in parameters.items():
        if name in MODULES and value is not None:
            own = next((known for known, each in NETWORKS.items() if value is each), None)
            kept[name] = own
            if own is None:
                given_again[name] = getattr(value, "__name__", type(value).__name__)
        elif name == "optimizer":
            known = next((known for known, each in OPTIMIZERS.items() if value is each), None)
            kept[name] = known or "Adam"
            if known is None:
                left_out.append(name)
        elif _state_file.not_plain(value, name) is None:
            kept[name] = value
        else:
            left_out.append(name)
    weight = next(estimator.modules_[0].parameters())
    return {
        "parameters": kept,
        "given_again": given_again,
        "left_out": left_out,
        "networks": [_parts_of(network) for network in estimator.modules_],
        "device": str(weight.device),
        "precision": "float64" if weight.dtype == torch.float64 else "float32",
        "classes": _plain_classes(state.classes),
        "form": _plain(dataclasses.asdict(state.form)),
        "seed": state.seed,
        "history": estimator.history_,
        "feature_names": list(getattr(estimator, "feature_names_in_", [])) or None,
        "numbers": {name: _plain(getattr(estimator, name, None)) for name in NUMBERS},
        "arrays": {name: _as_tensor(getattr(estimator, name, None)) for name in ARRAYS},
    }


def _rebuilt(values: dict[str, Any], given: dict[str, Any]) -> CoTeachingClassifier:
    """The classifier of values that were read, with the modules that were given again.

    Raises
    ------
    UnusableFileError
        If these are not the values of a classifier.
    ValueError
        If a module makes other networks.
    """
    try:
        estimator = _unfitted(values, given)
        classes = np.array(values["classes"]["values"], dtype=values["classes"]["dtype"])
        form = _form(values["form"])
        device = torch.device(values["device"])
        config = resolve(
            estimator.get_params(deep=False) | {"precision": values["precision"]},
            None,
            device=device if device.type != "meta" and is_available(device) else CPU,
            seed=values["seed"],
        )
        fitted = {name: value for name, value in values["numbers"].items() if value is not None}
        fitted |= {name: value.numpy() for name, value in values["arrays"].items() if value is not None}
        fitted |= {"classes_": classes, "history_": values["history"]}
        if values["feature_names"] is not None:
            fitted["feature_names_in_"] = np.array(values["feature_names"], dtype=object)
    except Exception as error:
        raise _state_file.UnusableFileError(f"no classifier can be made of it ({error})") from error
    nothing = {"n_keepers": torch.empty(0, dtype=torch.uint8, device="cpu")}
    state = FitState(classes, form, config.seed, config.optimizer, nothing, None)
    pair = _networks(config, form, len(classes), values["networks"])
    return estimator._assign(fitted | {"modules_": pair, "_state": state})


def _form(values: dict[str, Any]) -> InputForm:
    entries = values["entries"]
    if entries is not None:
        entries = {key: _form(each) for key, each in entries.items()}
    return InputForm(**values | {"item_shape": tuple(values["item_shape"]), "entries": entries})


def _unfitted(values: dict[str, Any], given: dict[str, Any]) -> CoTeachingClassifier:
    parameters = dict(values["parameters"])
    parameters["optimizer"] = OPTIMIZERS[parameters["optimizer"]]
    parameters |= {name: NETWORKS[parameters[name]] for name in MODULES if parameters.get(name) is not None} | given
    return CoTeachingClassifier(**parameters)


def _networks(config: TrainingConfig, form: InputForm, n_classes: int, states: list[dict]) -> tuple[nn.Module, ...]:
    with random_state(config.device, initial_weights(config.seed)):
        pair = make_networks(config, form.item_shape, n_classes)
        for network, state in zip(pair, states, strict=True):
            _give_lazy_layers_their_shapes(network.eval(), form, config)
            _take_over(network, state)
    return pair


def _give_lazy_layers_their_shapes(network: nn.Module, form: InputForm, config: TrainingConfig) -> None:
    if any(is_lazy(each) for each in (*network.parameters(), *network.buffers())):
        with torch.no_grad():
            call(network, _zeros(form, config))


def _zeros(form: InputForm, config: TrainingConfig) -> Batch:
    """Two examples."""
    if form.entries is not None:
        return {key: _zeros(each, config) for key, each in form.entries.items()}  # type: ignore[misc]
    dtype = torch.int64 if form.as_indices else torch.bool if form.kind == BOOLS else config.dtype
    return torch.zeros(2, *form.item_shape, dtype=dtype, device=config.device)


def _take_over(network: nn.Module, saved: dict[str, dict]) -> None:
    """Give a network a state, with its layout in memory, by which sums are ordered."""
    parameters = dict(network.named_parameters())
    shapes = [{name: each.shape for name, each in some.items()} for some in (parameters, saved["parameters"])]
    if shapes[0] != shapes[1]:
        unlike = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(
            f"The network made by {type(network).__name__} is not the one that was saved: {', '.join(unlike)} differ "
            "in shape, or are missing. Give the module that it was fitted with."
        )
    for name, parameter in parameters.items():
        parameter.data = saved["parameters"][name].to(parameter.device)
    load_state(network, saved["buffers"])


def _parts_of(network: nn.Module) -> dict[str, dict]:
    """Parameters and buffers, on the CPU."""
    state = {name: None if value is None else value.cpu() for name, value in copied(state_of(network)).items()}
    names = {name for name, _ in network.named_parameters()}
    return {
        "parameters": {name: value for name, value in state.items() if name in names},
        "buffers": {name: value for name, value in state.items() if name not in names},
    }


def _as_tensor(array: Any) -> Tensor | None:
    return None if array is None else torch.tensor(to_host(array))


def _plain(value: Any) -> Any:
    """With Python's numbers and strings in place of NumPy's and of what names them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (torch.device, os.PathLike)):
        return str(value)
    if isinstance(value, (np.ndarray, range)):
        return _plain(list(value))
    if type(value) is dict:
        return {_plain(key): _plain(each) for key, each in value.items()}
    return type(value)(_plain(each) for each in value) if type(value) in (list, tuple) else value


def _plain_classes(classes: np.ndarray) -> dict[str, Any]:
    values = [_plain(each) for each in classes.tolist()]
    if classes.dtype.kind not in KINDS_OF_CLASSES or any(type(each) not in TYPES_OF_CLASSES for each in values):
        raise ValueError(
            f"The classes are {classes.dtype} ({values[0]!r}, ...); only numbers, strings and bools can be saved."
        )
    return {"dtype": "O" if classes.dtype.kind == "O" else classes.dtype.str, "values": values}
