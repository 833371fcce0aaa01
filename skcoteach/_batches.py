"""A batch is a tensor, or a dict of tensors that reach ``forward`` as keywords; this is the one place that tells them
apart.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Batch = Tensor | dict[str, Tensor]


def each_tensor(function: Callable[[Tensor], Any], batch: Batch) -> Any:
    """What a function makes of the tensor, or a dict of what it makes of each.

    Examples
    --------
    >>> each_tensor(len, {"ids": torch.zeros(3, 7), "mask": torch.zeros(3, 5)})
    {'ids': 3, 'mask': 3}
    """
    if isinstance(batch, dict):
        return {key: function(tensor) for key, tensor in batch.items()}
    return function(batch)


def call(network: Callable[..., Any], batch: Batch) -> Any:
    """What a network makes of a batch."""
    return network(**batch) if isinstance(batch, dict) else network(batch)


def tensors_of(batch: Batch) -> list[Tensor]:
    """The tensor, or those of the dict."""
    return list(batch.values()) if isinstance(batch, dict) else [batch]


def length_of(batch: Batch) -> int:
    """Number of its examples."""
    return len(tensors_of(batch)[0])


def device_of(batch: Batch) -> torch.device:
    """Where it is."""
    return tensors_of(batch)[0].device


def described(batch: Batch) -> str:
    """Shapes and dtypes, for messages."""
    if isinstance(batch, dict):
        return "the entries " + ", ".join(f"{key} {tuple(each.shape)} {each.dtype}" for key, each in batch.items())
    return f"shape {tuple(batch.shape)} and dtype {batch.dtype}"
