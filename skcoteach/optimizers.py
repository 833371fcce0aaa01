"""What co-teaching needs to know of torch's optimizers: which suit one vector of weights, and how to undo updates.

They are made, from the user's parameters, in ``run``.
"""

import copy

import torch
from torch import Tensor
from torch.optim import Optimizer


class OneTensorAdam(torch.optim.Adam):
    """Adam, fused, of a single tensor: the same numbers, without looking for groups of tensors at every step.

    Where networks are so small that a step takes less than a millisecond, that search takes 5 % of it.
    """

    def step(self, closure=None):
        """Update the parameter once; ``closure`` is as torch has it."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        (group,) = self.param_groups
        (parameter,) = group["params"]
        beta1, beta2 = group["betas"]
        update = torch._fused_adamw_ if group.get("decoupled_weight_decay") else torch._fused_adam_
        with torch.no_grad():
            state = self._state_of(parameter, group)
            state["step"] += 1
            update(
                [parameter],
                [parameter.grad],
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [state["max_exp_avg_sq"]] if group["amsgrad"] else [],
                [state["step"]],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=group["amsgrad"],
                maximize=group["maximize"],
            )
        return loss

    def _state_of(self, parameter: Tensor, group: dict) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for name in ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])):
                state[name] = torch.zeros_like(parameter)
        return state


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


#: Optimizers that treat every number by itself, so that all of a network may lie in one vector.
ELEMENTWISE = {
    torch.optim.ASGD, torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW,
    torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop, torch.optim.SGD,
    OneTensorAdam,
}  # fmt: skip


def is_elementwise(optimizer: object) -> bool:
    """Whether this makes optimizers that treat every number by itself."""
    return isinstance(optimizer, type) and optimizer in ELEMENTWISE


def state_of(optimizer: Optimizer) -> dict:
    """A copy of an optimizer's state, for :func:`set_state`."""
    if is_elementwise(type(optimizer)):  # many times as fast, where nothing but tensors may be in it
        return {parameter: _cloned(state) for parameter, state in optimizer.state.items()}
    return copy.deepcopy(optimizer.state_dict())


def set_state(optimizer: Optimizer, state: dict) -> None:
    """Take an optimizer back to a state that it had."""
    if is_elementwise(type(optimizer)):
        optimizer.state.clear()
        optimizer.state.update({parameter: _cloned(own) for parameter, own in state.items()})
    else:
        optimizer.load_state_dict(copy.deepcopy(state))


def _cloned(state: dict) -> dict:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
