"""Making the two networks from what the user gave: nothing, a class, a callable or an instance.

Every way in which two networks cannot teach each other (shared or equal weights, a wrong output shape, nothing to
train) is refused here, before the training starts. The networks themselves are in ``networks``.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from skcoteach import networks
from skcoteach._batches import call, device_of
from skcoteach._data.streaming import stream
from skcoteach._data.training_data import TrainingData
from skcoteach._errors import explained, first_line, is_of_the_device, raised_by_call, raised_by_torch, warn_user
from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.config import TrainingConfig
from skcoteach._training.distributed import Processes
from skcoteach._training.engines.logits import MODULES, check_logits
from skcoteach._training.inference import chunk_size
from skcoteach._training.module_state import copy_of
from skcoteach._training.signatures import accepted_by, check_takes, listed


def make_networks(config: TrainingConfig, item_shape: tuple[int, ...], n_classes: int) -> tuple[nn.Module, nn.Module]:
    """The two networks, on the device and in the precision of the training.

    They are copies: what the user still holds (an instance, a layer given as ``module__*``, a frozen backbone that a
    callable puts into every network) is neither changed nor shared by them. Only what is trained must not be shared
    before, as it was meant to be one.

    Parameters
    ----------
    config : TrainingConfig
    item_shape : tuple of int
        Shape of one example; empty, where it is a dict.
    n_classes : int

    Raises
    ------
    InvalidParameterError
        If the combination is impossible, a name is not taken by the module, or a network cannot be copied.
    ValueError
        If the networks share what is trained.
    """
    module, module2 = config.module, config.module2
    module_options, module2_options = config.module_options, config.module2_options
    if isinstance(module, nn.Module) and not isinstance(module2, nn.Module):
        raise InvalidParameterError(
            f"module is an instance of {type(module).__name__}, so module2 must be an instance too, with weights of "
            f"its own; got module2={module2!r}. Or give the class: module={type(module).__name__}."
        )
    sizes = {"n_classes": n_classes}
    if item_shape:
        sizes["n_features"] = torch.Size(item_shape).numel()
    if len(item_shape) > 1:
        sizes["n_channels"] = item_shape[0]
    if module is None:
        module = _default_module(item_shape)
    for each in (module, module2):
        if each in (networks.SmallCNN, networks.CifarCNN) and len(item_shape) not in (0, 3):
            raise InvalidParameterError(
                f"{each.__name__} takes images, X of shape (n_samples, n_channels, height, width); the items of X have "
                f"shape {item_shape}. Give images without a channel axis one (X[:, None])."
            )
    first = _make(module, "module", module_options, sizes)
    if module2 is None:
        prefixes = dict.fromkeys(module2_options, "module2")
        second = _make(module, "module", module_options | module2_options, sizes, prefixes)
    else:
        second = _make(module2, "module2", module2_options, sizes)
    for network, parameter in zip((first, second), MODULES, strict=True):
        if any(each.is_meta for each in itertools.chain(network.parameters(), network.buffers())):
            raise InvalidParameterError(
                f"The network made by {parameter} lies on the meta device, at least in part: there it has no weights."
            )
    _check_separate(first, second)
    copies = [_own(network, name) for network, name in zip((first, second), MODULES, strict=True)]
    return copies[0].to(config.device, config.dtype), copies[1].to(config.device, config.dtype)


def _default_module(item_shape: tuple[int, ...]) -> type[nn.Module]:
    if not item_shape:
        raise InvalidParameterError(
            "module=None makes a network for arrays, and X is a dict or has dicts as its items. Give a module whose "
            "forward takes the entries as keywords; or give X as one table: pandas.DataFrame makes one of a dict or of "
            "a list of dicts."
        )
    if len(item_shape) == 1:
        return networks.MLP
    if len(item_shape) == 3:
        return networks.SmallCNN
    example = (
        " For sequences of shape (n_samples, n_channels, length), say: lambda n_channels, n_classes: nn.Sequential("
        "nn.Conv1d(n_channels, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), "
        "nn.Linear(32, n_classes))."
    )
    raise InvalidParameterError(
        "module=None makes a network for X of shape (n_samples, n_features) or (n_samples, n_channels, height, width); "
        f"X has {len(item_shape) + 1} axes, its items have shape {item_shape}. Give images without a channel axis one "
        f"(X[:, None]), or give a module.{example if len(item_shape) == 2 else ''}"
    )


def _make(
    module: nn.Module | Callable, parameter: str, given: dict, sizes: dict, prefixes: dict[str, str] | None = None
) -> nn.Module:
    """Call ``module`` with what was given and with those of ``sizes`` that it names, unless it is an instance."""
    prefixes = dict.fromkeys(given, parameter) | (prefixes or {})
    if isinstance(module, nn.Module):
        if given:
            raise InvalidParameterError(
                f"{listed(given, prefixes)} cannot be passed on: {parameter} is an instance of "
                f"{type(module).__name__}, which is made already."
            )
        return module

    name = getattr(module, "__name__", repr(module))
    check_takes(module, given, prefixes, name)
    accepted = accepted_by(module)
    bound = getattr(module, "keywords", {})  # of a functools.partial: given explicitly, too
    arguments = {size: value for size, value in sizes.items() if size in accepted and size not in bound} | given
    missing = [each for each, has_default in accepted.items() if not has_default and each not in arguments]
    if missing:
        of_arrays = "n_features" not in sizes and not {"n_features", "n_channels"}.isdisjoint(missing)
        raise InvalidParameterError(
            f"{name} needs {', '.join(missing)}: give {', '.join(f'{parameter}__{each}' for each in missing)}."
            f"{' They are not known where X is a dict.' if of_arrays else ''}"
        )
    try:
        network = module(**arguments)
    except Exception as error:
        if is_of_the_device(error) or not (raised_by_torch(error) or raised_by_call(error)):
            raise
        raise InvalidParameterError(
            f"{parameter}={name} cannot be made with {arguments}: {first_line(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise TypeError(f"{parameter}={name} made a {type(network).__name__}; a torch.nn.Module is expected.")
    return network


def _own(network: nn.Module, parameter: str) -> nn.Module:
    """A copy that nobody else holds."""
    if any(isinstance(each, torch.jit.ScriptModule) for each in network.modules()):
        raise InvalidParameterError(
            f"{parameter} is a scripted module or has one in it, and of these torch makes copies that cannot be "
            "trained. Give the module as it was before torch.jit, and compile=True if it is to be compiled."
        )
    try:
        return copy_of(network)
    except Exception as error:
        raise InvalidParameterError(
            f"The network made by {parameter}, a {type(network).__name__}, cannot be copied: {error}. Every network is "
            "trained as a copy of its own; keep what copy.deepcopy cannot copy outside of the module."
        ) from error


def reads_indices(network: nn.Module) -> bool:
    """Whether the first layer with parameters is an embedding, so that integers are indices and stay integers."""
    first = next((m for m in network.modules() if next(m.parameters(recurse=False), None) is not None), None)
    return isinstance(first, (nn.Embedding, nn.EmbeddingBag))


def check_networks(pair: tuple[nn.Module, nn.Module], data: TrainingData) -> None:
    """Run both networks on two examples and refuse two that cannot teach each other.

    Lazy layers get their shapes and weights here.

    Raises
    ------
    ValueError
        If outputs have the wrong shape, if there is nothing to train, or if the networks start with equal weights.
    TypeError
        If a network returns something else than a tensor of floating point numbers.
    """
    some = data.drawn[:2]
    for parameter, network in zip(MODULES, pair, strict=True):
        inputs = data.inputs[some]
        with torch.no_grad(), explained(network, inputs):
            outputs = call(network.eval(), inputs)
        outputs = check_logits(outputs, parameter, len(some), data.n_classes)
        device = device_of(inputs)
        if outputs.device != device:
            raise TypeError(
                f"The network made by {parameter} returns logits on {outputs.device} for examples on {device}."
            )
        unused = [name for name, each in network.named_parameters() if is_lazy(each)]
        if unused:
            raise ValueError(
                f"The network made by {parameter} has lazy layers that its forward does not use, so they never get a "
                f"shape: {', '.join(unused)}. Remove them."
            )
        _warn_of_probabilities(outputs, parameter)
        if not any(p.requires_grad for p in network.parameters()):
            raise ValueError(f"The network made by {parameter} has no parameters that can be trained.")
    first, second = ([p for p in network.parameters() if p.requires_grad] for network in pair)
    if len(first) == len(second) and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, second)):
        raise ValueError(
            "The two networks start with equal weights, so they can never disagree. Remove a fixed seed from the "
            "module, or give module2 weights of its own."
        )


def _check_separate(first: nn.Module, second: nn.Module) -> None:
    """What is frozen, and buffers, may be shared by what the user gives: the copies have their own."""
    mine, its = (
        {id(p) for p in trained} | {p.data_ptr() for p in trained if not is_lazy(p) and p.numel()}
        for trained in ([p for p in network.parameters() if p.requires_grad] for network in (first, second))
    )
    if mine & its:
        raise ValueError(
            "The two networks share parameters, so they can never disagree. module and module2 must make separate "
            "networks; what they share has to be frozen (requires_grad=False)."
        )


def _warn_of_probabilities(outputs: Tensor, parameter: str) -> None:
    if outputs.shape[1] > 1 and bool(
        ((outputs >= 0) & (outputs <= 1)).all() & ((outputs.sum(1) - 1).abs() < 1e-4).all()
    ):
        warn_user(
            f"The outputs of the network made by {parameter} look like probabilities: all lie in [0, 1] and each row "
            "sums to one. Raw logits are expected; remove the Softmax at its end."
        )


def standardize(pair: tuple[nn.Module, nn.Module], data: TrainingData, processes: Processes) -> None:
    """Give the :class:`~skcoteach.networks.Standardize` layers that have seen no data their mean and deviation.

    Of several processes, each looks at its part of the data.
    Which entry of a dict reaches such a layer, nobody knows; a warning says so.
    """
    layers = [
        m for network in pair for m in network.modules() if isinstance(m, networks.Standardize) and not m.observed
    ]
    if layers and data.inputs.form.entries is not None:
        warn_user(
            "X is a dict, so the Standardize layers in the networks (those of MLP, say) cannot be set from the data, "
            "and pass on what they are given. Standardise X, or call observe of each with what will reach it."
        )
    elif layers:
        own = data.drawn.tensor_split(processes.size)[processes.rank]
        for indices, inputs in stream(data.inputs, own, chunk_size(data.inputs)):
            for layer in layers:
                layer.observe(inputs, data.weights[indices])  # type: ignore[arg-type]
        for layer in layers if processes.size > 1 else ():
            layer.replace_observed(processes.gathered(layer.moments[..., None], processes.size).unbind(-1))
