"""A run turns parameters into schedules, seeds, devices, networks and optimizers, and epochs into fitted attributes."""

import copy
import math
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import skcoteach.run
from skcoteach import CoTeachingClassifier
from skcoteach.noise import MAXIMUM_TEMPERATURE
from skcoteach.optimizers import OneTensorAdam
from skcoteach.run import Run, _device
from skcoteach.training import CoTeaching

pytestmark = pytest.mark.filterwarnings("error")

N = 60
X = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
Y = np.random.default_rng(1).choice(["a", "b", "c"], N)


class Net(nn.Sequential):
    """A network with batch statistics and dropout, so that all that must be kept is there."""

    def __init__(self, n_features, n_classes):
        super().__init__(nn.BatchNorm1d(n_features), nn.Linear(n_features, 6), nn.Dropout(), nn.Linear(6, n_classes))


def estimator(**parameters):
    defaults = {"forget_rate": 0.2, "epochs": 6, "batch_size": 20, "device": "cpu", "random_state": 0}
    return CoTeachingClassifier(**defaults | parameters)


def start(X=X, y=Y, sample_weight=None, classes=None, **parameters):
    return Run.start(estimator(**parameters), X, y, sample_weight, classes)


def run_epochs(run, n):
    for _ in range(n):
        run.run_epoch()
    return run


def bits(networks):
    return [tensor.clone() for network in networks for tensor in network.state_dict().values()]


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def without_durations(history):
    return [{name: value for name, value in record.items() if name != "duration"} for record in history]


# --- schedules -------------------------------------------------------------------------------------------------------


def expected_forget_rates(epochs, forget_rate, num_gradual, exponent=1.0):
    rising = [forget_rate**exponent * epoch / max(num_gradual - 1, 1) for epoch in range(num_gradual)]
    return rising + [forget_rate] * (epochs - num_gradual)


@pytest.mark.parametrize(
    ("epochs", "num_gradual", "expected_num_gradual"),
    [(100, None, 10), (10, None, 10), (3, None, 3), (1, None, 1), (20, 5, 5), (20, 0, 0), (20, 1, 1), (20, 20, 20)],
)
def test_warm_up_takes_ten_epochs_or_all_unless_told_otherwise(epochs, num_gradual, expected_num_gradual):
    run = start(epochs=epochs, num_gradual=num_gradual, forget_rate=0.4)
    expected = expected_forget_rates(epochs, 0.4, expected_num_gradual)
    assert run.forget_rates.tolist() == pytest.approx(expected, rel=1e-14)
    assert run.warm_up_end == max(expected_num_gradual - 1, 0)


def test_exponent_sets_where_the_warm_up_ends():
    rates = start(epochs=5, num_gradual=3, forget_rate=0.25, exponent=0.5).forget_rates
    assert rates.tolist() == pytest.approx([0.0, 0.25, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("epochs", "decay_start", "expected_start"),
    [(250, None, 80), (100, None, 32), (3, None, 0), (10, 10, 10), (10, 4, 4), (10, 0, 0), (10, 99, 99)],
)
def test_learning_rate_decays_from_80_of_250_epochs_unless_told_otherwise(epochs, decay_start, expected_start):
    rates = start(epochs=epochs, epoch_decay_start=decay_start, lr=0.5).learning_rates
    for epoch, rate in enumerate(rates):
        left = 1 if epoch < expected_start else (epochs - epoch) / (epochs - expected_start)
        assert rate == pytest.approx(0.5 * left, rel=1e-14)
    assert len(rates) == epochs


def test_epochs_run_at_their_position_of_the_schedules_and_beyond_them_at_the_last():
    run = start(epochs=3, num_gradual=3, forget_rate=0.4, lr=0.01, epoch_decay_start=1)
    history = run_epochs(run, 5).history
    assert [record["epoch"] for record in history] == [0, 1, 2, 3, 4]
    assert [record["forget_rate"] for record in history] == pytest.approx([0, 0.2, 0.4, 0.4, 0.4])
    assert [record["lr"] for record in history] == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.005])
    assert run.epoch == 5


def test_a_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"num_gradual \(7\) is greater than epochs \(6\)"):
        start(num_gradual=7)


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_the_same_random_state_gives_the_same_networks_and_seed():
    first, second, other = start(module=Net), start(module=Net), start(module=Net, random_state=1)
    assert first.seed == second.seed != other.seed
    assert equal(bits(first.training.networks), bits(second.training.networks))
    assert not equal(bits(first.training.networks), bits(other.training.networks))
    assert first.training.seed == first.seed


def test_networks_start_from_different_weights():
    first, second = start().training.networks
    assert not torch.equal(first[1].weight, second[1].weight)


def test_a_random_state_instance_is_consumed():
    random_state = np.random.RandomState(0)
    assert start(random_state=random_state).seed != start(random_state=random_state).seed
    assert start(random_state=np.random.RandomState(0)).seed == start(random_state=0).seed


def test_no_random_state_draws_from_the_operating_system_and_not_from_global_states():
    seeds = []
    for _ in range(2):
        np.random.seed(0)
        random.seed(0)
        torch.manual_seed(0)
        before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
        seeds.append(run_epochs(start(random_state=None), 1).seed)
        assert (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()) == before
    assert seeds[0] != seeds[1]


# --- devices and precision -------------------------------------------------------------------------------------------


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
        ("mps", "float64", "cpu"),
        ("xpu", "float64", "xpu"),
    ],
)
def test_auto_is_an_accelerator_that_supports_the_precision_else_the_cpu(reported, precision, chosen, accelerator):
    accelerator(reported)
    assert _device("auto", X, precision) == torch.device(chosen)
    assert _device("auto", torch.from_numpy(X), precision) == torch.device(chosen)


def test_auto_follows_a_tensor_that_is_on_an_accelerator(accelerator):
    accelerator("cuda")
    assert _device("auto", torch.ones(2, 2, device="meta"), "float32") == torch.device("meta")
    assert _device("cpu", torch.ones(2, 2, device="meta"), "float32") == torch.device("cpu")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_device_may_be_given_as_torch_takes_it(device, accelerator):
    accelerator("cuda")
    run = start(device=device)
    assert next(run.training.networks[0].parameters()).device.type == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "", "hpu", "cuda:99", 99])
def test_devices_that_are_not_there_are_refused_in_one_line(device):
    with pytest.raises(ValueError, match=r"device=.* cannot be used with precision='float32': ") as raised:
        start(device=device)
    assert repr(device) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64)])
def test_networks_inputs_and_weights_have_the_precision(precision, dtype):
    run = start(precision=precision, module=Net)
    tensors = [t for network in run.training.networks for t in network.state_dict().values() if t.is_floating_point()]
    assert {t.dtype for t in (*tensors, run.data.weights, run.data.rows[torch.tensor([0])])} == {dtype}


def test_integers_are_indices_where_the_network_starts_with_an_embedding():
    def module(n_classes):
        return nn.Sequential(nn.Embedding(10, 5), nn.Flatten(), nn.Linear(20, n_classes))

    tokens = np.random.default_rng(0).integers(0, 10, (N, 4)).astype(np.int32)
    run = run_epochs(start(tokens, module=module), 1)
    assert run.data.rows[torch.tensor([0])].dtype == torch.int64
    assert run.fitted()["_state"].indices
    assert not start(tokens).data.rows.indices


def test_the_first_layer_is_standardised_with_the_weighted_data():
    weights = np.arange(N) % 3
    network = start(100 + 50 * X, sample_weight=weights).training.networks[0]
    assert network[0].mean.tolist() == pytest.approx(np.average(100 + 50 * X, axis=0, weights=weights), rel=1e-5)


# --- optimizers ------------------------------------------------------------------------------------------------------


def test_one_optimizer_that_treats_numbers_one_by_one_has_a_group_for_each_network():
    options = {"optimizer__momentum": 0.5, "optimizer__nesterov": True, "lr": 0.25}
    run = start(module=Net, optimizer=torch.optim.SGD, **options)
    (optimizer,) = run.training.optimizers
    for group, network in zip(optimizer.param_groups, run.training.networks, strict=True):
        assert (group["lr"], group["momentum"], group["nesterov"]) == (0.25, 0.5, True)
        assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]


def test_one_optimizer_has_all_parameters_of_networks_that_are_computed_as_one():
    run = start(optimizer=torch.optim.SGD, optimizer__momentum=0.5, lr=0.25)
    (optimizer,) = run.training.optimizers
    (group,) = optimizer.param_groups
    (joint,) = group["params"]
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)
    for network, own in zip(run.training.networks, joint, strict=True):
        assert torch.equal(torch.cat([p.flatten() for p in network.parameters()]), own)
        assert all(p.untyped_storage().data_ptr() == joint.untyped_storage().data_ptr() for p in network.parameters())


def averaging(parameters, lr):
    return torch.optim.RMSprop(parameters, lr=lr, alpha=0.5)


class OwnSGD(torch.optim.SGD):
    """Might treat the numbers of a tensor as a whole."""


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, OneTensorAdam),
        ({"optimizer__fused": True, "optimizer__amsgrad": True}, OneTensorAdam),
        ({"module": Net}, torch.optim.Adam),
        ({"optimizer__fused": False}, torch.optim.Adam),
        ({"optimizer__foreach": True}, torch.optim.Adam),
        ({"optimizer": torch.optim.AdamW}, torch.optim.AdamW),
    ],
    ids=str,
)
def test_only_fused_adam_of_networks_that_are_computed_as_one_is_the_lighter_one(options, kind):
    run = run_epochs(start(**options), 2)
    assert [type(optimizer) for optimizer in run.training.optimizers] == [kind]


@pytest.mark.parametrize("optimizer", [OwnSGD, torch.optim.Adafactor, averaging])
@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
def test_any_other_optimizer_is_made_once_for_the_parameters_of_each_network(optimizer, module):
    run = start(module=module, optimizer=optimizer, lr=0.25)
    for own, network in zip(run.training.optimizers, run.training.networks, strict=True):
        (group,) = own.param_groups
        assert group["lr"] == 0.25
        assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]


def test_frozen_parameters_are_not_handed_to_the_optimizer():
    class Frozen(Net):
        def __init__(self, n_features, n_classes):
            super().__init__(n_features, n_classes)
            self[1].requires_grad_(False)

    run = run_epochs(start(module=Frozen, optimizer__weight_decay=0.1), 1)
    (optimizer,) = run.training.optimizers
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 4]


def test_names_that_the_optimizer_does_not_take_are_refused_as_the_user_wrote_them():
    with pytest.raises(ValueError, match=r"Adam does not take momentum \(given as optimizer__momentum\).*It takes: .*"):
        start(optimizer__momentum=0.9)


def test_the_learning_rate_of_the_optimizer_is_refused_with_a_pointer_to_lr():
    with pytest.raises(ValueError, match="optimizer__lr=0.1 is not used: .* Give lr instead"):
        start(optimizer__lr=0.1)


def test_an_optimizer_that_needs_a_closure_is_refused():
    with pytest.raises(ValueError, match="optimizer=LBFGS needs a closure.*Use a first-order optimizer"):
        start(optimizer=torch.optim.LBFGS)


def test_what_is_no_optimizer_is_refused():
    def no_optimizer(parameters, lr):
        return "none"

    with pytest.raises(TypeError, match="optimizer=no_optimizer made a str; a torch.optim.Optimizer is expected"):
        start(optimizer=no_optimizer)


def test_any_callable_that_makes_an_optimizer_is_one():
    run = run_epochs(start(optimizer=lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr, alpha=0.5)), 1)
    assert run.training.optimizers[0].param_groups[0]["alpha"] == 0.5


# --- kept frequency --------------------------------------------------------------------------------------------------


def script(run, epochs):
    """Replace the training by epochs in which each row was kept in the given part, or (None) was not seen."""
    epochs = iter(epochs)

    def run_epoch(data, epoch, learning_rate, forget_rate):
        parts = next(epochs)
        seen = torch.tensor([part is not None for part in parts])
        kept = torch.tensor([part or 0.0 for part in parts], dtype=torch.float64)
        return {"epoch": epoch}, kept, torch.zeros_like(kept), torch.where(seen, 0, -1), seen

    run.training.run_epoch = run_epoch
    return run


def scripted_frequency(epochs, num_gradual=2, y=(0, 0, 1, 1), **parameters):
    run = start(X[:4], list(y), epochs=len(epochs), num_gradual=num_gradual, **parameters)
    return run_epochs(script(run, epochs), len(epochs)).fitted()["kept_frequency_"]


def test_kept_frequency_is_the_mean_from_the_end_of_the_warm_up():
    epochs = [[0, 1, 1, 1], [1, 1, 0.5, 0], [1, 0, 0.25, 0], [1, 0.5, 0, 0]]
    assert scripted_frequency(epochs, num_gradual=2).tolist() == [1, 0.5, 0.25, 0]
    assert scripted_frequency(epochs, num_gradual=4).tolist() == [1, 0.5, 0, 0]
    for num_gradual in (0, 1):
        assert scripted_frequency(epochs, num_gradual=num_gradual).tolist() == [0.75, 0.625, 0.4375, 0.25]


def test_kept_frequency_counts_only_epochs_in_which_the_example_was_in_a_batch():
    epochs = [[0, 0, 0, 0], [1, None, 0.5, 0], [None, 0, 0.5, None], [0.5, 1, None, None]]
    assert scripted_frequency(epochs).tolist() == [0.75, 0.5, 0.5, 0]


def test_an_example_never_seen_after_the_warm_up_gets_the_mean_of_its_given_class():
    epochs = [[0, 0, 0, 0, 0, 0], [None, 1, 0.5, None, 0.25, 0.75]]
    run = script(start(X[:6], [0, 0, 0, 1, 1, 1], epochs=2, num_gradual=2), epochs)
    frequency = run_epochs(run, 2).fitted()["kept_frequency_"]
    assert frequency.tolist() == [0.75, 1, 0.5, 0.5, 0.25, 0.75]


def test_an_example_of_a_class_never_seen_gets_the_mean_of_all():
    epochs = [[0, 0, 0, 0], [1, 0.5, None, None]]
    assert scripted_frequency(epochs).tolist() == [1, 0.5, 0.75, 0.75]


def test_kept_frequency_before_the_end_of_the_warm_up_is_of_the_epochs_done():
    run = script(start(X[:4], [0, 0, 1, 1], epochs=5, num_gradual=5), [[1, 0, 1, 0], [0, 0, 1, 1]])
    assert run_epochs(run, 2).fitted()["kept_frequency_"].tolist() == [0.5, 0, 1, 0.5]


def test_kept_frequency_of_a_training_is_the_mean_of_what_its_epochs_report():
    weights = np.random.default_rng(0).integers(0, 3, N)
    run = start(
        sample_weight=weights, num_gradual=3, num_iter_per_epoch=1, batch_size=8, forget_rate=0.3, precision="float64"
    )
    reported, run_epoch = [], run.training.run_epoch

    def reporting(*args):
        result = run_epoch(*args)
        reported.append(result[1:])
        return result

    run.training.run_epoch = reporting
    frequency = run_epochs(run, 6).fitted()["kept_frequency_"]
    reported = reported[2:]
    expected = {}
    for i in range(N):
        parts = [float(kept[i]) for kept, _, _, seen in reported if seen[i]]
        if parts:
            expected[i] = sum(parts) / len(parts)
    assert any(weights == 0) and len(expected) < (weights > 0).sum()  # of both kinds of unseen rows there are some
    for i in range(N):
        same_class = [value for j, value in expected.items() if Y[j] == Y[i]]
        assert frequency[i] == pytest.approx(expected.get(i, math.fsum(same_class) / len(same_class)), rel=1e-12)
    assert frequency.dtype == np.float64
    assert (weights[list(expected)] > 0).all()


# --- fitted attributes -----------------------------------------------------------------------------------------------


def test_a_run_never_touches_the_estimator():
    clf = estimator()
    before = dict(vars(clf))
    run = run_epochs(Run.start(clf, X, Y, None), 2)
    run.fitted()
    assert vars(clf) == before


def test_fitted_attributes_are_those_of_the_epochs_done():
    run = run_epochs(start(epochs=5, forget_rate=0.3), 2)
    fitted = run.fitted()
    assert fitted["classes_"].tolist() == ["a", "b", "c"]
    assert (fitted["n_features_in_"], fitted["n_iter_"]) == (4, 2)
    assert fitted["forget_rate_"] == 0.3
    assert type(fitted["forget_rate_"]) is float
    assert fitted["forget_rate_schedule_"].shape == (5,)
    assert [record["epoch"] for record in fitted["history_"]] == [0, 1]
    assert isinstance(fitted["modules_"], tuple)
    assert [network.training for network in fitted["modules_"]] == [False, False]
    assert "feature_names_in_" not in fitted
    assert not {"kept_frequency_", "label_quality_"} & run.fitted(per_example=False).keys()


def test_copies_do_not_change_with_later_epochs():
    run = run_epochs(start(module=Net), 1)
    copied = run.fitted(copy_networks=True)
    weights, states = bits(copied["modules_"]), copy.deepcopy(copied["_state"].optimizer_states)
    run_epochs(run, 1)
    assert equal(bits(copied["modules_"]), weights)
    assert not equal(bits(run.fitted()["modules_"]), weights)
    assert copied["n_iter_"] == len(copied["history_"]) == 1
    for state, before in zip(copied["_state"].optimizer_states, states, strict=True):
        assert state["state"][0]["step"] == before["state"][0]["step"]
        assert torch.equal(state["state"][0]["exp_avg"], before["state"][0]["exp_avg"])


@pytest.mark.parametrize("copy_networks", [False, True])
@pytest.mark.parametrize("module", [Net, None], ids=["with batch statistics", "default"])
def test_fitted_networks_own_their_memory_and_have_no_gradients(module, copy_networks):
    run = run_epochs(start(module=module), 2)
    trained = bits(run.training.networks)
    networks = run.fitted(copy_networks=copy_networks)["modules_"]
    assert equal(bits(networks), trained)
    parameters = [parameter for network in networks for parameter in network.parameters()]
    assert all(p.grad is None and p.requires_grad and p.is_leaf for p in parameters)
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in parameters)
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == len(parameters)


@pytest.mark.parametrize("module", [Net, None], ids=["with batch statistics", "default"])
def test_a_pickle_of_fitted_networks_is_hardly_bigger_than_their_weights(module):
    networks = run_epochs(start(module=module), 1).fitted()["modules_"]
    fresh = start(module=module).training.networks
    for network in fresh:
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()
    assert len(pickle.dumps(networks)) <= len(pickle.dumps(fresh)) + 64
    weights = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    assert len(pickle.dumps(networks)) < weights + 8_000  # of names and hooks


def test_taking_copies_does_not_change_the_training():
    watched, plain = start(module=Net), start(module=Net)
    for _ in range(3):
        watched.run_epoch()
        watched.fitted(copy_networks=True)
    assert equal(bits(watched.training.networks), bits(run_epochs(plain, 3).training.networks))


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
@pytest.mark.parametrize("module", [Net, None], ids=["with batch statistics", "default"])
def test_undoing_an_unfinished_epoch_restores_the_exact_bits_of_the_finished_ones(module, epochs_done):
    run = start(module=module, augment=Interrupting(at=3 * epochs_done + 2), num_gradual=2)
    with pytest.raises(KeyboardInterrupt):
        run_epochs(run, 6)
    finished = run_epochs(start(module=module, num_gradual=2), epochs_done)
    assert not equal(bits(run.training.networks), bits(finished.training.networks))
    run.undo_unfinished_epoch()
    assert equal(bits(run.training.networks), bits(finished.training.networks))
    fitted, expected = run.fitted(), finished.fitted()
    assert without_durations(fitted["history_"]) == without_durations(expected["history_"])
    assert fitted["kept_frequency_"].tolist() == expected["kept_frequency_"].tolist()
    assert fitted["label_quality_"].tolist() == expected["label_quality_"].tolist()
    assert fitted["n_iter_"] == epochs_done


# --- resume ----------------------------------------------------------------------------------------------------------


def fit_partially(clf, run):
    vars(clf).update(run.fitted(per_example=False))
    return clf


@pytest.mark.parametrize("module", [Net, None], ids=["with batch statistics", "default"])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}, {"optimizer": averaging}],
    ids=["Adam", "SGD", "function"],
)
def test_resuming_gives_the_bits_of_going_on(parameters, module):
    clf = estimator(module=module, **parameters)
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 2))
    resumed = run_epochs(Run.resume(clf, X, Y, None), 3)
    straight = run_epochs(start(module=module, **parameters), 5)
    assert equal(bits(resumed.training.networks), bits(straight.training.networks))
    assert without_durations(resumed.history) == without_durations(straight.history)
    assert resumed.epoch == 5


def test_resuming_does_not_change_what_was_fitted():
    clf = estimator(module=Net)
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 2))
    before, state = bits(clf.modules_), copy.deepcopy(clf._state.optimizer_states)
    run_epochs(Run.resume(clf, X, Y, None), 1)
    assert equal(bits(clf.modules_), before)
    assert [network.training for network in clf.modules_] == [False, False]
    assert len(clf.history_) == 2
    for now, then in zip(clf._state.optimizer_states, state, strict=True):
        assert torch.equal(now["state"][0]["exp_avg"], then["state"][0]["exp_avg"])


def test_another_optimizer_starts_without_the_state_of_the_old_one():
    clf = estimator()
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 2))
    clf.set_params(optimizer=torch.optim.SGD)
    run = run_epochs(Run.resume(clf, X, Y, None), 1)
    assert [type(optimizer) for optimizer in run.training.optimizers] == [torch.optim.SGD]


def test_resuming_keeps_the_standardisation_of_the_first_data():
    clf = estimator()
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 1))
    run = Run.resume(clf, X + 100, Y, None)
    assert torch.equal(run.training.networks[0][0].mean, clf.modules_[0][0].mean)


def test_resuming_knows_all_classes_of_the_start_and_refuses_others():
    clf = estimator()
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None, classes=["d", "a", "b", "c"]), 1))
    run = Run.resume(clf, X, ["d"] * N, None, classes=["a", "b", "c", "d"])
    assert run.classes.tolist() == ["a", "b", "c", "d"]
    assert run.codes.tolist() == [3] * N
    assert torch.equal(run.data.targets, torch.full((N,), 3))
    with pytest.raises(ValueError, match=r"classes=\['a', 'b'\] differs from the classes of the earlier call"):
        Run.resume(clf, X, Y, None, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"y holds labels that are not among the classes: \['e'\]"):
        Run.resume(clf, X, ["e"] * N, None)


def test_resuming_refuses_x_of_another_form():
    clf = estimator()
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 1))
    with pytest.raises(ValueError, match="X has 3 features, but CoTeachingClassifier is expecting 4 features"):
        Run.resume(clf, X[:, :3], Y, None)
    with pytest.raises(ValueError, match=r"X has examples of shape \(4, 2\), but CoTeachingClassifier was fitted on"):
        Run.resume(clf, np.stack([X, X], 2), Y, None)
    assert clf.n_features_in_ == 4


def test_an_optimizer_starts_anew_where_the_networks_are_trained_in_another_way():
    clf = estimator()
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 2))
    for network in clf.modules_:
        network[1].register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="the optimizer starts anew"):
        run = Run.resume(clf, X, Y, None)
    assert not any(optimizer.state for optimizer in run.training.optimizers)
    run_epochs(run, 1)


def test_an_optimizer_starts_anew_where_a_layer_was_frozen():
    clf = estimator(module=Net)
    fit_partially(clf, run_epochs(Run.start(clf, X, Y, None), 2))
    for network in clf.modules_:
        next(network.parameters()).requires_grad_(False)
    with pytest.warns(UserWarning, match="the optimizer starts anew"):
        run_epochs(Run.resume(clf, X, Y, None), 1)


class Masked(nn.Module):
    """Rules out a class by minus infinity."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes + 1)

    def forward(self, x):
        logits = self.linear(x)[:, :-1]
        return torch.where(logits < logits.max(1, keepdim=True).values - 1e4, -torch.inf, logits) + RULED_OUT


RULED_OUT = torch.tensor([0.0, 0.0, -torch.inf, 0.0])


def test_classes_may_be_ruled_out_by_infinite_logits():
    y = np.where(np.arange(N) % 4 == 2, 1, np.arange(N) % 4)
    run = run_epochs(start(X, y, classes=[0, 1, 2, 3], module=Masked), 2)
    assert np.isfinite(run.history[-1]["loss"]).all()


class InDouble(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return self.linear(x).double()


def test_logits_of_another_precision_than_the_weights_are_fine():
    assert run_epochs(start(module=InDouble), 2).epoch == 2


def test_a_batch_size_beyond_all_memory_is_that_of_all_rows():
    small, large = (run_epochs(start(batch_size=size), 2) for size in (N, 10**12))
    for a, b in zip(bits(small.training.networks), bits(large.training.networks), strict=True):
        assert torch.equal(a, b)


class Unhashable:
    __hash__ = None

    def __call__(self, parameters, lr):
        return torch.optim.SGD(parameters, lr=lr)


def test_an_optimizer_may_be_any_callable():
    assert len(run_epochs(start(optimizer=Unhashable()), 1).training.optimizers) == 2


class SparseEmbedding(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.bag = nn.EmbeddingBag(9, n_classes, sparse=True)

    def forward(self, x):
        return self.bag(x)


def test_sparse_gradients_are_trained_by_optimizers_that_take_them():
    codes = np.random.default_rng(0).integers(0, 9, (N, 3))
    run = run_epochs(start(codes, module=SparseEmbedding, optimizer=torch.optim.SGD), 2)
    assert np.isfinite(run.history[-1]["loss"]).all()


@pytest.mark.parametrize("given", ["fused", "foreach"])
def test_how_an_optimizer_updates_is_left_to_the_user(given):
    run = start(**{f"optimizer__{given}": False})
    assert run.training.optimizers[0].param_groups[0][given] is False
    assert not run.training.optimizers[0].param_groups[0]["fused"]
    assert start().training.optimizers[0].param_groups[0]["fused"]


# --- the forget rate found from the data -----------------------------------------------------------------------------

JOINT = np.array([[0.3, 0.02, 0.0], [0.1, 0.2, 0.03], [0.05, 0.0, 0.3]])


@pytest.fixture
def cross_fit(monkeypatch):
    """A cross-fit that always finds the same, and the list of what it was called with."""
    calls = []

    def scripted(make, data, codes, weights, **parameters):
        calls.append({"make": make, "data": data, "codes": codes, "weights": weights} | parameters)
        return JOINT, np.tile([0.5, 0.3, 0.2], (len(codes), 1)), 1.0

    monkeypatch.setattr("skcoteach.run.cross_fit", scripted)
    return calls


def enough(n=600, weight=1.0):
    """As many rows, of three classes in turn, each of this weight."""
    rng = np.random.default_rng(n)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 4)) + 3 * y[:, None]).astype(np.float32), y, np.full(n, weight)


def test_estimated_rate_is_that_of_the_joint_distribution_and_the_schedule_rises_to_it(cross_fit):
    run = start(*enough(), forget_rate="auto", num_gradual=3)
    assert type(run.forget_rate) is float
    assert run.forget_rate == pytest.approx(0.2)
    assert run.forget_rates.tolist() == pytest.approx([0, 0.1, 0.2, 0.2, 0.2, 0.2])
    fitted = run_epochs(run, 1).fitted()
    assert fitted["forget_rate_"] == fitted["noise_rate_"] == run.forget_rate
    assert fitted["noise_matrix_"].tolist() == (JOINT / JOINT.sum(axis=0)).tolist()


@pytest.fixture
def too_sure(monkeypatch, cross_fit):
    """A cross-fit whose networks turn out four times as sure as they are right."""
    monkeypatch.setattr("skcoteach.run.temperature_of", lambda *_: 4.0)
    monkeypatch.setattr(CoTeaching, "logit_scale", property(lambda self: 1.0, lambda self, value: None), raising=False)


def test_logits_are_divided_by_the_temperature_when_the_training_is_over(too_sure):
    run = run_epochs(start(*enough(), forget_rate="auto"), 2)
    x = torch.from_numpy(enough()[0][:5])
    in_training = [network(x).detach() for network in run.training.networks]
    for fitted in (run.fitted(copy_networks=True), run.fitted()):
        for network, logits in zip(fitted["modules_"], in_training, strict=True):
            assert torch.allclose(network(x), logits / 4)


@pytest.mark.parametrize(
    "scale, expected", [(0.5, 2.0), (3.0, 12.0), (0.1, 1.0), (1000.0, MAXIMUM_TEMPERATURE), (math.inf, 1.0)]
)
def test_the_temperature_grows_with_the_logits_since_the_cross_fit(scale, expected, cross_fit, monkeypatch):
    monkeypatch.setattr("skcoteach.run.temperature_of", lambda *_: 4.0)
    run = run_epochs(start(*enough(), forget_rate="auto"), 1)
    assert run.training.logit_scale > 0
    run.training.logit_scale = scale
    assert run.fitted()["_state"].temperature == pytest.approx(expected)


def test_the_scale_of_the_logits_is_their_mean_standard_deviation(cross_fit):
    run = start(lr=1e-12)  # the networks stay as they are
    logits = torch.stack([network(torch.from_numpy(X)).detach() for network in run.training.networks])
    run_epochs(run, 1)
    assert run.training.logit_scale == pytest.approx(float(logits.std(2, correction=0).mean()), rel=1e-3)


def test_copies_for_callbacks_do_not_change_what_is_trained(too_sure):
    once, watched = (start(*enough(), forget_rate="auto") for _ in range(2))
    for _ in range(2):
        run_epochs(once, 1)
        run_epochs(watched, 1).fitted(copy_networks=True)
    for a, b in zip(once.training.networks, watched.training.networks, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_resumed_run_trains_on_with_the_logits_of_the_training(too_sure):
    clf = estimator(forget_rate="auto")
    run = run_epochs(start(*enough(), forget_rate="auto"), 2)
    trained = copy.deepcopy([network.state_dict() for network in run.training.networks])
    fit_partially(clf, run)
    resumed = Run.resume(clf.set_params(forget_rate=0.1), *enough())
    for network, state in zip(resumed.training.networks, trained, strict=True):
        for name, value in network.state_dict().items():
            assert torch.allclose(value, state[name])
    before = [network(torch.zeros(1, 4)) for network in resumed.training.networks]
    after = [network(torch.zeros(1, 4)) for network in resumed.fitted(per_example=False)["modules_"]]
    assert all(torch.allclose(a / 4, b) for a, b in zip(before, after, strict=True))


def test_logits_are_those_of_the_training_where_the_forget_rate_is_given(too_sure):
    run = run_epochs(start(*enough(), forget_rate=0.1), 1)
    trained = copy.deepcopy([network.state_dict() for network in run.training.networks])
    for network, state in zip(run.fitted()["modules_"], trained, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_cross_fit_gets_what_the_estimator_was_given(cross_fit):
    X, y, _ = enough()
    weights = np.arange(600) // 3 % 3 + y  # a third of class 0 has none
    run = start(X, y, weights, forget_rate="auto", epochs=7, lr=0.25)
    (call,) = cross_fit
    assert (call["epochs"], call["learning_rate"], call["seed"]) == (7, 0.25, run.seed)
    assert call["codes"].tolist() == y.tolist()
    assert call["weights"].tolist() == weights.tolist()
    assert call["data"] is run.data


def test_labels_are_counted_by_the_weights_that_they_are_learnt_with(cross_fit):
    X, y, _ = enough(1200)
    weights = 1.0 + np.arange(1200) % 2
    run = start(X, y, weights, forget_rate="auto", class_weight={0: 5.0, 1: 0.0, 2: 1.0})
    (call,) = cross_fit
    assert call["weights"].tolist() == (weights * np.array([5.0, 0.0, 1.0])[y]).tolist()
    assert call["data"].weights.tolist() == call["weights"].tolist()
    assert not set(run.data.used.tolist()) & set(np.flatnonzero(y == 1).tolist())


def test_what_is_enough_does_not_hang_on_class_weights(cross_fit):
    assert_estimated(start_quietly(*enough(600), class_weight={0: 0.01, 1: 0.1, 2: 0.1}), True, cross_fit)
    assert_estimated(start_quietly(*enough(400), class_weight={0: 9.0, 1: 9.0, 2: 9.0}), False, cross_fit[1:])


def test_pairs_of_the_cross_fit_are_made_as_the_estimator_says(cross_fit):
    def augment(x):
        return x

    X, y, weights = enough()
    run = start(
        X,
        y,
        weights,
        forget_rate="auto",
        module__hidden=5,
        module2__hidden=7,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.5,
        precision="float64",
        num_iter_per_epoch=3,
        class_floor=0.25,
        augment=augment,
    )
    (call,) = cross_fit
    half = copy.copy(run.data)
    half.used, half.used_targets = run.data.used[::2], run.data.used_targets[::2]
    pair, same, other = (call["make"](half, seed) for seed in (1, 1, 2))
    assert [network[1].out_features for network in pair.networks] == [5, 7]
    assert pair.networks[0][1].weight.dtype == torch.float64
    assert pair.networks[0][0].mean.tolist() == pytest.approx(X[::2].mean(axis=0), rel=1e-5)  # of its half alone
    groups = [group for optimizer in pair.optimizers for group in optimizer.param_groups]
    assert [group["momentum"] for group in groups] == [0.5, 0.5]
    assert [id(p) for group in groups for p in group["params"]] == [
        id(p) for network in pair.networks for p in network.parameters()
    ]
    assert (pair.batch_size, pair.num_iter_per_epoch, pair.class_floor) == (20, 3, 0.25)
    assert (pair.augment, pair.seed) == (augment, 1)
    assert equal(bits(pair.networks), bits(same.networks))
    assert not equal(bits(pair.networks), bits(other.networks))
    assert not equal(bits(pair.networks), bits(run.training.networks))


@pytest.mark.parametrize("module", [None, Net], ids=["default", "with batch statistics"])
def test_training_after_the_estimate_is_that_with_the_same_number_given(module, monkeypatch):
    """Nothing of the cross-fit is left in networks, optimizers or the random numbers."""
    monkeypatch.setattr("skcoteach.crossfit.MINIMUM_STEPS", 4)
    X, y, _ = enough()
    y = np.where(np.arange(600) % 7 == 0, (y + 1) % 3, y)
    found = run_epochs(start(X, y, forget_rate="auto", module=module), 2)
    given = run_epochs(start(X, y, forget_rate=found.forget_rate, module=module), 2)
    assert 0 < found.forget_rate < 0.95
    assert equal(bits(found.training.networks), bits(given.training.networks))
    assert without_durations(found.history) == without_durations(given.history)
    assert found.fitted()["kept_frequency_"].tolist() == given.fitted()["kept_frequency_"].tolist()


def test_networks_given_as_instances_start_every_pair_and_are_never_changed(monkeypatch):
    monkeypatch.setattr("skcoteach.crossfit.MINIMUM_STEPS", 4)
    networks = Net(4, 3), Net(4, 3)
    before = bits(networks)
    run = start(*enough(), forget_rate="auto", module=networks[0], module2=networks[1])
    assert equal(bits(networks), before)
    assert equal(bits(run.training.networks), before)


def test_a_run_that_estimates_never_touches_the_estimator(cross_fit):
    clf = estimator(forget_rate="auto")
    before = dict(vars(clf))
    run_epochs(Run.start(clf, *enough()), 1).fitted()
    assert vars(clf) == before


@pytest.mark.parametrize(
    ("n", "weight", "estimated"), [(500, 1.0, True), (499, 1.0, False), (250, 2.0, True), (2000, 0.25, True)]
)
def test_500_examples_worth_of_weight_are_enough(n, weight, estimated, cross_fit):
    assert_estimated(start_quietly(*enough(n, weight)), estimated, cross_fit)


@pytest.mark.parametrize(
    ("n_rare", "weight", "estimated"), [(50, 1.0, True), (49, 1.0, False), (25, 2.0, True), (199, 0.25, False)]
)
def test_50_examples_worth_of_weight_in_the_rarest_class_are_enough(n_rare, weight, estimated, cross_fit):
    X, _, _ = enough(1000)
    y = np.where(np.arange(1000) < n_rare, 1, np.arange(1000) % 2 * 2)
    weights = np.where(y == 1, weight, 1.0)
    assert_estimated(start_quietly(X, y, weights), estimated, cross_fit)


def test_a_class_without_weight_is_not_too_small_a_class(cross_fit):
    X, y, _ = enough(800)
    assert_estimated(start_quietly(X, y, (y != 2).astype(float)), True, cross_fit)
    assert_estimated(start_quietly(X, y, None, class_weight={2: 0.0, 1: 1.0, 0: 0.01}), True, cross_fit[1:])


def start_quietly(*data, **parameters):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = start(*data, forget_rate="auto", **parameters)
    run.told = [str(warning.message) for warning in told]
    return run


def assert_estimated(run, estimated, calls):
    assert len(calls) == estimated
    fitted = run_epochs(run, 1).fitted()
    if estimated:
        assert not run.told
        assert fitted["forget_rate_"] == pytest.approx(0.2)
        assert {"noise_rate_", "noise_matrix_"} <= fitted.keys()
    else:
        (words,) = run.told
        assert 'forget_rate="auto": too few data to estimate the noise rate' in words
        assert fitted["forget_rate_"] == 0.2
        assert not {"noise_rate_", "noise_matrix_"} & fitted.keys()


def test_message_of_too_few_data_counts_by_weight(cross_fit):
    y = np.repeat([0, 1, 2], [100, 80, 4])
    X = np.zeros((184, 4), dtype=np.float32)
    (words,) = start_quietly(X, y, np.where(y == 2, 2.5, 0.5)).told
    assert "(total sample_weight 100, 10 in the rarest class; 500 and 50 are needed, where" in words


def test_schedules_that_cannot_be_are_refused_before_the_estimate(cross_fit):
    with pytest.raises(ValueError, match=r"num_gradual \(7\) is greater than epochs \(6\)"):
        start(*enough(), forget_rate="auto", num_gradual=7)
    assert not cross_fit


@pytest.mark.parametrize("given", [[0, 1, 0, 2], [0, 1, 2, 1], [0, 1, 2, 3, 3, 4], [0, 1, 2, 3, 4, 2]])
def test_a_module_that_gives_a_network_again_is_refused(given):
    networks = [Net(4, 3) for _ in range(5)]
    supply = iter([networks[number] for number in given])
    with pytest.raises(
        ValueError, match="module gave a network that it had given before.*make a new one at every call"
    ):
        start(*enough(), forget_rate="auto", module=lambda: next(supply))


def test_no_noise_is_estimated_where_the_forget_rate_is_given(cross_fit):
    fitted = run_epochs(start(*enough(), forget_rate=0.0), 1).fitted()
    assert not cross_fit
    assert not {"noise_rate_", "noise_matrix_"} & fitted.keys()


# --- label quality and label issues ----------------------------------------------------------------------------------


def script_losses(run, epochs, predicted=None):
    """Replace the training by epochs in which each row had the given loss, or (None) was not seen.

    Unless they are given, the predictions of an epoch are other classes than the given ones.
    """
    if predicted is None:
        predicted = [(run.codes + 1) % len(run.classes)] * len(epochs)
    epochs = iter(zip(epochs, predicted, strict=True))

    def run_epoch(data, epoch, learning_rate, forget_rate):
        losses, classes = next(epochs)
        seen = torch.tensor([loss is not None for loss in losses])
        losses = torch.tensor([loss or 0.0 for loss in losses], dtype=torch.float64)
        classes = torch.where(seen, torch.as_tensor(classes), -1)
        return {"epoch": epoch}, torch.zeros_like(losses), losses, classes, seen

    run.training.run_epoch = run_epoch
    return run


def labels_of(run):
    return run.fitted()["_state"].labels


def probabilities_now(run, n):
    inputs = run.data.rows[torch.arange(n)]
    with torch.no_grad():
        return sum(network(inputs).double().softmax(1).numpy() for network in run.fitted()["modules_"]) / 2


def test_label_quality_is_the_geometric_mean_probability_from_the_end_of_the_warm_up():
    losses = [[9, 9, 9, 9], [1, None, 0, 0.5], [2, 4, 0, None], [3, 0, 0, None]]
    run = script_losses(start(X[:4], [0, 0, 1, 1], epochs=4, num_gradual=2), losses)
    quality = run_epochs(run, 4).fitted()["label_quality_"]
    assert quality.tolist() == pytest.approx([math.exp(-2), math.exp(-2), 1, math.exp(-0.5)])
    assert quality.dtype == np.float64


def test_label_quality_of_an_example_never_seen_after_the_warm_up_is_what_the_networks_say_at_the_end():
    losses = [[9] * 6, [1.0, 3.0, None, None, 0.25, 0.75]]
    run = run_epochs(script_losses(start(X[:6], [0, 0, 0, 1, 1, 1], epochs=2, num_gradual=2), losses), 2)
    labels, now = labels_of(run), probabilities_now(run, 6)
    assert labels.quality[[2, 3]].tolist() == pytest.approx([now[2, 0], now[3, 1]], rel=1e-6)
    assert labels.predicted[[2, 3]].tolist() == now[[2, 3]].argmax(axis=1).tolist()
    assert labels.quality[[0, 5]].tolist() == pytest.approx([math.exp(-1), math.exp(-0.75)])
    assert labels.predicted[[0, 1, 4, 5]].tolist() == [1, 1, 0, 0]


def test_label_quality_is_averaged_with_the_probability_of_those_who_have_not_seen_the_label(cross_fit):
    X, y, weights = enough()
    run = start(X, y, weights, forget_rate="auto", epochs=2, num_gradual=1)
    losses = np.random.default_rng(0).exponential(size=(2, 600))
    fitted = run_epochs(script_losses(run, losses.tolist()), 2).fitted()
    expected = (np.exp(-losses.mean(axis=0)) + np.array([0.5, 0.3, 0.2])[y]) / 2
    np.testing.assert_allclose(fitted["label_quality_"], expected)
    labels = fitted["_state"].labels
    np.testing.assert_array_equal(labels.quality, fitted["label_quality_"])
    np.testing.assert_array_equal(labels.given, y)
    assert labels.is_issue.sum() == 120  # the rate of 0.2
    assert labels.quality[labels.is_issue].max() < labels.quality[~labels.is_issue].min()


def test_predicted_label_is_that_of_the_last_epoch_in_which_the_example_was_seen():
    losses = [[1, 1, 1, 1], [1, None, 1, 1], [1, None, None, 1]]
    predicted = [[0, 1, 2, 1], [1, 0, 1, 2], [2, 0, 0, 0]]
    run = script_losses(start(X[:4], [0, 1, 2, 0], epochs=3, num_gradual=1), losses, predicted)
    assert labels_of(run_epochs(run, 3)).predicted.tolist() == [2, 1, 1, 0]


def test_of_low_qualities_that_were_learnt_those_who_have_not_seen_them_decide(cross_fit):
    """Of the fifth with large losses half are predicted as given, by heart; those of class 0 by the others, too."""
    X, y, weights = enough()
    bad, by_heart = np.arange(600) < 120, np.arange(600) < 60
    losses, predicted = np.where(bad, 10.0, 0.0).tolist(), np.where(by_heart | ~bad, y, (y + 1) % 3)
    run = start(X, y, weights, forget_rate="auto", epochs=1, num_gradual=1)
    labels = labels_of(run_epochs(script_losses(run, [losses], [predicted]), 1))
    assert labels.predicted.tolist() == np.where(by_heart, 0, predicted).tolist()
    assert labels.is_issue.tolist() == (bad & ~(by_heart & (y == 0))).tolist()


def test_no_label_that_is_predicted_is_an_issue():
    losses = [np.arange(20)[::-1].tolist()]  # the first rows are the worst
    y = np.arange(20) % 2
    predicted = np.where(np.arange(20) < 4, y, 1 - y)
    run = script_losses(start(*enough(20)[:1], y, forget_rate=0.5, epochs=1, num_gradual=0), losses, [predicted])
    assert np.flatnonzero(labels_of(run_epochs(run, 1)).is_issue).tolist() == [*range(4, 10)]


@pytest.mark.parametrize("class_weight", [None, {0: 3.0, 1: 3.0, 2: 3.0}])
def test_issues_are_counted_by_weight(class_weight):
    X, y, _ = enough(100)
    weights = np.where(np.arange(100) < 50, 3.0, 1.0)
    losses = [np.arange(100)[::-1].tolist()] * 2  # the first rows are the worst
    run = start(X, y, weights, forget_rate=0.3, epochs=2, class_weight=class_weight)
    is_issue = labels_of(run_epochs(script_losses(run, losses), 2)).is_issue
    assert np.flatnonzero(is_issue).tolist() == [*range(20)]  # 60 of 200


def test_telling_of_the_labels_changes_nothing_that_later_epochs_go_on_from():
    run = run_epochs(start(num_iter_per_epoch=1, batch_size=4), 1)
    before = run.examples._predicted.clone()
    run.fitted()
    assert (before == -1).any()  # of examples that were in no batch
    assert torch.equal(run.examples._predicted, before)


# --- average of the weights ------------------------------------------------------------------------------------------


def chain(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 6), nn.ReLU(), nn.Linear(6, n_classes))


def averaged(networks):
    """Copies of the tensors of both networks but for the counters."""
    return [tensor for tensor in bits(networks) if tensor.is_floating_point()]


def weights_after_every_step(run, n_epochs):
    """The floating tensors of both networks after every step."""
    steps = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(averaged(run.training.networks)))
    try:
        run_epochs(run, n_epochs)
    finally:
        hook.remove()
    return steps


@pytest.mark.parametrize("module", [Net, chain], ids=["batch norm and dropout", "chain"])
def test_fitted_networks_are_the_average_over_all_steps(module):
    decay = 0.7
    run = start(module=module, average_decay=decay, precision="float64")
    steps = weights_after_every_step(run, 3)
    assert len(steps) == 9
    counts = torch.tensor([decay ** (len(steps) - 1 - i) for i in range(len(steps))], dtype=torch.float64)
    fitted = averaged(run.fitted()["modules_"])
    assert len(fitted) == len(steps[0])
    for number, tensor in enumerate(fitted):
        expected = torch.tensordot(counts / counts.sum(), torch.stack([step[number] for step in steps]), 1)
        torch.testing.assert_close(tensor, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("module", [Net, chain], ids=["batch norm and dropout", "chain"])
def test_averaging_changes_nothing_in_the_training(module):
    plain, averaged = (run_epochs(start(module=module, average_decay=decay), 4) for decay in (None, 0.9))
    assert without_durations(plain.history) == without_durations(averaged.history)
    assert equal(bits(plain.training.networks), bits(averaged.training.networks))
    assert not equal(bits(plain.fitted()["modules_"]), bits(averaged.fitted()["modules_"]))


def test_no_decay_of_the_average_is_no_average():
    plain, last = (run_epochs(start(average_decay=decay), 3).fitted()["modules_"] for decay in (None, 0.0))
    assert equal(bits(plain), bits(last))


@pytest.mark.parametrize("module", [Net, chain], ids=["batch norm and dropout", "chain"])
def test_partial_fit_goes_on_from_the_last_weights_and_the_average(module):
    parameters = {"module": module, "average_decay": 0.9, "epochs": 4, "num_gradual": 2}
    whole = estimator(**parameters).fit(X, Y)
    steps = estimator(**parameters)
    for _ in range(4):
        steps.partial_fit(X, Y, classes=np.unique(Y))
    steps = pickle.loads(pickle.dumps(steps))
    assert without_durations(whole.history_) == without_durations(steps.history_)
    for a, b in zip(bits(whole.modules_), bits(steps.modules_), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_partial_fit_without_the_average_goes_on_from_the_last_weights():
    never = estimator(average_decay=None)
    dropped = estimator(average_decay=0.9)
    for _ in range(2):
        never.partial_fit(X, Y, classes=np.unique(Y))
        dropped.partial_fit(X, Y, classes=np.unique(Y))
    assert not equal(bits(never.modules_), bits(dropped.modules_))
    dropped.set_params(average_decay=None).partial_fit(X, Y)
    assert equal(bits(never.partial_fit(X, Y).modules_), bits(dropped.modules_))


def test_undoing_an_epoch_undoes_its_updates_of_the_average():
    run = run_epochs(start(average_decay=0.9), 2)
    before = bits(run.fitted(copy_networks=True)["modules_"])
    n_updates = run.training.average.n_updates
    run.training.run_epoch(run.data, 2, 1e-2, 0.2)  # not saved
    assert not equal(before, bits(run.fitted(copy_networks=True)["modules_"]))
    run.undo_unfinished_epoch()
    assert run.training.average.n_updates == n_updates == 6
    assert equal(before, bits(run.fitted(copy_networks=True)["modules_"]))


def test_looking_at_the_average_between_epochs_changes_nothing():
    looked, alone = start(average_decay=0.9), start(average_decay=0.9)
    for _ in range(3):
        looked.run_epoch()
        looked.fitted(copy_networks=True)
        alone.run_epoch()
    assert equal(bits(looked.fitted()["modules_"]), bits(alone.fitted()["modules_"]))


def test_a_resumed_average_is_that_of_the_training_without_the_temperature(too_sure):
    clf = estimator(forget_rate="auto", average_decay=0.9)
    run = run_epochs(start(*enough(), forget_rate="auto", average_decay=0.9), 2)
    last = bits(run.training.networks)
    average = copy.deepcopy(run.training.average.values)
    fit_partially(clf, run)
    resumed = Run.resume(clf.set_params(forget_rate=0.1), *enough())
    assert equal(bits(resumed.training.networks), last)
    assert set(resumed.training.average.values) == set(average)
    for name, value in resumed.training.average.values.items():
        torch.testing.assert_close(value, average[name], rtol=1e-6, atol=1e-7)
    assert resumed.training.average.n_updates == run.training.average.n_updates


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
    averaged, plain = (run_epochs(start(module=Moving, average_decay=d), 2).fitted()["modules_"] for d in (0.9, None))
    for a, b in zip(averaged, plain, strict=True):
        assert a.mask.tolist() == [0, -math.inf]
        assert torch.equal(a.mean, b.mean) and a.counter == b.counter == 6
        assert not torch.equal(a.linear.weight, b.linear.weight)


@pytest.mark.parametrize("step", ["_divide_logits", "exchange"])
def test_ctrl_c_while_the_networks_are_finished_leaves_what_an_undisturbed_fit_gives(step, too_sure, monkeypatch):
    parameters = {"forget_rate": "auto", "average_decay": 0.9, "epochs": 2}
    undisturbed = estimator(**parameters).fit(*enough())
    original, calls = getattr(skcoteach.run, step), []

    def interrupted(*arguments):
        calls.append(original(*arguments))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(f"skcoteach.run.{step}", interrupted)
    clf = estimator(**parameters)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*enough())
    assert equal(bits(clf.modules_), bits(undisturbed.modules_))
    for name, value in clf._state.last_weights.items():
        assert torch.equal(value, undisturbed._state.last_weights[name])


def test_the_temperature_is_that_of_the_averaged_logits(cross_fit, monkeypatch):
    monkeypatch.setattr("skcoteach.run.temperature_of", lambda *_: 4.0)
    run = run_epochs(start(*enough(), forget_rate="auto", average_decay=0.999, lr=0.01), 4)
    run.training.logit_scale = 3.0
    x = torch.from_numpy(enough()[0])[run.data.used[::3]]
    last = run.training.networks

    def scale(networks):
        return float(torch.stack([each.eval()(x).detach().std(1, correction=0) for each in networks]).mean())

    expected = 12 / scale(last)
    fitted = run.fitted(copy_networks=True)
    temperature = fitted["_state"].temperature
    expected *= scale(fitted["modules_"]) * temperature  # undivided
    assert 1 < temperature < 0.95 * 12  # the averaged logits are smaller
    assert temperature == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weight", [1e39, 1e38])
def test_weights_beyond_the_precision_are_told_and_fit_into_another(weight):
    weights = np.full(N, weight)
    with pytest.raises(ValueError, match="weights add up to more than torch.float32 can hold"):
        start(X, Y, weights)
    run_epochs(start(X, Y, weights, precision="float64"), 1)
