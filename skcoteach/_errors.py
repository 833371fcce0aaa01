"""What goes wrong, in the user's words: errors of torch retold, and warnings at the user's own line."""

import contextlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from skcoteach._batches import Batch, described

from skcoteach._sklearn import callback

_PACKAGE = os.path.dirname(os.path.realpath(__file__)) + os.sep
_TORCH = os.path.dirname(os.path.realpath(torch.__file__)) + os.sep
_LAYERS = (_PACKAGE + "networks.py", _PACKAGE + "_torch.py", os.path.join(_PACKAGE, "_training", "engines", ""))
#: Run in the user's place: they only call the package.
_BENCHMARKS = _PACKAGE + "benchmarks" + os.sep
#: What wraps the methods that users call.
_WRAPPERS = (
    os.path.realpath(contextlib.__file__),
    os.path.dirname(os.path.realpath(callback.__file__)) + os.sep,
)

#: In which what users hand over is read.
_LIBRARIES = ("narwhals", "numpy", "pandas", "scipy", "skcoteach", "sklearn", "torch")
#: What a ``forward`` says that takes other keywords than it was given.
_OTHER_KEYWORDS = re.compile(r"\bforward\(\) (got an unexpected keyword|missing \d+ required)")
#: What torch raises where it is given what it cannot compute with.
COMPUTING = (RuntimeError, IndexError, ValueError, TypeError, AssertionError)


class DivergedError(ValueError):
    """The loss became NaN or infinite."""


class OtherProcessError(RuntimeError):
    """Another process that trains with this one has failed, or is not there any more."""


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line from which the package was called."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(file: str) -> bool:
    file = os.path.realpath(file)
    return file.startswith((_PACKAGE, *_WRAPPERS)) and not file.startswith(_BENCHMARKS)


def raised_by_torch(error: BaseException) -> bool:
    """Whether an error comes from a file of torch or from our own layers, rather than from the user's code."""
    raised_in = os.path.realpath(traceback.extract_tb(error.__traceback__)[-1].filename)
    return raised_in.startswith((_TORCH, *_LAYERS))


def raised_by_call(error: BaseException) -> bool:
    """Whether what was called in the frame that has caught this took no such arguments, or is written in C."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is None


def is_of_the_device(error: BaseException) -> bool:
    """Whether the device, not what it was asked to compute, is the reason."""
    return isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError))


def first_line(error: BaseException) -> str:
    """What an error says, without the traceback of C++ that torch puts behind it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Where a library, or we, refuse something without saying what, say its name; the user's own errors pass.

    Raises
    ------
    ValueError, TypeError
        If the library complains: a TypeError stays one.
    """
    try:
        yield
    except Exception as error:
        is_named = isinstance(error, (ValueError, TypeError)) and re.search(rf"\b{name}\b", str(error))
        own_words = is_named and _package_of(error) in ("skcoteach", "sklearn")
        if (
            own_words
            or _package_of(error) not in _LIBRARIES
            or isinstance(error, MemoryError)
            or is_of_the_device(error)
        ):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be used: {str(error) or type(error).__name__}") from error


@contextlib.contextmanager
def said_of(name: str) -> Iterator[None]:
    """What we or a library say of X, y or weights is said of those with this name; the user's own errors pass.

    Raises
    ------
    ValueError, TypeError
        If we or a library complain.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if _package_of(error) not in _LIBRARIES:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def _package_of(error: BaseException) -> str:
    """The package in which an error was raised, and not the user's if that is another one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return "" if name.startswith("skcoteach.benchmarks") else name.partition(".")[0]


@contextlib.contextmanager
def explained(network: nn.Module, inputs: Batch) -> Iterator[None]:
    """Where torch cannot compile or compute a network, say what it was given; the user's own errors pass as they are.

    Raises
    ------
    ValueError
        If torch complains, or if ``forward`` takes other keywords than the entries of X.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise ValueError(f"compile=True cannot be done here: {first_line(error)}. Use compile=False.") from error
        if isinstance(inputs, dict) and isinstance(error, TypeError) and _OTHER_KEYWORDS.search(str(error)):
            raise ValueError(
                f"{type(network).__name__} does not take the entries of X, {', '.join(inputs)}, which reach its "
                f"forward as keywords: {first_line(error)}"
            ) from error
        computing = isinstance(error, COMPUTING) and not is_of_the_device(error)
        if not computing or not raised_by_torch(error) or _is_told(error):
            raise
        raise ValueError(
            f"{type(network).__name__} cannot take a batch of X with {described(inputs)}: {error}"
        ) from error


def _is_told(error: Exception) -> bool:
    """Whether our own layers have said it in the user's words."""
    raised_in = os.path.realpath(traceback.extract_tb(error.__traceback__)[-1].filename)
    return isinstance(error, ValueError) and raised_in.startswith(_LAYERS)


@contextlib.contextmanager
def explained_backward(network: nn.Module) -> Iterator[None]:
    """Where torch cannot compute the gradients of networks, say so; the user's own errors pass as they are.

    Raises
    ------
    ValueError
        If torch complains.
    """
    try:
        yield
    except Exception as error:
        if is_of_the_device(error) or not raised_by_torch(error):
            raise
        raise ValueError(
            f"The gradients of {type(network).__name__} or of its peer cannot be computed: "
            f"{first_line(error)} A forward must not change in place what it has computed with, and must not "
            "use what an earlier call has computed, unless it is detached."
        ) from error
