"""Making a fitted estimator travel: written for the CPU, and back on its devices where these are there."""

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from skcoteach._errors import warn_user
from skcoteach._version import __version__

CPU = torch.device("cpu")
_HOMES, _VERSION = "_devices_when_pickled", "_version_when_pickled"


def with_version(state: dict[str, Any]) -> dict[str, Any]:
    """The state with a note of what has written it."""
    return state | {_VERSION: __version__}


def without_version(state: dict[str, Any]) -> dict[str, Any]:
    """The state without that note; a warning says so where another version has written it."""
    written_by = state.get(_VERSION, "of another time")
    if written_by != __version__:
        warn_user(
            f"This estimator was pickled by skcoteach {written_by}; here is {__version__}. It may not work, or work "
            "otherwise: fit it again."
        )
    return {name: value for name, value in state.items() if name != _VERSION}


def for_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an estimator with everything on the CPU and a note of where networks and arrays were."""
    homes = {name: home for name, value in state.items() if (home := _home(value)) not in (None, CPU)}
    if not homes:
        return state
    return {name: _moved(value, CPU) for name, value in state.items()} | {_HOMES: homes}


def for_here(state: dict[str, Any]) -> dict[str, Any]:
    """The state with networks and arrays back on the devices that they came from, where these are there."""
    homes = state.get(_HOMES, {})
    state = {name: value for name, value in state.items() if name != _HOMES}
    return state | {name: _moved(state[name], home) for name, home in homes.items() if is_available(home)}


def _home(value: Any) -> torch.device | None:
    """Device of the first tensor or network in ``value``."""
    if type(value) in (tuple, list, dict):
        inside = value.values() if isinstance(value, dict) else value
        return next((home for each in inside if (home := _home(each)) is not None), None)
    if isinstance(value, nn.Module):
        value = next(value.parameters(), None)
    return value.device if isinstance(value, Tensor) else None


def _moved(value: Any, device: torch.device) -> Any:
    """``value`` with every tensor and network in it on ``device``; what is there already is not copied."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, nn.Module):
        here = all(tensor.device == device for tensor in (*value.parameters(), *value.buffers()))
        return value if here else copy.deepcopy(value).to(device)
    if type(value) in (tuple, list):
        return type(value)(_moved(each, device) for each in value)
    if type(value) is dict:
        return {name: _moved(each, device) for name, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        moved = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(moved, field.name, _moved(getattr(value, field.name), device))
        return moved
    return value


def is_available(device: torch.device) -> bool:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True
