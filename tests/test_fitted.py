"""A training becomes fitted attributes without being changed, and a fitted estimator a training that goes on."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from _training.builders import (
    N,
    Net,
    Training,
    X,
    Y,
    bits,
    chain,
    configured,
    equal,
    estimator,
    many,
    start,
    validated,
    without_durations,
)
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from skcoteach import _classifier, _fitted
from skcoteach._data.training_data import TrainingData
from skcoteach._fitted import MAXIMUM_TEMPERATURE, MINIMUM_TEMPERATURE, go_on
from skcoteach._noise_likelihood import drawn
from skcoteach._training import crossfit
from skcoteach._training.label_statistics import ODDS_MARGIN
from skcoteach._training.noise_estimate import NoiseEstimate
from skcoteach._training.trainer import Trainer
from skcoteach.noise import find_issues

pytestmark = pytest.mark.filterwarnings("error")

MODULES = pytest.mark.parametrize("module", [Net, None], ids=["with batch statistics", "default"])


class Conv(nn.Module):
    """A user's convolutional network, which is trained with its channels last in memory."""

    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.conv, self.last = nn.Conv2d(n_channels, 5, 3), nn.Linear(5, n_classes)

    def forward(self, x):
        return self.last(self.conv(x).relu().amax((2, 3)))


class Drawing(nn.Module):
    """Draws random numbers in eval mode, too."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return self.linear(x + torch.randn_like(x))


IMAGES = np.random.default_rng(0).normal(size=(N, 2, 6, 6)).astype(np.float32)


def found(y, **other):
    """A noise estimate, by which networks can be a little surer than by guessing."""
    estimate = {
        "forget_rate": 0.2,
        "class_forget_rates": torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64),
        "noise_rate": 0.25,
        "noise_rate_std": 0.02,
        "noise_matrix": torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.8, 0.1], [0.0, 0.1, 0.7]], dtype=torch.float64),
        "quality": torch.full((len(y),), 0.5, dtype=torch.float64),
        "predicted": torch.zeros(len(y), dtype=torch.int64),
        "confidence": 0.4,
    }
    return NoiseEstimate(**estimate | other)


def frozen(value):
    """A state, or fitted attributes, as plain values that are equal where every bit is."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist() if value.dtype.kind == "O" else value.tobytes()
    if isinstance(value, nn.Module):
        modes = [module.training for module in value.modules()]
        return modes, frozen(value.state_dict()), [(p.requires_grad, p.grad) for p in value.parameters()]
    if dataclasses.is_dataclass(value):
        return frozen(vars(value))
    if isinstance(value, dict):
        return {name: frozen(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(each) for each in value]
    return repr(value)


# --- what is told ----------------------------------------------------------------------------------------------------


def test_fitted_attributes_are_those_of_the_epochs_done():
    training = start(epochs=5, forget_rate=0.3).run(2)
    fitted = training.fitted()
    assert fitted["classes_"].tolist() == ["a", "b", "c"]
    assert (fitted["n_features_in_"], fitted["n_iter_"]) == (4, 2)
    assert fitted["forget_rate_"] == 0.3
    assert type(fitted["forget_rate_"]) is float
    assert fitted["forget_rate_schedule_"].shape == (5,)
    assert [record["epoch"] for record in fitted["history_"]] == [0, 1]
    assert isinstance(fitted["modules_"], tuple)
    assert [network.training for network in fitted["modules_"]] == [False, False]
    assert fitted["temperature_"] == 1.0
    estimated = {"noise_rate_", "noise_rate_std_", "noise_matrix_", "class_forget_rates_"}
    assert not ({"feature_names_in_"} | estimated) & fitted.keys()
    assert not {"kept_frequency_", "label_quality_"} & training.fitted(per_example=False).keys()
    assert training.fitted(per_example=False)["_state"].labels is None


def test_names_of_columns_are_told_where_there_are_any():
    fitted = start(pd.DataFrame(X, columns=["k", "l", "m", "n"])).run(1).fitted()
    assert fitted["feature_names_in_"].tolist() == ["k", "l", "m", "n"]


def test_what_is_known_of_the_noise_is_told_and_the_schedule_rises_to_it():
    _, y, _ = many(60)
    fitted = start(X, y, noise_estimate=found(y), num_gradual=3).run(1).fitted()
    assert (fitted["forget_rate_"], fitted["noise_rate_"], fitted["noise_rate_std_"]) == (0.2, 0.25, 0.02)
    assert fitted["forget_rate_schedule_"].tolist() == pytest.approx([0, 0.1, 0.2, 0.2, 0.2, 0.2])
    assert fitted["noise_matrix_"].tolist() == found(y).noise_matrix.tolist()
    assert fitted["class_forget_rates_"].tolist() == [0.3, 0.2, 0.1]
    assert isinstance(fitted["noise_matrix_"], np.ndarray) and isinstance(fitted["class_forget_rates_"], np.ndarray)


def test_class_forget_rates_are_told_where_they_differ():
    fitted = start(noise_estimate=found(Y, class_forget_rates=None)).run(1).fitted()
    assert "class_forget_rates_" not in fitted and fitted["noise_rate_"] == 0.25


def test_issues_are_as_many_as_there_are_wrong_labels_by_sample_weight():
    """Where none is estimated, as many as are forgotten, by the weights that are trained with."""
    weights = np.random.default_rng(0).integers(1, 4, N).astype(float)
    factors = {"a": 5.0, "b": 1.0, "c": 0.5}
    full = weights * np.array([factors[label] for label in Y])
    for estimate, rate, counted in ((found(Y), 0.25, weights), (NoiseEstimate(0.2), 0.2, full)):
        training = start(sample_weight=weights, class_weight=factors, noise_estimate=estimate).run(1)
        is_lowest = find_issues(training.fitted()["label_quality_"], counted, rate)
        labels = training.fitted()["_state"].labels
        assert np.average(is_lowest, weights=counted) == pytest.approx(rate, abs=0.05)
        assert (labels.is_issue == is_lowest & (labels.predicted != labels.given)).all()
        assert labels.is_issue.any()


def test_out_of_sample_probabilities_count_in_the_quality_only_where_something_is_forgotten():
    qualities = [
        start(noise_estimate=estimate).run(1).fitted()["label_quality_"].tolist()
        for estimate in (NoiseEstimate(0.0), found(Y, forget_rate=0.0, class_forget_rates=None))
    ]
    assert qualities[0] == qualities[1]
    for rate in (0.1, 0.2):
        alone, both = (
            start(noise_estimate=estimate).run(1).fitted()["label_quality_"]
            for estimate in (NoiseEstimate(rate), found(Y, forget_rate=rate, class_forget_rates=None))
        )
        odds = ((alone + ODDS_MARGIN) / (1 - alone + ODDS_MARGIN)) ** 0.5  # those of the other part are even
        np.testing.assert_allclose(both, odds / (1 + odds), rtol=1e-12)


def test_integers_are_indices_where_the_network_starts_with_an_embedding():
    seen = []

    class Tokens(nn.Sequential):
        def __init__(self, n_classes):
            super().__init__(nn.Embedding(10, 5), nn.Flatten(), nn.Linear(20, n_classes))

        def forward(self, x):
            seen.append(x.dtype)
            return super().forward(x)

    tokens = np.random.default_rng(0).integers(0, 10, (N, 4)).astype(np.int32)
    clf = estimator(module=Tokens, epochs=1).fit(tokens, Y)
    clf.predict(tokens)
    assert clf._state.form.as_indices
    assert {*seen} == {torch.int64}
    assert not estimator(epochs=1).fit(tokens, Y)._state.form.as_indices


# --- asking changes nothing ------------------------------------------------------------------------------------------

TRAININGS = {
    "default": {},
    "with batch statistics": {"module": Net},
    "chain": {"module": chain},
    "channels last": {"module": Conv, "X": IMAGES},
    "averaged": {"average_decay": 0.9},
    "averaged, with batch statistics": {"module": Net, "average_decay": 0.9},
    "averaged, channels last": {"module": Conv, "X": IMAGES, "average_decay": 0.9},
    "an optimizer for each": {"optimizer": lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr)},
    "not all seen": {"num_iter_per_epoch": 1, "batch_size": 8, "num_gradual": 0},
    "estimated": {"noise_estimate": found(Y)},
    "estimated and averaged": {"noise_estimate": found(Y), "average_decay": 0.9},
    "drawing, not all seen": {"module": Drawing, "num_iter_per_epoch": 1, "batch_size": 8, "num_gradual": 0},
    "drawing, averaged": {"module": Drawing, "noise_estimate": found(Y), "average_decay": 0.9},
}
every_training = pytest.mark.parametrize("parameters", TRAININGS.values(), ids=TRAININGS)


@every_training
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("per_example", [True, False])
def test_asking_changes_nothing_in_the_training_and_asked_again_it_says_the_same(parameters, copies, per_example):
    training = start(**parameters).run(2)
    trainer = training.trainer
    before = frozen(trainer.state_dict()), frozen(trainer.networks), torch.get_rng_state().tolist()
    told = [frozen(training.fitted(copies=copies, per_example=per_example)) for _ in range(2)]
    assert told[0] == told[1]
    assert (frozen(trainer.state_dict()), frozen(trainer.networks), torch.get_rng_state().tolist()) == before


@every_training
def test_a_training_that_is_asked_after_every_epoch_gives_the_bits_of_one_that_is_not(parameters):
    asked, alone = start(**parameters), start(**parameters)
    for _ in range(3):
        asked.run(1).fitted(copies=True)
        alone.run(1)
    assert equal(bits(asked.trainer.networks), bits(alone.trainer.networks))
    assert equal(bits(asked.fitted()["modules_"]), bits(alone.fitted()["modules_"]))
    assert without_durations(asked.trainer.history) == without_durations(alone.trainer.history)


@every_training
def test_copies_say_what_is_said_without_them_and_do_not_change_with_later_epochs(parameters):
    training = start(**parameters).run(1)
    told = training.fitted(copies=True)
    before = frozen(told)
    assert before == frozen(training.fitted())
    training.run(1)
    assert frozen(told) == before
    assert not equal(bits(training.fitted()["modules_"]), bits(told["modules_"]))
    assert told["n_iter_"] == len(told["history_"]) == 1


@every_training
def test_copies_can_be_changed_without_harm_to_the_training(parameters):
    """Callbacks get them."""
    training = start(**parameters).run(1)
    before = frozen(training.trainer.state_dict())
    told = training.fitted(copies=True)
    for entry in told["history_"]:
        entry.clear()
    told["history_"].clear()
    with torch.no_grad():
        for network in told["modules_"]:
            for tensor in network.state_dict().values():
                tensor.fill_(9)
    for optimizer in told["_state"].training["optimizers"]:
        for state in optimizer["state"].values():
            for value in state.values():
                value.fill_(9)
    assert frozen(training.trainer.state_dict()) == before


@pytest.mark.parametrize("parameters", [TRAININGS["default"], TRAININGS["estimated"]], ids=["given", "estimated"])
def test_arrays_that_are_told_can_be_changed_without_harm_to_the_training(parameters):
    training = start(**parameters).run(1)
    told = training.fitted(copies=True)
    before = frozen(training.trainer.state_dict()), training.trainer.forget_rates.tolist()
    names = {"kept_frequency_", "label_quality_", "forget_rate_schedule_", "noise_matrix_", "class_forget_rates_"}
    for name in names & told.keys():
        told[name][:] = 9.0
    assert (frozen(training.trainer.state_dict()), training.trainer.forget_rates.tolist()) == before


# --- the networks that predict ---------------------------------------------------------------------------------------


def test_at_the_end_the_networks_and_the_state_of_the_optimizer_are_shared():
    training = start(module=Net).run(1)
    fitted = training.fitted()
    assert all(a is b for a, b in zip(fitted["modules_"], training.trainer.networks, strict=True))
    (mine,), (its,) = (each["optimizers"] for each in (fitted["_state"].training, training.trainer.state_dict()))
    assert mine["state"][0]["exp_avg"] is its["state"][0]["exp_avg"]


@pytest.mark.parametrize(
    "parameters",
    [{"copies": True}, {"module": None}, {"module": chain}, {"module": Conv, "X": IMAGES}, {"average_decay": 0.9}],
    ids=["copies", "default", "chain", "channels last", "averaged"],
)
def test_networks_are_copies_where_they_are_asked_for_and_where_those_in_training_lie_otherwise(parameters):
    copies = parameters.get("copies", False)
    training = start(**{"module": Net} | {name: each for name, each in parameters.items() if name != "copies"}).run(1)
    networks = training.fitted(copies=copies)["modules_"]
    assert not any(a is b for a, b in zip(networks, training.trainer.networks, strict=True))
    mine, its = (
        {tensor.untyped_storage().data_ptr() for network in some for tensor in network.state_dict().values()}
        for some in (networks, training.trainer.networks)
    )
    assert not mine & its


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize(
    "parameters",
    [{"module": Net}, {}, {"module": Conv, "X": IMAGES}],
    ids=["with batch statistics", "default", "channels last"],
)
def test_fitted_networks_own_their_memory_and_have_no_gradients(parameters, copies):
    training = start(**parameters).run(2)
    networks = training.fitted(copies=copies)["modules_"]
    assert equal(bits(networks), bits(training.trainer.networks))
    parameters = [parameter for network in networks for parameter in network.parameters()]
    assert all(p.grad is None and p.requires_grad and p.is_leaf and p.is_contiguous() for p in parameters)
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in parameters)
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == len(parameters)


@MODULES
def test_a_pickle_of_fitted_networks_is_hardly_bigger_than_their_weights(module):
    training = start(module=module)
    fresh = copy.deepcopy(training.trainer.networks)
    networks = training.run(1).fitted()["modules_"]
    assert len(pickle.dumps(networks)) <= len(pickle.dumps(fresh)) + 64
    weights = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    assert len(pickle.dumps(networks)) < weights + 9_000  # of names and hooks, and of the moments of Standardize


# --- the temperature -------------------------------------------------------------------------------------------------


def confidence_of(networks, temperature, X=X, weights=None):
    """How sure networks are of their predictions at this temperature, on average."""
    with torch.no_grad():
        logits = torch.stack([network(torch.from_numpy(X)) for network in networks]).double()
    probabilities = (logits / temperature).softmax(2).mean(0)
    return np.average(probabilities.amax(1).numpy(), weights=weights)


def nothing_to_forget(**other):
    return found(Y, forget_rate=0.0, class_forget_rates=None, **other)


@pytest.mark.parametrize("parameters", [{}, {"module": Net}, {"average_decay": 0.99}], ids=["plain", "Net", "averaged"])
@pytest.mark.parametrize("wanted", [0.4, 0.5, 0.6])
def test_at_the_temperature_the_networks_are_as_sure_as_was_right_out_of_sample(wanted, parameters):
    weights = np.random.default_rng(0).integers(0, 4, N).astype(float)
    estimate = nothing_to_forget(confidence=wanted)
    fitted = start(noise_estimate=estimate, sample_weight=weights, lr=0.02, **parameters).run(6).fitted()
    assert type(fitted["temperature_"]) is float
    assert MINIMUM_TEMPERATURE < fitted["temperature_"] < MAXIMUM_TEMPERATURE
    sure = confidence_of(fitted["modules_"], fitted["temperature_"], weights=weights)
    assert sure == pytest.approx(wanted, abs=1e-4)


def test_weights_of_classes_do_not_count_in_the_temperature():
    estimate = nothing_to_forget(confidence=0.6)
    factors = {"a": 9.0, "b": 1.0, "c": 0.5}
    fitted = start(noise_estimate=estimate, class_weight=factors, lr=0.02).run(6).fitted()
    assert confidence_of(fitted["modules_"], fitted["temperature_"]) == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize(("wanted", "expected"), [(1 / 3, MAXIMUM_TEMPERATURE), (1.0, MINIMUM_TEMPERATURE)])
def test_the_temperature_is_bounded_where_networks_cannot_be_so_sure_or_unsure(wanted, expected):
    training = start(noise_estimate=nothing_to_forget(confidence=wanted)).run(1)
    assert training.fitted()["temperature_"] == expected


@pytest.mark.parametrize("module", [Net, None], ids=["Net", "default"])
def test_networks_that_forget_are_made_less_sure_but_never_surer(module):
    training = start(noise_estimate=found(Y), module=module).run(3)
    sure = confidence_of(training.fitted()["modules_"], 1.0)
    estimates = {change: found(Y, confidence=sure + change) for change in (-0.03, 0.0, 0.03, 1 - sure)}
    temperatures = {}
    for change, estimate in estimates.items():
        training = start(noise_estimate=estimate, module=module).run(3)
        temperatures[change] = training.fitted()["temperature_"]
    assert 1 < temperatures[-0.03] < MAXIMUM_TEMPERATURE
    assert confidence_of(training.fitted()["modules_"], temperatures[-0.03]) == pytest.approx(sure - 0.03, abs=1e-4)
    assert temperatures[0.0] == pytest.approx(1.0, abs=1e-4)
    assert temperatures[0.03] == temperatures[1 - sure] == 1.0


def test_of_many_examples_some_say_how_sure_the_networks_are(monkeypatch):
    monkeypatch.setattr(_fitted, "CALIBRATION_EXAMPLES", 25)
    fitted = start(noise_estimate=nothing_to_forget(confidence=0.6), lr=0.02).run(6).fitted()
    some = drawn(np.arange(len(X)), 25)
    sure = [confidence_of(fitted["modules_"], fitted["temperature_"], X[rows]) for rows in (some, slice(None))]
    assert sure[0] == pytest.approx(0.6, abs=1e-4) != sure[1]


def test_the_temperature_is_one_where_logits_are_no_numbers():
    training = start(noise_estimate=found(Y), module=Net).run(1)
    with torch.no_grad():
        training.trainer.networks[0][-1].bias.fill_(math.nan)
    assert training.fitted()["temperature_"] == 1.0


@pytest.mark.parametrize("estimate", [NoiseEstimate(0.1), found(Y, confidence=None)], ids=["given", "not found"])
def test_the_temperature_is_one_where_none_was_found(estimate):
    assert start(noise_estimate=estimate, average_decay=0.9).run(1).fitted()["temperature_"] == 1.0


def test_the_temperature_of_an_earlier_fit_is_kept():
    assert start(noise_estimate=found(Y)).run(1).fitted(temperature=3.5)["temperature_"] == 3.5


@MODULES
def test_the_weights_are_those_of_the_training_whatever_the_temperature(module):
    training = start(noise_estimate=nothing_to_forget(), module=module).run(2)
    fitted = training.fitted()
    assert fitted["temperature_"] != 1
    assert equal(bits(fitted["modules_"]), bits(training.trainer.networks))


# --- averages --------------------------------------------------------------------------------------------------------


def floating(networks):
    return [tensor for tensor in bits(networks) if tensor.is_floating_point()]


def weights_after_every_step(training, n_epochs):
    """The floating tensors of both networks after every step."""
    steps = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(floating(training.trainer.networks)))
    try:
        training.run(n_epochs)
    finally:
        hook.remove()
    return steps


@pytest.mark.parametrize("module", [Net, chain], ids=["batch norm and dropout", "chain"])
def test_fitted_networks_are_the_average_over_all_steps(module):
    decay = 0.7
    training = start(module=module, average_decay=decay, precision="float64")
    steps = weights_after_every_step(training, 3)
    assert len(steps) == 9
    counts = torch.tensor([decay ** (len(steps) - 1 - i) for i in range(len(steps))], dtype=torch.float64)
    fitted = floating(training.fitted()["modules_"])
    assert len(fitted) == len(steps[0])
    for number, tensor in enumerate(fitted):
        expected = torch.tensordot(counts / counts.sum(), torch.stack([step[number] for step in steps]), 1)
        torch.testing.assert_close(tensor, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("module", [Net, chain], ids=["batch norm and dropout", "chain"])
def test_averaging_changes_nothing_in_the_training(module):
    plain, averaged = (start(module=module, average_decay=decay).run(4) for decay in (None, 0.9))
    assert without_durations(plain.trainer.history) == without_durations(averaged.trainer.history)
    assert equal(bits(plain.trainer.networks), bits(averaged.trainer.networks))
    assert not equal(bits(plain.fitted()["modules_"]), bits(averaged.fitted()["modules_"]))


def test_no_decay_of_the_average_is_no_average():
    plain, last = (start(average_decay=decay).run(3).fitted()["modules_"] for decay in (None, 0.0))
    assert equal(bits(plain), bits(last))


class Moving(nn.Module):
    """A network with all kinds of tensors that are no weights: infinite, replaced in training, frozen and moved."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("mean", torch.zeros(n_features))
        self.counter = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x):
        if self.training:
            self.mean = x.mean(0).detach()
            self.counter += 1
        return self.linear(x) + self.mask[0]


def test_what_is_no_weight_is_that_of_the_last_step():
    averaged, plain = (start(module=Moving, average_decay=decay).run(2).fitted()["modules_"] for decay in (0.9, None))
    for a, b in zip(averaged, plain, strict=True):
        assert a.mask.tolist() == [0, -math.inf]
        assert torch.equal(a.mean, b.mean) and a.counter == b.counter == 6
        assert not torch.equal(a.linear.weight, b.linear.weight)


# --- an unfinished epoch ---------------------------------------------------------------------------------------------


class Interrupting:
    """An augmentation that is interrupted at a certain batch."""

    def __init__(self, at):
        self.at = at

    def __call__(self, inputs):
        self.at -= 1
        if self.at < 0:
            raise KeyboardInterrupt
        return inputs


@pytest.mark.parametrize("epochs_done", [1, 2, 4])
@pytest.mark.parametrize(
    "parameters", [{"module": Net}, {}, {"average_decay": 0.9}], ids=["with batch statistics", "default", "averaged"]
)
def test_an_interrupted_epoch_leaves_the_exact_bits_of_the_finished_ones(parameters, epochs_done):
    clf = estimator(augment=Interrupting(at=3 * epochs_done + 2), num_gradual=2, **parameters)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    expected = start(num_gradual=2, **parameters).run(epochs_done).fitted()
    assert equal(bits(clf.modules_), bits(expected["modules_"]))
    assert without_durations(clf.history_) == without_durations(expected["history_"])
    assert clf.kept_frequency_.tolist() == expected["kept_frequency_"].tolist()
    assert clf.label_quality_.tolist() == expected["label_quality_"].tolist()
    assert clf.n_iter_ == epochs_done
    assert frozen(clf._state.training) == frozen(expected["_state"].training)


def test_going_back_to_a_snapshot_undoes_updates_of_the_average():
    training = start(average_decay=0.9).run(2)
    before, snapshot = bits(training.fitted(copies=True)["modules_"]), training.trainer.snapshot()
    training.run(1)
    assert not equal(before, bits(training.fitted(copies=True)["modules_"]))
    training.trainer.load_state_dict(snapshot)
    assert training.trainer.state_dict()["average"]["n_updates"] == 6
    assert equal(before, bits(training.fitted(copies=True)["modules_"]))


@pytest.mark.parametrize("step", ["_networks_that_predict", "_temperature", "_what_goes_on"])
def test_ctrl_c_while_the_attributes_are_found_leaves_what_an_undisturbed_fit_gives(step, monkeypatch):
    monkeypatch.setattr(crossfit, "MINIMUM_STEPS", 4)
    parameters = {"forget_rate": "auto", "average_decay": 0.9, "epochs": 2}
    undisturbed = estimator(**parameters).fit(*many())
    original, calls = getattr(_fitted, step), []

    def interrupted(*arguments, **options):
        calls.append(original(*arguments, **options))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(_fitted, step, interrupted)
    clf = estimator(**parameters)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*many())
    assert len(calls) > 1
    assert clf.temperature_ == undisturbed.temperature_ != 1
    assert equal(bits(clf.modules_), bits(undisturbed.modules_))
    assert frozen(clf._state) == frozen(undisturbed._state)


def test_ctrl_c_after_the_attributes_are_found_leaves_what_an_undisturbed_fit_gives(monkeypatch):
    undisturbed = estimator(epochs=2).fit(X, Y)
    original, calls = _classifier.fitted_attributes, []

    def interrupted(*arguments, **options):
        calls.append(original(*arguments, **options))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(_classifier, "fitted_attributes", interrupted)
    clf = estimator(epochs=2)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    assert equal(bits(clf.modules_), bits(undisturbed.modules_))
    assert frozen(clf._state) == frozen(undisturbed._state)


# --- going on --------------------------------------------------------------------------------------------------------


def without_what_is_anew(history):
    """A new trainer does not know what was predicted of the examples before."""
    return [{name: value for name, value in entry.items() if name != "changed"} for entry in without_durations(history)]


def resumed(fitted, X=X, y=Y, sample_weight=None, *, forget_rate=0.2, **parameters):
    """A fresh training that goes on from fitted attributes."""
    state = fitted["_state"]
    config = dataclasses.replace(configured(**parameters), seed=state.seed)
    given = validated(X, y, sample_weight, state.classes)
    data = TrainingData.of(given, config.device, config.dtype, as_indices=state.form.as_indices)
    trainer = Trainer(config, data, NoiseEstimate(forget_rate), copy.deepcopy(fitted["modules_"]))
    go_on(trainer, state, fitted["history_"])
    return Training(trainer, given)


def averaging(parameters, lr):
    return torch.optim.RMSprop(parameters, lr=lr, alpha=0.5)


OPTIMIZERS = {
    "Adam": {},
    "SGD": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "function": {"optimizer": averaging},
}


@MODULES
@pytest.mark.parametrize("parameters", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_resuming_gives_the_bits_of_going_on(parameters, module):
    parameters = {"module": module, "class_floor": 0.0} | parameters  # floors need losses of an epoch before
    fitted = start(**parameters).run(2).fitted(per_example=False)
    again = resumed(fitted, **parameters).run(3)
    straight = start(**parameters).run(5)
    assert equal(bits(again.trainer.networks), bits(straight.trainer.networks))
    assert without_what_is_anew(again.trainer.history) == without_what_is_anew(straight.trainer.history)
    assert again.trainer.epoch == 5


@pytest.mark.parametrize(
    "parameters",
    [{"module": Net}, {}, {"average_decay": 0.9}, {"module": Conv, "X": IMAGES}],
    ids=["with batch statistics", "default", "averaged", "channels last"],
)
def test_resuming_does_not_change_what_was_fitted(parameters):
    fitted = start(**parameters).run(2).fitted()
    before = frozen(fitted)
    resumed(fitted, **parameters).run(1).fitted()
    assert frozen(fitted) == before
    assert [network.training for network in fitted["modules_"]] == [False, False]
    assert len(fitted["history_"]) == 2


def states(training):
    return [optimizer["state"] for optimizer in training.trainer.state_dict()["optimizers"]]


def test_another_optimizer_starts_without_the_state_of_the_old_one():
    fitted = start().run(2).fitted()
    again = resumed(fitted, optimizer=torch.optim.SGD)
    assert states(again) == [{}]
    assert "momentum" in again.run(1).trainer.state_dict()["optimizers"][0]["param_groups"][0]


def test_the_options_of_the_optimizer_are_those_of_now():
    training = start(optimizer__weight_decay=0.1).run(2)
    expected = frozen(states(training))
    again = resumed(training.fitted(), optimizer__weight_decay=0.2)
    (optimizer,) = again.trainer.state_dict()["optimizers"]
    assert [group["weight_decay"] for group in optimizer["param_groups"]] == [0.2]
    assert frozen(states(again)) == expected


@pytest.mark.parametrize("n", [N, N - 1])
def test_what_was_kept_last_is_known_of_the_same_examples(n):
    training = start(forget_rate=0.5, num_gradual=0).run(2)
    again = resumed(training.fitted(), X[:n], Y[:n])
    keepers, known = (each.trainer.state_dict()["n_keepers"] for each in (again, training))
    assert {*known.tolist()} == {0, 1, 2}
    assert keepers.tolist() == (known.tolist() if n == N else [2] * n)
    assert keepers.dtype == known.dtype


def test_an_optimizer_starts_anew_where_the_networks_are_trained_in_another_way():
    fitted = start().run(2).fitted()
    for network in fitted["modules_"]:
        network[1].register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="the optimizer starts anew"):
        again = resumed(fitted)
    assert not any(states(again))
    again.run(1)


def test_an_optimizer_starts_anew_where_a_layer_was_frozen():
    fitted = start(module=Net).run(2).fitted()
    for network in fitted["modules_"]:
        next(network.parameters()).requires_grad_(False)
    with pytest.warns(UserWarning, match="the optimizer starts anew"):
        again = resumed(fitted, module=Net)
    assert not any(states(again))
    again.run(1)


@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_a_resumed_training_has_the_weights_and_the_average_of_the_earlier_whatever_the_temperature(average_decay):
    training = start(noise_estimate=nothing_to_forget(), average_decay=average_decay).run(2)
    last, before = bits(training.trainer.networks), frozen(training.trainer.state_dict()["average"])
    fitted = training.fitted()
    assert fitted["temperature_"] != 1
    again = resumed(fitted, average_decay=average_decay)
    assert equal(bits(again.trainer.networks), last)
    assert frozen(again.trainer.state_dict()["average"]) == before


def test_an_average_that_is_new_starts_with_the_next_step():
    fitted = start().run(2).fitted()
    again = resumed(fitted, average_decay=0.0)
    assert again.trainer.state_dict()["average"]["n_updates"] == 0
    assert equal(bits(again.run(1).fitted()["modules_"]), bits(resumed(fitted).run(1).fitted()["modules_"]))


# --- going on, asked of the estimator --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [Net, chain], ids=["batch norm and dropout", "chain"])
def test_partial_fit_goes_on_from_the_last_weights_and_the_average(module):
    parameters = {"module": module, "average_decay": 0.9, "epochs": 4, "num_gradual": 2, "class_floor": 0.0}
    whole = estimator(**parameters).fit(X, Y)
    steps = estimator(**parameters)
    for _ in range(4):
        steps.partial_fit(X, Y, classes=np.unique(Y))
        steps = pickle.loads(pickle.dumps(steps))
    assert without_what_is_anew(whole.history_) == without_what_is_anew(steps.history_)
    assert equal(bits(whole.modules_), bits(steps.modules_))


def test_partial_fit_without_the_average_goes_on_from_the_last_weights():
    never = estimator(average_decay=None)
    dropped = estimator(average_decay=0.9)
    for _ in range(2):
        never.partial_fit(X, Y, classes=np.unique(Y))
        dropped.partial_fit(X, Y, classes=np.unique(Y))
    assert not equal(bits(never.modules_), bits(dropped.modules_))
    dropped.set_params(average_decay=None).partial_fit(X, Y)
    assert equal(bits(never.partial_fit(X, Y).modules_), bits(dropped.modules_))


def test_partial_fit_keeps_the_standardisation_of_the_first_data():
    clf = estimator().partial_fit(X, Y, classes=np.unique(Y))
    before = clf.modules_[0][0].mean.clone()
    clf.partial_fit(X + 100, Y)
    assert torch.equal(clf.modules_[0][0].mean, before)
    assert before.tolist() == pytest.approx(X.mean(axis=0), abs=1e-6)


def test_partial_fit_knows_all_classes_of_the_first_call_and_refuses_others():
    clf = estimator().partial_fit(X, Y, classes=["d", "a", "b", "c"])
    clf.partial_fit(X, ["d"] * N, classes=["a", "b", "c", "d"])
    assert clf.classes_.tolist() == ["a", "b", "c", "d"]
    before = frozen(vars(clf))
    with pytest.raises(ValueError, match=r"classes=\['a' 'b'\] differs from the classes of the earlier call"):
        clf.partial_fit(X, Y, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"y holds labels that are not among the classes: \['e'\]"):
        clf.partial_fit(X, ["e"] * N)
    assert frozen(vars(clf)) == before


def test_labels_of_a_class_that_the_first_data_lack_are_learnt():
    clf = estimator(lr=0.05).partial_fit(X, Y, classes=["a", "b", "c", "d"])
    for _ in range(5):
        clf.partial_fit(X, ["d"] * N)
    assert {*clf.predict(X)} == {"d"}


def test_partial_fit_refuses_x_of_another_form():
    clf = estimator().partial_fit(X, Y, classes=np.unique(Y))
    with pytest.raises(ValueError, match="X has 3 features, but CoTeachingClassifier is expecting 4 features"):
        clf.partial_fit(X[:, :3], Y)
    with pytest.raises(ValueError, match=r"X has examples of shape \(4, 2\), but CoTeachingClassifier was fitted on"):
        clf.partial_fit(np.stack([X, X], 2), Y)
    assert clf.n_features_in_ == 4
