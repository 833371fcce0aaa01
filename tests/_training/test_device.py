"""Where the training computes, with which digits and random numbers; what all threads share is left as it was found."""

import ctypes
import os
import platform
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from _training.builders import X, Y, estimator

from skcoteach._sklearn import InvalidParameterError
from skcoteach._training.device import (
    DTYPES,
    SHARED_STATE,
    autocast,
    choose_device,
    float32_products,
    ignoring_callers_modes,
    initial_weights,
    memory_layout_probe,
    order_and_noise,
    predictions,
    random_state,
    calibration,
    sum_dtype,
    without_autocast,
)

pytestmark = pytest.mark.filterwarnings("error")

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


def is_free():
    """Whether another thread could hold what is shared."""
    answers = []

    def ask():
        free = SHARED_STATE.acquire(blocking=False)
        if free:
            SHARED_STATE.release()
        answers.append(free)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return answers[0]


# --- which device ----------------------------------------------------------------------------------------------------


@pytest.fixture
def accelerator(monkeypatch):
    """Let torch report an accelerator, or none."""

    def report(kind):
        device = kind and torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: device is not None)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)

    return report


@pytest.mark.parametrize(
    ("reported", "precision", "chosen"),
    [
        (None, "float32", "cpu"),
        ("cuda", "float32", "cuda"),
        ("cuda", "float64", "cuda"),
        ("mps", "float32", "mps"),
        ("mps", "bf16", "mps"),
        ("mps", "float64", "cpu"),
        ("xpu", "float64", "xpu"),
    ],
)
def test_auto_is_an_accelerator_that_supports_the_precision_else_the_cpu(reported, precision, chosen, accelerator):
    accelerator(reported)
    assert choose_device("auto", X, precision) == torch.device(chosen)
    assert choose_device("auto", torch.from_numpy(X), precision) == torch.device(chosen)


def test_of_several_processes_each_has_the_accelerator_of_its_number(accelerator):
    accelerator("cuda")
    assert choose_device("auto", X, "float32", 1) == torch.device("cuda:1")
    accelerator(None)
    assert choose_device("auto", X, "float32", 1) == CPU


def test_auto_follows_a_tensor_that_is_on_an_accelerator(accelerator):
    accelerator("cuda")
    assert choose_device("auto", torch.ones(2, 2, device="meta"), "float32") == torch.device("meta")
    assert choose_device("cpu", torch.ones(2, 2, device="meta"), "float32") == CPU
    mixed = {"a": X, "b": torch.ones(2), "c": torch.ones(2, 2, device="meta")}
    assert choose_device("auto", mixed, "float32") == torch.device("meta")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_a_device_may_be_given_as_torch_takes_it(device, accelerator):
    accelerator("cuda")
    assert choose_device(device, X, "float32") == torch.device(device)
    networks = estimator(device=device, epochs=1).fit(X, Y).modules_
    assert {parameter.device.type for network in networks for parameter in network.parameters()} == {"cpu"}


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "", "hpu", "cuda:99", 99, "meta"])
def test_devices_that_are_not_there_are_refused_in_one_line(device):
    with pytest.raises(InvalidParameterError, match=r"device=.* cannot be used: ") as raised:
        choose_device(device, X, "float32")
    assert repr(device) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_device_that_lacks_the_precision_is_refused(monkeypatch):
    def empty(*size, dtype, device):
        if dtype == torch.float64:
            raise TypeError("it has no float64\nand more lines")

    monkeypatch.setattr(torch, "empty", empty)
    assert choose_device("cpu", X, "float32") == CPU
    with pytest.raises(InvalidParameterError, match="with precision='float64': it has no float64$"):
        choose_device("cpu", X, "float64")


def test_only_float64_asks_for_weights_of_double_precision():
    assert {name for name, dtype in DTYPES.items() if dtype == torch.float64} == {"float64"}
    assert {*DTYPES.values()} == {torch.float32, torch.float64}


def test_sums_are_of_double_precision_where_the_device_has_it():
    assert [sum_dtype(device) for device in (CPU, CUDA, MPS)] == [torch.float64, torch.float64, torch.float32]


TAKE_BLOCKS = """
import ctypes, torch
from skcoteach._training.device import keep_freed_memory
names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
def is_mapped(megabytes):
    before = mallinfo().hblkhd
    block = torch.empty(megabytes * 2**20, dtype=torch.uint8, device="cpu")
    return mallinfo().hblkhd > before
keep_freed_memory(torch.device("cuda"))
elsewhere = is_mapped(20)
keep_freed_memory(torch.device("cpu"))
print(elsewhere, is_mapped(30))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="is about newer glibc"
)
def test_memory_that_a_step_frees_is_kept_for_the_next_where_steps_are_on_the_cpu():
    """Memory that is mapped goes back to the system when it is freed. In a process that has freed no larger block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    told = subprocess.run(
        [sys.executable, "-c", TAKE_BLOCKS], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["True", "False"]


# --- random numbers --------------------------------------------------------------------------------------------------


def global_random_states():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def draw(*entropy, device=CPU):
    with random_state(device, entropy):
        return torch.rand(1).item(), np.random.rand(), random.random()


def test_random_state_depends_on_every_number_it_is_given():
    assert draw(1) == draw(1)
    assert draw(1, 2) == draw(1, 2)
    for drawn in zip(draw(1), draw(2), draw(1, 1), draw(1, 2), draw(2, 1), strict=True):
        assert len(set(drawn)) == 5


def test_random_state_does_not_depend_on_what_ran_before():
    expected = draw(5)
    torch.manual_seed(3), np.random.seed(4), random.seed(5)
    torch.rand(7), np.random.rand(7), random.random()
    assert draw(5) == expected


def test_every_purpose_has_random_numbers_of_its_own():
    purposes = [initial_weights(3), memory_layout_probe(3)]
    purposes += [each(3, epoch) for each in (order_and_noise, predictions, calibration) for epoch in (0, 1)]
    drawn = [draw(*entropy) for entropy in purposes]
    assert len(set(drawn)) == len(purposes) == 8
    for own in (initial_weights, memory_layout_probe):
        assert draw(*own(3)) != draw(*own(4))
    for own in (order_and_noise, predictions, calibration):
        assert draw(*own(3, 1)) != draw(*own(4, 1))


def test_global_random_states_are_left_as_they_were_found():
    before = global_random_states()
    draw(1)
    assert global_random_states() == before


def test_global_random_states_are_restored_when_the_users_code_raises():
    before = global_random_states()
    with pytest.raises(KeyboardInterrupt), random_state(CPU, (1,)):
        torch.rand(3), np.random.rand(3), random.random()
        raise KeyboardInterrupt
    assert global_random_states() == before


@pytest.mark.parametrize("found", [(True, False), (False, True)])
def test_convolutions_on_cuda_give_the_same_bits_again_and_the_settings_are_left_as_found(found, monkeypatch):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", found[0])
    monkeypatch.setattr(cudnn, "deterministic", found[1])
    with pytest.raises(KeyboardInterrupt), random_state(CPU, (1,)):
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
        raise KeyboardInterrupt
    assert (cudnn.benchmark, cudnn.deterministic) == found


def test_threads_take_turns_at_the_random_numbers():
    with random_state(CPU, (1,)):
        assert not is_free()
        with random_state(CPU, (2,)):  # the same thread may go on
            assert not is_free()
        assert not is_free()
    assert is_free()


def test_an_inner_random_state_leaves_the_outer_one_as_it_was():
    with random_state(CPU, (1,)):
        expected = [(torch.rand(1).item(), np.random.rand(), random.random()) for _ in range(2)]
    with random_state(CPU, (1,)):
        drawn = [(torch.rand(1).item(), np.random.rand(), random.random())]
        draw(2)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert drawn == expected


class Generator:
    """Stands for the only generator of a device."""

    def __init__(self):
        self.state = torch.tensor([42])
        self.seeds = []

    def get_rng_state(self):
        return self.state.clone()

    def manual_seed(self, seed):
        self.seeds.append(seed)
        self.state = torch.tensor([seed])

    def set_rng_state(self, state):
        self.state = state


@pytest.fixture
def mps(monkeypatch):
    generator = Generator()
    for name in ("get_rng_state", "manual_seed", "set_rng_state"):
        monkeypatch.setattr(torch.mps, name, getattr(generator, name))
    return generator


def test_the_generator_of_mps_is_seeded_and_left_as_it_was_found(mps):
    with pytest.raises(KeyboardInterrupt), random_state(MPS, (1,)):
        assert mps.state.tolist() == mps.seeds != [42]
        raise KeyboardInterrupt
    assert mps.state.tolist() == [42]


def test_the_seed_of_mps_depends_on_every_number(mps):
    for entropy in [(1,), (1,), (2,), (1, 2)]:
        draw(*entropy, device=MPS)
    assert mps.seeds[0] == mps.seeds[1]
    assert len({*mps.seeds}) == 3


def test_the_generator_of_mps_is_let_alone_where_the_training_is_elsewhere(mps):
    draw(1)
    assert mps.seeds == []


@on_cuda
def test_the_generator_of_the_gpu_is_seeded_and_left_as_it_was_found():
    device = torch.device("cuda", torch.cuda.current_device())
    torch.rand(5, device=device)
    before = torch.cuda.get_rng_state(device)
    drawn = []
    for entropy in [(1,), (1,), (2,)]:
        with random_state(device, entropy):
            drawn.append(torch.rand(1, device=device).item())
        assert torch.equal(torch.cuda.get_rng_state(device), before)
    assert drawn[0] == drawn[1] != drawn[2]


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.fixture
def products():
    """The settings of CUDA for products of float32, left as they were found."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before = [each.fp32_precision for each in settings]
    yield settings
    for each, value in zip(settings, before, strict=True):
        each.fp32_precision = value


@pytest.mark.parametrize("found", ["ieee", "tf32"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "float64"])
def test_products_of_float32_are_in_tf32_where_wanted_and_the_setting_is_left_as_found(precision, found, products):
    for each in products:
        each.fp32_precision = found
    with pytest.raises(KeyboardInterrupt), float32_products(CUDA, precision):
        assert [each.fp32_precision for each in products] == ["tf32" if precision == "tf32" else found] * 3
        raise KeyboardInterrupt
    assert [each.fp32_precision for each in products] == [found] * 3


def test_settings_of_cuda_are_not_touched_for_other_devices(products):
    before = [each.fp32_precision for each in products]
    with float32_products(CPU, "tf32"):
        assert [each.fp32_precision for each in products] == before


def test_threads_take_turns_at_the_settings_where_these_are_changed(products):
    with float32_products(CUDA, "tf32"):
        assert not is_free()
    assert is_free()
    with float32_products(CUDA, "float32"), float32_products(CPU, "tf32"):
        assert is_free()


def test_bf16_computes_layers_in_bfloat16():
    layer = torch.nn.Linear(2, 2)
    with autocast(CPU, "bf16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    assert layer(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "tf32", "float64"])
def test_only_bf16_is_autocast(precision):
    with autocast(CPU, precision):
        assert not torch.is_autocast_enabled("cpu")


def test_weights_that_changed_are_seen_in_bfloat16_where_the_caller_is_within_autocast():
    """Autocast remembers the weights that it has rounded for as long as the outermost one lasts."""
    layer, inputs, outputs = torch.nn.Linear(2, 2), torch.ones(1, 2), []
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):
            with autocast(CPU, "bf16"):
                outputs.append(layer(inputs))
            with torch.no_grad():
                layer.weight.mul_(3)
    assert not torch.allclose(*outputs, rtol=0.1)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_autocast_of_the_caller_is_switched_off_for_a_while(kind):
    with torch.autocast(kind, torch.bfloat16) if kind == "cpu" else enabled(kind):
        with pytest.raises(KeyboardInterrupt), without_autocast():
            assert not torch.is_autocast_enabled(kind)
            raise KeyboardInterrupt
        assert torch.is_autocast_enabled(kind)
    with without_autocast():
        assert not torch.is_autocast_enabled(kind)


class enabled:
    """``torch.autocast`` of a device that is not there."""

    def __init__(self, kind):
        self.kind = kind

    def __enter__(self):
        torch.set_autocast_enabled(self.kind, True)

    def __exit__(self, *_):
        torch.set_autocast_enabled(self.kind, False)


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_modes_of_the_caller_are_ignored_for_a_while(mode):
    layer = torch.nn.Linear(2, 2)

    def modes():
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

    with mode():
        before = modes()
        with ignoring_callers_modes():
            assert modes() == (True, False, False)
            outputs = layer(torch.ones(1, 2))
            outputs.sum().backward()
        assert modes() == before != (True, False, False)
    assert outputs.dtype == layer.weight.grad.dtype == torch.float32
