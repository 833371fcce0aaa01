"""Trainers on small data in double precision, with the engine that is asked for: ``from _training.trainers import``."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from _training.builders import config_with
from torch import nn

from skcoteach._data.inputs import Inputs
from skcoteach._data.training_data import TrainingData
from skcoteach._training import trainer as trainer_module
from skcoteach._training.engines.autograd import Autograd
from skcoteach._training.engines.chains import Chains
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import Trainer
from skcoteach.networks import MLP

CPU = torch.device("cpu")
N, N_FEATURES, N_CLASSES = 90, 4, 3
ENGINES = {
    "autograd": lambda networks, config, data: Autograd(networks, data.n_classes, precision=config.precision),
    "chains": lambda networks, config, data: Chains(networks),
}
both_engines = pytest.mark.parametrize("engine", ENGINES)


class WatchedInputs(Inputs):
    """Inputs that remember which of them were asked for, at each time."""

    def __init__(self, X, device=CPU, dtype=torch.float64):
        super().__init__(X, device, dtype)
        self.asked = []

    def __getitem__(self, indices):
        self.asked.append(torch.arange(len(self))[indices].tolist())
        return super().__getitem__(indices)


def make_data(n=N, weights=None, dtype=torch.float64, seed=0):
    """Random numbers; the classes are of unequal size."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, N_FEATURES))
    return data_of(X, generator.choice(N_CLASSES, n, p=[0.6, 0.3, 0.1]), weights, dtype)


def data_of(X, codes, weights=None, dtype=torch.float64, device=CPU):
    full = np.ones(len(codes)) if weights is None else np.asarray(weights)
    drawn = np.flatnonzero(full)
    return TrainingData(
        inputs=WatchedInputs(X, device, dtype),
        n_classes=N_CLASSES,
        codes=codes,
        sample_weights=full,
        full_weights=full,
        targets=torch.from_numpy(codes).to(device),
        weights=torch.from_numpy(full).to(device, dtype),
        drawn=torch.from_numpy(drawn),
        drawn_targets=torch.from_numpy(codes[drawn]),
    )


def uneven_weights(n=N):
    """Light and heavy examples, some of weight 0, that are exact in binary."""
    return np.random.default_rng(1).integers(0, 9, n) / 4


def make_networks(module=None, seed=0, dtype=torch.float64, n=2):
    torch.manual_seed(seed)
    module = module or (lambda: MLP(N_FEATURES, N_CLASSES, hidden=6))
    return tuple(module().to(dtype) for _ in range(n))


def noisy_module():
    """With batch statistics and random numbers of its own."""
    return nn.Sequential(nn.Linear(N_FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, N_CLASSES))


def make_trainer(
    data=None, networks=None, *, engine="autograd", forget_rate=0.2, class_rates=None, keepers=None, **config
):
    """A trainer; ``engine`` None leaves the choice to the package, ``keepers`` say how many kept each example."""
    data = make_data() if data is None else data
    networks = networks or make_networks(dtype=data.weights.dtype)
    config = config_with(
        **{"batch_size": 32, "epochs": 3, "lr": 0.01, "epoch_decay_start": 99, "num_gradual": 0, "seed": 7} | config,
        device=data.device,
    )
    patched = nullcontext() if engine is None else pytest.MonkeyPatch.context()
    with patched as patch:
        if engine is not None:
            patch.setattr(trainer_module, "make_engine", ENGINES[engine])
        trainer = Trainer(config, data, NoiseEstimate(forget_rate, class_rates), networks)
    if keepers is not None:
        set_keepers(trainer, keepers)
    return trainer


def set_keepers(trainer, keepers):
    """Have the order of the next epoch be that after so many networks have kept each example."""
    trainer.load_state_dict(trainer.state_dict() | {"n_keepers": keepers})


def alike(*rates):
    """What pairs forget of every class: one rate for each pair."""
    return torch.tensor(rates, dtype=torch.float64)[:, None].expand(-1, N_CLASSES)


def examples_of_epoch(trainer, **options):
    """Run an epoch; what the trainer says of each example in it: kept, losses, predicted, seen."""
    trainer.label_statistics.restart()
    trainer.run_epoch(**options)
    told = {name: each.clone() for name, each in trainer.label_statistics.state_dict().items()}
    return told["kept"], told["losses"], told["predicted"], told["n_seen"] > 0


def watched(networks):
    """For each network the inputs that it gets from now on."""
    inputs = [], []
    for network, seen in zip(networks, inputs, strict=True):
        network.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0].clone()))
    return inputs


def indices_of(inputs, data):
    """Which examples of the data were seen, batch by batch."""
    X = data.inputs.X
    return [[int((X == x.numpy()).all(1).nonzero()[0].item()) for x in batch] for batch in inputs]
