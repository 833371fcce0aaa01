"""The private corners of torch that the package needs, used in this one place.

When torch moves one of them, this is the file to mend.
"""

from typing import Any

import torch
from torch import Tensor, nn

from skcoteach._version import missing_name

try:
    from torch import _fused_adam_, _fused_adamw_
    from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
    from torch.nn.modules.module import _has_any_global_hook
except ImportError as error:
    raise missing_name("torch >= 2.11, < 3", torch.__version__, error) from error


def is_hooked(module: nn.Module) -> bool:
    """Whether something listens when the module is called."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or _has_any_global_hook()


def is_hooked_parameter(parameter: nn.Parameter) -> bool:
    """Whether something listens when the parameter gets its gradient."""
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """The module's own buffers, those that are None, too; what is put there is a buffer."""
    return module._buffers


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The module's own children in their order, also those that are None or there twice."""
    return module._modules


def hooks_of(module: nn.Module) -> list[tuple[str, bool, Any]]:
    """What listens to the module: when, whether to keywords, too, and who."""
    names = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return [
        (name, number in getattr(module, f"{name}_with_kwargs", ()), hook)
        for name in names
        for number, hook in getattr(module, name).items()
    ]


def keeps_running_statistics(module: nn.Module) -> bool:
    """Whether the module is a normalisation whose mean and variance follow the batches."""
    return isinstance(module, _NormBase) and module.track_running_stats


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether what the module makes of an example depends, in its mode of now, on the others of the batch."""
    return module.training and (isinstance(module, _BatchNorm) or keeps_running_statistics(module))


def default_store() -> Any:
    """Where the processes of the default group leave each other notes."""
    from torch.distributed.distributed_c10d import _get_default_store  # not in every build of torch

    return _get_default_store()


def fused_adam_(parameter: Tensor, state: dict[str, Tensor], group: dict) -> None:
    """Update one tensor as :class:`torch.optim.Adam` with ``fused=True`` does, and the state with it."""
    beta1, beta2 = group["betas"]
    update = _fused_adamw_ if group.get("decoupled_weight_decay") else _fused_adam_
    state["step"] += 1
    gradient: Any = parameter.grad
    update(
        [parameter],
        [gradient],
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


def tanh_backward(gradient: Tensor, output: Tensor) -> Tensor:
    """Gradient of the input of ``tanh``."""
    return torch.ops.aten.tanh_backward(gradient, output)


def threshold_backward(gradient: Tensor, output: Tensor, threshold: float) -> Tensor:
    """The gradient where the output is above the threshold, else 0: for 0 that of ``relu``."""
    return torch.ops.aten.threshold_backward(gradient, output, threshold)


def sigmoid_backward(gradient: Tensor, output: Tensor) -> Tensor:
    """Gradient of the input of ``sigmoid``."""
    return torch.ops.aten.sigmoid_backward(gradient, output)
