"""Half of the data predicts the other half: held with networks that know their answers, and with some that learn."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skcoteach.batches import Rows
from skcoteach.crossfit import MAXIMUM_FORGET_RATE, STILL_LEARNING, cross_fit
from skcoteach.noise import estimate_joint, estimate_noise
from skcoteach.training import CoTeaching, TrainingData

pytestmark = pytest.mark.filterwarnings("error")


def training_data(codes, weights=None, X=None):
    """Data whose only feature is the number of the row, unless X is given."""
    codes = np.asarray(codes)
    weights = np.ones(len(codes)) if weights is None else np.asarray(weights, dtype=float)
    X = np.arange(len(codes), dtype=np.float32)[:, None] if X is None else X
    used = np.flatnonzero(weights)
    return TrainingData(
        rows=Rows(X),
        targets=torch.tensor(codes, dtype=torch.int64, device="cpu"),
        weights=torch.tensor(weights, dtype=torch.float32, device="cpu"),
        used=torch.from_numpy(used),
        used_targets=torch.from_numpy(codes[used]).long(),
        n_classes=int(codes.max()) + 1,
    )


def run(make, data, epochs=100, learning_rate=0.01, seed=0):
    codes, weights = data.targets.numpy(), data.weights.double().numpy()
    return cross_fit(make, data, codes, weights, epochs=epochs, learning_rate=learning_rate, seed=seed)


# --- networks that know their answers --------------------------------------------------------------------------------


class Answers(nn.Module):
    """Gives each row, whose number is its only feature, the logits written down for it."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.as_tensor(logits, dtype=torch.float32, device="cpu")
        self.predicted = []

    def forward(self, x):
        assert not self.training
        numbers = x[:, 0].long()
        self.predicted += numbers.tolist()
        return self.logits[numbers]


class Pair:
    """Stands for co-teaching on a half: trains nothing, and writes down with what it was asked to."""

    batch_size, num_iter_per_epoch = 16, None

    def __init__(self, half, seed, answers):
        self.half, self.seed = half, seed
        self.stages = iter(answers)
        self.networks = (Answers(next(self.stages)), Answers([[0.0]]))
        self.networks[1].logits = self.networks[0].logits
        self.epochs, self.forget_rates, self.learning_rates, self.halves = [], [], [], []

    def run_epoch(self, data, epoch, learning_rate, forget_rate, *more):
        for network in self.networks:
            if self.epochs and not network.training and network.predicted:  # a new stage has begun
                network.logits = torch.as_tensor(next(self.stages, network.logits), dtype=torch.float32)
            network.train()
            network.predicted = []
        self.networks[1].logits = self.networks[0].logits
        self.epochs.append(epoch)
        self.forget_rates.append(forget_rate)
        self.learning_rates.append(learning_rate)
        self.halves.append(data)
