"""What co-teaching needs to know of torch's optimizers: making them from what users give, their state, a light Adam."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from skcoteach._errors import first_line, is_of_the_device, raised_by_call, raised_by_torch
from skcoteach._sklearn import InvalidParameterError
from skcoteach._torch import fused_adam_
from skcoteach._training.config import TrainingConfig
from skcoteach._training.engines.logits import Engine
from skcoteach._training.module_state import copied
from skcoteach._training.signatures import check_takes


class OneTensorAdam(torch.optim.Adam):
    """Adam, fused, of a single tensor: the same numbers, without looking for groups of tensors at every step.

    Where networks are so small that a step takes less than a millisecond, that search takes 5 % of it.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameter once; ``closure`` is as torch has it."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        (group,) = self.param_groups
        (parameter,) = group["params"]
        with torch.no_grad():
            fused_adam_(parameter, self._state_of(parameter, group), group)
        return loss

    def _state_of(self, parameter: Tensor, group: dict) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])):
                state[name] = torch.zeros_like(parameter)
        return state


#: Those optimizers that can update all parameters at one go on any device that they know.
FUSED = (torch.optim.Adam, torch.optim.AdamW)

#: Optimizers that treat every number by itself, so that all of a network may lie in one vector.
ELEMENTWISE = {
    torch.optim.ASGD, torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW,
    torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop, torch.optim.SGD,
    OneTensorAdam,
}  # fmt: skip


def is_elementwise(optimizer: object) -> bool:
    """Whether this makes optimizers that treat every number by itself."""
    return isinstance(optimizer, type) and optimizer in ELEMENTWISE


def make_optimizers(config: TrainingConfig, engine: Engine) -> list[Optimizer]:
    """One with a group for each network, or, where numbers are not treated one by one, one for each network."""
    if is_elementwise(config.optimizer):
        groups = [{"params": parameters} for parameters in engine.parameters]
        return [_make_optimizer(config, groups, one_tensor=sum(map(len, engine.parameters)) == 1)]
    return [_make_optimizer(config, parameters) for parameters in engine.parameters]


def _make_optimizer(config: TrainingConfig, parameters: list, *, one_tensor: bool = False) -> Optimizer:
    given = dict(config.optimizer_options)
    name = getattr(config.optimizer, "__name__", repr(config.optimizer))
    if "params" in given:
        raise InvalidParameterError("optimizer__params is not used: the optimizer gets the parameters of the networks.")
    if "lr" in given:
        raise InvalidParameterError(
            f"optimizer__lr={given['lr']!r} is not used: the learning rate is the parameter lr, which the schedule "
            "starts from. Give lr instead."
        )
    check_takes(config.optimizer, given, dict.fromkeys(given, "optimizer"), name)
    if config.optimizer in FUSED and not {"fused", "foreach", "capturable", "differentiable"} & given.keys():
        given["fused"] = True
    made_by = config.optimizer
    if made_by is torch.optim.Adam and given.get("fused") and one_tensor:
        made_by = OneTensorAdam
    try:
        optimizer = made_by(parameters, lr=config.lr, **given)
    except Exception as error:
        if raised_by_call(error) and "'lr'" in str(error):
            raise InvalidParameterError(f"optimizer={name} takes no lr: {error}") from error
        if is_of_the_device(error) or not (raised_by_torch(error) or raised_by_call(error)):
            raise
        raise InvalidParameterError(
            f"optimizer={name} refuses lr={config.lr} or {given}: {first_line(error)}"
        ) from error
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer={name} made a {type(optimizer).__name__}; a torch.optim.Optimizer is expected.")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InvalidParameterError(
            f"optimizer={name} needs a closure that evaluates the loss again, which co-teaching cannot give. Use a "
            "first-order optimizer such as torch.optim.Adam or torch.optim.SGD."
        )
    return optimizer


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def state_of(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's ``state_dict`` with the shapes of what it trains; it aliases the optimizer."""
    return optimizer.state_dict() | {"shapes": shapes_of(optimizer)}


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer the state of a :func:`state_of`, which it does not keep.

    torch casts what it loads, even strings; here every parameter gets back its own. Only the memory layout is that of
    the parameter, as fused optimizers go through both without looking at the strides.
    """
    own = copied({name: value for name, value in state.items() if name != "shapes"})
    if type(optimizer).load_state_dict is Optimizer.load_state_dict:  # rebuilds what it can iterate over, and may fail
        optimizer.load_state_dict(own | {"state": {index: _tensors_in(each) for index, each in own["state"].items()}})
        optimizer.state.update({key: each for key, each in own["state"].items() if not isinstance(key, int)})
    else:
        optimizer.load_state_dict(own)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, saved in own["state"].items():
        if isinstance(index, int):
            parameter = parameters[index]
            loaded = optimizer.state[parameter]
            for name, value in saved.items():
                if isinstance(value, Tensor):
                    value = value.to(loaded[name].device)
                    is_dense = value.layout == torch.strided
                    if is_dense and value.shape == parameter.shape and value.stride() != parameter.stride():
                        value = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
                loaded[name] = value


def _tensors_in(state: Any) -> Any:
    if not isinstance(state, dict):
        return None
    return {name: value if isinstance(value, Tensor) else None for name, value in state.items()}


def shapes_of(optimizer: Optimizer) -> list[tuple[int, ...]]:
    """Of all parameters that it trains."""
    return [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
