"""The work of an epoch on an accelerator that is only pretended: its tensors have a shape and a dtype, but no numbers.

What asks the device for a number, or works on tensors that lie elsewhere, raises. A script, as the device, once there,
is the accelerator of its process.
"""

from contextlib import contextmanager
from itertools import product
from unittest.mock import patch

import numpy as np
import torch
from _training.builders import config_with
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from skcoteach._data.inputs import Inputs
from skcoteach._training import inference, selection, steps
from skcoteach._training.averaging import WeightAverage
from skcoteach._training.device import float32_products
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import ACTIVATIONS, Chains
from skcoteach._training.epoch_statistics import EpochStatistics, batches_of
from skcoteach._training.label_statistics import LabelStatistics
from skcoteach._training.optimizers import OneTensorAdam, make_optimizers
from skcoteach.augmentation import RandomFlip, RandomShift
from skcoteach.networks import SmallCNN, Standardize

DEVICE = "pretend"
N_CLASSES = 5
ITEM_SHAPES = {"chains": (6,), "autograd": (6,), "images": (3, 8, 8)}
BATCH_SIZE = 16
#: Examples of three batches, the last one shorter.
SEVERAL = 40
#: What is kept: all, as much as the budgets, and in any case as much as the floors of the classes.
KEEPING = ("all", "budgets", "floors")
OPTIMIZERS = {
    "fused Adam": (torch.optim.Adam, {}),
    "Adam": (torch.optim.Adam, {"fused": False}),
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
}


class TransferError(Exception):
    """Something works on two devices."""


class NoTransfers(TorchDispatchMode):
    """Refuses copies from one device to the other, which fake tensors allow.

    A single number on the CPU may be an operand of anything but a copy: kernels take it as a number.
    """

    copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operands = [*args, *kwargs.values()]
        if func not in self.copies:
            operands = [each for each in operands if not is_number_on_the_cpu(each)]
        if len(set(devices_of([*operands, result]))) > 1:
            raise TransferError(f"{func} works on two devices")
        return result


def is_number_on_the_cpu(value):
    return isinstance(value, Tensor) and value.ndim == 0 and value.device.type == "cpu"


def devices_of(values):
    """Of all tensors, those in lists and tuples included."""
    for each in values:
        if isinstance(each, Tensor):
            yield each.device.type
        elif isinstance(each, (list, tuple)):
            yield from devices_of(each)


class ChannelsLast(SmallCNN):
    """Its convolutions are so from the start: ``Module.to`` fails where tensors are fake."""

    def __init__(self, *args):
        super().__init__(*args)
        for layer in (self.conv1, self.conv2, self.conv3):
            layer.weight = nn.Parameter(layer.weight.detach().contiguous(memory_format=torch.channels_last))

    def to(self, memory_format):
        assert all(p.is_contiguous(memory_format=memory_format) for p in self.parameters() if p.ndim == 4)
        return self


def standardize(n_features):
    """Made on the CPU, as ``torch.tensor`` copies what it is given; then with buffers on the device."""
    with torch.device("cpu"):
        layer = Standardize(n_features)
    for name, buffer in layer.named_buffers():
        setattr(layer, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    return layer


def chain(*activations):
    return nn.Sequential(standardize(6), nn.Linear(6, 8), *activations, nn.Linear(8, N_CLASSES, bias=False))


class Training:
    """All that is there before an epoch, on the device."""

    def __init__(
        self,
        kind,
        optimizer="fused Adam",
        *,
        n=BATCH_SIZE,
        n_pairs=1,
        averaged=True,
        precision="float32",
        activations=(nn.ReLU(),),
    ):
        made_by, options = OPTIMIZERS[optimizer]
        self.kind = kind
        self.config = {
            "optimizer": made_by,
            "optimizer_options": options,
            "precision": precision,
            "device": torch.device(DEVICE),
        }
        with torch.device(DEVICE):
            self.networks = [
                ChannelsLast(3, N_CLASSES, 4) if kind == "images" else chain(*activations) for _ in range(2 * n_pairs)
            ]
            self.inputs = torch.zeros(n, *ITEM_SHAPES[kind])
            self.indices = self.targets = torch.zeros(n, dtype=torch.int64)
            self.weights = torch.ones(n)
            self.rates = torch.full((n_pairs, N_CLASSES), 0.2)
            self.losses = torch.zeros(2 * n_pairs, n)
        if kind == "chains":
            self.engine = Chains(self.networks)
        else:
            self.engine = Autograd(self.networks, N_CLASSES, precision=precision, channels_last=kind == "images")
        self.optimizers = make_optimizers(config_with(**self.config), self.engine)
        self.average = WeightAverage(self.networks, 0.9) if averaged else None
        self.label_statistics = LabelStatistics(np.zeros(n, dtype=int), N_CLASSES, self.weights)

    def augment(self, inputs):
        return nn.Sequential(RandomFlip(), RandomShift(2))(inputs) if self.kind == "images" else inputs * 0.9

    def run_epoch(self, keeping="floors", augmented=True):
        """As the Trainer's, from what is to be kept to the read-back, which is left out."""
        config = config_with(**self.config, augment=self.augment if augmented else None)
        sizes = {"batch_size": BATCH_SIZE, "n_classes": N_CLASSES}
        its_steps = steps.Steps(config, self.engine, self.optimizers, self.average, **sizes)
        self.engine.start()
        statistics = EpochStatistics(self.weights, BATCH_SIZE, len(self.networks))
        with float32_products(config.device, config.precision):
            results = its_steps.train(self.inputs, self.targets, self.weights, *self.keeping(keeping))
            statistics.add(self.indices, *results, self.targets, self.weights)
        self.engine.rest()
        self.label_statistics.restart()
        self.label_statistics.add(statistics.kept, statistics.losses, statistics.predicted, statistics.seen)

    def keeping(self, keeping):
        """The floors, and what is free beside."""
        floors = torch.zeros_like(self.losses)
        if keeping == "all":
            return floors, None, None
        budgets = selection.batch_budgets(
            *(batches_of(each, BATCH_SIZE) for each in (self.targets, self.weights)), self.rates
        )
        if keeping == "floors":
            losses = self.losses.index_select(1, self.indices)
            floors = selection.class_floors(
                losses, self.targets, self.weights, (1 - self.rates).repeat_interleave(2, 0)
            )
        budgets = budgets.repeat_interleave(2, 0)
        of_classes = self.weights.new_zeros(*budgets.shape, N_CLASSES) if keeping == "floors" else None
        return floors, selection.free_budgets(budgets, batches_of(floors, BATCH_SIZE).sum(-1)), of_classes

    def predict(self):
        """What the networks say of inputs that are on the device."""
        precision = self.config["precision"]
        for combine in (inference.mean_probabilities, inference.log_mean_probabilities):
            for temperature in (1.0, 2.0):
                inference.predict(
                    self.networks[:2],
                    Inputs(self.inputs, self.config["device"]),
                    lambda logits: combine(logits, temperature),
                    n_classes=N_CLASSES,
                    precision=precision,
                )


@contextmanager
def told(**case):
    """Say of what case an error is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the case {case}")
        raise


def work():
    """Every choice that changes what is done on the device."""
    for kind, optimizer, averaged in product(("chains", "autograd"), OPTIMIZERS, (False, True)):
        training = Training(kind, optimizer, averaged=averaged)
        assert (type(training.optimizers[0]) is OneTensorAdam) == (kind == "chains" and optimizer == "fused Adam")
        for keeping, augmented in product(KEEPING, (False, True)):
            with told(kind=kind, optimizer=optimizer, averaged=averaged, keeping=keeping, augmented=augmented):
                training.run_epoch(keeping, augmented)
    for optimizer, keeping in product(OPTIMIZERS, KEEPING):
        with told(n_pairs=3, optimizer=optimizer, keeping=keeping):
            Training("chains", optimizer, n=SEVERAL, n_pairs=3).run_epoch(keeping)
    for optimizer, augmented in product(OPTIMIZERS, (False, True)):
        with told(kind="images", optimizer=optimizer, augmented=augmented):
            Training("images", optimizer).run_epoch(augmented=augmented)
    for kind, precision, keeping in product(ITEM_SHAPES, ("float32", "tf32"), KEEPING):
        with told(kind=kind, precision=precision, keeping=keeping, n=SEVERAL):
            training = Training(kind, n=SEVERAL, precision=precision)
            training.run_epoch(keeping)
            training.predict()
    every_activation = [activation() for activation in ACTIVATIONS]
    Training("chains", activations=[nn.ReLU(), *every_activation]).run_epoch()


#: What must not be done with a tensor that is on the device, and how it is noticed. (torch before 2.13 has no error of
#: its own for tensors on two devices.)
FAULTS = {
    "made on the CPU": (
        lambda tensor: tensor + torch.ones(3),
        getattr(fake_tensor, "FakeTensorDeviceMismatchError", RuntimeError),
    ),
    "item": (lambda tensor: tensor.sum().item(), fake_tensor.DataDependentOutputException),
    "boolean index": (lambda tensor: tensor[tensor > 0], fake_tensor.DynamicOutputShapeException),
    "cpu": (Tensor.cpu, TransferError),
}
MORE_FAULTS = {
    "branch": (lambda tensor: bool(tensor.all()), fake_tensor.DataDependentOutputException),
    "cpu of a number": (lambda tensor: tensor.sum().cpu(), TransferError),
    "to": (lambda tensor: tensor.to("cpu"), TransferError),
    "copy": (lambda tensor: torch.empty(3).copy_(tensor), TransferError),
    "copy to the device": (lambda tensor: torch.empty(3).to(tensor.device), TransferError),
    "number to the device": (lambda tensor: torch.zeros(()).to(tensor.device), TransferError),
    "number in a list": (lambda tensor: torch._foreach_add_([tensor.sum()], [torch.zeros(())]), TransferError),
    "index from the CPU": (lambda tensor: tensor[torch.zeros(3, dtype=torch.int64)], TransferError),
    "tolist": (Tensor.tolist, RuntimeError),
    "numpy": (Tensor.numpy, RuntimeError),
}


def faults():
    """Those that are likely, everywhere in the work; the others somewhere."""
    for kind in ("autograd", "chains"):
        training = Training(kind)
        engine = type(training.engine)
        places = [(engine, "prepare"), (engine, "logits"), (engine, "backward"), (training.optimizers[0], "step")]
        for place, fault in product(places, FAULTS):
            check_noticed(training.run_epoch, *place, fault, *FAULTS[fault])
    places = [
        (selection, "batch_budgets"),
        (selection, "class_floors"),
        (selection, "free_budgets"),
        (steps, "kept_weights"),
        (steps, "check_augmented"),
        (WeightAverage, "update"),
        (EpochStatistics, "add"),
        (LabelStatistics, "restart"),
        (LabelStatistics, "add"),
    ]
    for place, fault in product(places, FAULTS):
        check_noticed(training.run_epoch, *place, fault, *FAULTS[fault])
    for name, fault in product(("mean_probabilities", "log_mean_probabilities"), FAULTS):
        check_noticed(training.predict, inference, name, fault, *FAULTS[fault])
    for fault in MORE_FAULTS:
        check_noticed(training.run_epoch, selection, "batch_budgets", fault, *MORE_FAULTS[fault])


def check_noticed(run, owner, name, fault, commit, expected):
    original = getattr(owner, name)

    def faulty(*args, **kwargs):
        commit(torch.ones(3, device=DEVICE))
        return original(*args, **kwargs)

    with patch.object(owner, name, faulty), told(fault=fault, place=name):
        try:
            run()
        except Exception as error:
            found = error.__cause__ or error  # the package may have told it in its own words
            if type(found) is not expected:
                raise
        else:
            raise AssertionError("the fault was not noticed")


if __name__ == "__main__":
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend(DEVICE)
    with fake_tensor.FakeTensorMode(), NoTransfers():
        work()
        faults()
