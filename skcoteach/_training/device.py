"""The device and what belongs to it: the choice, precisions, random numbers, and settings that all threads share.

Settings of the process are changed for a while and left as they were found; who does so holds :data:`SHARED_STATE`.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skcoteach._arrays import is_dict
from skcoteach._interrupts import KINDS_OF_DEVICES, ProcessState
from skcoteach._sklearn import InvalidParameterError

#: Of the networks' weights, by the name of the precision.
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "float64": torch.float64}

#: What NumPy does about what is no number.
NUMPYS_DEFAULTS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}

#: Held by who has changed what all threads of the process share (global random states, settings of torch).
SHARED_STATE = threading.RLock()


def _free_in_child() -> None:
    """In a forked process, a lock that another thread held at the fork would be held for ever."""
    global SHARED_STATE
    if SHARED_STATE.acquire(blocking=False):
        SHARED_STATE.release()
    else:
        SHARED_STATE = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_in_child)


def choose_device(device: Any, X: Any, precision: str, number: int | None = None) -> torch.device:
    """The device to train on.

    Parameters
    ----------
    device : "auto", str, int or torch.device
    X : Tensor or anything else
        "auto" follows a tensor that lies on an accelerator, or the first one of a dict.
    precision : {"float32", "tf32", "bf16", "float64"}
    number : int, optional
        Which one of several accelerators "auto" means.

    Raises
    ------
    InvalidParameterError
        If torch does not know the device, if it is not there, or if it lacks the precision.
    """
    if isinstance(device, str) and device == "auto":
        for each in X.values() if is_dict(X) else (X,):
            if isinstance(each, Tensor) and each.device.type != "cpu":
                return each.device
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        lacks_precision = accelerator is not None and accelerator.type == "mps" and precision == "float64"
        if accelerator is None or lacks_precision:
            return torch.device("cpu")
        return accelerator if number is None else torch.device(accelerator.type, number)
    dtype = torch.float32
    try:
        wanted = torch.device(device)
        if wanted.type == "meta":
            raise RuntimeError("it holds no numbers")
        for dtype in (torch.float32, DTYPES[precision]):
            torch.empty(1, dtype=dtype, device=wanted)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0]
        used = f" with precision={precision!r}" if dtype is DTYPES["float64"] else ""
        raise InvalidParameterError(f"device={device!r} cannot be used{used}: {reason}") from error
    return wanted


def sum_dtype(device: torch.device) -> torch.dtype:
    """In which many numbers are added up: double precision, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU, have the memory that a step frees kept for the next one, where the C library is glibc.

    It gives freed memory back to the system, and the next step pays for fetching it page by page (a third of the time
    of a small convolutional network), unless a larger block has been freed before: then it keeps up to twice as much.
    32 MB is the most that counts (mallopt(3), M_MMAP_THRESHOLD). The block is never touched.
    """
    if device.type == "cpu":
        torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


# Each purpose has random numbers of its own, told apart by what seeds them.


def initial_weights(seed: int) -> tuple[int, ...]:
    """Entropy of the networks' first weights."""
    return seed, 0


def order_and_noise(seed: int, epoch: int) -> tuple[int, ...]:
    """Entropy of an epoch: the order of its examples, dropout and augmentation."""
    return seed, epoch + 1


def predictions(seed: int, epoch: int) -> tuple[int, ...]:
    """Entropy of what networks draw that draw in eval mode, when they predict after so many epochs."""
    return seed, epoch, 1


def calibration(seed: int, epoch: int) -> tuple[int, ...]:
    """As :func:`predictions`, where the temperature is found."""
    return seed, epoch, 2


def first_look() -> tuple[int, ...]:
    """Entropy of what a Dataset draws that is looked at before the seed is known."""
    return 0, 0, 4


def memory_layout_probe(seed: int) -> tuple[int, ...]:
    """Entropy of what networks draw that are asked for their memory layout."""
    return seed, 0, 3


def validation_split(seed: int) -> tuple[int, ...]:
    """Entropy of which examples are held out."""
    return seed, 0, 5


def noise_of_process(seed: int, epoch: int, rank: int) -> tuple[int, ...]:
    """Entropy of an epoch's dropout and augmentation in one of several processes."""
    return seed, epoch + 1, 6, rank


@contextmanager
def random_state(device: torch.device, entropy: tuple[int, ...]) -> Iterator[None]:
    """Seed torch, NumPy and Python from ``entropy``, and leave their global states as they were found.

    New tensors are float32, whatever the default of torch is, and it is left as it was, too. Convolutions on CUDA take
    algorithms that give the same bits again. As these states belong to the whole process, threads take turns.
    """
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    cudnn = torch.backends.cudnn
    with (
        SHARED_STATE,
        torch.random.fork_rng(devices=[]),
        _forked_accelerator(device, int(seeds[2])),
        ExitStack() as found,  # which goes on where Ctrl-C interrupts one of them
    ):
        found.callback(random.setstate, random.getstate())
        found.callback(np.random.set_state, np.random.get_state())
        found.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
        found.callback(setattr, cudnn, "deterministic", cudnn.deterministic)
        found.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1])
        torch.default_generator.manual_seed(int(seeds[2]))
        cudnn.benchmark, cudnn.deterministic = False, True
        yield


@contextmanager
def _forked_accelerator(device: torch.device, seed: int) -> Iterator[None]:
    """The generator of an accelerator seeded, and left as it was found."""
    if device.type == "mps":  # there is one, and its functions take no device
        found = torch.mps.get_rng_state()
        torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            torch.mps.set_rng_state(found)
    elif device.type in ("cuda", "xpu"):
        module = torch.get_device_module(device)
        with torch.random.fork_rng(devices=[device], device_type=device.type), module.device(device):
            module.manual_seed(seed)
            yield
    else:
        yield


@contextmanager
def ignoring_callers_modes() -> Iterator[None]:
    """As by default where the caller is within ``torch.no_grad``, ``inference_mode``, ``autocast`` or ``np.errstate``.

    Ctrl-C leaves these, and all that :func:`random_state` changes, as they were found.
    """
    with SHARED_STATE:
        found = ProcessState()
    try:
        with torch.inference_mode(False), torch.enable_grad(), without_autocast(), np.errstate(**NUMPYS_DEFAULTS):
            yield
    except KeyboardInterrupt:
        with SHARED_STATE:
            found.put_back()
        raise


@contextmanager
def without_autocast() -> Iterator[None]:
    """As by default where the caller is within ``torch.autocast``: the precision is a parameter."""
    with ExitStack() as stack:
        for kind in KINDS_OF_DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def float32_products(device: torch.device, precision: str) -> Iterator[None]:
    """Where ``precision`` is "tf32", multiply float32 numbers on CUDA in TF32; leave the settings as found."""
    if device.type != "cuda" or precision != "tf32":
        yield
        return
    cudnn = torch.backends.cudnn
    settings: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    with SHARED_STATE:
        before = [each.fp32_precision for each in settings]
        try:
            for each in settings:
                each.fp32_precision = "tf32"
            yield
        finally:
            for each, found in zip(settings, before, strict=True):
                each.fp32_precision = found


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Where ``precision`` is "bf16", layers that gain by it compute in bfloat16."""
    if precision != "bf16":
        return nullcontext()
    # the cache of converted weights would outlive the next step where the caller is within autocast
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
