"""Small data, networks and trainings, made of the package's own parts: ``from _training.builders import ...``."""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from skcoteach import CoTeachingClassifier
from skcoteach._config import resolve
from skcoteach._data.training_data import TrainingData
from skcoteach._data.validation import ValidatedData, sorted_classes, validate
from skcoteach._fitted import fitted_attributes
from skcoteach._training.config import TrainingConfig
from skcoteach._training.device import initial_weights, random_state
from skcoteach._training.module_factory import check_networks, make_networks, reads_indices, standardize
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import Trainer

N = 60
X = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
Y = np.random.default_rng(1).choice(["a", "b", "c"], N)


class Net(nn.Sequential):
    """A network with batch statistics and dropout, so that all that must be kept is there."""

    def __init__(self, n_features, n_classes):
        super().__init__(nn.BatchNorm1d(n_features), nn.Linear(n_features, 6), nn.Dropout(), nn.Linear(6, n_classes))


def chain(n_features, n_classes):
    """A network that is computed together with its peer."""
    return nn.Sequential(nn.Linear(n_features, 6), nn.ReLU(), nn.Linear(6, n_classes))


def estimator(**parameters) -> CoTeachingClassifier:
    """Of three short epochs' data: six epochs of three batches."""
    defaults = {"forget_rate": 0.2, "epochs": 6, "batch_size": 20, "device": "cpu", "random_state": 0}
    return CoTeachingClassifier(**defaults | parameters)


def configured(**parameters) -> TrainingConfig:
    """What the training takes of an :func:`estimator` with these parameters."""
    return resolve(estimator(**parameters).get_params(deep=False), X)


def config_with(**fields) -> TrainingConfig:
    """What the training takes of an estimator with its defaults, on the CPU, but for these fields."""
    defaults = CoTeachingClassifier(device="cpu", random_state=0).get_params(deep=False)
    return dataclasses.replace(resolve(defaults, None, seed=0), **fields)


def validated(X=X, y=Y, sample_weight=None, classes=None, class_weight=None) -> ValidatedData:
    """Data as ``fit`` gets them, or with ``classes`` as ``partial_fit`` does."""
    classes = None if classes is None else sorted_classes(classes)
    return validate(CoTeachingClassifier(class_weight=class_weight), X, y, sample_weight, classes, reset=True)


def training_data(*data, dtype=torch.float32, as_indices=False, **more) -> TrainingData:
    """:func:`validated` data on the CPU."""
    return TrainingData.of(validated(*data, **more), torch.device("cpu"), dtype, as_indices=as_indices)


def networks_and_data(config, given=None) -> tuple[tuple[nn.Module, nn.Module], TrainingData]:
    """Two fresh networks that fit the data, and the data for them."""
    given = validated() if given is None else given
    with random_state(config.device, initial_weights(config.seed)):
        networks = make_networks(config, given.inputs.form.item_shape, len(given.classes))
        data = TrainingData.of(given, config.device, config.dtype, as_indices=reads_indices(networks[0]))
        check_networks(networks, data)
    standardize(networks, data, config.processes)
    return networks, data


class Training(NamedTuple):
    """A trainer and the data that it was made for."""

    trainer: Trainer
    given: ValidatedData

    def run(self, n_epochs: int) -> "Training":
        for _ in range(n_epochs):
            self.trainer.run_epoch()
        return self

    def fitted(self, **options) -> dict:
        return fitted_attributes(self.trainer, self.given, **options)


def start(
    X=X,
    y=Y,
    sample_weight=None,
    classes=None,
    *,
    class_weight=None,
    forget_rate=0.2,
    noise_estimate=None,
    **parameters,
) -> Training:
    """A training before its first epoch; the parameters are those of the :func:`estimator`."""
    given = validated(X, y, sample_weight, classes, class_weight)
    config = configured(**parameters)
    networks, data = networks_and_data(config, given)
    return Training(Trainer(config, data, noise_estimate or NoiseEstimate(forget_rate), networks), given)


def many(n=600, weight=1.0):
    """As many examples, of three classes in turn that are easily told apart, each of this weight."""
    rng = np.random.default_rng(n)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 4)) + 3 * y[:, None]).astype(np.float32), y, np.full(n, weight)


def bits(networks):
    """Copies of all tensors of networks."""
    return [tensor.clone() for network in networks for tensor in network.state_dict().values()]


def equal(a, b):
    """Whether two lists of tensors are the same to the bit."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def without_durations(history):
    """What of a history the same training gives again."""
    return [{name: value for name, value in record.items() if name != "duration"} for record in history]
