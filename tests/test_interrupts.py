"""Ctrl-C waits until a block is left, and what the process had before is put back whole."""

import contextlib
import random
import signal
import threading
import warnings

import numpy as np
import pytest
import torch
from helpers import global_random_states

from skcoteach._interrupts import InterruptsHeldBack, ProcessState


def press():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def handled():
    """What was handled by a handler of the user's own; the one before is put back."""
    numbers = []
    found = signal.signal(signal.SIGINT, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGINT, found)


def test_ctrl_c_waits_until_the_block_is_left():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with InterruptsHeldBack():
            press()
            press()
            done.append("inside")
        done.append("after")
    assert done == ["inside"]
    with pytest.raises(KeyboardInterrupt):  # and works as before
        press()


def test_the_users_own_handler_is_called_once_after_the_block(handled):
    with InterruptsHeldBack():
        press()
        press()
        assert handled == []
    assert handled == [signal.SIGINT]
    press()
    assert len(handled) == 2


def test_a_failing_block_is_left_as_well(handled):
    with pytest.raises(OSError), InterruptsHeldBack():
        press()
        raise OSError
    assert handled == [signal.SIGINT]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_where_nothing_of_python_handles_it_nothing_is_done(handler):
    found = signal.signal(signal.SIGINT, handler)
    try:
        with InterruptsHeldBack():
            assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, found)


def test_in_another_thread_nothing_is_done():
    found = []

    def run():
        with InterruptsHeldBack():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def settings():
    return (
        *global_random_states(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_cache_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        warnings.filters,
    )


def test_all_that_was_changed_is_put_back():
    before, state = settings(), ProcessState()
    with contextlib.ExitStack() as never_left_in_order:
        never_left_in_order.enter_context(warnings.catch_warnings())
        never_left_in_order.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_autocast_enabled("cpu", True)
        torch.set_autocast_cache_enabled(not torch.is_autocast_cache_enabled())
        torch.backends.cudnn.deterministic = not torch.backends.cudnn.deterministic
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        assert not any(one == other for one, other in zip(settings()[:-1], before[:-1], strict=True))
        state.put_back()
        assert settings() == before
