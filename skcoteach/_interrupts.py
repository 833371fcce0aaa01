"""Ctrl-C at the right moment: held back for a while, and what the process had before put back afterwards."""

import random
import signal
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import torch

#: Of which autocast may be on.
KINDS_OF_DEVICES = ("cpu", "cuda", "mps", "xpu")


class InterruptsHeldBack:
    """In the main thread, Ctrl-C within the block takes effect when it is left.

    Elsewhere, and where SIGINT is ignored or handled by what is not Python, it does nothing: there no block is
    interrupted.

    Examples
    --------
    >>> import signal
    >>> done = []
    >>> try:
    ...     with InterruptsHeldBack():
    ...         signal.raise_signal(signal.SIGINT)
    ...         done.append("all of it")
    ... except KeyboardInterrupt:
    ...     done.append("interrupted")
    >>> done
    ['all of it', 'interrupted']
    """

    def __init__(self) -> None:
        self._found: Any = None
        self._pressed: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._found = signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *error: object) -> None:
        if self._found is not None:
            signal.signal(signal.SIGINT, self._found)
            if self._pressed is not None:
                self._found(*self._pressed)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pressed = number, frame


class ProcessState:
    """Random numbers, modes and settings that all of the process shares, as they are when this is made.

    Context managers put back what they have changed, but Ctrl-C may come while they do so.
    """

    def __init__(self) -> None:
        cudnn = torch.backends.cudnn
        self._torch = torch.get_rng_state()
        self._numpy = np.random.get_state()
        self._python = random.getstate()
        self._settings: list[tuple[Callable[..., Any], tuple]] = [
            (torch.set_default_dtype, (torch.get_default_dtype(),)),
            (torch.set_grad_enabled, (torch.is_grad_enabled(),)),
            (torch.set_autocast_cache_enabled, (torch.is_autocast_cache_enabled(),)),
            (setattr, (cudnn, "benchmark", cudnn.benchmark)),
            (setattr, (cudnn, "deterministic", cudnn.deterministic)),
            (setattr, (warnings, "filters", warnings.filters)),
            (setattr, (warnings, "showwarning", warnings.showwarning)),
            *((torch.set_autocast_enabled, (kind, torch.is_autocast_enabled(kind))) for kind in KINDS_OF_DEVICES),
        ]

    def put_back(self) -> None:
        """Everything as it was."""
        with InterruptsHeldBack():
            torch.set_rng_state(self._torch)
            np.random.set_state(self._numpy)
            random.setstate(self._python)
            for change, arguments in self._settings:
                change(*arguments)
